"""What reading a lake can't do, told so that it can be helped."""

from __future__ import annotations


class LakeError(Exception):
    """Base of all errors of this room. The message says what happened, to what, and what to do."""


class UnknownSymbolError(LakeError, LookupError):
    """The lake has no bars of such a symbol; the message names near ones."""


class NoDataError(LakeError, LookupError):
    """The range holds no bars; the message says which days there are."""


class InvalidArgumentError(LakeError, ValueError):
    """A time, an interval, a column or another argument that can't be read."""


class UnreachableError(LakeError):
    """The lake is not there, or the bucket does not answer or refuses."""


class ReplacedError(LakeError):
    """An object was replaced while it was read, and its old version is gone. The same query will work again."""


class DamagedError(LakeError):
    """A file of the lake that is no whole Parquet file; the message names its symbol and day."""


class QueryError(LakeError):
    """A statement that DuckDB refuses, in its words."""
