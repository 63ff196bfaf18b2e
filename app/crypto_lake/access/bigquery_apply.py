"""Statements run in BigQuery, with Application Default Credentials, and what its refusals mean.

With BIGQUERY_EMULATOR_HOST the server named there is asked, without credentials.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from crypto_lake.access.bigquery import BASE, LABEL, Dataset, Kind, Statement
from crypto_lake.access.errors import LakeError

Outcome = Literal["created", "replaced", "would_create", "would_replace"]

HOST_VARIABLE: Final = "BIGQUERY_EMULATOR_HOST"
_PATIENCE_SECONDS: Final = 60.0
_PERMISSION: Final = re.compile(r"\b(?:bigquery|storage)(?:\.\w+)+\b")
# What grants each, and on what.
_ROLES: Final = {
    "bigquery.jobs.create": "roles/bigquery.jobUser on the project",
    "bigquery.datasets.create": "roles/bigquery.dataEditor on the project",
    "storage.objects.get": "roles/storage.objectViewer on the bucket",
    "storage.objects.list": "roles/storage.objectViewer on the bucket",
}
_EDITOR: Final = "roles/bigquery.dataEditor on the dataset"


class BigQueryError(LakeError):
    """BigQuery did not do it. `transient`: the same call may succeed later; `usage`: never, as it is written."""

    def __init__(self, message: str, *, transient: bool = False, usage: bool = False) -> None:
        super().__init__(message)
        self.transient = transient
        self.usage = usage


@dataclass(frozen=True, slots=True)
class Applied:
    """`checked`: BigQuery itself accepted the statement. A view is not checked where what it reads is not there yet."""

    kind: Kind
    name: str
    outcome: Outcome
    checked: bool = True


@dataclass(frozen=True, slots=True)
class Report:
    dataset: str
    location: str
    dry_run: bool
    made_dataset: bool
    applied: list[Applied] = field(default_factory=list[Applied])


def open_client(project: str) -> Any:
    """A client for this project, or for the one of the credentials where it is ""."""
    try:
        from google.cloud import bigquery  # pyright: ignore[reportMissingTypeStubs]
    except ImportError:
        raise BigQueryError(
            "google-cloud-bigquery is not installed; run pip install 'crypto-lake[bigquery]', or print the statements "
            "with `crypto-lake bigquery ddl`",
            usage=True,
        ) from None
    from google.auth.credentials import AnonymousCredentials
    from google.auth.exceptions import GoogleAuthError

    served = bool(os.environ.get(HOST_VARIABLE))
    try:
        return bigquery.Client(
            project=project or None, credentials=AnonymousCredentials() if served else None
        )
    except GoogleAuthError as error:
        raise _told(error, "no credentials for BigQuery", "") from None
    except OSError:
        raise BigQueryError(
            "which project is meant is not known; write --dataset project.dataset", usage=True
        ) from None


def apply(
    client: Any,
    dataset: Dataset,
    statements: Sequence[Statement],
    *,
    bucket: str,
    dry_run: bool = False,
    create_in: str | None = None,
    replace: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> Report:
    """Run them in their order. Run again it makes the same again. BigQueryError says what to do.

    `create_in`: a location to make the dataset in, where it is not there. `replace`: also what is not ours. With
    `dry_run` nothing is changed, and BigQuery checks what it can check before the tables are there.
    """
    reference = f"{dataset.project or client.project}.{dataset.name}"
    location = _location(client, reference, create_in)
    made = location is None
    if location is None:
        assert create_in is not None
        location = create_in
        if not dry_run:
            location = _make(client, reference, create_in)
    there = {} if made else _there(client, reference)
    _refuse_foreign(statements, there, reference, replace)
    report = Report(reference, location, dry_run, made)
    for number, statement in enumerate(statements):
        if progress is not None:
            progress(number, len(statements), statement.name)
        checked = not dry_run or (not made and _can_check(statement, statements, there))
        if checked:
            _run(client, statement, reference, location, bucket, dry_run=dry_run)
        known = statement.name in there
        done = (
            ("would_replace" if known else "would_create") if dry_run else "replaced" if known else "created"
        )
        report.applied.append(Applied(statement.kind, statement.name, done, checked))
    return report


def _can_check(statement: Statement, statements: Sequence[Statement], there: dict[str, bool]) -> bool:
    """Whether all that it reads is there, so that BigQuery can look at it without making anything."""
    if statement.kind == "table":
        return True
    if statement.name == BASE:
        return all(one.name in there for one in statements if one.kind == "table")
    return BASE in there


def _location(client: Any, reference: str, create_in: str | None) -> str | None:
    """Where the dataset is; None where it is to be made."""
    try:
        found: str = _asked(
            lambda retry: client.get_dataset(reference, retry=retry), f"dataset {reference}", ""
        ).location
    except _NotThereError:
        if create_in is not None:
            return None
        raise BigQueryError(
            f"there is no dataset {reference}; make it where the bucket is, with --create-dataset LOCATION (such as EU, US "
            "or europe-west3)",
            usage=True,
        ) from None
    if create_in is not None and found.upper() != create_in.upper():
        raise BigQueryError(
            f"dataset {reference} is there already, in {found} and not in {create_in}; leave out --create-dataset, or name "
            "another dataset",
            usage=True,
        )
    return found


def _make(client: Any, reference: str, location: str) -> str:
    from google.cloud import bigquery  # pyright: ignore[reportMissingTypeStubs]

    wanted = bigquery.Dataset(reference)
    wanted.location = location
    made: Any = _asked(
        lambda retry: client.create_dataset(wanted, exists_ok=True, retry=retry), f"dataset {reference}", ""
    )
    return made.location


def _there(client: Any, reference: str) -> dict[str, bool]:
    """Names of tables and views that are in the dataset, and whether each is ours."""
    tables: list[Any] = _asked(
        lambda retry: list(client.list_tables(reference, retry=retry)), f"dataset {reference}", ""
    )
    return {table.table_id: LABEL in (table.labels or {}) for table in tables}


def _refuse_foreign(
    statements: Sequence[Statement], there: dict[str, bool], reference: str, replace: bool
) -> None:
    foreign = [one.name for one in statements if there.get(one.name) is False]
    if foreign and not replace:
        raise BigQueryError(
            f"{reference} has {', '.join(foreign)}, and crypto-lake did not make that; name another dataset, or replace it "
            "with --replace",
            usage=True,
        )


def _run(
    client: Any, statement: Statement, reference: str, location: str, bucket: str, *, dry_run: bool
) -> None:
    from google.cloud import bigquery  # pyright: ignore[reportMissingTypeStubs]

    config = bigquery.QueryJobConfig(dry_run=dry_run, use_query_cache=False)

    def run(retry: Any) -> None:
        job: Any = client.query(
            statement.sql, job_config=config, location=location, retry=retry, job_retry=None
        )
        if not dry_run:
            job.result(retry=retry, timeout=_PATIENCE_SECONDS, job_retry=None)

    try:
        _asked(run, f"{statement.kind} {reference}.{statement.name}", bucket)
    except _NotThereError as error:
        raise _told(error.__cause__, f"{statement.kind} {reference}.{statement.name}", bucket) from None


class _NotThereError(Exception):
    """Whoever asked knows what that means; the cause is the client's NotFound."""


def _asked(ask: Callable[[Any], Any], what: str, bucket: str) -> Any:
    import concurrent.futures

    import requests.exceptions
    from google.api_core.exceptions import GoogleAPIError, NotFound
    from google.auth.exceptions import GoogleAuthError
    from google.cloud.bigquery.retry import DEFAULT_RETRY  # pyright: ignore[reportMissingTypeStubs]

    retry: Any = DEFAULT_RETRY.with_timeout(_PATIENCE_SECONDS)
    try:
        return ask(retry)
    except NotFound as error:
        raise _NotThereError from error
    except (
        GoogleAPIError,
        GoogleAuthError,
        requests.exceptions.RequestException,
        concurrent.futures.TimeoutError,
    ) as error:
        raise _told(error, what, bucket) from error


def _told(error: BaseException | None, what: str, bucket: str) -> BigQueryError:
    """What a person reads. Google's own words are kept, since they name the project or the file."""
    from google.api_core import exceptions as api
    from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError

    words = " ".join(str(getattr(error, "message", None) or error).split())
    lower = words.lower()
    match error:
        case DefaultCredentialsError():
            return BigQueryError(
                f"{what}: {words} Log in with `gcloud auth application-default login`, or run under a service account"
            )
        case api.RetryError():
            return BigQueryError(
                f"{what}: BigQuery does not answer: {words}; try again later", transient=True
            )
        case GoogleAuthError():
            return BigQueryError(f"{what}: {words}", transient=bool(getattr(error, "retryable", False)))
        case api.Forbidden() if any(one in lower for one in ("quota", "rate limit")):
            return BigQueryError(f"{what}: {words}; try again later", transient=True)
        case api.Forbidden() | api.Unauthorized():
            return BigQueryError(f"{what}: not permitted: {words} {_grant(words, bucket)}")
        case api.ClientError() if "location" in lower and any(
            one in lower for one in ("different", "not found in location", "does not match", "locations")
        ):
            return BigQueryError(
                f"{what}: {words} Dataset and bucket must be in the same location: see the bucket's with `gcloud storage "
                f"buckets describe {_bucket_of(bucket)}`, and name a dataset that is there",
                usage=True,
            )
        case api.ClientError() if "matched no files" in lower or "no files" in lower:
            return BigQueryError(
                f"{what}: {words} There are no published days of it: `crypto-lake publish` puts them there",
                usage=True,
            )
        case api.TooManyRequests():
            return BigQueryError(f"{what}: {words}; try again later", transient=True)
        case api.ClientError():
            return BigQueryError(f"{what}: BigQuery refuses it: {words}")
        case _:
            return BigQueryError(
                f"{what}: BigQuery does not answer: {words or type(error).__name__}; try again later",
                transient=True,
            )


def _grant(words: str, bucket: str) -> str:
    found = _PERMISSION.search(words)
    if found is None:
        return (
            f"Needed are {_ROLES['bigquery.jobs.create']}, {_EDITOR}, and roles/storage.objectViewer on "
            f"{_bucket_of(bucket)}"
        )
    role = _ROLES.get(found[0], _EDITOR)
    return f"{found[0]} is missing: grant {role.replace('the bucket', _bucket_of(bucket))}"


def _bucket_of(url: str) -> str:
    return "/".join(url.split("/")[:3]) or "the bucket"
