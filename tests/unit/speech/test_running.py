"""Normalisation by a running mean: the equation, gains, pauses, zeros, and pieces of a stream."""

import numpy as np
import pytest

from asr.core.config import FeatureConfig, from_dict
from asr.core.errors import ConfigError
from asr.speech import running
from asr.speech.features import ALIVE, MEL_FLOOR, FeatureExtractor
from asr.speech.normaliser import Normaliser
from asr.speech.running import Place

CONFIG = FeatureConfig(num_mel_bins=8, use_energy=False, delta_order=0, cmvn="running")
RELATIVE = np.linspace(-3, -1, 8)


def sound(rng, frames=400):
    """Return log mel energies (T, 8) of loud and quiet stretches."""
    level = np.repeat(rng.uniform(-6, 0, frames // 20), 20)
    return (level[:, None] + rng.normal(0, 1, (frames, 8))).astype(np.float32)


def normalised(features):
    return running.subtract_running_mean(features, CONFIG, RELATIVE, Place.start(8))


def naive(features):
    """Return each frame less its mean, with all weights computed anew for each frame."""
    result = []
    levels = features.astype(np.float64).mean(axis=1)
    for t in range(len(features)):
        peaks = [max(levels[r] - running.FALL * (s - r) for r in range(s + 1)) for s in range(t + 1)]
        weights = np.zeros(t + 1)
        for s in range(t + 1):
            share = np.exp(running.LOUDNESS * (levels[s] - peaks[s]))
            weights[:s] *= 1 - share / running.MEMORY
            weights[s] = share * np.exp(running.LOUDNESS * (peaks[s] - peaks[t]))
        total = weights @ features[: t + 1] + running.PRIOR * (RELATIVE + peaks[t])
        result.append(features[t] - total / (weights.sum() + running.PRIOR))
    return np.array(result)


def test_the_equation_frame_by_frame(rng):
    features = sound(rng, 60)
    np.testing.assert_allclose(normalised(features), naive(features), atol=1e-5)


@pytest.mark.parametrize("gain", [-6.9, 6.9])  # 30 dB
def test_a_gain_changes_nothing(rng, gain):
    features = sound(rng)
    np.testing.assert_allclose(normalised(features + np.float32(gain)), normalised(features), atol=1e-4)


def test_pieces_of_a_stream_give_what_the_whole_does(rng):
    features, place = sound(rng), Place.start(8)
    pieces = [
        running.subtract_running_mean(part, CONFIG, RELATIVE, place) for part in np.split(features, [1, 1, 7, 200])
    ]
    np.testing.assert_array_equal(np.concatenate(pieces), normalised(features))


def test_zeros_before_the_sound_change_nothing_and_are_zeros(rng):
    features = sound(rng)
    silence = np.full((100, 8), np.log(MEL_FLOOR) + ALIVE / 2, np.float32)
    found = normalised(np.concatenate([silence, features]))
    assert not found[:100].any()
    np.testing.assert_allclose(found[100:], normalised(features), atol=1e-5)


def test_a_minute_of_noise_hardly_moves_the_mean(rng):
    """It lies 40 dB below the speech, whose peak is forgotten by then."""
    speech = np.concatenate([sound(rng)] * 3)
    noise = rng.normal(-3 - 9.2, 1, (6000, 8)).astype(np.float32)
    after = normalised(np.concatenate([speech, noise, speech]))[-len(speech) :]
    without = normalised(np.concatenate([speech, speech]))[-len(speech) :]
    assert np.abs(after - without).mean() < 0.2


def test_the_training_data_give_mean_and_spread(rng):
    loud = np.float32(2) + np.zeros((50, 8), np.float32)
    features = [np.concatenate([loud - 9, loud, loud + rng.normal(0, 0.1, (50, 8)).astype(np.float32)])] * 3
    relative, std = running.fit(lambda: features, CONFIG)
    assert np.abs(relative).max() < 0.2  # speech lies at the peak
    centred = [running.subtract_running_mean(each, CONFIG, relative, Place.start(8)) for each in features]
    np.testing.assert_allclose(std, np.concatenate(centred).std(axis=0), rtol=1e-4)
    np.testing.assert_array_equal(Normaliser(CONFIG, relative, std)(features[0]), centred[0] / std)


def test_a_recording_of_zeros_is_zeros():
    extractor = FeatureExtractor(CONFIG)
    assert not normalised(extractor(np.zeros(16000, np.float32))).any()


def test_deltas_and_cepstra_are_refused():
    for features in ({"delta_order": 1}, {"kind": "mfcc", "delta_order": 0}):
        with pytest.raises(ConfigError, match=r"features.cmvn must not be running with mfcc or deltas"):
            from_dict({"data": {"corpora": {"mini": None}}, "features": {"cmvn": "running", **features}})
