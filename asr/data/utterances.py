"""The utterances of a split, in memory as an index of 24 bytes each, and read from the disk when they are needed.

    recordings_SPLIT.jsonl.gz, supervisions_SPLIT.jsonl.gz ─ Rows ─▶ rows_SPLIT.jsonl, .npy ─ Utterances ─▶ Cut

Gzipped manifests can only be read from the beginning. So the first process that opens a split writes its lines into one
file that is not gzipped, and beside it an array with the place, the duration and a hash of the name of each utterance.
The first line of that file says of which manifests it was made, by their sizes and times of change.
"""

import gzip
import hashlib
import itertools
import json
import logging
import os
import weakref
import zlib
from array import array
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol, overload

import numpy as np
from lhotse import Recording, SupervisionSegment
from lhotse.cut import Cut
from lhotse.utils import fastcopy

from asr.core import files
from asr.core.errors import CorpusError
from asr.core.turns import turn

log = logging.getLogger(__name__)

INDEX = np.dtype([("end", np.int64), ("duration", np.float64), ("hash", np.uint64)])  # of a row, in the order of a file


def hash_of(name: str) -> int:
    """Return 64 bits that stand for the name of an utterance.

    >>> hash_of("a") == hash_of("a") != hash_of("b")
    True
    """
    return int.from_bytes(hashlib.blake2b(name.encode("utf8", "surrogatepass"), digest_size=8).digest(), "little")


class Part(Protocol):
    """Utterances that can be read by their numbers, such as those of a split of a corpus."""

    @property
    def index(self) -> np.ndarray:
        """The lengths of the utterances in seconds, ``duration``, and hashes of their ids, ``hash``."""

    def __getitem__(self, number: int) -> Cut:
        """Read an utterance."""


class Rows:
    """The manifests of one split of a corpus, each of whose utterances can be read at any time.

    Parameters
    ----------
    folder
        Holds ``recordings_SPLIT.jsonl.gz`` and ``supervisions_SPLIT.jsonl.gz``, and receives the index.
    split
        The split.
    custom
        What each cut gets as its `custom`.

    Raises
    ------
    CorpusError
        The manifests are missing, damaged or do not fit each other.
    """

    def __init__(self, folder: Path, split: str, custom: Mapping[str, Any]):
        self._custom = dict(custom)
        manifests = [folder / f"{kind}_{split}.jsonl.gz" for kind in ("recordings", "supervisions")]
        try:
            states = [each.stat() for each in manifests]
        except FileNotFoundError as error:
            raise CorpusError(f"no {split} manifests of {folder.name} in {folder}: run `asr prepare` first") from error
        stamp = "".join(f"{each.st_size} {each.st_mtime_ns} " for each in states).encode() + b"\n"
        path = folder / f"rows_{split}.jsonl"
        if not _is_of(path, stamp):
            with turn(path, partial(log.info, "waiting for another process: it reads the manifests in %s", folder)):
                if not _is_of(path, stamp):  # by then
                    _write(manifests, split, path, stamp)
        self._first, self.index = len(stamp), np.load(path.with_suffix(".npy"))
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)

    def __getitem__(self, number: int) -> Cut:
        """Read an utterance."""
        start = int(self.index["end"][number - 1]) if number > 0 else self._first
        text = os.pread(self._file, int(self.index["end"][number]) - start, start)
        recording, supervision = map(json.loads, text.splitlines())
        cut = Recording.from_dict(recording).to_cut().with_id(supervision["id"])
        cut.supervisions = [SupervisionSegment.from_dict(supervision)]
        cut.custom = dict(self._custom)
        return cut


def _is_of(path: Path, stamp: bytes) -> bool:
    """Tell whether rows are there that were made of the manifests of a stamp; their index is written last."""
    if not (path.is_file() and path.with_suffix(".npy").is_file()):
        return False
    with path.open("rb") as file:
        return file.readline() == stamp


def _write(manifests: Sequence[Path], split: str, path: Path, stamp: bytes) -> None:
    """Write a stamp and the lines of both manifests in pairs, and then their index."""
    ends, durations, hashes = array("q"), array("d"), array("Q")
    path.with_suffix(".npy").unlink(missing_ok=True)
    with files.replacing(path) as temporary, temporary.open("wb") as file:
        end = file.write(stamp)
        for lines, duration, name in _pairs(manifests, split):
            end += file.write(lines)
            ends.append(end)
            durations.append(duration)
            hashes.append(hash_of(name))
    index = np.empty(len(ends), INDEX)
    index["end"], index["duration"], index["hash"] = ends, durations, hashes
    with files.replacing(path.with_suffix(".npy")) as temporary, temporary.open("wb") as file:
        np.save(file, index)


def _pairs(manifests: Sequence[Path], split: str) -> Iterator[tuple[bytes, float, str]]:
    """Yield the two lines of each utterance, its length in seconds and its id."""
    folder, again = manifests[0].parent, "delete it and prepare again"
    try:
        with gzip.open(manifests[0]) as recordings, gzip.open(manifests[1]) as supervisions:
            for pair in itertools.zip_longest(recordings, supervisions, fillvalue=b"{}"):
                recording, supervision = map(json.loads, pair)
                if recording.get("id", "") != supervision.get("recording_id"):
                    raise CorpusError(f"{folder}: recordings and supervisions of {split} differ; {again}")
                yield b"%b\n%b\n" % tuple(map(bytes.strip, pair)), recording["duration"], supervision["id"]
    except (EOFError, OSError, zlib.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorpusError(f"{folder}: the manifests of {split} are damaged ({error}); {again}") from error


class Utterances(Sequence[Cut]):
    """Utterances in an order, each of which is read when it is asked for: by its number or by its id.

    Parameters
    ----------
    parts
        Where they are read from.
    numbers : (N,) int64
        Which utterances of the parts, counted over all of them; None is all.
    names
        Other ids for some, by these numbers.
    """

    def __init__(
        self, parts: Sequence[Part], numbers: np.ndarray | None = None, names: Mapping[int, str] | None = None
    ):
        self._parts, self._names = parts, dict(names or {})
        self._starts = np.cumsum([0, *(len(part.index) for part in parts)])
        self._numbers = np.arange(self._starts[-1]) if numbers is None else numbers
        self._last: tuple[int, Cut] | None = None

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, key: int | str) -> Cut: ...

    @overload
    def __getitem__(self, key: slice) -> "Utterances": ...

    def __getitem__(self, key: int | str | slice) -> "Cut | Utterances":
        """Return an utterance, or some of them; the last one is kept, for it is often asked for twice.

        Raises
        ------
        IndexError, KeyError
            There is none with this number or id.
        """
        if isinstance(key, slice):
            return Utterances(self._parts, self._numbers[key], self._names)
        if isinstance(key, str):
            found = self._find(key)
            if found is None:
                raise KeyError(key)
            key = found
        number, last = int(self._numbers[key]), self._last
        if last is None or last[0] != number:
            last = self._last = number, self._read(number)
        return last[1]

    def _read(self, number: int) -> Cut:
        part = int(np.searchsorted(self._starts, number, "right")) - 1
        cut = self._parts[part][number - int(self._starts[part])]
        if number in self._names:
            name = self._names[number]
            cut = cut.with_id(name)
            cut.supervisions = [fastcopy(each, id=name) for each in cut.supervisions]
        return cut

    def __iter__(self) -> Iterator[Cut]:
        return (self._read(number) for number in self._numbers.tolist())

    def __contains__(self, name: object) -> bool:
        """Tell whether an utterance has this id."""
        return isinstance(name, str) and self._find(name) is not None

    @property
    def durations(self) -> np.ndarray:
        """The lengths (N,) of the utterances in seconds."""
        return np.concatenate([part.index["duration"] for part in self._parts])[self._numbers]

    @cached_property
    def ids(self) -> Sequence[str]:
        """The names of the utterances, which are read as well."""
        return _Ids(self)

    def filter(self, is_kept: Callable[[Cut], bool]) -> "Utterances":
        """Return those utterances of which a function is true."""
        kept = np.fromiter(map(is_kept, self), bool, len(self))
        return Utterances(self._parts, self._numbers[kept], self._names)

    def without(self, dropped: Collection[int], names: Mapping[int, str]) -> "Utterances":
        """Return the utterances without some, and with other ids for some; both by their numbers."""
        kept = np.delete(self._numbers, list(dropped))
        return Utterances(self._parts, kept, {int(self._numbers[i]): name for i, name in names.items()})

    def repeated(self) -> list[int]:
        """Return the numbers of those utterances whose ids others have, too."""
        sorted_hashes, order = self._sorted
        same = sorted_hashes[1:] == sorted_hashes[:-1]
        return np.sort(order[np.append(same, False) | np.append(False, same)]).tolist()

    @cached_property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        """The hashes of the ids (N,) in ascending order, and the numbers of their utterances."""
        every = np.concatenate([part.index["hash"] for part in self._parts])
        for number, name in self._names.items():
            every[number] = hash_of(name)
        hashes = every[self._numbers]
        order = np.argsort(hashes, kind="stable")
        return hashes[order], order

    def _find(self, name: str) -> int | None:
        """Return the number of the utterance with an id."""
        hashes, order = self._sorted
        wanted = np.uint64(hash_of(name))
        for i in order[np.searchsorted(hashes, wanted) : np.searchsorted(hashes, wanted, "right")].tolist():
            if self[i].id == name:
                return i
        return None


class _Ids(Sequence[str]):
    def __init__(self, utterances: Utterances):
        self._utterances = utterances

    def __len__(self) -> int:
        return len(self._utterances)

    def __getitem__(self, number: Any) -> Any:
        return self._utterances[number].id
