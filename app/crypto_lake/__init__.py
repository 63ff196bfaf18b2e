"""crypto-lake: a market-data lake that proves, by trade id, what it has and what it misses."""

__version__ = "0.1.0"
