"""Many items in a temporary file instead of in memory, read in their order or by their names.

The file has no name and is gone with the process, however that ends. It lies in the folder for temporary files, which
the environment variable TMPDIR names.
"""

import os
import pickle
import tempfile
import weakref
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar, overload

import numpy as np

from asr.core.errors import CorpusError

T = TypeVar("T")


class Stored(Sequence[T]):
    """A sequence in a temporary file, of which 16 bytes an item are in memory.

    Parameters
    ----------
    items
        They are written as they come.

    Raises
    ------
    CorpusError
        The file cannot be written.

    Examples
    --------
    >>> words = Stored(["so", "it", "is"])
    >>> words[-1], list(words), list(words.take(np.array([1, 0])))
    ('is', ['so', 'it', 'is'], ['it', 'so'])
    """

    def __init__(self, items: Iterable[T]):
        file, ends, end = tempfile.TemporaryFile(), array("q", [0]), 0  # noqa: SIM115 - until nobody reads it
        weakref.finalize(self, file.close)
        for item in items:
            try:
                end += file.write(pickle.dumps(item, pickle.HIGHEST_PROTOCOL))
            except OSError as error:
                raise _full(error) from error
            ends.append(end)
        try:
            file.flush()
        except OSError as error:
            raise _full(error) from error
        self._file, self._ends = file, np.array(ends, np.int64)
        self._owner, self._numbers = self, np.arange(len(ends) - 1)

    def take(self, numbers: np.ndarray) -> "Stored[T]":
        """Return the items with these numbers (N,) int64, in this order, without a copy of the file."""
        found = Stored.__new__(Stored)
        found._file, found._ends, found._owner = self._file, self._ends, self._owner
        found._numbers = self._numbers[numbers]
        return found

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, key: int) -> T: ...

    @overload
    def __getitem__(self, key: slice) -> "Stored[T]": ...

    def __getitem__(self, key: int | slice) -> "T | Stored[T]":
        """Read an item, or return some of them."""
        if isinstance(key, slice):
            return self.take(np.arange(len(self))[key])
        number = self._numbers[key]
        start, end = self._ends[number : number + 2].tolist()
        return pickle.loads(os.pread(self._file.fileno(), end - start, start))

    def __iter__(self) -> Iterator[T]:
        return (self[number] for number in range(len(self)))


def _full(error: OSError) -> CorpusError:
    mend = "free some space, or name another folder by TMPDIR"
    return CorpusError(f"cannot write a temporary file in {tempfile.gettempdir()}: {error.strerror}: {mend}")


class Named(Generic[T]):
    """Items by their names in a temporary file, of which 40 bytes an item are in memory.

    Parameters
    ----------
    pairs
        Names and items; of a name that is there twice the last item counts.

    Examples
    --------
    >>> ages = Named([("ann", 30), ("bob", 31), ("ann", 32)])
    >>> ages.get("ann"), ages.get("cid"), "bob" in ages, ages.twice()
    (32, None, True, (0, 2))
    """

    def __init__(self, pairs: Iterable[tuple[str, T]]):
        hashes = array("q")

        def noted() -> Iterator[tuple[str, T]]:
            for pair in pairs:
                hashes.append(hash(pair[0]))
                yield pair

        self.pairs = Stored(noted())
        self._hashes = np.array(hashes, np.int64)
        self._order = np.argsort(self._hashes, kind="stable")
        self._sorted = self._hashes[self._order]

    def __len__(self) -> int:
        return len(self.pairs)

    def __contains__(self, name: str) -> bool:
        return self._find(name) is not None

    def get(self, name: str) -> T | None:
        """Return the item of a name, or None."""
        found = self._find(name)
        return None if found is None else found[1]

    def _find(self, name: str) -> tuple[str, T] | None:
        wanted = hash(name)
        first, end = (int(np.searchsorted(self._sorted, wanted, side)) for side in ("left", "right"))
        found = (self.pairs[int(number)] for number in self._order[first:end][::-1])
        return next((pair for pair in found if pair[0] == name), None)

    def twice(self) -> tuple[int, int] | None:
        """Return the number of the first item whose name an earlier one has, after the number of that one."""
        return first_repeated(self._hashes, lambda number: self.pairs[number][0])


def first_repeated(hashes: np.ndarray, name: Callable[[int], str]) -> tuple[int, int] | None:
    """Return the number of the first item whose name an earlier one has, after the number of that one.

    Parameters
    ----------
    hashes : (N,) int64
        Of the names.
    name
        Returns the name of an item by its number.

    Examples
    --------
    >>> first_repeated(np.array([5, 7, 5, 7]), "abcb".__getitem__)
    (1, 3)
    """
    order = np.argsort(hashes, kind="stable")
    same = hashes[order[1:]] == hashes[order[:-1]]
    for number in np.sort(order[1:][same]).tolist():
        for earlier in np.flatnonzero(hashes[:number] == hashes[number]).tolist():
            if name(earlier) == name(number):
                return earlier, number
    return None
