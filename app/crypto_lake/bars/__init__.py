"""Raw lines to one-second bars with best quotes: pure functions over tables, and one thin rim (`transform`)."""
