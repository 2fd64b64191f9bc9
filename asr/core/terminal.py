"""What a terminal shows: notes and progress, on standard error so that standard output is clean for pipes; tables."""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence, Sized
from types import TracebackType
from typing import Self, TypeVar

from rich import progress
from rich.console import Console
from rich.logging import RichHandler

T = TypeVar("T")
INTERVAL = 15.0  # seconds between two lines of progress where there is no terminal
STDERR = Console(stderr=True)  # one for notes and bars, so that they do not write into each other

log = logging.getLogger(__name__)


def log_handler() -> logging.Handler:
    """Return what prints notes on standard error: in colour on a terminal, elsewhere a line each, however long."""
    if STDERR.is_terminal:
        return RichHandler(console=STDERR, show_path=False, show_time=False)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)-8s %(message)s"))
    return handler


def log_warnings(level: int) -> None:
    """Log as the command does, in a process that it has started: `level` is that of the logger `asr`."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[log_handler()])
    logging.getLogger("asr").setLevel(level)


class Progress:
    """How far a loop has come: a bar on a terminal, elsewhere a line in the log every 15 seconds.

    Nothing is shown while the logger `asr` is set to hide notes.

    Parameters
    ----------
    title
        What the loop does.
    total
        Its steps, where they are known.
    before
        Steps that were done before, where the first update may be of several; else it is of one.

    Examples
    --------
    >>> with Progress("counting", total=2) as progress:
    ...     progress.update(1, "one")
    ...     progress.update(2, "two")
    """

    def __init__(self, title: str, total: int | None = None, before: int | None = None):
        self.title, self.total = title, total
        self._started = self._shown = time.monotonic()
        self._first = before  # a resumed loop does not begin at 0
        self._bar: progress.Progress | None = None

    def __enter__(self) -> Self:
        """Show the bar, where there is one."""
        if STDERR.is_terminal and logging.getLogger("asr").level <= logging.INFO:
            text, note = progress.TextColumn("{task.description}"), progress.TextColumn("{task.fields[note]}")
            count, left = progress.MofNCompleteColumn(), progress.TimeRemainingColumn()
            self._bar = progress.Progress(text, progress.BarColumn(), count, left, note, console=STDERR)
            self._bar.add_task(self.title, total=self.total, note="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, note: str = "") -> None:
        """Show how many steps are done, with a note such as the last loss."""
        if self._first is None:
            self._first = done - 1
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, note=note)
            return
        now = time.monotonic()
        if now - self._shown >= INTERVAL:
            self._shown = now
            parts = [f"{done}" if self.total is None else f"{done} of {self.total}", note]
            if self.total is not None:
                parts.append(f"{duration((now - self._started) / (done - self._first) * (self.total - done))} left")
            log.info("%s: %s", self.title, ", ".join(filter(None, parts)))


def track(items: Iterable[T], title: str, total: int | None = None) -> Iterator[T]:
    """Iterate and show the progress; of items that do not know how many they are, `total` says it.

    >>> list(track([1, 2], "counting"))
    [1, 2]
    """
    with Progress(title, len(items) if isinstance(items, Sized) else total) as shown:
        for done, item in enumerate(items, start=1):
            yield item
            shown.update(done)


def count(number: int, what: str) -> str:
    """Return a number of things.

    >>> count(1, "speaker"), count(2000, "speaker")
    ('1 speaker', '2,000 speakers')
    """
    return f"{number:,} {what}{'s' * (number != 1)}"


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it.

    >>> duration(4.24), duration(35), duration(700), duration(20000)
    ('4.2 s', '35 s', '12 min', '5.6 h')
    """
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def pace(seconds: float, total: float, steps_left: int) -> str:
    """Return what a step took, with the time of all steps so far and of those to come.

    >>> pace(5, 20, 3), pace(5, 35, 0)
    ('5.0 s, 20 s in all, 15 s left', '5.0 s, 35 s in all')
    """
    left = [f"{duration(seconds * steps_left)} left"] if steps_left else []
    return ", ".join([duration(seconds), f"{duration(total)} in all", *left])


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Line up cells: the first column to the left, the others to the right.

    >>> print(columns([["system", "PER %"], ["a", "2.21"]]))
    system  PER %
    a        2.21
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        lines.append("  ".join(cells))
    return "\n".join(lines)
