"""Augmentation of training features: simulated rooms, noises, music, telephones and voices; what is around; masks.

Log mel energies change as they would if the sound changed. Noise and echoes add power, more or less of it as the two
sounds are in phase or not (`mix`), a telephone keeps a band, and another vocal tract moves power to other bins. No
waveform is convolved, and no feature is computed anew: the chance in noises, echoes and phases is that of a minute of
white noise, and music is from two minutes of it. Levels and colours are those of waveforms: pre-emphasis, which raises
8 kHz by 36 dB over 0, is taken into account.

Letters: T frames, M mel bins, F values a frame.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np

from asr.core.config import ConditionsConfig, SpecAugmentConfig
from asr.speech.audio import SAMPLE_RATE
from asr.speech.features import FRAME_SHIFT, MEL_FLOOR, PREEMPHASIS, fbank, mel_frequencies

LOW_EDGE = (100.0, 400.0)  # Hz; of a telephone's band
HIGH_EDGE = (3200.0, 3900.0)  # Hz
SLOPE = (4.0, 8.0)  # nepers of energy an octave outside the band; four poles have 5.5
FILE_EDGE, FILE_SLOPE = 3750.0, 80.0  # Hz, and nepers an octave: what a file of 8,000 samples a second cuts off
LEAKAGE, LEAKAGE_SLOPE = -19.0, -9.0  # nepers beside a frame's whole energy, at 4 kHz; and an octave above
CODER_SQUARES = (4.0, 40.0)  # a coder changes energies as if each were a mean of so many squares
CODER_NOISE = (-45.0, -20.0)  # dB below each frame
SNR = (0.0, 25.0)  # dB, of the whole utterance, of music and of other voices
NOISE_SNR = (-3.0, 20.0)  # dB, of noise
COLOUR = (-9.0, 3.0)  # dB an octave; white noise has 0, pink −3, that of traffic and ventilation −6
REVERBERATION_TIME = (0.2, 1.0)  # seconds in which an echo falls by 60 dB
DIRECT_TO_REVERBERANT = (-3.0, 12.0)  # dB
LONGEST_PADDING = 300  # frames
PADDING_LEVEL = (-50.0, 0.0)  # dB beside the utterance
CIRCUIT_NOISE = (-60.0, -30.0)  # dB below the utterance
WHITE_NOISE, MUSIC = 60, 120  # seconds, of which excerpts are taken


def change_conditions(
    log_mel: np.ndarray,
    config: ConditionsConfig,
    rng: np.random.Generator,
    voices: Sequence[np.ndarray] = (),
    padding: tuple[int, int] = (0, 0),
) -> np.ndarray:
    """Return log mel energies (T, M) with a random voice, room, noise and telephone line.

    Parameters
    ----------
    log_mel : (T, M)
        Of an utterance.
    config
        How often what is done.
    rng
        Draws it.
    voices : sequence of (·, M)
        Log mel energies of other utterances, for babble.
    padding
        Frames of something else to put before and behind.

    Returns
    -------
    (padding + T + padding, M)

    Examples
    --------
    >>> log_mel = np.zeros((20, 40), np.float32)
    >>> noisy = change_conditions(log_mel, ConditionsConfig(noise=1.0), np.random.default_rng(0))
    >>> noisy.shape, bool(noisy.mean() > log_mel.mean())
    ((20, 40), True)
    """
    warp, *drawn = rng.random(4)
    reverb, noise, telephone = np.less(drawn, (config.reverb, config.noise, config.telephone))
    music, babble = (
        np.less(rng.random(2), (config.music, config.babble)) if config.music or config.babble else (False,) * 2
    )
    if config.max_warp > 0:
        log_mel = warp_frequencies(log_mel, 1 + config.max_warp * (2 * warp - 1))
    if not (reverb or noise or telephone or music or babble or any(padding)):
        return log_mel
    energies = np.exp(log_mel)
    if reverb:
        energies = add_echoes(energies, rng.uniform(*REVERBERATION_TIME), rng.uniform(*DIRECT_TO_REVERBERANT), rng)
    if any(padding):
        energies = _padded(energies, *padding, rng)
    if noise:
        energies = mix(energies, _below(energies, noise_energies(energies.shape, rng), rng.uniform(*NOISE_SNR)), rng)
    if music:
        energies = mix(energies, _below(energies, chord_energies(energies.shape, rng), rng.uniform(*SNR)), rng)
    if babble and voices:
        others = np.zeros_like(energies)
        for voice in voices:
            others = mix(others, np.resize(np.exp(voice), energies.shape), rng)
        energies = mix(energies, _below(energies, others, rng.uniform(*SNR)), rng)
    if telephone:
        energies = through_telephone(energies, rng)
    return np.log(energies).astype(np.float32)


def through_telephone(energies: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Send mel energies (T, M) over a telephone: its band, its coder and the noise of its circuit.

    Two lines of three end in a file of 8,000 samples a second: above 4 kHz there is no more than what the window of
    the Fourier transform lets through of the rest. The others are recorded by something that adds noise everywhere.

    >>> energies = through_telephone(np.ones((50, 40), np.float32), np.random.default_rng(0))
    >>> bool(energies[:, 20].mean() > 100 * energies[:, 0].mean())
    True
    """
    centres = mel_frequencies(energies.shape[1])
    below = np.log2(rng.uniform(*LOW_EDGE) / centres).clip(min=0)
    above = np.log2(centres / rng.uniform(*HIGH_EDGE)).clip(min=0)
    band = np.exp(-rng.uniform(*SLOPE) * (below + above))
    squares = rng.uniform(*CODER_SQUARES)
    coded = energies * (rng.standard_gamma(squares, energies.shape, dtype=np.float32) / squares)
    coded += energies.mean(axis=1, keepdims=True) * 10 ** (rng.uniform(*CODER_NOISE) / 10)
    circuit = _below(energies, noise_energies(energies.shape, rng), -rng.uniform(*CIRCUIT_NOISE))
    if rng.random() < 2 / 3:
        kept = mix(coded, circuit, rng) * band * np.exp(-FILE_SLOPE * np.log2(centres / FILE_EDGE).clip(min=0))
        octaves = np.log2(centres / 4000)
        leaks = np.exp(LEAKAGE + LEAKAGE_SLOPE * octaves) * (octaves > 0)
        return np.maximum(kept + kept.sum(axis=1, keepdims=True) * leaks, MEL_FLOOR)
    return mix(coded * band, circuit, rng)


def mix(energies: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return mel energies (T, M) of two sounds together: |a + b|² = |a|² + |b|² + 2 |a| |b| cos φ.

    The cosines, a mean over a bin, are as chance gives them, between -1 and 1.

    >>> together = mix(np.ones((500, 40), np.float32), np.ones((500, 40), np.float32), np.random.default_rng(0))
    >>> bool(abs(together.mean() - 2) < 0.05), bool(together.min() < 0.1), bool(together.max() > 3.5)
    (True, True, True)
    """
    cosines = _excerpt(_white_noise(energies.shape[1])[1], len(energies), rng)
    return np.maximum(energies + other + 2 * cosines * np.sqrt(energies * other), MEL_FLOOR)


@cache
def _white_noise(num_bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Return mel energies (T, M) of a minute of white noise, and its cosines to another (see `mix`)."""
    one, other = 0.1 * np.random.default_rng(0).standard_normal((2, WHITE_NOISE * SAMPLE_RATE), np.float32)
    energies, others, both = (np.exp(fbank(sound, num_bins, False)) for sound in (one, other, one + other))
    return energies, (both - energies - others) / (2 * np.sqrt(energies * others))


def _excerpt(values: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    """Return so many rows of values (·, M) from anywhere on, and from the beginning again at the end."""
    start = rng.integers(len(values))
    return values.take(range(start, start + length), axis=0, mode="wrap")


def _below(energies: np.ndarray, other: np.ndarray, decibels: float) -> np.ndarray:
    """Return other energies (·, M), so scaled that their waveform has a power so many dB below that of the given."""
    flat = 1 / emphasis(mel_frequencies(energies.shape[1]))
    ratio = (energies.mean(axis=0) @ flat) / (other.mean(axis=0) @ flat)
    return (other * (ratio * 10 ** (-decibels / 10))).astype(np.float32)


def emphasis(frequencies: np.ndarray) -> np.ndarray:
    """Return by what pre-emphasis multiplies power at frequencies in Hz; below 100 Hz, as at 100 Hz.

    >>> emphasis(np.array([50.0, 100.0, 8000.0])).round(4).tolist()
    [0.0024, 0.0024, 3.8809]
    """
    angles = 2 * np.pi * np.maximum(frequencies, 100) / SAMPLE_RATE
    return 1 + PREEMPHASIS**2 - 2 * PREEMPHASIS * np.cos(angles)


def draw_padding(config: ConditionsConfig, rng: np.random.Generator) -> tuple[int, int]:
    """Return how many frames of something else an utterance has before and behind it: most often none.

    >>> draw_padding(ConditionsConfig(), np.random.default_rng(0))
    (0, 0)
    """
    if config.padding == 0:
        return 0, 0
    is_padded, *sides = rng.random(3)
    lengths = rng.integers(10, LONGEST_PADDING, 2)
    before, behind = np.where(np.less(sides, 0.6) & (is_padded < config.padding), lengths, 0).tolist()
    return before, behind


def _padded(energies: np.ndarray, before: int, behind: int, rng: np.random.Generator) -> np.ndarray:
    """Put something else before and behind mel energies (T, M)."""
    other = _other_sound(energies, before + behind, rng)
    return np.concatenate([other[:before], energies, other[before:]])


def without_speech(log_mel: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return log mel energies (T, M) of something else in place of an utterance's, for as long.

    >>> without_speech(np.zeros((20, 40), np.float32), np.random.default_rng(0)).shape
    (20, 40)
    """
    return np.log(_other_sound(np.exp(log_mel), len(log_mel), rng))


def _other_sound(energies: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    """Return mel energies of silence, noise, hum or chords, as loud as an utterance's (T, M) or less."""
    shape = length, energies.shape[1]
    kind, level = rng.integers(4), rng.uniform(*PADDING_LEVEL)
    if kind == 0:
        other = np.full(shape, MEL_FLOOR, np.float32)
    elif kind == 1:
        other = _below(energies, noise_energies(shape, rng), -level)
    else:
        other = _below(energies, (hum_energies if kind == 2 else chord_energies)(shape, rng), -level)
    return np.maximum(other, MEL_FLOOR)


def hum_energies(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Return mel energies (T, M) of a hum: a tone of 50 to 400 Hz and some of its harmonics, which stay as they are.

    >>> hum = hum_energies((3, 40), np.random.default_rng(0))
    >>> bool((hum[0] == hum[2]).all()), bool(hum.max() > 10 * np.median(hum))
    (True, True)
    """
    num_frames, num_bins = shape
    tone = _tone(rng.uniform(50, 400), rng.uniform(2, 5), num_bins)
    return np.tile(tone, (num_frames, 1)).astype(np.float32)


def chord_energies(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Return mel energies (T, M) of music: chords, each of which begins and dies away (`_music`), higher or lower.

    >>> chord_energies((100, 40), np.random.default_rng(0)).shape
    (100, 40)
    """
    played = _excerpt(_music(shape[1]), shape[0], rng)
    return np.exp(warp_frequencies(played, rng.uniform(0.8, 1.25)))


@cache
def _music(num_bins: int) -> np.ndarray:
    """Return log mel energies (T, M) of two minutes of chords of one to four tones, every 4 s of another instrument.

    They are made as sound, since what a tone leaves in the bins beside it, and how tones beat in one, is not known
    from their powers.
    """
    rng, sound = np.random.default_rng(1), np.zeros(MUSIC * SAMPLE_RATE, np.float32)
    for second in range(0, MUSIC, 4):
        beat, attack, decay = rng.uniform(0.15, 0.8), rng.uniform(0.002, 0.05), rng.uniform(0, 8)
        fall, most, loudest = rng.uniform(0.7, 2), rng.integers(3, 20), rng.uniform(0.1, 1)
        times = np.arange(round(min(2 * beat, 4) * SAMPLE_RATE)) / SAMPLE_RATE
        shape = loudest * np.minimum(times / attack, 1) * np.exp(-decay * times)
        shape *= np.minimum((times[-1] - times) / 0.02, 1)
        for start in np.arange(second, second + 4, beat):
            first = round(start * SAMPLE_RATE)
            for fundamental in 55 * 2 ** rng.uniform(0, 4, rng.integers(1, 5)):
                harmonics = np.arange(1, 1 + min(int(most), int(SAMPLE_RATE / 2 / fundamental)))
                phases = 2 * np.pi * (np.outer(harmonics * fundamental, times) + rng.random((len(harmonics), 1)))
                tone = shape * (harmonics**-fall @ np.sin(phases, dtype=np.float32))
                sound[first : first + len(tone)] += tone[: len(sound) - first]
    return fbank(sound / np.abs(sound).max(), num_bins, False)


def _tone(fundamental: float, fall: float, num_bins: int) -> np.ndarray:
    """Return mel energies (M,) of a harmonic tone, whose k-th harmonic has k^−fall times the power of the first."""
    harmonics = np.arange(1, max(2, int(SAMPLE_RATE / 2 / fundamental)))
    places = np.searchsorted(mel_frequencies(num_bins), fundamental * harmonics).clip(max=num_bins - 1)
    peaks = np.bincount(places, harmonics**-fall * emphasis(fundamental * harmonics), num_bins)
    return peaks + 0.05 * (np.roll(peaks, 1) + np.roll(peaks, -1))  # triangles overlap


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


def add_echoes(
    energies: np.ndarray, reverberation_time: float, direct_to_reverberant: float, rng: np.random.Generator
) -> np.ndarray:
    """Add the echoes of a room to mel energies (T, M): an exponential decay, as uneven as noise.

    Parameters
    ----------
    reverberation_time
        Seconds to fall by 60 dB.
    direct_to_reverberant
        dB by which the echoes of one frame, summed, lie below it.

    >>> energies = np.repeat(np.eye(4, 1, dtype=np.float32), 80, axis=1)
    >>> echoed = add_echoes(energies, 0.02, 0.0, np.random.default_rng(0)).mean(axis=1)  # 30 dB down with each frame
    >>> np.log10(echoed[1:]).round().astype(int).tolist()
    [0, -3, -6]
    """
    from scipy.signal import lfilter  # half a second to import, which evaluation does without

    decay = 10 ** (-6 * FRAME_SHIFT / reverberation_time)
    gain = 10 ** (-direct_to_reverberant / 10) * (1 - decay)
    echoes = lfilter([gain / 2, gain / 2], [1, -decay], energies, axis=0)  # half of a frame's shift falls into the next
    noise = _white_noise(energies.shape[1])[0]
    chance = _excerpt(noise, len(energies), rng) / noise.mean(axis=0)
    return mix(energies, (echoes * chance).astype(np.float32), rng)


def noise_energies(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Return mel energies (T, M) of a random noise.

    White noise, whose spectrum then falls or rises over the octaves (`COLOUR`), unevenly, and whose level drifts.
    """
    num_frames, num_bins = shape
    octaves = np.log2(mel_frequencies(num_bins) / 1000)
    bends = np.exp(np.cumsum(rng.normal(0, 0.1, num_bins)))
    spectrum = 10 ** (rng.uniform(*COLOUR) / 10 * octaves) * bends
    knots = np.arange(0, num_frames + 50, 50)  # half a second apart
    level = np.interp(np.arange(num_frames), knots, rng.normal(0, rng.uniform(0, 1), len(knots)))
    return _excerpt(_white_noise(num_bins)[0], num_frames, rng) * np.outer(np.exp(level), spectrum).astype(np.float32)


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
