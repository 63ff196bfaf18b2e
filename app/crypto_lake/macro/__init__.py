"""Daily macro series beside the bars: what was known of each day, and when."""
