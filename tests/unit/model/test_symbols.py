from __future__ import annotations

import pytest

from crypto_lake.model.symbols import DEFAULT_SYMBOLS, InvalidSymbolError, nearest, validate_symbol


@pytest.mark.parametrize("name", [*DEFAULT_SYMBOLS, "1000SATSUSDT", "这是测试币456"])
def test_names_of_symbols(name: str) -> None:
    assert validate_symbol(name) == name


@pytest.mark.parametrize(
    "name", ["", "..", "BTC/USDT", "a" * 33, "btcusdt", "_control", "BTC USDT", "BTC\n", "."]
)
def test_what_may_not_become_a_folder(name: str) -> None:
    with pytest.raises(InvalidSymbolError):
        validate_symbol(name)


def test_the_nearest_name_is_told() -> None:
    assert nearest("BTCUSD", DEFAULT_SYMBOLS) == "BTCUSDT"
    assert nearest("QQQQ", DEFAULT_SYMBOLS) is None
