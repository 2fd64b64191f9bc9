"""Prepared corpora as Lhotse's Shar: which shards there are, and what is in one.

    mine/shar.json                         what `asr prepare --shar` wrote, written last
    mine/train.npy                         the length of each utterance in seconds, float32, in the order of the shards
    mine/phones.tsv                        labels of one's own, where the corpus has some
    mine/train/cuts.000000.jsonl.gz        a line for each utterance
    mine/train/recording.000000.tar        the sound of each, and its JSON
    mine/dev/…, mine/test/…                as train

The place of the corpus is a path or a URL that fsspec can read. A shard is read once, from its beginning to its end: a
local one stays where it is, and one from a URL is copied to a file without a name, which is gone when the shard is.
"""

import gzip
import io
import json
import os
import tarfile
import tempfile
import time
import weakref
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any, TypeVar

import numpy as np

from asr.core import places
from asr.core.errors import AsrError, CorpusError

MARK = "shar.json"
TRAIN_SHARDS = "shar_train.json"  # beside the manifests of a prepared corpus: the shards of its training speech
WITHOUT_SOUND = (".json", ".nometa")  # members of an archive that follow each sound
PAUSES = (1.0, 10.0)  # seconds before a server is asked again

Result = TypeVar("Result")


@dataclass(frozen=True)
class Shar:
    """A corpus in shards.

    Attributes
    ----------
    place
        Its folder: a path or a URL.
    phone_set
        The phone set of its labels; none where ``phones.tsv`` lists them.
    contents
        A hash of the manifests that it was made of.
    sizes
        The number of utterances of each shard, by split.
    """

    place: str
    phone_set: str
    contents: str
    sizes: Mapping[str, tuple[int, ...]]

    @classmethod
    def read(cls, place: str) -> "Shar":
        """Read what was written.

        Raises
        ------
        CorpusError
            It cannot be read, or is not what `asr prepare --shar` wrote.
        """
        try:
            return cls.from_json({**json.loads(places.read(places.join(place, MARK))), "place": place})
        except AsrError as error:
            raise CorpusError(str(error)) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorpusError(f"{places.join(place, MARK)} is damaged ({error}): write the Shar again") from error

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Shar":
        """Return the corpus of which `to_json` was called."""
        sizes = {split: tuple(map(int, each)) for split, each in values["sizes"].items()}
        return cls(values["place"], values["phone_set"], values["contents"], sizes)

    def to_json(self) -> dict[str, Any]:
        """Return the values as JSON has them."""
        return asdict(self)

    def durations(self, split: str) -> np.ndarray:
        """Return the lengths (N,) of a split's utterances in seconds."""
        path = places.join(self.place, f"{split}.npy")
        try:
            found = np.load(io.BytesIO(places.read(path)))
        except AsrError as error:
            raise CorpusError(str(error)) from error
        except (ValueError, EOFError) as error:
            raise CorpusError(f"{path} is damaged ({error}): write the Shar again") from error
        if len(found) != sum(self.sizes[split]):
            raise CorpusError(f"{path} does not fit {MARK}: write the Shar again")
        return found

    def check(self, split: str) -> None:
        """Raise CorpusError if a shard of a local folder is missing."""
        if places.is_url(self.place):
            return
        folder = places.join(self.place, split)
        there = {*os.listdir(folder)} if os.path.isdir(folder) else set()
        for number in range(len(self.sizes[split])):
            for name in _names(number):
                if name not in there:
                    raise CorpusError(f"{folder} has no {name}: copy the whole folder again")

    def open(self, split: str, number: int) -> "Shard":
        """Open a shard by its number."""
        cuts, archive = (places.join(self.place, f"{split}/{name}") for name in _names(number))
        return Shard(cuts, archive, self.sizes[split][number])


def is_shar(place: str) -> bool:
    """Tell whether a place is a corpus in shards; a URL can be nothing else."""
    return places.is_url(place) or os.path.isfile(places.join(place, MARK))


def _names(number: int) -> tuple[str, str]:
    return f"cuts.{number:06d}.jsonl.gz", f"recording.{number:06d}.tar"


class Shard:
    """Some utterances and their sound.

    Parameters
    ----------
    cuts, archive
        The files.
    size
        The number of utterances.

    Raises
    ------
    CorpusError
        A file cannot be read, is cut short, or does not fit the other.
    """

    def __init__(self, cuts: str, archive: str, size: int):
        self.place = archive
        try:
            self.lines = gzip.decompress(_tried(lambda: places.read(cuts))).splitlines()
            self._file = _tried(lambda: _opened(archive))
            weakref.finalize(self, os.close, self._file)
            self._members = _members(self._file)
        except (AsrError, OSError, EOFError, zlib.error, tarfile.TarError) as error:
            again = "" if isinstance(error, AsrError) else ": copy it again"
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise CorpusError(f"{archive} or the cuts beside it cannot be read ({reason}){again}") from error
        if not len(self.lines) == len(self._members) == size:
            counts = f"{len(self.lines)} cuts and {len(self._members)} sounds of {size}"
            raise CorpusError(f"{archive} is cut short, or the cuts beside it are ({counts}): copy both again")

    def __len__(self) -> int:
        return len(self.lines)

    def cut(self, number: int) -> dict[str, Any]:
        """Return the JSON of an utterance.

        Raises
        ------
        CorpusError
            It is no JSON, or its sound has another name.
        """
        try:
            values = json.loads(self.lines[number])
            name = PurePosixPath(self._members[number].name)
            if name.with_suffix("").as_posix() != values["id"]:
                raise ValueError(f"{values['id']} has the sound {name}")
            return values
        except (ValueError, KeyError, TypeError) as error:
            raise CorpusError(f"{self.place}: utterance {number} is damaged ({error}): write the Shar again") from error

    def sound(self, number: int) -> bytes:
        """Return the sound of an utterance, as a file."""
        member = self._members[number]
        return os.pread(self._file, member.size, member.offset_data)

    def suffix(self, number: int) -> str:
        """Return how the name of an utterance's file ends."""
        return PurePosixPath(self._members[number].name).suffix


def _tried(read: Callable[[], Result]) -> Result:
    """Call a function again after a while if it fails, as servers do; but not if a file is missing."""
    for pause in PAUSES:
        try:
            return read()
        except AsrError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise
            time.sleep(pause)
    return read()


def _opened(archive: str) -> int:
    """Return the descriptor of an archive, or of a copy of it if it is elsewhere."""
    if not places.is_url(archive):
        return os.open(archive, os.O_RDONLY)
    with tempfile.TemporaryFile() as copy:
        places.copy(archive, copy)
        return os.dup(copy.fileno())


def _members(descriptor: int) -> list[tarfile.TarInfo]:
    """Return the sounds of an archive, in its order."""
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        with tarfile.open(fileobj=file) as archive:
            return [each for each in archive if PurePosixPath(each.name).suffix not in WITHOUT_SOUND]
