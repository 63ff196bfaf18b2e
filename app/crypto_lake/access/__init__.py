"""Ways to read the lake: `Lake` for Python, DuckDB views and macros for SQL. It reads bars, and writes nothing."""
