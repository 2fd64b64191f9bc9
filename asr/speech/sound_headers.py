"""Headers that do not know how long the sound is, corrected.

A program that writes into a pipe, or a recorder that is switched off, leaves no size or a wrong one in it. Sizes
of more than 32 bits wrap. libsndfile would read nothing or only a part. Here, the sound reaches to the end of the file
unless chunks of metadata do.
"""

import io
import logging
import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from asr.core.errors import AudioError

UNKNOWN_SIZE = 0x7FFF_0000  # bytes; programs that write into a pipe announce this size or a larger one
LARGEST_SIZE = 0xFFFF_FFFF  # bytes; what 32 bits can say
METADATA = {b"LIST", b"id3 ", b"ID3 ", b"bext", b"fact", b"cue ", b"smpl", b"PEAK", b"JUNK", b"iXML", b"_PMX"}

log = logging.getLogger(__name__)


class _Layout(NamedTuple):
    """How a file is made of chunks: where they begin, what each begins with, the one of the sound, and padding."""

    first: int
    head: struct.Struct
    sound: bytes
    padded: bool


LAYOUTS = {
    b"RIFF": _Layout(12, struct.Struct("<4sI"), b"data", True),
    b"RIFX": _Layout(12, struct.Struct(">4sI"), b"data", True),
    b"RF64": _Layout(12, struct.Struct("<4sI"), b"data", True),
    b"FORM": _Layout(12, struct.Struct(">4sI"), b"SSND", True),
    b"caff": _Layout(8, struct.Struct(">4sq"), b"data", False),
}


class _Chunk(NamedTuple):
    """A chunk's name, the place of its content, the size that it states, and the place after it."""

    name: bytes
    start: int
    size: int
    end: int


class View(io.RawIOBase):
    """A file of which the first bytes are replaced, by as many or by others."""

    def __init__(self, file: BinaryIO, head: bytes = b"", start: int = 0):
        self._file, self._head = file, head
        self._shift = start - len(head)
        self._size = file.seek(0, os.SEEK_END) - self._shift
        self._place = 0

    def readable(self) -> bool:  # noqa: D102
        return True

    def seekable(self) -> bool:  # noqa: D102
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:  # noqa: D102
        self._place = min(max(offset + (0, self._place, self._size)[whence], 0), self._size)
        return self._place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # noqa: D102
        content = self._head[self._place : self._place + len(buffer)]
        if not content:
            self._file.seek(self._place + self._shift)
            content = self._file.read(len(buffer))
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)


def mended(file: BinaryIO, head: bytes, name: str) -> BinaryIO | None:
    """Return a file with a header that knows how long the sound is; None if its own does, or is none that we know.

    Parameters
    ----------
    file
        Can seek.
    head
        Its first bytes.
    name
        Of the recording, for a warning that the header is wrong.

    Raises
    ------
    AudioError
        A second file follows the first, as ``cat a.wav b.wav`` leaves it.
    """
    size = file.seek(0, os.SEEK_END)
    if head[:4] in (b".snd", b"dns.") and len(head) >= 24:
        return _mended_au(file, head, size, name)
    layout = LAYOUTS.get(head[:4])
    if layout is None:
        return None
    sound = next((chunk for chunk in _chunks(file, layout, layout.first, size) if chunk.name == layout.sound), None)
    if sound is None:
        return None
    stated, there = sound.size, size - sound.start
    if head[:4] == b"RF64":
        if head[12:16] != b"ds64" or len(head) < 48:
            return None
        stated = int.from_bytes(head[28:36], "little", signed=True)
    after = sound.start + stated + (stated % 2 if layout.padded else 0)
    if stated >= there or (stated >= 0 and _are_chunks(file, layout, after, size)):
        return None
    _warn(name, stated, there)
    file.seek(0)
    start = file.read(sound.start)
    return io.BufferedReader(View(file, _header(start, layout, there, size), sound.start))


def _mended_au(file: BinaryIO, head: bytes, size: int, name: str) -> BinaryIO | None:
    start, stated = struct.unpack_from("<II" if head[:4] == b"dns." else ">II", head, 4)
    if stated >= size - start:
        return None
    _warn(name, stated, size - start)
    return io.BufferedReader(View(file, head[:8] + b"\xff\xff\xff\xff" + head[12:24], 24))


def _header(start: bytes, layout: _Layout, there: int, size: int) -> bytes:
    """Return the beginning of a file, up to its sound, with the size of the sound in it."""
    wave = start[:4] in (b"RIFF", b"RF64")
    if start[:4] == b"RF64" or (wave and there >= LARGEST_SIZE):
        begin = 12 if start[:4] == b"RIFF" else 20 + int.from_bytes(start[16:20], "little")
        chunks = start[begin : -layout.head.size]
        place = chunks.find(b"fmt ") + 20
        frame = int.from_bytes(chunks[place : place + 2], "little")
        sizes = struct.pack("<I3QI", 28, size, there, there // max(frame, 1), 0)
        return b"RF64\xff\xff\xff\xffWAVEds64" + sizes + chunks + b"data\xff\xff\xff\xff"
    return start[: -layout.head.size] + layout.head.pack(layout.sound, min(there, LARGEST_SIZE))


def _chunks(file: BinaryIO, layout: _Layout, place: int, size: int) -> Iterator[_Chunk]:
    """Yield the chunks of a file from a place on, until something follows that is none."""
    while 0 <= place <= size - layout.head.size:
        file.seek(place)
        name, length = layout.head.unpack(file.read(layout.head.size))
        if not name.isascii() or not name.decode("latin-1").isprintable():
            return
        start = place + layout.head.size
        place = start + length + (length % 2 if layout.padded else 0)
        yield _Chunk(name, start, length, place)
        if length < 0:
            return


def _are_chunks(file: BinaryIO, layout: _Layout, place: int, size: int) -> bool:
    """Whether all from a place on are chunks of metadata, or too little for one."""
    for chunk in _chunks(file, layout, place, size):
        if chunk.name in LAYOUTS:
            raise AudioError("a second recording follows the first in this file: give each in a file of its own")
        if chunk.name in METADATA:
            return True
        place = chunk.end
    return place - 1 <= size < place + layout.head.size


def _warn(name: str, stated: int, there: int) -> None:
    if 0 < stated < UNKNOWN_SIZE:
        log.warning("%s: its header knows of %d of %d bytes of sound: all are read", name, stated, there)
