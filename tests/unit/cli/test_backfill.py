"""What `backfill` is asked for: days and symbols that can't be are refused before anything is looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from crypto_lake.cli.main import main


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "name symbols, and --from"),
        (("BTCUSDT", "--from", "2024-8-8"), "--from 2024-8-8: expected a day such as"),
        (("BTCUSDT", "--from", "2024-08-08", "--to", "8.9.2024"), "--to 8.9.2024: expected a day such as"),
        (("BTCUSDT", "--from", "2024-08-08", "--to", "2024-08-07"), "--to 2024-08-07 is before --from"),
        (("../BTC", "--from", "2024-08-08"), "../BTC"),
        (("--inexact", "--to", "2024-08-08"), "--to needs --from"),
        (("--inexact", "--source", "rest"), "--source rest"),
    ],
)
def test_what_can_not_be_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], text: str
) -> None:
    data = tmp_path / "data"
    assert main(["backfill", *arguments, "--data", str(data)]) == 2
    assert text in capsys.readouterr().err
    assert not data.exists()
