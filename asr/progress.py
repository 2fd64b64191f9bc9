"""Progress bars, on standard error so that standard output stays clean for pipes."""

from collections.abc import Iterable, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")


def track(items: Iterable[T], title: str, total: int | None = None) -> Iterable[T]:
    """Iterate with a progress bar; of items that do not know how many they are, `total` says it.

    >>> list(track([1, 2], "counting"))
    [1, 2]
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        count = len(items) if isinstance(items, Sized) else total
        yield from progress.track(items, count, description=title)
