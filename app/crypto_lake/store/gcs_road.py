"""Requests to one prefix of a bucket: each sent once, and what its failure means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from crypto_lake.store import resumable
from crypto_lake.store.answers import Answer, error_of, is_transient, names_bucket, parse_answer
from crypto_lake.store.base import Stored, StoreSettings
from crypto_lake.store.errors import NoSuchObject, StoreError
from crypto_lake.store.names import GcsAddress, full_name
from crypto_lake.store.patience import Patience
from crypto_lake.store.session import Passing, Refusal, make_client, passing_or_refusal

T = TypeVar("T")


class Stale(Exception):  # noqa: N818
    """HTTP 412: the precondition does not hold."""


class Road:
    """A client of the library on one prefix. Its own retries are never used."""

    def __init__(self, address: GcsAddress, settings: StoreSettings, credentials: Any | None) -> None:
        self.address = address
        self.settings = settings
        self.client: Any = make_client(settings, address.url, credentials)
        self.bucket: Any = self.client.bucket(address.bucket, user_project=settings.billed_project)
        self.timeout = (settings.connect_timeout_seconds, settings.read_timeout_seconds)
        self.folder = f"{address.prefix}/" if address.prefix else ""

    def at(self, name: str) -> str:
        """An object's URL, for messages."""
        return f"{self.address.url}/{name}"

    def blob(self, name: str, generation: int | None = None) -> Any:
        whole = full_name(self.address.prefix, name, self.address.url)
        return self.bucket.blob(whole, generation=generation)

    def once(self, at: str, request: Callable[[], T]) -> T:
        """One request about `at`; its failure as Passing, Refusal, Stale or a StoreError."""
        try:
            return request()
        except Exception as error:
            found = passing_or_refusal(error, at)
            if found is error:
                raise
            if isinstance(found, Refusal):
                found = of_answer(found.answer)
            raise found from error

    def trying(self, at: str, needed: str, request: Callable[[], T]) -> T:
        """A request that changes nothing, tried until it is answered."""
        patience = Patience(self.settings, at)
        while True:
            try:
                return self.once(at, request)
            except Passing as error:
                patience.pause(str(error), error)
            except Refusal as refusal:
                raise self.error(refusal.answer, at, needed) from refusal

    def put_chunk(self, at: str, session: str, content_range: str, body: bytes) -> resumable.Reply:
        """One PUT to an upload session, through the client's own connections and credentials."""

        def put() -> resumable.Reply:
            answer = self.client._http.request(
                "PUT",
                session,
                data=body,
                headers={"Content-Range": content_range, "Content-Length": str(len(body))},
                timeout=self.timeout,
                allow_redirects=False,
            )
            return resumable.Reply(answer.status_code, answer.headers.get("Range"), answer.content)

        return self.once(at, put)

    def error(self, answer: Answer, at: str, needed: str) -> StoreError:
        """The error of an answer that waiting does not cure; `needed`: the permission that the request takes."""
        if answer.status == 404 and not names_bucket(answer) and needed == "storage.objects.get":
            return NoSuchObject(
                f"there is no object ({answer.message or 'HTTP 404'})",
                at=at,
                hint="List the prefix to see what is.",
            )
        return error_of(answer, at=at, bucket=self.address.bucket, needed=needed)

    def stored(self, blob: Any) -> Stored:
        """From the library's object; Garbled where it contradicts itself."""
        name = str(blob.name)
        try:
            metadata = cast("Mapping[str, str] | None", blob.metadata)
            stored = Stored(
                name.removeprefix(self.folder),
                int(blob.size),
                str(blob.crc32c or ""),
                None if blob.md5_hash is None else str(blob.md5_hash),
                int(blob.generation),
                dict(metadata or {}),
                blob.updated,
            )
        except (TypeError, ValueError) as error:
            raise resumable.Garbled("an object's fields can't be read") from error
        # The id repeats the name, and with the real server the generation: a flipped bit shows.
        told = str(blob.id or name)
        agree = name.startswith(self.folder) and told.endswith((name, f"{name}/{stored.generation}"))
        if not agree:
            raise resumable.Garbled("an object's name, id and generation do not agree")
        return stored


def of_answer(answer: Answer) -> Exception:
    """An answer that is no success as what to do about it: Stale, Passing or Refusal."""
    if answer.status == 412:
        return Stale()
    return Passing(str(answer)) if is_transient(answer) else Refusal(answer)


def of_reply(reply: resumable.Reply) -> Exception:
    """The same for a session's answer that is none of the protocol's."""
    if reply.status == 308:
        return resumable.Garbled("a Range that can't be")
    return of_answer(parse_answer(reply.status, reply.body))
