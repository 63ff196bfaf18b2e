"""Regular expressions that the schema holds. They mean the same to RE2 (the API server) and to Python."""

from __future__ import annotations

from typing import Final

SYMBOL: Final = r"^[A-Z0-9]+$"
SERIES: Final = r"^[A-Z0-9^][A-Z0-9^=.&-]*$"  # of crypto_lake.model.series
# Of crypto_lake.config.durations only what makes sense for days and minutes; no zero.
DURATION: Final = r"^([1-9][0-9]{0,5}[smhdw])+$"
RETENTION: Final = r"^(never|([1-9][0-9]{0,5}[smhdw])+)$"
DAYS: Final = r"^[1-9][0-9]{0,4}[dw]$"
SHORT_DURATION: Final = r"^[1-9][0-9]{0,5}(ms|s)$"
PERCENT: Final = r"^([1-9][0-9]?|100)%$"
SIZE: Final = r"^[1-9][0-9]{0,8}(Mi|Gi|Ti|M|G|T)$"
QUANTITY: Final = r"^[0-9]{1,15}(\.[0-9]{1,6})?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"
WEBSOCKET: Final = r"^wss?://([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?$"
REST: Final = r"^https?://([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?$"
BUCKET: Final = r"^gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/[A-Za-z0-9][A-Za-z0-9._=-]*)*$"
DNS_SUBDOMAIN: Final = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"
DNS_SUBDOMAIN_OR_EMPTY: Final = r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?)?$"
CONFIG_KEY: Final = r"^[A-Za-z0-9._-]+$"
VARIABLE: Final = r"^[A-Za-z_][A-Za-z0-9_]*$"
IMAGE: Final = r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$"


def _cron_field(number: str) -> str:
    part = rf"(\*|{number}(-{number})?)(/[1-9][0-9]?)?"
    return rf"{part}(,{part})*"


_MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY = (
    "[0-5]?[0-9]",
    "([01]?[0-9]|2[0-3])",
    "(0?[1-9]|[12][0-9]|3[01])",
    "(0?[1-9]|1[0-2])",
    "[0-6]",
)
CRON: Final = "^" + " ".join(_cron_field(field) for field in (_MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY)) + "$"
