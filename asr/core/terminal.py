"""What a terminal shows: progress, on standard error so that standard output stays clean for pipes, and tables."""

import logging
from collections.abc import Iterable, Sequence, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")


def track(items: Iterable[T], title: str, total: int | None = None) -> Iterable[T]:
    """Iterate with a progress bar; of items that do not know how many they are, `total` says it.

    There is no bar while the logger `asr` is set to hide notes, as the option ``-q`` does.

    >>> list(track([1, 2], "counting"))
    [1, 2]
    """
    if logging.getLogger("asr").level > logging.INFO:
        yield from items
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        count = len(items) if isinstance(items, Sized) else total
        yield from progress.track(items, count, description=title)


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
