"""What a run of `cleanup` did, and would not do: returned, printed, and in figures in `state/tasks/cleanup.json`."""

from __future__ import annotations

import msgspec

from crypto_lake.upkeep.upload_report import Sum


class Told(msgspec.Struct, frozen=True):
    """A file with its verdict: `delete` or `keep`, the reason's code, and in words."""

    path: str
    bytes: int
    action: str
    code: str
    text: str


class CleanupReport(msgspec.Struct, frozen=True, kw_only=True):
    """`deleted`: by reason; of a dry run, what would be. `kept`: all that stays; `overdue`: what of it is older than
    its retention. `level`: of the disk, before. problems: what is not as the records say, and what could not be
    deleted. files: all verdicts, where they were asked for.
    """

    schema: int = 1
    url: str
    dry_run: bool
    seconds: float
    level: str
    used_percent: float
    deleted: dict[str, Sum]
    kept: dict[str, Sum]
    overdue: dict[str, Sum]
    temporaries_deleted: int
    problems: list[Told]
    store_error: str = ""
    store_error_is_transient: bool = False
    files: list[Told] = []

    @property
    def problem(self) -> str:
        """For a person, empty where all went well."""
        told = [f"the bucket could not be looked at: {self.store_error}"] if self.store_error else []
        if self.problems:
            first = self.problems[0]
            count = len(self.problems)
            told.append(f"{count} file{'s' * (count > 1)} not as they should be; {first.path} {first.text}")
        return "; ".join(told)

    def figures(self) -> dict[str, object]:
        return {
            "seconds": self.seconds,
            "level": self.level,
            "used_percent": self.used_percent,
            "deleted_files": sum(one.files for one in self.deleted.values()),
            "deleted_bytes": sum(one.bytes for one in self.deleted.values()),
            "kept_files": sum(one.files for one in self.kept.values()),
            "kept_bytes": sum(one.bytes for one in self.kept.values()),
            "overdue_files": sum(one.files for one in self.overdue.values()),
            "overdue_bytes": sum(one.bytes for one in self.overdue.values()),
            "kept": {code: one.files for code, one in sorted(self.kept.items())},
            "problems": len(self.problems),
        }
