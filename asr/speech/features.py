"""Acoustic features in numpy: log-mel filterbanks and MFCCs as Kaldi computes them, their deltas, and normalisation.

    waveform (N,) ─ frames (T, 400) ─ power spectrum (T, 257) ─ log mel (T, M) [─ DCT ─ cepstra (T, C)] ─ Δ, ΔΔ ─ (T, F)

A frame is 25 ms long and starts 10 ms after the one before. The values equal those of Kaldi's ``compute-fbank-feats``
and ``compute-mfcc-feats`` without dither: no frame passes the end of the waveform, the mean of a frame is subtracted,
pre-emphasis is 0.97, the window is Povey's, the FFT has 512 points, the mel triangles reach from 20 Hz to 8 kHz, and
samples have the range of 16-bit integers: a waveform in [-1, 1] is multiplied by 32768.

Letters: N samples, T frames, M mel bins, C cepstra, F features.
"""

from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np

from asr.core.jit import njit

try:
    from scipy.fft import rfft  # it transforms all frames at once
except ImportError:  # the light install has no scipy
    from numpy.fft import rfft  # the same values, frame by frame

from asr.core.config import FeatureConfig
from asr.core.errors import AudioError
from asr.speech.audio import SAMPLE_RATE

VERSION = 1
"""Of the features of a recording. Features that were kept by another version are computed anew, so raise it whenever
they change, be it here, in reading or in resampling; tests/unit/speech/test_features.py notices."""

FRAME_LENGTH = 0.025  # seconds
FRAME_SHIFT = 0.010  # seconds
WINDOW_LENGTH = round(FRAME_LENGTH * SAMPLE_RATE)  # samples
HOP_LENGTH = round(FRAME_SHIFT * SAMPLE_RATE)  # samples
FFT_LENGTH = 512  # the next power of 2 above the window's length
PREEMPHASIS = 0.97
LOW_FREQ = 20.0  # Hz
CEPSTRAL_LIFTER = 22.0
KALDI_SCALE = 32768.0  # Kaldi takes samples as 16-bit integers: [-1, 1] becomes [-32768, 32768]
ENERGY_FLOOR = 1.0  # of a frame's energy, in squared 16-bit samples
MEL_FLOOR = float(np.finfo(np.float32).eps)  # of a mel bin's energy
QUANTISATION = -4.0  # nepers; the log mel energy of the noise of 16-bit samples in the lowest bins, where it is least
STD_FLOOR = 1e-3  # nepers; a feature with a smaller standard deviation counts as constant
# What counts as speech when statistics are taken (`speech_frames`); levels are in nepers of energy.
ALIVE = 0.5  # above the level of digital silence
SMOOTHING = 5  # frames
TOP_FRAMES = 10  # the level that so many frames reach is the top: a click is shorter
BACKGROUND = 0.05  # quantile of the levels at their bottom
LEVEL_RANGE = 9.2  # 40 dB: the most that the bottom lies below the top
QUIET_SHARE = 0.3  # of the range, from the bottom
BLOCK_FRAMES = 64  # frames at a time, so that they stay in the processor's cache


class FeatureExtractor:
    """Turn waveforms into features without normalisation.

    Parameters
    ----------
    config : FeatureConfig
        ``kind="fbank"``: 40 log mel energies and the log energy, with Δ and ΔΔ, are the 123 values of Graves, Mohamed
        and Hinton (2013). ``kind="mfcc"``: 12 cepstra and the log energy, with Δ and ΔΔ, are the classic 39 values;
        with ``delta_order=1`` the 26 values of Graves et al. (2006).

    Examples
    --------
    >>> FeatureExtractor(FeatureConfig()).num_features
    123
    >>> extractor = FeatureExtractor(FeatureConfig(kind="mfcc", delta_order=1))
    >>> extractor(np.zeros(16000, np.float32)).shape
    (98, 26)
    """

    def __init__(self, config: FeatureConfig):
        self.config = config

    @property
    def num_features(self) -> int:
        """F, the number of values in a frame."""
        config = self.config
        num_statics = config.num_ceps if config.kind == "mfcc" else config.num_mel_bins + config.use_energy
        return num_statics * (config.delta_order + 1)

    def __call__(self, waveform: np.ndarray) -> np.ndarray:
        """Compute the features of one utterance.

        Parameters
        ----------
        waveform : np.ndarray, shape (N,)
            Samples in [-1, 1] at 16 kHz.

        Returns
        -------
        np.ndarray, shape (T, F), float32
            The static features, then their Δ, then their ΔΔ.

        Raises
        ------
        AudioError
            The waveform is shorter than one frame.
        """
        config = self.config
        if config.kind == "mfcc":
            statics = mfcc(waveform, config.num_ceps, config.num_mel_bins, config.use_energy)
        else:
            statics = fbank(waveform, config.num_mel_bins, config.use_energy)
        return add_deltas(statics, config.delta_order)


def num_frames(num_samples: int) -> int:
    """Count the whole frames in a waveform (Kaldi's ``snip_edges``).

    Examples
    --------
    >>> [num_frames(n) for n in (399, 400, 559, 560, 16000)]
    [0, 1, 1, 2, 98]
    """
    return 1 + (num_samples - WINDOW_LENGTH) // HOP_LENGTH if num_samples >= WINDOW_LENGTH else 0


def fbank(waveform: np.ndarray, num_mel_bins: int = 40, use_energy: bool = True) -> np.ndarray:
    """Return the log energies of a mel filterbank, and with ``use_energy`` the log energy of each frame before them.

    Parameters
    ----------
    waveform : np.ndarray, shape (N,)
        Samples in [-1, 1] at 16 kHz.
    num_mel_bins : int
        Number of triangles in the filterbank.
    use_energy : bool
        Put the log energy of the frame, before pre-emphasis and window, into column 0.

    Returns
    -------
    np.ndarray, shape (T, num_mel_bins + use_energy), float32
        Natural logs of energies in squared 16-bit samples.

    Raises
    ------
    AudioError
        The waveform is shorter than one frame.

    Examples
    --------
    >>> fbank(np.zeros(400, np.float32), num_mel_bins=4).astype(int).tolist()  # log of the floors
    [[0, -15, -15, -15, -15]]
    """
    waveform = _check_waveform(waveform)
    window, (starts, rising) = scaled_window(), mel_segments(num_mel_bins)
    mel = np.empty((num_frames(len(waveform)), num_mel_bins), np.float32)
    energy = np.empty(len(mel), np.float32)
    frames = np.zeros((BLOCK_FRAMES, FFT_LENGTH))
    for start in range(0, len(mel), BLOCK_FRAMES):
        block = slice(start, start + BLOCK_FRAMES)
        windowed = frames[: len(mel[block])]
        _cut_frames(waveform[start * HOP_LENGTH :], window, windowed, energy[block])
        _sum_triangles(rfft(windowed), starts, rising, mel[block])
    features = np.empty((len(mel), use_energy + num_mel_bins), np.float32)
    np.log(mel, out=features[:, use_energy:])
    if use_energy:
        np.log(energy, out=features[:, 0])
    return features


def mfcc(waveform: np.ndarray, num_ceps: int = 13, num_mel_bins: int = 23, use_energy: bool = True) -> np.ndarray:
    """Return liftered mel-frequency cepstral coefficients.

    Parameters
    ----------
    waveform : np.ndarray, shape (N,)
        Samples in [-1, 1] at 16 kHz.
    num_ceps : int
        Number of coefficients, C0 included.
    num_mel_bins : int
        Number of triangles in the filterbank that they are computed from.
    use_energy : bool
        Replace C0 by the log energy of the frame.

    Returns
    -------
    np.ndarray, shape (T, num_ceps), float32

    Raises
    ------
    AudioError
        The waveform is shorter than one frame.

    Examples
    --------
    >>> bool(np.allclose(mfcc(np.zeros(400, np.float32), num_ceps=3), 0, atol=1e-4))  # a flat spectrum at the floors
    True
    """
    log_mel = fbank(waveform, num_mel_bins, use_energy)  # (T, use_energy + M)
    cepstra = log_mel[:, use_energy:] @ cosines(num_mel_bins, num_ceps)
    cepstra *= lifter(num_ceps)
    if use_energy:
        cepstra[:, 0] = log_mel[:, 0]
    return cepstra


@cache
def cosines(num_mel_bins: int, num_ceps: int) -> np.ndarray:
    """Return the matrix (M, C) float32 of the orthonormal discrete cosine transform of type II."""
    angles = np.pi / num_mel_bins * np.outer(np.arange(num_mel_bins) + 0.5, np.arange(num_ceps))
    scales = np.sqrt(np.where(np.arange(num_ceps) == 0, 1, 2) / num_mel_bins)
    return (scales * np.cos(angles)).astype(np.float32)


def lifter(num_ceps: int) -> np.ndarray:
    """Return the factors (C,) float32 that bring the cepstra to one range (The HTK Book, §5.3)."""
    return (1 + CEPSTRAL_LIFTER / 2 * np.sin(np.pi * np.arange(num_ceps) / CEPSTRAL_LIFTER)).astype(np.float32)


def add_deltas(features: np.ndarray, order: int = 2, window: int = 2) -> np.ndarray:
    """Append differences over time: Δ for ``order`` 1, Δ and ΔΔ for 2.

    d[t] = Σ_{n=1..window} n (x[t+n] − x[t−n]) / (2 Σ n²) (The HTK Book, §5.9), with the first and the last frame
    repeated beyond the ends; ΔΔ is the Δ of Δ.

    Parameters
    ----------
    features : np.ndarray, shape (T, F)
    order : int
        How often to differentiate; 0 returns ``features`` alone.
    window : int
        Number of frames on each side that a difference is taken over.

    Returns
    -------
    np.ndarray, shape (T, (order + 1) F)

    Examples
    --------
    >>> add_deltas(np.arange(6.0)[:, None], order=1)[:, 1].round(1).tolist()
    [0.5, 0.8, 1.0, 1.0, 0.8, 0.5]
    """
    num_statics = features.shape[1]
    result = np.empty((len(features), (order + 1) * num_statics), features.dtype)
    result[:, :num_statics] = features
    scale = features.dtype.type(1 / (2 * sum(n * n for n in range(1, window + 1))))
    for k in range(1, order + 1):
        source = result[:, (k - 1) * num_statics : k * num_statics]
        padded = np.pad(source, ((window, window), (0, 0)), mode="edge")
        ahead = [padded[window + n : len(padded) - window + n] for n in range(-window, window + 1)]
        result[:, k * num_statics : (k + 1) * num_statics] = scale * sum(
            n * (ahead[window + n] - ahead[window - n]) for n in range(1, window + 1)
        )
    return result


def frame_levels(features: np.ndarray, config: FeatureConfig) -> tuple[np.ndarray, float]:
    """Return how loud each frame is, from its features, and the level of digital silence.

    Parameters
    ----------
    features : np.ndarray, shape (T, F)
        Of a `FeatureExtractor` with that configuration.

    Returns
    -------
    levels : np.ndarray, shape (T,)
        Natural logs of energies: the log energy of the frame where it is among the features, else the mean of the log
        mel energies.
    silence : float
        The level that the floors under the energies give frames of zeros.

    Examples
    --------
    >>> config = FeatureConfig(use_energy=False, delta_order=0)
    >>> levels, silence = frame_levels(FeatureExtractor(config)(np.zeros(400, np.float32)), config)
    >>> bool(np.isclose(levels[0], silence))
    True
    """
    if config.use_energy:
        return features[:, 0], float(np.log(ENERGY_FLOOR))
    floor = float(np.log(MEL_FLOOR))
    if config.kind == "mfcc":  # the DCT is orthonormal: c0 is the sum of the log mel energies over √M
        return features[:, 0] / np.sqrt(config.num_mel_bins), floor
    return features[:, : config.num_mel_bins].mean(axis=1), floor


def quietest(config: FeatureConfig) -> np.ndarray:
    """Return for each feature (F,) the least value that a sound can give it; minus infinity where there is none.

    Log mel energies below `QUANTISATION` are beneath the noise of 16-bit samples. A tone alone has such energies far
    from its own bin, where they come of the window and vary by nepers.

    >>> quietest(FeatureConfig(num_mel_bins=4, use_energy=False, delta_order=1)).tolist()
    [-4.0, -4.0, -4.0, -4.0, -inf, -inf, -inf, -inf]
    """
    size = FeatureExtractor(config).num_features
    num_energies = 0 if config.kind == "mfcc" else size // (config.delta_order + 1)
    return np.where(np.arange(size) < num_energies, QUANTISATION, -np.inf).astype(np.float32)


def speech_frames(levels: np.ndarray, silence: float) -> np.ndarray:
    """Tell which frames are louder than a recording's background, in booleans (T,); all are if none stands out.

    Frames of digital silence never are. Of the others, the level is smoothed over 50 ms; a frame is loud if it lies in
    the upper 70 % of the range from the background to the loudest tenth of a second. Neither a gain nor the length of
    pauses changes that.

    Parameters
    ----------
    levels : np.ndarray, shape (T,)
    silence : float
        Both of `frame_levels`.

    Examples
    --------
    >>> speech_frames(np.repeat([-15.9, 2.0, 9.0, 2.0], [20, 20, 10, 20]), -15.9).nonzero()[0].tolist()
    [38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51]
    """
    alive = levels > silence + ALIVE
    if not alive.any():
        return np.ones(len(levels), bool)
    smooth = np.convolve(np.pad(levels, SMOOTHING // 2, mode="edge"), np.full(SMOOTHING, 1 / SMOOTHING), "valid")
    loudness = np.sort(smooth[alive])
    top = loudness[-min(len(loudness), TOP_FRAMES)]
    bottom = max(loudness[int(BACKGROUND * len(loudness))], top - LEVEL_RANGE)
    return alive & (smooth >= bottom + QUIET_SHARE * (top - bottom))


def cmvn_statistics(features: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and standard deviation of each feature over all frames of many utterances.

    Parameters
    ----------
    features : iterable of np.ndarray, shape (T, F) each
        They are summed in float64, with one utterance in memory at a time.

    Returns
    -------
    mean, std : np.ndarray, shape (F,), float32
        ``std`` is at least ``STD_FLOOR``, so that a constant feature is normalised to 0 and not to NaN.

    Raises
    ------
    ValueError
        There are no frames.

    Examples
    --------
    >>> mean, std = cmvn_statistics([np.array([[1.0, 5.0]]), np.array([[3.0, 5.0]])])
    >>> mean.tolist(), std.tolist()[0]
    ([2.0, 5.0], 1.0)
    """
    count, mean, scatter = 0, np.float64(0), np.float64(0)
    for utterance in features:
        utterance = np.asarray(utterance, np.float64)
        if len(utterance) == 0:
            continue
        # Chan, Golub and LeVeque 1979: merging centred sums keeps the digits that Σx² − (Σx)²/n loses.
        delta = utterance.mean(axis=0) - mean
        total = count + len(utterance)
        scatter = scatter + len(utterance) * utterance.var(axis=0) + delta**2 * count * len(utterance) / total
        mean = mean + delta * len(utterance) / total
        count = total
    if count == 0:
        raise ValueError("no frames to take statistics from")
    std = np.maximum(np.sqrt(scatter / count), STD_FLOOR)
    return np.asarray(mean, np.float32), np.asarray(std, np.float32)


def apply_cmvn(features: np.ndarray, mean: np.ndarray | None = None, std: np.ndarray | None = None) -> np.ndarray:
    """Normalise each feature to mean 0 and standard deviation 1.

    Parameters
    ----------
    features : np.ndarray, shape (T, F)
    mean, std : np.ndarray, shape (F,), optional
        From `cmvn_statistics`; None takes those of this utterance.

    Returns
    -------
    np.ndarray, shape (T, F), float32

    Examples
    --------
    >>> apply_cmvn(np.array([[1.0, 5.0], [3.0, 5.0]])).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """
    if mean is None or std is None:
        mean, std = cmvn_statistics([features])
    return ((features - mean) / std).astype(np.float32, copy=False)


def mel_frequencies(num_mel_bins: int) -> np.ndarray:
    """Return the frequency in Hz at the top of each triangle (M,).

    >>> mel_frequencies(4).round().tolist()
    [485.0, 1251.0, 2511.0, 4585.0]
    """
    edges = np.linspace(_mel(LOW_FREQ), _mel(SAMPLE_RATE / 2), num_mel_bins + 2)
    return 700 * np.expm1(edges[1:-1] / 1127)


@cache
def mel_segments(num_mel_bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Return how the bins of the FFT lie under triangles that are evenly spaced and straight-sided in mel.

    M triangles of height 1 have M + 2 edges. Between edges j and j + 1, triangle j rises and triangle j − 1 falls, and
    their weights sum to 1. The first array (M + 2,) has the first bin at or above each edge, the second (257,) the
    rising weight at each bin.
    """
    edges = np.linspace(_mel(LOW_FREQ), _mel(SAMPLE_RATE / 2), num_mel_bins + 2)
    bins = _mel(np.arange(FFT_LENGTH // 2 + 1) * SAMPLE_RATE / FFT_LENGTH)
    starts = np.searchsorted(bins, edges)
    rising = (bins - edges[np.searchsorted(edges, bins, side="right") - 1]) / (edges[1] - edges[0])
    return starts, rising


def _mel(frequency: Any) -> Any:
    """Convert Hz to mel by O'Shaughnessy's formula, 1127 ln(1 + f / 700)."""
    return 1127 * np.log1p(frequency / 700)


@cache
def scaled_window() -> np.ndarray:
    """Return Povey's window (400,), a Hann window to the power of 0.85, times Kaldi's scale."""
    return np.hanning(WINDOW_LENGTH) ** 0.85 * KALDI_SCALE


def _check_waveform(waveform: np.ndarray) -> np.ndarray:
    """Return the waveform as contiguous float32 (N,), or raise an error that says why it has no features."""
    waveform = np.ascontiguousarray(waveform, np.float32)
    if waveform.ndim != 1:
        raise ValueError(f"waveform must have the shape (N,), not {waveform.shape}")
    if len(waveform) < WINDOW_LENGTH:
        raise AudioError(
            f"audio of {len(waveform)} samples ({1000 * len(waveform) / SAMPLE_RATE:.1f} ms) is shorter than "
            f"one frame: give at least {WINDOW_LENGTH} samples ({1000 * FRAME_LENGTH:.0f} ms) at 16 kHz"
        )
    return waveform


# The kernels work on one frame at a time, which stays in the first-level cache. They use float64, since float32 loses
# quiet mel bins beside loud ones.


# These flags let the compiler vectorise sums, and keep the rules for NaN and infinity.
@njit(cache=True, fastmath={"contract", "reassoc", "nsz"})
def _cut_frames(waveform: np.ndarray, window: np.ndarray, frames: np.ndarray, energy: np.ndarray) -> None:
    """Fill `frames` (B, 512) with centred, pre-emphasised, windowed samples, `energy` (B,) with floored energies."""
    centred = np.empty(WINDOW_LENGTH)
    for t in range(len(frames)):
        mean = 0.0
        for n in range(WINDOW_LENGTH):
            centred[n] = waveform[t * HOP_LENGTH + n]
            mean += centred[n]
        mean /= WINDOW_LENGTH
        square_sum = 0.0
        for n in range(WINDOW_LENGTH):
            centred[n] -= mean
            square_sum += centred[n] * centred[n]
        energy[t] = max(square_sum * KALDI_SCALE**2, ENERGY_FLOOR)
        frames[t, 0] = (1 - PREEMPHASIS) * centred[0] * window[0]
        for n in range(1, WINDOW_LENGTH):
            frames[t, n] = (centred[n] - PREEMPHASIS * centred[n - 1]) * window[n]


# Without flags, since most segments are shorter than a vector and are summed faster bin by bin.
@njit(cache=True)
def _sum_triangles(spectra: np.ndarray, starts: np.ndarray, rising: np.ndarray, mel: np.ndarray) -> None:
    """Fill `mel` (B, M) with the power of `spectra` (B, 257) under each triangle, floored."""
    power = np.empty(spectra.shape[1])
    for t in range(len(spectra)):
        for k in range(len(power)):
            power[k] = spectra[t, k].real ** 2 + spectra[t, k].imag ** 2
        risen_before = 0.0
        for j in range(len(starts) - 1):
            risen, fallen = 0.0, 0.0
            for k in range(starts[j], starts[j + 1]):
                part = power[k] * rising[k]
                risen += part
                fallen += power[k] - part
            if j > 0:
                mel[t, j - 1] = max(risen_before + fallen, MEL_FLOOR)
            risen_before = risen
