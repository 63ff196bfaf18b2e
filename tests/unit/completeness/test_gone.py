"""A symbol is gone by the exchange's own word, said twice and contradicted by nothing; by nothing less."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.completeness.gone import CONTRADICTED_SECONDS, Standing, is_gone, said
from crypto_lake.exchanges import BINANCE

ages = st.none() | st.integers(0, 10 * CONTRADICTED_SECONDS)


@given(st.booleans(), st.sampled_from(Standing), ages)
def test_only_what_the_exchange_says_twice_is_gone(
    unknown: bool, standing: Standing, ago_seconds: int | None
) -> None:
    gone = is_gone(klines_say_unknown=unknown, standing=standing, last_trade_ago_seconds=ago_seconds)
    if gone:
        assert unknown
        assert standing not in (Standing.TRADING, Standing.UNTOLD)
        assert ago_seconds is None or ago_seconds >= CONTRADICTED_SECONDS
    # An older last trade speaks no louder against it.
    if gone and ago_seconds is not None:
        assert is_gone(klines_say_unknown=unknown, standing=standing, last_trade_ago_seconds=ago_seconds + 1)


@pytest.mark.parametrize("standing", [Standing.UNKNOWN, Standing.CLOSED])
def test_what_is_said_twice_and_not_contradicted_is_gone(standing: Standing) -> None:
    for ago_seconds in (None, CONTRADICTED_SECONDS):
        assert is_gone(klines_say_unknown=True, standing=standing, last_trade_ago_seconds=ago_seconds)


def test_each_standing_is_told_in_words_of_its_own() -> None:
    assert len({said(standing) for standing in Standing}) == len(Standing)


@pytest.mark.parametrize(
    ("answer", "unknown"),
    [
        (b'{"code":-1121,"msg":"Invalid symbol."}', True),
        (b'{"code":-1100,"msg":"Illegal characters found in parameter \'startTime\'."}', False),
        (b'{"code":"-1121"}', False),
        (b"[]", False),
        (b"<html>400 Bad Request</html>", False),
        (b"", False),
    ],
)
def test_of_refusals_one_alone_says_that_there_is_no_such_symbol(answer: bytes, unknown: bool) -> None:
    assert BINANCE.present.says_unknown_symbol(answer) is unknown
