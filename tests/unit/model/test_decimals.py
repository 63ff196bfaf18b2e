from __future__ import annotations

import json
import os
from decimal import ROUND_DOWN, Decimal, localcontext
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.model.decimals import InexactDecimalError, format_e8, parse_e8, quote_volume_e8, to_decimal

E8 = st.integers(-(10**30), 10**30)


@given(E8)
def test_what_is_written_reads_back(value_e8: int) -> None:
    assert parse_e8(format_e8(value_e8)) == value_e8
    assert Decimal(format_e8(value_e8)) == to_decimal(value_e8)


@given(st.integers(0, 10**15), st.integers(0, 10**20))
def test_quote_volume_is_the_product_truncated(price_e8: int, size_e8: int) -> None:
    with localcontext(prec=80):
        exact = to_decimal(price_e8) * to_decimal(size_e8)
        assert to_decimal(quote_volume_e8(price_e8, size_e8)) == exact.quantize(Decimal("1e-8"), ROUND_DOWN)


@pytest.mark.parametrize("text", ["", ".", "1e5", "0.123456789", "NaN", "1 ", "+1", "1.2.3", "٣"])
def test_what_eight_decimals_cannot_hold_is_refused(text: str) -> None:
    with pytest.raises(InexactDecimalError):
        parse_e8(text)


def test_trailing_zeros_are_no_decimals() -> None:
    assert parse_e8("0.1234567800000") == 12345678


def test_every_recorded_trade_has_the_exchanges_own_quote_volume() -> None:
    recorded = os.environ.get("CRYPTO_LAKE_RECORDED_DATA")
    if not recorded:
        pytest.skip("CRYPTO_LAKE_RECORDED_DATA is not set")
    rows = json.loads((Path(recorded) / "binance-rest/trades_ETHBTC_2023-03-20.json").read_text())
    assert len(rows) == 1000
    for row in rows:
        assert quote_volume_e8(parse_e8(row["price"]), parse_e8(row["qty"])) == parse_e8(row["quoteQty"])
