"""Many uploads side by side on one store: bounded in threads, memory and in what is under way."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from crypto_lake.store.base import AlreadyThere, Conflict, Created, Job, Store
from crypto_lake.store.errors import StoreError
from crypto_lake.store.limiter import Limiter


@dataclass(frozen=True, slots=True)
class Failed:
    """The put raised this; OSError: the local file could not be read."""

    error: StoreError | OSError


Outcome = Created | AlreadyThere | Conflict | Failed


def put_many(
    store: Store,
    jobs: Iterable[Job],
    *,
    workers: int = 4,
    progress: Callable[[Job, int], None] | None = None,
    limiter: Limiter | None = None,
) -> Generator[tuple[Job, Outcome]]:
    """Put each job; results in the order of the jobs, each as soon as those before it are done.

    Jobs are taken from the iterable as there is room, at most two a worker ahead of the results taken. One job's
    failure stops no other: a caller that wants to stop closes the iterator, which lets the uploads under way end,
    starts no others, and waits for them. `progress` is called in the workers' threads.
    """
    if workers < 1:
        raise ValueError(f"at least one worker is needed, not {workers}")

    def put(job: Job) -> Outcome:
        told = None if progress is None else functools.partial(progress, job)
        try:
            return store.put(
                job.path,
                job.name,
                job.declared,
                replaces=job.replaces,
                metadata=job.metadata,
                progress=told,
                limiter=limiter,
            )
        except (StoreError, OSError) as error:
            return Failed(error)

    under_way: deque[tuple[Job, Future[Outcome]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="store-put")
    try:
        for job in jobs:
            under_way.append((job, pool.submit(put, job)))
            while under_way and (len(under_way) > 2 * workers or under_way[0][1].done()):
                first, future = under_way.popleft()
                yield first, future.result()
        while under_way:
            first, future = under_way.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
