"""Silence is no evidence about a voice: however much of it a recording has, the speech in it is normalised alike."""

import numpy as np
import pytest

from asr import Recogniser
from asr.core.config import FeatureConfig
from asr.evaluation.metrics import count_errors
from asr.speech import audio
from asr.speech.features import FeatureExtractor, frame_levels, speech_frames
from asr.speech.normaliser import Normaliser

KINDS = {
    "log mel": FeatureConfig(num_mel_bins=40, use_energy=False, delta_order=0),
    "log mel, energy and differences": FeatureConfig(),
    "MFCC": FeatureConfig(kind="mfcc", delta_order=1),
    "MFCC with c0": FeatureConfig(kind="mfcc", use_energy=False, delta_order=0),
}
SECOND = 16000


def voice(rng):
    """Two seconds of noise in bursts, 40 dB above the noise between them: speech as far as levels go."""
    syllables = np.repeat(rng.uniform(0.3, 1, 10) * (np.arange(10) % 2), SECOND // 5)
    return (0.05 * (syllables + 0.01) * rng.standard_normal(2 * SECOND)).astype(np.float32)


@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("seconds", [10, 60])
@pytest.mark.parametrize("level", [0.0, 1e-5, 5e-4], ids=["zeros", "dither", "room"])
def test_silence_around_speech_leaves_its_features_as_they_are(rng, config, seconds, level):
    speech = voice(rng)
    pause = (level * rng.standard_normal(seconds * SECOND)).astype(np.float32)
    extractor, normaliser = FeatureExtractor(config), Normaliser(config)
    alone = normaliser(extractor(speech))
    beside = normaliser(extractor(np.concatenate([pause, speech, pause])))[100 * seconds :][: len(alone)]
    loud = speech_frames(*frame_levels(extractor(speech), config))[5:-5]
    assert loud.mean() > 0.3
    assert np.abs(beside[5:-5] - alone[5:-5])[loud].mean() < 0.2  # with all frames 0.23 to 8


@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("gain", [0.1, 3.0])
def test_a_gain_changes_nothing(rng, config, gain):
    speech, extractor, normaliser = voice(rng), FeatureExtractor(config), Normaliser(config)
    np.testing.assert_allclose(normaliser(extractor(speech * gain)), normaliser(extractor(speech)), atol=0.05)


@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
def test_silence_alone_is_normalised_by_all_of_it(config):
    features = FeatureExtractor(config)(np.zeros(SECOND, np.float32))
    assert speech_frames(*frame_levels(features, config)).all()
    np.testing.assert_allclose(Normaliser(config)(features), 0, atol=1e-2)


def test_the_longest_pause_does_not_hide_a_word(rng):
    config = KINDS["log mel"]
    samples = np.concatenate([np.zeros(600 * SECOND, np.float32), voice(rng)[: SECOND // 2]])
    loud = speech_frames(*frame_levels(FeatureExtractor(config)(samples), config))
    assert loud[: 100 * 600 - 5].sum() == 0
    assert loud[100 * 600 :].sum() >= 15


TIMES = np.arange(5 * SECOND) / SECOND
QUIET = {
    "zeros": lambda rng: np.zeros(5 * SECOND),
    "faint noise": lambda rng: 1e-3 * rng.standard_normal(5 * SECOND),
    "loud noise": lambda rng: 0.1 * rng.standard_normal(5 * SECOND).clip(-9, 9),
    "hum": lambda rng: 0.1 * np.sin(2 * np.pi * 50 * TIMES) + 0.05 * np.sin(2 * np.pi * 150 * TIMES),
    "faint hum": lambda rng: 1e-3 * np.sin(2 * np.pi * 60 * TIMES),
    "faint hum of 16 bits": lambda rng: np.round(33 * np.sin(2 * np.pi * 60 * TIMES)) / 32768,
}


@pytest.mark.parametrize("model", ["en-us-phones", "en-us-phones-small", "en-us-phones-stream"])
def test_where_nobody_speaks_nothing_is_recognised(model, rng):
    recogniser = Recogniser.from_pretrained(model, nbest=3)
    for kind, sound in QUIET.items():
        found = recogniser.transcribe(sound(rng).astype(np.float32), 16000)
        assert found.phones == [], kind
        assert {each.labels for each in found.nbest} == {()}, kind


@pytest.mark.parametrize(
    ("model", "most"), [("en-us-phones", 10), ("en-us-phones-small", 30), ("en-us-phones-stream", 0)]
)
def test_music_is_hardly_speech(model, most, rng):
    """Before they had heard music alone in training, the first two found 53 and 48 phones."""
    recogniser, found = Recogniser.from_pretrained(model), 0
    for _ in range(8):
        since = TIMES[: SECOND // 2]
        notes = 110 * 2 ** (rng.integers(0, 24, (10, 3)) / 12)
        waves = [
            sum(np.sin(2 * np.pi * k * note * since) / k for k in range(1, 6) for note in chord) for chord in notes
        ]
        melody = 0.1 * np.concatenate([wave * np.exp(-rng.uniform(0, 5) * since) for wave in waves])
        found += len(recogniser.transcribe(melody.astype(np.float32), SECOND).phones)
    assert found <= most


@pytest.mark.parametrize("seconds", [1, 15])
@pytest.mark.parametrize("model", ["en-us-phones", "en-us-phones-small", "en-us-phones-stream"])
def test_silence_around_speech_changes_hardly_a_phone(model, seconds, rng):
    recogniser = Recogniser.from_pretrained(model)
    speech, pause = audio.load("docs/audio/glorious-scrap.flac"), 1e-3 * rng.standard_normal(seconds * SECOND)
    alone = [phone.label for phone in recogniser.transcribe(speech, SECOND).phones]
    for level in (0, 1):
        padded = np.concatenate([level * pause, speech, level * pause]).astype(np.float32)
        found = [phone.label for phone in recogniser.transcribe(padded, SECOND).phones]
        assert count_errors(alone, found).errors <= 1, level
