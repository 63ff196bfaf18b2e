"""Files of macro series: where they are. What stands in them is in `macro_schema`.

    parquet/macro/~5EGSPC/year=2024/daily.parquet       ^GSPC
    parquet/macro/GC~3DF/year=2024/daily.parquet        GC=F

A series' folder is its name with each character but letters, digits, - and . written as ~ and two hexadecimal digits.
So nothing in it is a pattern to a shell or a partition (key=value) to a reader, and no name begins with _ or a dot,
which readers of folders take for hidden.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from crypto_lake.model.series import InvalidSeriesError, validate_series

ROOT: Final = "parquet/macro"
FILE: Final = "daily.parquet"

_PLAIN = re.compile(r"[A-Za-z0-9.-]")
_ESCAPED = re.compile(r"~([0-9A-F]{2})")
_NAME = re.compile(rf"{ROOT}/(?P<folder>[^/]+)/year=(?P<year>\d{{4}})/{re.escape(FILE)}")


def folder_of(series: str) -> str:
    """^GSPC -> ~5EGSPC. Raises InvalidSeriesError."""
    validate_series(series)
    return "".join(
        character if _PLAIN.fullmatch(character) else f"~{ord(character):02X}" for character in series
    )


def series_of(folder: str) -> str | None:
    """~5EGSPC -> ^GSPC; None where `folder_of` never makes that name."""
    series = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), folder)
    try:
        return series if folder_of(series) == folder else None
    except InvalidSeriesError:
        return None


def name_of(series: str, year: int) -> str:
    """The file's path in the data directory, and the object's name in a bucket."""
    return f"{ROOT}/{folder_of(series)}/year={year:04d}/{FILE}"


def parse(name: str) -> tuple[str, int] | None:
    """The series and year of a path or an object's name, None where it is none of these."""
    match = _NAME.fullmatch(name)
    series = series_of(match["folder"]) if match is not None else None
    return (series, int(match["year"])) if match is not None and series is not None else None


def years_of(root: Path, series: str) -> list[int]:
    """Years of which the data directory has a file, sorted."""
    found = (
        parse(path.relative_to(root).as_posix())
        for path in (root / ROOT / folder_of(series)).glob(f"year=*/{FILE}")
    )
    return sorted(named[1] for named in found if named is not None)


def series_in(root: Path) -> list[str]:
    """Series of which the data directory has a file, sorted."""
    folders = (root / ROOT).glob(f"*/year=*/{FILE}")
    found = (parse(path.relative_to(root).as_posix()) for path in folders)
    return sorted({named[0] for named in found if named is not None})
