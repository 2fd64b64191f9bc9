"""Recordings of every kind to waveforms: mono, 16 kHz, float32 in [-1, 1].

    path, bytes, file object ─ sound_files (libsndfile), media_files (ffmpeg) ─┐
                                                                               ├─ blocks ─ Converter ─▶ waveform
    array, list, tensor ───────────────────────────────────────────────────────┘

`load` is the one way in for whole recordings, `Converter` for those that arrive block by block.

Letters: N samples, n samples of a block.
"""

import io
import math
import os
from collections.abc import Iterable, Iterator
from numbers import Integral, Real
from typing import Any, BinaryIO

import numpy as np
import soundfile
import soxr
from numpy.typing import ArrayLike

from asr.core.errors import AudioError, TooLongError
from asr.speech import sound_files

SAMPLE_RATE = 16_000  # Hz
MIN_RATE, MAX_RATE = 1_000, 1_000_000  # Hz; a header that says otherwise is damaged
MAX_CHANNELS = 64

# What `load` takes. A tensor is whatever has the methods of one of torch; torch itself is not imported.
Recording = str | os.PathLike[str] | bytes | bytearray | BinaryIO | ArrayLike | Any


def load(
    recording: Recording,
    sample_rate: float | None = None,
    channel: int | None = None,
    longest: float = math.inf,
) -> np.ndarray:
    """Turn a recording of any kind, sample rate and number of channels into a waveform.

    Parameters
    ----------
    recording
        One of these:

        - the path of a file;
        - the bytes of a file;
        - a file object, opened in binary mode. It is read from its beginning, or where it cannot seek, from where it
          stands;
        - samples: an array, a list or a tensor of shape (N,), (N, channels) or (channels, N). The longer side is time.
          Samples are floats, or integers of 8, 16 or 32 bits, which are scaled by the range of their type.
    sample_rate
        Samples a second, in Hz. Samples need it. A file states its own, and one that states another is refused.
    channel
        Which channel to take, counted from 0; None takes the mean of all.
    longest
        Seconds that a file may last. It is decoded no further.

    Returns
    -------
    np.ndarray, shape (N,), float32
        One channel at 16 kHz. A waveform that leaves [-1, 1] is divided by its peak: float samples may be larger, and
        resampling overshoots at loud peaks.

    Raises
    ------
    AudioError
        The recording is of no kind above, missing, a folder, unreadable, empty, not audio, cut short, without samples
        or not finite; it has no such channel; its rate is not known, not the one given, or not between 1 kHz and 1 MHz;
        or it needs a decoder that is not installed. A cut is noticed in WAV, SPHERE, FLAC, MP3, AIFF, AU and MP4; an
        Ogg stream may end anywhere.
    TooLongError
        The file lasts longer than `longest`.

    Examples
    --------
    >>> load(np.zeros((8000, 2), np.int16), sample_rate=8000).shape
    (16000,)
    >>> load(np.zeros(16000))
    Traceback (most recent call last):
    ...
    asr.core.errors.AudioError: the recording: samples do not say their rate: give sample_rate, such as 16000
    """
    try:
        if not _is_file(recording):
            return from_array(recording, sample_rate, channel)
        if sample_rate is not None:
            _checked_rate(sample_rate)
        with sound_files.opened(recording) as (file, path):
            return _waveform(_until(longest, sound_files.blocks(file, path)), sample_rate, channel)
    except AudioError as error:
        raise type(error)(f"{name_of(recording)}: {error}") from error


def from_array(samples: Any, sample_rate: float | None, channel: int | None = None) -> np.ndarray:
    """Turn samples into a waveform: `load` for an array, a list or a tensor.

    Parameters
    ----------
    samples
        Of shape (N,), (N, channels) or (channels, N): floats, or integers of 8, 16 or 32 bits.
    sample_rate
        Samples a second, in Hz.
    channel
        Which channel to take, counted from 0; None takes the mean of all.

    Returns
    -------
    np.ndarray, shape (N,), float32
        At 16 kHz, in [-1, 1].

    Raises
    ------
    AudioError
        The samples have another shape or type, are none or not finite, or have no such channel; or the rate is missing
        or not between 1 kHz and 1 MHz.

    Examples
    --------
    >>> from_array(np.array([[16384, 0], [-32768, -32768]], np.int16), 16000).tolist()
    [0.25, -1.0]
    """
    if sample_rate is None:
        raise AudioError("samples do not say their rate: give sample_rate, such as 16000")
    array = _array(samples)
    if array.ndim == 2 and 0 < array.shape[0] < array.shape[1] and array.shape[0] <= MAX_CHANNELS:
        array = array.T
    return _waveform([(sample_rate, array)], None, channel)


def name_of(recording: Recording) -> str:
    """Return how messages name a recording: by its path, or as "the recording".

    >>> name_of("talks/a.wav"), name_of(b"RIFF"), name_of([0.0])
    ('talks/a.wav', 'the recording', 'the recording')
    """
    if isinstance(recording, str | os.PathLike):
        return str(recording)
    name = getattr(recording, "name", None) if _is_file(recording) else None
    if name == "<stdin>":
        return "standard input"
    return os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) and name else "the recording"


class Converter:
    """Turns the samples of one recording into a waveform, block by block: takes a channel and resamples to 16 kHz.

    Parameters
    ----------
    sample_rate
        Samples a second, in Hz.
    channel
        Which channel to take, counted from 0; None takes the mean of all.

    Raises
    ------
    AudioError
        The rate is not a number between 1 kHz and 1 MHz, or the channel is not a whole number from 0.

    Examples
    --------
    >>> converter = Converter(8000)
    >>> sum(len(part) for part in [converter(np.zeros(4000, np.int16)), converter(np.zeros(4000)), converter.finish()])
    16000
    """

    def __init__(self, sample_rate: float, channel: int | None = None):
        self.sample_rate, self._channel = _checked_rate(sample_rate), _checked_channel(channel)
        self._resampler = None
        if self.sample_rate != SAMPLE_RATE:
            self._resampler = soxr.ResampleStream(self.sample_rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")

    def __call__(self, samples: ArrayLike) -> np.ndarray:
        """Return what is certain of the waveform after the next samples (n,) or (n, channels) of any type.

        Raises
        ------
        AudioError
            The samples have another shape or type, no such channel, or are not finite.
        """
        mono = one_channel(_to_float32(_matrix(_array(samples))), self._channel)
        return mono if self._resampler is None else self._resampler.resample_chunk(mono)

    def finish(self) -> np.ndarray:
        """Return the rest of the waveform."""
        rest = np.zeros(0, np.float32)
        return rest if self._resampler is None else self._resampler.resample_chunk(rest, last=True)


def _until(longest: float, blocks: Iterable[tuple[float, np.ndarray]]) -> Iterator[tuple[float, np.ndarray]]:
    """Yield the blocks of a recording; raise TooLongError after so many seconds."""
    seconds = 0.0
    for rate, block in blocks:
        seconds += len(block) / max(rate, MIN_RATE)  # a rate below is refused later
        if seconds > longest:
            raise TooLongError(f"it lasts longer than {longest:g} s: cut it")
        yield rate, block


def _waveform(blocks: Iterable[tuple[float, np.ndarray]], sample_rate: float | None, channel: int | None) -> np.ndarray:
    """Put the blocks of a recording, each with its sample rate, together to a waveform.

    `sample_rate` is the rate that the blocks must have, if it is known.
    """
    parts, num_read, converter = list[np.ndarray](), 0, None
    for rate, block in blocks:
        if converter is None or converter.sample_rate != rate:  # some codecs change their rate after the first frames
            parts += [] if converter is None else [converter.finish()]
            converter = Converter(rate, channel)
            if sample_rate is not None and sample_rate != rate:
                raise AudioError(f"the file says {rate:g} Hz, not {sample_rate:g}: leave sample_rate out")
        num_read += len(block)
        parts.append(converter(block))
    if converter is None or num_read == 0:
        raise AudioError("there are no samples: record it again")
    waveform = np.concatenate([*parts, converter.finish()])
    if len(waveform) == 0:
        raise AudioError(f"{num_read} samples at {converter.sample_rate:g} Hz are too few to resample: record it again")
    peak = np.abs(waveform).max()
    return waveform / peak if peak > 1 else waveform


def one_channel(samples: np.ndarray, channel: int | None) -> np.ndarray:
    """Return one channel of samples (n, channels), or the mean of all.

    Raises
    ------
    AudioError
        There is no such channel, or a sample is not finite.
    """
    if channel is not None and not 0 <= channel < samples.shape[1]:
        raise AudioError(f"there is no channel {channel} among {samples.shape[1]}: they are counted from 0")
    num_bad = np.count_nonzero(~np.isfinite(samples))
    if num_bad:
        raise AudioError(f"{num_bad} of {samples.size} samples are NaN or infinite: convert or record it again")
    return samples.mean(axis=1) if channel is None else np.ascontiguousarray(samples[:, channel])


def resample(waveform: np.ndarray, source_rate: float) -> np.ndarray:
    """Resample a waveform to 16 kHz with soxr at its quality HQ.

    Parameters
    ----------
    waveform : np.ndarray, shape (N,)
    source_rate : float
        Its samples a second, in Hz.

    Returns
    -------
    np.ndarray, shape (round(N * 16000 / source_rate),), float32

    Raises
    ------
    AudioError
        The rate is not between 1 kHz and 1 MHz.

    Examples
    --------
    >>> resample(np.zeros(441), 44100).shape
    (160,)
    """
    waveform = np.ascontiguousarray(waveform, np.float32)
    if _checked_rate(source_rate) == SAMPLE_RATE:
        return waveform
    return soxr.resample(waveform, source_rate, SAMPLE_RATE, quality="HQ")


def to_ogg(waveform: np.ndarray) -> bytes:
    """Return a waveform (N,) as a file of Ogg Vorbis, which pages play.

    >>> to_ogg(np.zeros(16000, np.float32))[:4]
    b'OggS'
    """
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", SAMPLE_RATE, 1, format="OGG", subtype="VORBIS") as file:
        # libsndfile's Vorbis encoder overflows its stack when it is given minutes at once.
        for start in range(0, len(waveform), SAMPLE_RATE):
            file.write(waveform[start : start + SAMPLE_RATE])
    return buffer.getvalue()


def _is_file(recording: Recording) -> bool:
    """Whether a recording is a path, the bytes of a file or a file object; anything else is samples."""
    if isinstance(recording, memoryview):
        return recording.format == "B"
    return isinstance(recording, str | os.PathLike | bytes | bytearray | io.IOBase) or hasattr(recording, "read")


def _array(samples: Any) -> np.ndarray:
    """Return samples of any kind as an array."""
    try:
        if hasattr(samples, "detach"):  # a tensor of torch, which may need a gradient or lie on a GPU
            samples = samples.detach().cpu()
            if str(samples.dtype) == "torch.bfloat16":  # numpy has no such type
                samples = samples.float()
        array = np.asarray(samples)
    except (TypeError, ValueError, RuntimeError) as error:  # lists in lists of different lengths; a sparse tensor
        raise AudioError(f"no recording ({str(error).splitlines()[0]}): give a path, or samples (N,)") from error
    if array.ndim == 0 or array.dtype.kind == "O":
        kind = type(samples).__name__
        raise AudioError(f"no recording, but of type {kind}: give a path, a file's bytes, an open file or samples (N,)")
    return array


def _matrix(samples: np.ndarray) -> np.ndarray:
    """Return samples (n,) or (n, channels) as (n, channels)."""
    if samples.ndim == 1:
        return samples[:, None]
    if samples.ndim != 2 or not 1 <= samples.shape[1] <= MAX_CHANNELS:
        raise AudioError(f"the samples have the shape {samples.shape}: give (N,) or (N, channels)")
    return samples


def _to_float32(samples: np.ndarray) -> np.ndarray:
    """Convert samples of any supported type; integers are divided by half the range of their type."""
    if samples.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is reported as infinite
            return samples.astype(np.float32, copy=False)
    if samples.dtype.kind not in "iu" or samples.dtype.itemsize > 4:
        raise AudioError(f"the samples are {samples.dtype}: give float32 in [-1, 1], or int16")
    half_range = 2.0 ** (8 * samples.dtype.itemsize - 1)
    offset = half_range if samples.dtype.kind == "u" else 0.0
    return ((samples - offset) / half_range).astype(np.float32)


def _checked_rate(sample_rate: float) -> float:
    if isinstance(sample_rate, Real) and MIN_RATE <= sample_rate <= MAX_RATE:
        return float(sample_rate)
    raise AudioError(f"the sample rate is {sample_rate!r}: give it in Hz, from {MIN_RATE} to {MAX_RATE}")


def _checked_channel(channel: int | None) -> int | None:
    if channel is None or (isinstance(channel, Integral) and not isinstance(channel, bool) and channel >= 0):
        return channel
    raise AudioError(f"the channel is {channel!r}: give a whole number, counted from 0")
