"""Why a lake is not well, in words that programs and people go by. Codes are a contract: they do not change."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec


class Reason(msgspec.Struct, frozen=True):
    """Why a lake is not ok. `code` is for programs and does not change; `message` is for people, `do` what to do."""

    code: str
    message: str
    do: str = ""


WHAT_TO_DO: Mapping[str, str] = MappingProxyType(
    {
        "not_running": "start it with `crypto-lake run`; what it missed will be in the ledger",
        "stale": "see logs/qa/crypto-lake.log; if it hangs, restart it",
        "no_status": "wait some seconds; if it stays so, see logs/qa/crypto-lake.log",
        "not_subscribed": "`crypto-lake doctor` looks at network, DNS and firewall; it reconnects by itself",
        "feed_dead": "it is being replaced; if it stays so, see `streams` of /status, and the exchange's announcements",
        "write_errors": "look at free space (`df`, `df -i`) and `dmesg`",
        "not_writing": "`crypto-lake doctor` measures the disk; `dmesg` tells of errors",
        "disk_full": "enlarge the volume or shorten `retention.raw`; `crypto-lake cleanup --explain` tells what may go",
        "configuration": "mend the file, or restart the collector where it says so",
        "queue": "a faster disk, or one of its own",
        "clock_offset": "set the clock by NTP (`timedatectl`, `chronyc tracking`)",
        "gaps": "the ledger (ledger/) names each trade by its id, and why it is missing",
        "disk": "enlarge the volume or shorten `retention.raw`",
        "transform_failed": "`crypto-lake transform` by hand shows it again",
        "transform_late": "see whether it is started at all, and logs/qa/crypto-lake.log",
    }
)


# The condition that a reason's code stands for, where it has another name.
CONDITION_OF: Mapping[str, str] = MappingProxyType(
    {
        "not_running": "collector_down",
        "stale": "collector_down",
        "no_status": "collector_down",
        "write_errors": "not_writing",
        "disk_full": "not_writing",
        "gaps": "holes",
        "disk": "disk_usage",
    }
)
