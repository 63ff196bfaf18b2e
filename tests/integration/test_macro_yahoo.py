"""Yahoo as a provider: the real yfinance and its libcurl, against a server on loopback that answers as Yahoo does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import numpy as np
import pytest
from yfinance.cache import get_cookie_cache
from yfinance.data import SingletonMeta

from crypto_lake.macro.provider import (
    NoSuchSeries,
    NothingThere,
    ProviderError,
    RateLimited,
    Refused,
    Unavailable,
)
from crypto_lake.macro.yahoo import Yahoo
from support.yahoo import FakeYahoo, Fault, Market, error, rows, weekdays

FIRST, LAST = date(2024, 3, 4), date(2024, 3, 29)
LIMITED = b"Too Many Requests\r\n"
UNAUTHORIZED = b'{"finance":{"result":null,"error":{"code":"Unauthorized","description":"Invalid Crumb"}}}'


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FakeYahoo]:
    SingletonMeta._instances.clear()  # yfinance keeps cookie and crumb for as long as the process lives
    with FakeYahoo(tmp_path) as running:
        running.markets["^GSPC"] = Market(rows(weekdays(FIRST, LAST), 5000.0))
        yield running


@pytest.fixture
def yahoo(server: FakeYahoo) -> Iterator[Yahoo]:
    provider = Yahoo(proxy=server.proxy, ca_file=str(server.ca_file), timeout_seconds=60)
    yield provider
    provider.close()


def test_days_are_told_to_the_bit(server: FakeYahoo, yahoo: Yahoo) -> None:
    answer = yahoo.daily("^GSPC", date(2024, 3, 8), date(2024, 3, 12))
    assert answer.timezone == "America/New_York"
    assert list(answer.days) == [date(2024, 3, 8), date(2024, 3, 11), date(2024, 3, 12)], (
        "both ends, over a DST change"
    )
    for day, told in answer.days.items():
        assert (told.open, told.high, told.low, told.close, told.volume) == server.markets["^GSPC"].days[day]
        assert told.close == float(np.float32(told.close))
        assert (told.currency, told.timezone) == ("USD", "America/New_York")
    assert (answer.empty, answer.session) == (frozenset(), None)


def test_cookie_and_crumb_are_sent_as_the_library_does(server: FakeYahoo, yahoo: Yahoo) -> None:
    get_cookie_cache().store("curlCffi", None)  # what an earlier test left
    yahoo.daily("^GSPC", FIRST, LAST)
    assert [(host, path) for host, path, _ in server.asked][:2] == [
        ("fc.yahoo.com", "/"),
        ("query1.finance.yahoo.com", "/v1/test/getcrumb"),
    ]
    (question,) = server.questions("^GSPC")
    assert question["crumb"] == "crumb.1"
    assert question["interval"] == "1d"


@pytest.mark.parametrize(
    ("series", "timezone"),
    [
        ("GC=F", "America/New_York"),
        ("DX-Y.NYB", "America/New_York"),
        ("^TNX", "America/Chicago"),
        ("^N225", "Asia/Tokyo"),
    ],
)
def test_a_day_is_one_of_the_exchanges_calendar(
    server: FakeYahoo, yahoo: Yahoo, series: str, timezone: str
) -> None:
    days = weekdays(date(2024, 10, 28), date(2024, 11, 8))
    server.markets[series] = Market(rows(days), timezone=timezone)
    answer = yahoo.daily(series, days[0], days[-1])
    assert (list(answer.days), answer.timezone) == (days, timezone)


def test_rows_without_a_price_are_empty_days(server: FakeYahoo, yahoo: Yahoo) -> None:
    days = server.markets["^GSPC"].days
    days[date(2024, 3, 6)] = (None, None, None, None, None)
    days[date(2024, 3, 7)] = (None, None, None, None, 9351756)
    days[date(2024, 3, 8)] = (None, None, None, 5001.0, None)
    answer = yahoo.daily("^GSPC", FIRST, LAST)
    assert answer.empty == {date(2024, 3, 6), date(2024, 3, 7)}
    lone = answer.days[date(2024, 3, 8)]
    assert (lone.open, lone.high, lone.low, lone.close, lone.volume) == (None, None, None, 5001.0, 0)


def test_the_end_of_the_latest_session_is_told(server: FakeYahoo, yahoo: Yahoo) -> None:
    end = datetime(2024, 3, 29, 20, tzinfo=UTC)
    server.markets["^GSPC"].session_end = int(end.timestamp())
    answer = yahoo.daily("^GSPC", FIRST, LAST)
    assert answer.session == (LAST, int(end.timestamp()) * 10**6)


@pytest.mark.parametrize(
    ("faults", "kind", "text"),
    [
        ([Fault(429, LIMITED)] * 2, RateLimited, "429"),
        ([Fault(500, b"oops")] * 2, Unavailable, "HTTP 500"),
        ([Fault(502, b"<html>bad gateway</html>")] * 2, Unavailable, "HTTP 502"),
        ([Fault(503, b"{}")] * 2, Unavailable, "HTTP 503"),
        ([Fault(401, UNAUTHORIZED)] * 2, Refused, "HTTP 401"),
        ([Fault(403, b"Forbidden")] * 2, Refused, "HTTP 403"),
        ([Fault(404, json.dumps(error("Not Found", "delisted")).encode())] * 2, NoSuchSeries, "HTTP 404"),
        ([Fault(cut=100)], Unavailable, "no answer"),
        ([Fault(body=b'{"chart":{"result":[{"meta":{"curr')], Unavailable, "can't be read"),
        ([Fault(body=b"[]")], NothingThere, "no price data"),
        ([Fault(body=b'{"chart":{"result":[{"meta":{}}],"error":null}}')], Unavailable, "can't be read"),
        ([Fault(body=b"Will be right back")], Unavailable, "can't be read"),
        ([Fault(body=b"")], Unavailable, "can't be read"),
        (
            [Fault(body=json.dumps(error("Bad Request", "no such range")).encode())],
            NothingThere,
            "no such range",
        ),
        ([Fault(body=b'{"chart":{"result":[],"error":null}}')], NothingThere, "no price data"),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "__name__", ""),
)
def test_each_error_is_told_for_what_it_is(
    server: FakeYahoo, yahoo: Yahoo, faults: list[Fault], kind: type[ProviderError], text: str
) -> None:
    yahoo.daily("^GSPC", FIRST, LAST)
    server.faults.extend(faults)
    with pytest.raises(ProviderError) as raised:
        yahoo.daily("^GSPC", FIRST, LAST)
    assert (type(raised.value), server.fired) == (kind, faults), str(raised.value)
    assert text in str(raised.value)
    assert "curl.se" not in str(raised.value)
    # The library keeps answers, failures too. The same question again is asked again.
    assert len(yahoo.daily("^GSPC", FIRST, LAST).days) == 20


def test_an_answer_that_does_not_come_is_waited_for_no_longer_than_is_set(
    server: FakeYahoo, yahoo: Yahoo
) -> None:
    yahoo.daily("^GSPC", FIRST, LAST)
    fault = Fault(seconds=60)
    server.faults.append(fault)
    hasty = Yahoo(proxy=server.proxy, ca_file=str(server.ca_file), timeout_seconds=0.5)
    with pytest.raises(Unavailable, match="no answer"):
        hasty.daily("^GSPC", FIRST, LAST)
    hasty.close()
    assert server.fired == [fault]
    assert len(yahoo.daily("^GSPC", FIRST, LAST).days) == 20


def test_a_failure_about_the_time_zone_is_not_kept(server: FakeYahoo, yahoo: Yahoo) -> None:
    server.markets["^VIX"] = Market(rows(weekdays(FIRST, LAST)))
    server.faults.extend([Fault(503, b"{}", also_timezone=True)] * 2)
    with pytest.raises(Unavailable, match="HTTP 503"):
        yahoo.daily("^VIX", FIRST, LAST)
    assert not server.faults
    assert len(yahoo.daily("^VIX", FIRST, LAST).days) == 20


def test_a_series_that_yahoo_does_not_have(yahoo: Yahoo) -> None:
    with pytest.raises(NoSuchSeries, match=r"\^NOPE: Yahoo does not have it"):
        yahoo.daily("^NOPE", FIRST, LAST)


def test_days_before_the_series_began_are_no_failure_of_the_road(yahoo: Yahoo) -> None:
    with pytest.raises(NothingThere, match=r"finance\.yahoo\.com"):
        yahoo.daily("^GSPC", date(1900, 1, 1), date(1900, 2, 1))


@pytest.mark.parametrize("form", ["seconds", "date", "nonsense"])
def test_how_long_to_wait_is_taken_from_the_answer(server: FakeYahoo, yahoo: Yahoo, form: str) -> None:
    at = datetime.now(UTC) + timedelta(seconds=90)
    told = {"seconds": "90", "date": format_datetime(at, usegmt=True), "nonsense": "soon"}[form]
    server.faults.extend([Fault(429, LIMITED, {"Retry-After": told})] * 2)
    with pytest.raises(RateLimited) as raised:
        yahoo.daily("^GSPC", FIRST, LAST)
    assert raised.value.retry_after_seconds == (None if form == "nonsense" else pytest.approx(90, abs=3))


def test_a_certificate_that_is_not_trusted_is_told(server: FakeYahoo) -> None:
    provider = Yahoo(proxy=server.proxy)
    with pytest.raises(Unavailable, match=r"(?s)certificate.*macro\.ca_file"):
        provider.daily("^GSPC", FIRST, LAST)
    provider.close()
    assert server.asked == []


def test_a_proxy_that_is_not_there_is_told_without_its_password() -> None:
    provider = Yahoo(proxy="http://someone:secret@127.0.0.1:9")
    with pytest.raises(Unavailable, match=r"macro\.proxy") as raised:
        provider.daily("^GSPC", FIRST, LAST)
    provider.close()
    assert "secret" not in str(raised.value)
