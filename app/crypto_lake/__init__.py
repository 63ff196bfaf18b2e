"""crypto-lake: a market-data lake that proves, by trade id, what it has and what it misses."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crypto_lake.access.lake import Lake

__all__ = ["Lake", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # `Lake` brings DuckDB and polars, which a collector need not load.
    if name == "Lake":
        from crypto_lake.access.lake import Lake

        return Lake
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
