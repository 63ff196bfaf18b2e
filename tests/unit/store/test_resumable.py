"""The resumable upload against a model of the server's session: whatever breaks, all bytes once and in order."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.store import resumable
from crypto_lake.store.resumable import Finished, Gone, Holds, Reply

GRAIN = resumable.GRAIN_BYTES


class Broke(Exception):  # noqa: N818
    pass


class Session:
    """A server's session that follows the protocol, and a road that breaks as the plan says."""

    def __init__(self, size: int, plan: list[tuple[str, float]]) -> None:
        self.size = size
        self.plan = plan
        self.held = b""
        self.commits = 0
        self.asked = 0
        self.sent_bytes = 0

    def request(self, content_range: str, body: bytes) -> Reply:
        kind, share = self.plan.pop(0) if self.plan else ("well", 0.0)
        if kind == "gone":
            return Reply(410, None, b"")
        if kind == "before":
            raise Broke
        found = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)", content_range)
        assert found is not None
        assert int(found[3]) == self.size
        if found[1] is None:
            self.asked += 1
            assert body == b""
        else:
            first, last = int(found[1]), int(found[2])
            assert len(body) == last - first + 1
            assert first == len(self.held), "nothing is sent again that is held, and no hole is left"
            assert last + 1 == self.size or len(body) % GRAIN == 0
            taken = body[: int(len(body) * share)] if kind == "half" else body
            self.held += taken
            self.sent_bytes += len(body)
        if len(self.held) == self.size:
            self.commits += found[1] is not None
            reply = Reply(200, None, b"{}")
        else:
            reply = Reply(308, f"bytes=0-{len(self.held) - 1}" if self.held else None, b"")
        if kind in ("after", "half"):
            raise Broke
        return reply


plans = st.lists(
    st.tuples(
        st.sampled_from(["well", "before", "after", "half", "gone"]), st.floats(0, 1, exclude_max=True)
    ),
    max_size=30,
)


@given(st.integers(1, 5 * GRAIN), st.integers(1, 3), plans)
def test_all_bytes_arrive_once_and_in_order(size: int, chunks: int, plan: list[tuple[str, float]]) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    session = Session(size, list(plan))
    held: list[int] = []
    ended = resumable.send(
        io.BytesIO(data),
        size,
        request=session.request,
        chunk_bytes=chunks * GRAIN,
        pause=lambda error: None,
        progressed=held.append,
        failure=AssertionError,
        passing=(Broke,),
        take=lambda amount: None,
    )
    assert session.held == data[: len(session.held)]
    assert held == sorted(set(held))
    assert session.commits <= 1
    if isinstance(ended, Gone):
        assert any(kind == "gone" for kind, _ in plan)
    else:
        assert session.held == data
        assert session.commits == 1


def test_other_errors_end_the_upload_and_a_short_file_is_seen() -> None:
    def send(data: bytes, reply: Reply) -> object:
        return resumable.send(
            io.BytesIO(data),
            10,
            request=lambda content_range, body: reply,
            chunk_bytes=GRAIN,
            pause=lambda error: pytest.fail("not to be waited for"),
            progressed=lambda held: None,
            failure=lambda failed: PermissionError(failed.status),
            passing=(Broke,),
            take=lambda amount: None,
        )

    with pytest.raises(PermissionError):
        send(b"x" * 10, Reply(403, None, b""))
    with pytest.raises(resumable.Shrunk):
        send(b"x" * 9, Reply(200, None, b""))


@given(
    st.one_of(st.none(), st.text(max_size=20), st.integers(-1, 30).map(lambda n: f"bytes=0-{n}")),
    st.integers(0, 20),
)
def test_a_range_is_believed_only_where_it_can_be(told: str | None, size: int) -> None:
    state = resumable.understand(Reply(308, told, b""), size)
    if told is None:
        assert state == Holds(0)
    elif state is not None:
        assert isinstance(state, Holds)
        assert 0 < state.offset <= size


def test_statuses() -> None:
    assert resumable.understand(Reply(200, None, b"x"), 1) == Finished(b"x")
    assert resumable.understand(Reply(404, None, b""), 1) == Gone()
    assert resumable.understand(Reply(503, None, b""), 1) is None


@given(st.integers(1, 2**30), st.one_of(st.none(), st.floats(1, 1e10)))
def test_chunks_are_whole_grains_and_about_a_second_of_the_limit(chunk: int, limit: float | None) -> None:
    size = resumable.chunk_size(chunk, limit)
    assert size % GRAIN == 0
    assert size >= GRAIN
    assert size <= max(GRAIN, chunk)
    assert limit is None or size <= max(GRAIN, limit)
