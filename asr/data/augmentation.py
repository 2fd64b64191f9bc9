"""Augmentation of training features: simulated rooms, noises, telephones and voices; masks.

Log mel energies change as they would if the sound changed, but for the cross terms of powers, whose mean is 0. Noise
and echoes add power, a telephone keeps a band, and another vocal tract moves power to other bins. No waveform is
convolved, and no feature is computed anew.

Letters: T frames, M mel bins, F values a frame.
"""

import numpy as np
from scipy.signal import lfilter

from asr.core.config import ConditionsConfig, SpecAugmentConfig
from asr.speech.features import FRAME_SHIFT, mel_frequencies

TELEPHONE = (300.0, 3400.0)  # Hz
SNR = (0.0, 25.0)  # dB, of the whole utterance
REVERBERATION_TIME = (0.2, 1.0)  # seconds in which an echo falls by 60 dB
DIRECT_TO_REVERBERANT = (-3.0, 12.0)  # dB
CIRCUIT_NOISE = (-60.0, -30.0)  # dB below the utterance: what a telephone has outside its band


def change_conditions(log_mel: np.ndarray, config: ConditionsConfig, rng: np.random.Generator) -> np.ndarray:
    """Return log mel energies (T, M) with a random voice, room, noise and telephone line.

    >>> log_mel = np.zeros((20, 40), np.float32)
    >>> noisy = change_conditions(log_mel, ConditionsConfig(noise=1.0), np.random.default_rng(0))
    >>> noisy.shape, bool((noisy > log_mel).all())
    ((20, 40), True)
    """
    warp, *drawn = rng.random(4)
    reverb, noise, telephone = np.less(drawn, (config.reverb, config.noise, config.telephone))
    if config.max_warp > 0:
        log_mel = warp_frequencies(log_mel, 1 + config.max_warp * (2 * warp - 1))
    if not (reverb or noise or telephone):
        return log_mel
    energies = np.exp(log_mel)
    if reverb:
        energies = add_echoes(energies, rng.uniform(*REVERBERATION_TIME), rng.uniform(*DIRECT_TO_REVERBERANT))
    if noise:
        energies = energies + noise_energies(energies, rng.uniform(*SNR), rng)
    if telephone:
        centres = mel_frequencies(energies.shape[1])
        outside = (centres < TELEPHONE[0]) | (centres > TELEPHONE[1])
        circuit = noise_energies(energies, -rng.uniform(*CIRCUIT_NOISE), rng)
        energies = np.where(outside, 0, energies) + circuit
    return np.log(energies).astype(np.float32)


def warp_frequencies(log_mel: np.ndarray, factor: float) -> np.ndarray:
    """Move log mel energies (T, M) along the mel scale: bin j takes the value at `factor` times j.

    A vocal tract that is a tenth shorter has formants that are a tenth higher (Jaitly and Hinton, "Vocal tract length
    perturbation (VTLP) improves speech recognition", 2013, which bends the scale at its upper end instead).

    >>> warp_frequencies(np.arange(5.0)[None], 0.5).tolist()
    [[0.0, 0.5, 1.0, 1.5, 2.0]]
    """
    places = np.minimum(np.arange(log_mel.shape[1]) * factor, log_mel.shape[1] - 1)
    below = places.astype(int)
    above = np.minimum(below + 1, log_mel.shape[1] - 1)
    share = (places - below).astype(log_mel.dtype)
    return log_mel[:, below] * (1 - share) + log_mel[:, above] * share


def add_echoes(energies: np.ndarray, reverberation_time: float, direct_to_reverberant: float) -> np.ndarray:
    """Add the late echoes of a room to mel energies (T, M): an exponential decay from the next frame on.

    Parameters
    ----------
    reverberation_time
        Seconds to fall by 60 dB.
    direct_to_reverberant
        dB by which the echoes of one frame, summed, lie below it.

    >>> echoes = add_echoes(np.eye(4, 1), 0.02, 0.0)[:, 0]  # 30 dB down with each frame
    >>> echoes.round(4).tolist()
    [1.0, 0.999, 0.001, 0.0]
    """
    decay = 10 ** (-6 * FRAME_SHIFT / reverberation_time)
    gain = 10 ** (-direct_to_reverberant / 10) * (1 - decay)
    return energies + lfilter([0, gain], [1, -decay], energies, axis=0)


def noise_energies(energies: np.ndarray, snr: float, rng: np.random.Generator) -> np.ndarray:
    """Return mel energies (T, M) of a random noise whose mean is `snr` dB below that of the given energies.

    From the lowest bin to the highest, the noise falls by up to 26 dB or rises by up to 9 dB, unevenly. Its level
    drifts. From frame to frame, energies vary like sums of squares, of fewer squares in narrower bins.
    """
    num_frames, num_bins = energies.shape
    tilt = rng.uniform(-3, 1) * np.linspace(-1, 1, num_bins)
    shape = np.exp(tilt + np.cumsum(rng.normal(0, 0.1, num_bins)))
    knots = np.arange(0, num_frames + 50, 50)  # half a second apart
    level = np.interp(np.arange(num_frames), knots, rng.normal(0, rng.uniform(0, 1), len(knots)))
    squares = np.linspace(1, 6, num_bins, dtype=np.float32)
    noise = rng.standard_gamma(squares, energies.shape, dtype=np.float32) / squares
    noise = noise * np.outer(np.exp(level), shape).astype(np.float32) + np.finfo(np.float32).tiny
    return noise * (energies.mean() / noise.mean() * 10 ** (-snr / 10))


def mask_features(features: np.ndarray, config: SpecAugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Set random bands and spans of normalised features (T, F) to their mean, 0 (SpecAugment, Park et al. 2019).

    >>> config = SpecAugmentConfig(num_freq_masks=1, max_freq_width=4)
    >>> masked = mask_features(np.ones((10, 40), np.float32), config, np.random.default_rng(0))
    >>> bool(masked.any(axis=1).all()), int((masked[0] == 0).sum()) <= 4
    (True, True)
    """
    features = np.array(features)
    num_frames, num_features = features.shape
    for _ in range(config.num_freq_masks):
        width = rng.integers(min(config.max_freq_width, num_features) + 1)
        start = rng.integers(num_features - width + 1)
        features[:, start : start + width] = 0
    for _ in range(config.num_time_masks):
        width = rng.integers(min(config.max_time_width, int(config.max_time_share * num_frames)) + 1)
        start = rng.integers(num_frames - width + 1)
        features[start : start + width] = 0
    return features
