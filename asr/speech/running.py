"""Normalisation that hears no future: each frame by a mean of the speech up to it.

Letters: T frames, F values a frame.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from asr.core.config import FeatureConfig
from asr.core.jit import njit
from asr.speech.features import ALIVE, cmvn_statistics, frame_levels, speech_frames

MEMORY = 300.0  # loud frames that the mean goes back over, 3 s
PRIOR = 30.0  # loud frames that the training data's mean counts for
LOUDNESS = 0.5  # power of a frame's energy that its weight is; with 0.25 a minute of noise 40 dB down moves the mean
FALL = 0.0023  # nats a frame by which the peak level is forgotten: 1 dB a second


@dataclass
class Place:
    """Where a stream is: what was heard so far, as far as the mean needs it.

    Attributes
    ----------
    weighted : (F,)
        Weighted sum of the features, in float64.
    weight
        Sum of their weights.
    peak
        Level of the loudest of the last frames, in nats; minus infinity before the first sound.
    """

    weighted: np.ndarray
    weight: float = 0.0
    peak: float = -np.inf

    @classmethod
    def start(cls, num_features: int) -> "Place":
        """Return the place before the first frame."""
        return cls(np.zeros(num_features))


def subtract_running_mean(
    features: np.ndarray, config: FeatureConfig, relative: np.ndarray, place: Place
) -> np.ndarray:
    """Subtract from each frame the mean of the loud frames up to it, and move the place on behind them.

        m(t) = [ Σ over s ≤ t of w(s) x(s) + PRIOR (r + p(t)) ] / [ Σ over s ≤ t of w(s) + PRIOR ]

    The weight w(s) is the square root of the frame's energy beside that of the peak p(t), and fades over `MEMORY` loud
    frames. The training data's mean r is relative to the peak. So the mean is that of speech, a pause hardly moves it,
    and a gain changes nothing, since features and peak rise alike. Digital silence has no weight. Frames before the
    first sound are 0.

    Parameters
    ----------
    features : (T, F)
        Log mel energies, with or without the energy of the frame.
    config
        Their configuration.
    relative : (F,)
        r, of `fit`.
    place
        Where the stream is; it is changed.

    Returns
    -------
    (T, F) float32

    Examples
    --------
    >>> config, relative = FeatureConfig(num_mel_bins=4, use_energy=False, delta_order=0), np.zeros(4)
    >>> features = np.repeat(np.array([0, 0, 4, 4], np.float32)[:, None], 4, axis=1)
    >>> subtract_running_mean(features, config, relative, Place.start(4))[:, 0].astype(float).round(3).tolist()
    [0.0, 0.0, 0.034, 0.033]
    >>> louder = features + 3
    >>> subtract_running_mean(louder, config, relative, Place.start(4))[:, 0].astype(float).round(3).tolist()
    [0.0, 0.0, 0.034, 0.033]
    """
    levels, silence = frame_levels(features, config)
    features, levels = np.ascontiguousarray(features, np.float32), levels.astype(np.float64)
    result = np.empty(features.shape, np.float32)
    peaks = _peaks(levels, silence + ALIVE, place.peak)
    arguments = (features, levels, peaks, silence + ALIVE, relative.astype(np.float64), place.weighted)
    place.weight = _subtract(*arguments, place.weight, place.peak, result)
    place.peak = float(peaks[-1]) if len(peaks) else place.peak
    return result


def fit(utterances: Callable[[], Iterable[np.ndarray]], config: FeatureConfig) -> tuple[np.ndarray, np.ndarray]:
    """Return what the training data tell: the mean of speech relative to the peak, and the spread about running means.

    Parameters
    ----------
    utterances : callable that returns an iterable of (·, F)
        Features of the training utterances; it is called twice.
    config
        Their configuration.

    Returns
    -------
    relative, std : (F,) float32
    """

    def loud_frames() -> Iterable[np.ndarray]:
        for features in utterances():
            levels, silence = frame_levels(features, config)
            peaks, is_loud = _peaks(levels.astype(np.float64), silence + ALIVE, -np.inf), speech_frames(levels, silence)
            is_loud &= peaks > -np.inf
            yield (features - peaks[:, None])[is_loud]

    def normalised() -> Iterable[np.ndarray]:
        for features in utterances():
            yield subtract_running_mean(features, config, relative, Place.start(features.shape[1]))

    relative, _ = cmvn_statistics(loud_frames())
    _, std = cmvn_statistics(normalised())
    return relative, std


@njit(cache=True)
def _peaks(levels, silence, peak):  # type: ignore[no-untyped-def]
    """Return the level of the loudest frame so far (T,), which is forgotten slowly."""
    peaks = np.empty(len(levels))
    for t in range(len(levels)):
        peak -= FALL
        if levels[t] > silence and levels[t] > peak:
            peak = levels[t]
        peaks[t] = peak
    return peaks


@njit(cache=True)
def _subtract(features, levels, peaks, silence, relative, weighted, weight, peak, result):  # type: ignore[no-untyped-def]
    """Fill the result and return the sum of the weights, which are relative to the present peak."""
    for t in range(len(features)):
        if peaks[t] == -np.inf:
            result[t] = 0
            continue
        if peak > -np.inf:
            scale = np.exp(LOUDNESS * (peak - peaks[t]))
            weight *= scale
            weighted *= scale
        peak = peaks[t]
        if levels[t] > silence:
            share = np.exp(LOUDNESS * (levels[t] - peak))
            kept = 1 - share / MEMORY
            weight = kept * weight + share
            for f in range(features.shape[1]):
                weighted[f] = kept * weighted[f] + share * features[t, f]
        for f in range(features.shape[1]):
            result[t, f] = features[t, f] - (weighted[f] + PRIOR * (relative[f] + peak)) / (weight + PRIOR)
    return weight
