"""Yahoo Finance as a provider, through the library yfinance: cookie, crumb and the browser's TLS are its business.

Two requests a series: one for its time zone, one for its days. yfinance tells errors in many ways (and a limit not
always), so what the server's last answer was is noted where the request is made, and goes before what the library says.
"""

from __future__ import annotations

import atexit
import logging
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from typing import Any, Final, cast

import certifi
import yfinance
from curl_cffi import requests
from yfinance.data import YfData
from yfinance.exceptions import YFPricesMissingError, YFRateLimitError, YFTzMissingError

from crypto_lake.macro.days import Values
from crypto_lake.macro.provider import (
    Answer,
    NoSuchSeries,
    NothingThere,
    ProviderError,
    RateLimited,
    Refused,
    Unavailable,
)

TIMEOUT_SECONDS: Final = 20.0
_CHART: Final = "/v8/finance/chart/"
_LATER: Final = "Nothing was changed; the same call later goes on from here."
_log = logging.getLogger(__name__)


class _Session(requests.Session):
    """A session that notes the last answer about days: its status (None: none came) and `Retry-After`."""

    status: int | None = None
    retry_after: str = ""

    def request(self, *args: Any, **options: Any) -> Any:
        url = str(options.get("url") or args[1])
        if _CHART not in url:
            return super().request(*args, **options)
        self.status, self.retry_after = None, ""
        response: Any = super().request(*args, **options)
        self.status = int(response.status_code)
        self.retry_after = str(response.headers.get("Retry-After") or "")
        return response


class Yahoo:
    """One at a time in a process: yfinance keeps one session for all."""

    name = "yahoo"

    def __init__(self, *, proxy: str = "", ca_file: str = "", timeout_seconds: float = TIMEOUT_SECONDS):
        """`proxy`: http://host:port, "" for the environment's. `ca_file`: certificates (PEM) to trust beside the usual."""
        self._timeout_seconds = timeout_seconds
        _own_folder()
        yfinance.config.debug.hide_exceptions = False
        logging.getLogger("yfinance").addHandler(
            logging.NullHandler()
        )  # what it warns of is told by our errors
        options: dict[str, Any] = {"impersonate": "chrome"}
        if proxy:
            options["proxies"] = {"http": proxy, "https": proxy}
        if ca_file:
            options["verify"] = self._bundle(Path(ca_file))
        self._session = _Session(**options)

    def _bundle(self, ca_file: Path) -> str:
        """A file of the usual certificates and these, since libcurl takes one file alone."""
        path = _own_folder() / "certificates.pem"
        path.write_bytes(Path(certifi.where()).read_bytes() + b"\n" + ca_file.read_bytes())
        return str(path)

    def daily(self, series: str, first: date, last: date) -> Answer:
        YfData.cache_get.cache_clear()  # it keeps failures, too: asked again, the same one would be told
        self._session.status = None
        try:
            with warnings.catch_warnings(action="ignore"):  # of pandas, about what yfinance calls
                ticker = yfinance.Ticker(series, session=self._session)
                table = ticker.history(
                    start=first.isoformat(),
                    end=(last + timedelta(days=1)).isoformat(),
                    interval="1d",
                    auto_adjust=False,
                    actions=False,
                    keepna=True,
                    timeout=self._timeout_seconds,
                )
                meta = cast("Mapping[str, Any]", ticker.get_history_metadata())
            answer = _answer(series, table, meta)
        except Exception as error:
            _log.debug("%s: %s", series, type(error).__name__, exc_info=True)
            raise self._told(series, error) from error
        if not answer.days:
            raise _nothing(series, f"Yahoo told no day from {first} to {last}")
        return answer

    def _told(self, series: str, error: Exception) -> ProviderError:
        """The error in our words."""
        status = self._session.status
        if status == 429 or isinstance(error, YFRateLimitError):
            return RateLimited(
                "Yahoo limits how often it may be asked (HTTP 429)",
                series=series,
                hint=f"Ask less often, or from another address. {_LATER}",
                retry_after_seconds=_seconds(self._session.retry_after),
            )
        if status == 404:
            return NoSuchSeries(
                "Yahoo does not have it (HTTP 404), or no longer",
                series=series,
                hint="Look the name up on finance.yahoo.com, and correct or remove it in macro.series.",
            )
        if status is not None and status >= 500:
            return Unavailable(f"Yahoo answers with HTTP {status}", series=series, hint=_LATER)
        if status is not None and status >= 400:
            return Refused(
                f"Yahoo refuses the question (HTTP {status})",
                series=series,
                hint="It may refuse this machine's address, or this version of yfinance: try a newer one.",
            )
        if status is None:
            return Unavailable(
                f"no answer of Yahoo ({type(error).__name__}: {_first_line(error)})",
                series=series,
                hint=f"Look at the network, macro.proxy and macro.ca_file. {_LATER}",
            )
        if isinstance(error, YFPricesMissingError | YFTzMissingError):
            return _nothing(series, _first_line(error).removeprefix(f"${series}: "))
        return Unavailable(
            f"Yahoo's answer can't be read ({type(error).__name__}: {_first_line(error)})",
            series=series,
            hint=f"Where this does not pass, a newer yfinance may know its form. {_LATER}",
        )

    def close(self) -> None:
        self._session.close()


@cache
def _own_folder() -> Path:
    """For as long as the process lives. yfinance's caches are there: a container may have no home to write them to."""
    folder = Path(tempfile.mkdtemp(prefix="crypto-lake-macro-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    yfinance.set_tz_cache_location(str(folder))
    return folder


def _answer(series: str, table: Any, meta: Mapping[str, Any]) -> Answer:
    """Raises what a table of another form than expected raises."""
    timezone, currency = str(meta["exchangeTimezoneName"]), str(meta.get("currency") or "")
    days: dict[date, Values] = {}
    empty: set[date] = set()
    for stamp, row in zip(table.index, table.to_dict("records"), strict=True):
        opened, high, low, close = (_price(row[name]) for name in ("Open", "High", "Low", "Close"))
        if close is None:
            empty.add(stamp.date())
        else:
            days[stamp.date()] = Values(opened, high, low, close, int(row["Volume"]), currency, timezone)
    return Answer(series, timezone, days, frozenset(empty), _session_of(meta))


def _session_of(meta: Mapping[str, Any]) -> tuple[date, int] | None:
    period = meta.get("currentTradingPeriod")
    try:
        end = cast("Any", period)["regular"]["end"]
        return end.date(), round(end.timestamp() * 10**6)
    except (TypeError, KeyError, AttributeError):
        return None


def _price(value: Any) -> float | None:
    price = float(value)
    return None if price != price else price


def _nothing(series: str, what: str) -> NothingThere:
    return NothingThere(
        what,
        series=series,
        hint="Look at the name on finance.yahoo.com: it may have begun later, or have ended.",
    )


def _seconds(retry_after: str) -> float | None:
    """Of a header Retry-After: seconds, or a date."""
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0].partition(" See https://")[0].rstrip(".")[:200]
