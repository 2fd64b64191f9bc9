"""Sound files, block by block: by libsndfile, or by ffmpeg (`asr.speech.media_files`) what libsndfile cannot decode.

Headers that do not know how long the sound is are mended on the way (`asr.speech.sound_headers`).

Letters: n samples of a block.
"""

import io
import math
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from tempfile import SpooledTemporaryFile, TemporaryFile, gettempdir
from typing import IO, Any, BinaryIO, cast

import numpy as np
import soundfile

from asr.core.errors import AudioError, OutputError
from asr.speech import media_files, sound_headers

BLOCK_SAMPLES = 1 << 20  # that are read at once
MP3_SLACK = 2 * 1152  # samples; encoders disagree whether the frame that holds the count is counted
FLAC_UNKNOWN = 1 << 36  # frames; a FLAC header has 36 bits for them, and libsndfile says more where it holds none
IN_MEMORY = 1 << 24  # bytes of a pipe; a longer one is copied to a temporary file
HEADERLESS = {".gsm", ".vox"}  # suffixes from which libsndfile knows rate and coding
STDERR = 2  # the file descriptor
OF_LIBMPG123 = re.compile(  # with an empty line before it, which some of its messages begin with
    rb"(?:(?<=\n)\n|\A\n)?"
    rb"(?:\[src/libmpg123/|Warning: (?:Xing|Encountered|Big change|Real sample)|(?<![^\n])Note: )[^\n]*\n?"
)


@contextmanager
def opened(recording: Any) -> Iterator[tuple[BinaryIO, Path | None]]:
    """Open a path, the bytes of a file or a file object: a binary file that can seek, at its beginning, and its path.

    A file object that cannot seek is read to its end. Only what was given as a path has one.

    Raises
    ------
    AudioError
        The file cannot be opened, is closed, or was opened as text.
    OutputError
        There is no room for a copy of what a pipe brings.
    """
    if isinstance(recording, str | os.PathLike):
        try:
            file = Path(recording).open("rb")  # noqa: SIM115 - what is done with it raises other errors
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            reason = getattr(error, "strerror", None) or str(error)
            raise AudioError(f"{reason}: check the path and its permissions") from error
        with file:
            yield file, Path(recording)
    elif isinstance(recording, bytes | bytearray | memoryview):
        yield io.BytesIO(recording), None
    elif _can_seek(recording):
        recording.seek(0)
        yield recording, None
    else:
        with SpooledTemporaryFile(max_size=IN_MEMORY) as copy:
            try:
                shutil.copyfileobj(recording, copy)
            except OSError as error:
                reason = error.strerror or str(error)
                raise OutputError(f"cannot copy a pipe to {gettempdir()}: {reason}: free some space there") from error
            copy.seek(0)
            yield cast(BinaryIO, copy), None


def _can_seek(file: Any) -> bool:
    """Whether a file object can seek; AudioError if it is of no use at all."""
    try:
        if not isinstance(file.read(0), bytes):
            raise AudioError("the file is opened as text: open it in mode 'rb'")
        return hasattr(file, "seekable") and bool(file.seekable())
    except ValueError as error:
        raise AudioError(f"{error}: give an open file") from error


def blocks(file: BinaryIO, path: Path | None = None) -> Iterator[tuple[float, np.ndarray]]:
    """Yield the sound of a file in blocks (n, channels), floats or integers, each with its sample rate in Hz.

    Parameters
    ----------
    file
        Can seek, and stands at its beginning.
    path
        Of the file, if it has one.

    Raises
    ------
    AudioError
        The file is empty, not audio, damaged or cut short, or needs a decoder that is not installed.
    """
    try:
        head = file.read(4096)
    except OSError as error:  # a folder is opened, but not read
        raise AudioError(f"{error.strerror or error}: check the path and its permissions") from error
    if not head:
        raise AudioError("the file is empty: copy or record it again")
    suffix = (path or Path(_name(file))).suffix.lower()
    if suffix == ".raw":  # soundfile would ask for a rate and a sample type
        raise AudioError("raw samples have no header to tell their rate and type: convert it to WAV")
    source: Any = sound_headers.mended(file, head, str(path or "the recording"))
    if source is None:
        source = io.BufferedReader(sound_headers.View(file)) if path is None else os.fsencode(path)
    quiet: AbstractContextManager[None] = _silencer if _is_mpeg(head) else nullcontext()
    try:
        with quiet:
            sound = _Sound(source)
    except soundfile.LibsndfileError as error:
        yield from media_files.blocks(file, path, head, suffix, _reason(error))
        return
    try:
        yield from _read(sound, suffix, head, quiet)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"damaged ({_reason(error)}): copy it again or convert it to WAV") from error
    finally:
        with quiet:
            sound.close()


class _Sound(soundfile.SoundFile):
    """A sound file that is read from its beginning to its end; soundfile would seek to where it stands after each read.

    In a FLAC file whose header does not know the number of samples, libsndfile cannot seek to the end.
    """

    def seekable(self) -> bool:
        return False


def _read(
    sound: soundfile.SoundFile, suffix: str, head: bytes, quiet: AbstractContextManager[None]
) -> Iterator[tuple[float, np.ndarray]]:
    """Yield the blocks of an open file; raise AudioError at its end if it is shorter than its header says."""
    if sound.format == "RAW" and suffix not in HEADERLESS:
        raise AudioError("damaged, or not audio (no header): copy it again or convert it to WAV")
    num_read = 0
    while True:
        with quiet:
            block = sound.read(BLOCK_SAMPLES // sound.channels, dtype="float32", always_2d=True)
        if len(block) == 0:
            break
        num_read += len(block)
        yield sound.samplerate, block
    expected = _frames_promised(sound, head)
    if num_read < expected:
        raise AudioError(f"cut short, it has {num_read} of {expected} samples: copy or convert it again")


def _frames_promised(sound: soundfile.SoundFile, head: bytes) -> int:
    """Return the number of frames that the header promises; libsndfile is content with fewer and does not say so."""
    if sound.frames > FLAC_UNKNOWN:
        return 0
    if sound.format == "NIST":
        count = re.search(rb"sample_count -i (\d+)", head[:1024])
        return int(count[1]) if count else sound.frames
    # When a WAV, AIFF or AU file ends before its data chunk does, libsndfile notes both sizes in its log.
    note = re.search(r"^ *(?:data|SSND|Data Size) *: (\d+) \(should be (\d+)\)", sound.extra_info, re.MULTILINE)
    if note and int(note[2]) < int(note[1]) < sound_headers.UNKNOWN_SIZE:
        return math.ceil(sound.frames * int(note[1]) / max(int(note[2]), 1))
    return sound.frames - MP3_SLACK if sound.subtype.startswith("MPEG") else sound.frames


def _is_mpeg(head: bytes) -> bool:
    """Whether libsndfile hands a file to libmpg123: MP3 and its elder layers, and WAV with these inside."""
    if head[:4] == b"RIFF":
        place = head.find(b"fmt ", 12)
        return place > 0 and head[place + 8 : place + 10] in (b"\x50\x00", b"\x55\x00")
    return head[:3] == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] >= 0xE0)


def _reason(error: soundfile.LibsndfileError) -> str:
    return error.error_string.strip(" .") or f"libsndfile's error {error.code}"


def _name(file: BinaryIO) -> str:
    name = getattr(file, "name", "")
    return os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else ""


class _Silencer:
    """Keeps the warnings of libmpg123 off standard error, where it prints them whether its caller wants them or not.

    Meanwhile the standard error of the whole process goes to a temporary file. What is not of libmpg123 is passed on
    afterwards, so that no thread's messages are lost. Several threads may be inside at once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_inside = 0
        self._stderr: int | None = None  # a copy of the file descriptor
        self._caught: IO[bytes] | None = None
        self._num_passed = 0  # bytes

    def __enter__(self) -> None:
        with self._lock:
            self._num_inside += 1
            if self._num_inside == 1:
                self._begin()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._num_inside -= 1
            if self._stderr is None or self._caught is None:
                return
            if self._num_inside == 0:
                os.dup2(self._stderr, STDERR)
            self._pass_on(self._stderr, self._caught.fileno(), partly=self._num_inside > 0)
            if self._num_inside == 0:
                os.close(self._stderr)
                self._caught.close()
                self._stderr = self._caught = None

    def _begin(self) -> None:
        try:
            self._stderr = os.dup(STDERR)
        except OSError:  # there is no standard error
            return
        try:
            self._caught, self._num_passed = TemporaryFile(), 0  # noqa: SIM115 - closed when the last thread has left
            os.dup2(self._caught.fileno(), STDERR)
        except OSError:  # there is no place for temporary files: better noise than nothing
            os.close(self._stderr)
            self._stderr = self._caught = None

    def _pass_on(self, stderr: int, caught: int, partly: bool) -> None:
        """Write what was caught since the last time, but for libmpg123's lines; `partly` leaves an unfinished line."""
        content = os.pread(caught, os.fstat(caught).st_size - self._num_passed, self._num_passed)
        if partly:
            content = content[: content.rfind(b"\n") + 1]
        self._num_passed += len(content)
        others = OF_LIBMPG123.sub(b"", content)
        while others:
            others = others[os.write(stderr, others) :]


_silencer = _Silencer()
