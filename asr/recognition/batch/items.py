"""The recordings of a batch, one by one: what is known of each before it is heard, and its sound."""

import functools
import io
import json
from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from asr.core import places
from asr.core.errors import AudioError
from asr.speech import audio

SLACK = 0.2  # seconds by which a part may end behind the end of its recording


@dataclass(frozen=True)
class Item:
    """A recording, or a part of one.

    Attributes
    ----------
    id
        What the input calls it.
    path
        Of its file: a path or URL.
    start, duration
        Its place in the file in seconds; a `duration` of None is up to the end.
    channel
        Counted from 0; None takes the mean of all.
    text
        What is said, where that is known.
    offset, size
        The bytes of an archive that hold the file; None where `path` is the file itself.
    fault
        Why it cannot be heard, if that is known beforehand.
    """

    id: str
    path: str
    start: float = 0.0
    duration: float | None = None
    channel: int | None = None
    text: str | None = None
    offset: int | None = None
    size: int | None = None
    fault: str | None = None

    def to_json(self) -> str:
        """Return the values that are not the default as one line.

        >>> Item("a", "a.wav", channel=0).to_json()
        '{"id": "a", "path": "a.wav", "channel": 0}'
        """
        values = ((each.name, getattr(self, each.name), each.default) for each in fields(self))
        return json.dumps({name: value for name, value, default in values if value != default})

    @classmethod
    def from_json(cls, line: str | bytes) -> Self:
        """Return what `to_json` was called on."""
        return cls(**json.loads(line))

    def load(self) -> np.ndarray:
        """Return the waveform (N,) at 16 kHz.

        Raises
        ------
        AudioError
            The file cannot be read, or ends before the part begins.
        """
        if self.fault is not None:
            raise AudioError(f"{self.path}: {self.fault}")
        waveform = _whole(self.path, self.channel, self.offset, self.size)
        if self.start == 0 and self.duration is None:
            return waveform
        length = len(waveform) / audio.SAMPLE_RATE
        end = length if self.duration is None else self.start + self.duration
        if self.start >= length or end > length + SLACK:
            raise AudioError(f"{self.path}: the part from {self.start:.2f} to {end:.2f} s is not in its {length:.2f} s")
        first, last = (round(seconds * audio.SAMPLE_RATE) for seconds in (self.start, end))
        return waveform[first:last]


@functools.lru_cache(maxsize=1)
def _whole(path: str, channel: int | None, offset: int | None, size: int | None) -> np.ndarray:
    """Return the waveform (N,) of a file; the last one is kept, for the next part is often of the same file."""
    if offset is None and not places.is_url(path):
        return audio.load(path, channel=channel)
    file = io.BytesIO(places.read(path, offset or 0, -1 if size is None else size))
    file.name = path  # errors name it
    return audio.load(file, channel=channel)
