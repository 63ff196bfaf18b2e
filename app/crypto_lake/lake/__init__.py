"""Files of the lake: the only room that knows their names and how they are made to last."""
