"""Audio files and arrays to waveforms: mono, 16 kHz, float32 in [-1, 1].

libsndfile decodes (WAV, NIST SPHERE, FLAC, OGG, MP3, AIFF and more), soxr resamples.
"""

import math
import os
import re
from pathlib import Path

import numpy as np
import soundfile
import soxr

from asr.core.errors import AudioError

SAMPLE_RATE = 16_000  # Hz
MIN_RATE, MAX_RATE = 1_000, 1_000_000  # Hz; a header that says otherwise is damaged
MAX_CHANNELS = 64  # an array with more columns is probably (channels, N), and is refused
MP3_SLACK = 2 * 1152  # samples; encoders disagree whether the frame that holds the count is counted
BLOCK_SAMPLES = 1 << 20  # that are read at once
UNKNOWN_SIZE = 0x7FFF_0000  # bytes; programs that write WAV into a pipe announce this size or a larger one


def load(path: str | os.PathLike, channel: int | None = None) -> np.ndarray:
    """Read an audio file of any sample rate and number of channels.

    Parameters
    ----------
    path
        A file in any format that libsndfile reads.
    channel
        Which channel to take, counted from 0; None takes the mean of all.

    Returns
    -------
    np.ndarray, shape (N,), float32
        One channel at 16 kHz, in [-1, 1].

    Raises
    ------
    AudioError
        The file is missing, a folder, unreadable, empty, not audio, cut short, without samples or not finite, or has no
        such channel. A cut is noticed in WAV, SPHERE, FLAC, MP3, AIFF and AU; an Ogg stream may end anywhere.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     soundfile.write(f"{folder}/a.wav", np.zeros((8000, 2)), 8000)
    ...     load(f"{folder}/a.wav").shape
    (16000,)
    """
    path = Path(path)
    _check_readable(path)
    try:
        with soundfile.SoundFile(os.fsencode(path)) as file:  # names need not be UTF-8
            waveform, num_read = _read(file, channel)
            expected = _frames_promised(path, file)
    except soundfile.LibsndfileError as error:
        reason = error.error_string.strip(" .") or f"libsndfile's error {error.code}"
        raise AudioError(f"{path}: damaged, or not audio ({reason}): copy it again or convert it to WAV") from error
    except AudioError as error:
        raise AudioError(f"{path}: {error}") from error
    if num_read < expected:
        raise AudioError(f"{path}: cut short, it has {num_read} of {expected} samples: copy or convert it again")
    return waveform


def _read(file: soundfile.SoundFile, channel: int | None) -> tuple[np.ndarray, int]:
    """Return the waveform of an open file at 16 kHz, and the number of samples in each channel of the file."""
    if not MIN_RATE <= file.samplerate <= MAX_RATE:
        raise AudioError(f"the sample rate is {file.samplerate}: give it in Hz, from {MIN_RATE} to {MAX_RATE}")
    stream = soxr.ResampleStream(file.samplerate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    parts, num_read = [], 0
    while len(block := file.read(BLOCK_SAMPLES // file.channels, dtype="float32", always_2d=True)):
        num_read += len(block)
        mono = one_channel(block, channel)
        parts.append(mono if file.samplerate == SAMPLE_RATE else stream.resample_chunk(mono))
    if num_read == 0:
        raise AudioError("there are no samples: record it again")
    if file.samplerate != SAMPLE_RATE:
        parts.append(stream.resample_chunk(np.zeros(0, np.float32), last=True))
    waveform = np.concatenate(parts)
    if len(waveform) == 0:
        raise AudioError(f"{num_read} samples at {file.samplerate} Hz are too few to resample: record it again")
    return _within_range(waveform), num_read


def one_channel(samples: np.ndarray, channel: int | None) -> np.ndarray:
    """Return one channel of samples (N, channels), or the mean of all.

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


def _within_range(waveform: np.ndarray) -> np.ndarray:
    """Divide a waveform that leaves [-1, 1] by its peak."""
    peak = np.abs(waveform).max()
    return waveform / peak if peak > 1 else waveform


def from_array(samples: np.ndarray, sample_rate: float) -> np.ndarray:
    """Turn an array of samples into a waveform.

    Parameters
    ----------
    samples : np.ndarray, shape (N,) or (N, channels)
        Floats, or integers of 8, 16 or 32 bits, which are scaled by their type's range.
    sample_rate : float
        Samples a second, in Hz.

    Returns
    -------
    np.ndarray, shape (N,), float32
        The mean of the channels at 16 kHz. A waveform that leaves [-1, 1] is divided by its peak: float samples may be
        larger, and resampling overshoots at loud peaks.

    Raises
    ------
    AudioError
        The array has another shape or type, has no samples or is not finite; or the rate is not between 1 kHz and
        1 MHz.

    Examples
    --------
    >>> from_array(np.array([[16384, 0], [-32768, -32768]], np.int16), 16000).tolist()
    [0.25, -1.0]
    """
    samples = np.asarray(samples)
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and not 1 <= samples.shape[1] <= MAX_CHANNELS):
        raise AudioError(f"the samples have the shape {samples.shape}: give (N,) or (N, channels)")
    if len(samples) == 0:
        raise AudioError("there are no samples: record it again")
    samples = _to_float32(samples)
    waveform = resample(one_channel(samples[:, None] if samples.ndim == 1 else samples, None), sample_rate)
    if len(waveform) == 0:
        raise AudioError(f"{len(samples)} samples at {sample_rate} Hz are too few to resample: record it again")
    return _within_range(waveform)


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
    if not MIN_RATE <= source_rate <= MAX_RATE:
        raise AudioError(f"the sample rate is {source_rate}: give it in Hz, from {MIN_RATE} to {MAX_RATE}")
    waveform = np.ascontiguousarray(waveform, np.float32)
    if source_rate == SAMPLE_RATE:
        return waveform
    return soxr.resample(waveform, source_rate, SAMPLE_RATE, quality="HQ")


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


def _check_readable(path: Path) -> None:
    """Raise AudioError for a fault of the file itself, before libsndfile looks at its content."""
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise AudioError(f"{path}: {error.strerror}: check the path and its permissions") from error
    if empty:
        raise AudioError(f"{path}: the file is empty: copy or record it again")
    if path.suffix.lower() == ".raw":  # soundfile would ask for a rate and a sample type
        raise AudioError(f"{path}: raw samples have no header to tell their rate and type: convert it to WAV")


def _frames_promised(path: Path, file: soundfile.SoundFile) -> int:
    """Return the number of frames that the header promises; libsndfile is content with fewer and does not say so."""
    if file.format == "NIST":
        with path.open("rb") as stream:
            count = re.search(rb"sample_count -i (\d+)", stream.read(1024))
        return int(count[1]) if count else file.frames
    if file.format == "MP3":
        return file.frames - MP3_SLACK
    # When a WAV, AIFF or AU file ends before its data chunk does, libsndfile notes both sizes in its log.
    note = re.search(r"^ *(?:data|SSND|Data Size) *: (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
    if note and int(note[2]) < int(note[1]) < UNKNOWN_SIZE:
        return math.ceil(file.frames * int(note[1]) / max(int(note[2]), 1))
    return file.frames
