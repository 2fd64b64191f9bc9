"""A batch on the processes of this machine."""

import itertools
import logging
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Self

from asr.core import workers
from asr.core.errors import AsrError
from asr.recognition.batch.items import Item
from asr.recognition.batch.plan import Group, Plan
from asr.recognition.batch.worker import Row, Worker, fault

AHEAD = 2  # groups for each process that wait or are worked on
TRIES = 2  # processes that may die of a recording before it counts as a fault
DIED = AsrError("the process that heard it died each time: it is damaged, or too long for the memory")

log = logging.getLogger(__name__)


def rows(plan: Plan, worker: Worker, groups: Iterable[Group], jobs: int) -> Generator[tuple[Group, list[Row]]]:
    """Yield the rows of each group, in this process or in several.

    If a process dies, what it and the others were at is done again, by one process alone. A recording of which two die
    has a fault.
    """
    if jobs == 1:
        for group in groups:
            yield group, worker(plan.items(group))
        return
    left, waiting, pool = iter(groups), dict[Future[list[Row]], Group](), _pool(worker, jobs)
    try:
        while True:
            for group in itertools.islice(left, AHEAD * jobs - len(waiting)):
                waiting[pool.submit(_work, plan.items(group))] = group
            if not waiting:
                pool.shutdown()
                return
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            lost = list[Group]()
            for future in done:
                group = waiting.pop(future)
                if isinstance(future.exception(), BrokenProcessPool):
                    lost.append(group)
                else:
                    yield group, future.result()
            if lost:
                log.warning("a process died: what it was at is done again")
                lost += waiting.values()
                waiting.clear()
                yield from _again(plan, worker, lost)
                pool = _pool(worker, jobs)
    except BaseException:  # what is being done is not waited for
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def _again(plan: Plan, worker: Worker, groups: Iterable[Group]) -> Iterator[tuple[Group, list[Row]]]:
    """Yield the rows of groups that one process works on; what it dies of is heard one recording at a time."""
    with _Lonely(worker) as process:
        for group in groups:
            items = plan.items(group)
            found = process.rows(items, 1)
            yield group, found or [(process.rows([item], TRIES) or [fault(item, DIED)])[0] for item in items]


class _Lonely:
    """One process, and another one when it dies."""

    def __init__(self, worker: Worker):
        self._worker, self._pool = worker, _pool(worker, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._pool.shutdown(wait=kind is None, cancel_futures=True)

    def rows(self, items: Sequence[Item], tries: int) -> list[Row]:
        """Return the rows of recordings; none if so many processes died of them."""
        for _ in range(tries):
            try:
                return self._pool.submit(_work, items).result()
            except BrokenProcessPool:
                self._pool.shutdown()
                self._pool = _pool(self._worker, 1)
        return []


def _pool(worker: Worker, jobs: int) -> ProcessPoolExecutor:
    return workers.processes(jobs, _prepare, worker)


def _prepare(worker: Worker) -> None:
    global _work_of
    _work_of = worker


def _work(items: Sequence[Item]) -> list[Row]:
    return _work_of(items)


_work_of: Worker
