"""Augmentation: the log mel energies of what was changed, beside those that the changed sound has; masks."""

import itertools

import numpy as np
import pytest
from soxr import resample

from asr.core.config import ConditionsConfig, SpecAugmentConfig
from asr.data import augmentation
from asr.data.augmentation import (
    add_echoes,
    change_conditions,
    chord_energies,
    draw_padding,
    hum_energies,
    mask_features,
    noise_energies,
    warp_frequencies,
    without_speech,
)
from asr.speech.features import fbank, mel_frequencies


@pytest.fixture
def voice(rng):
    """A waveform whose loudness goes up and down as speech's does."""
    seconds = np.arange(32000) / 16000
    level = np.maximum(np.sin(2 * np.pi * 1.5 * seconds), 0.01) ** 2
    return (0.3 * level * rng.standard_normal(len(seconds))).astype(np.float32)


def log_mel(waveform):
    return fbank(waveform, 40, False)


def in_a_room(waveform, seconds, decibels, rng):
    """The sound and its echoes, which have so many decibels less."""
    tail = rng.standard_normal(round(16000 * seconds)) * 10 ** (-3 * np.linspace(0, 1, round(16000 * seconds)))
    tail *= np.sqrt(10 ** (-decibels / 10) / (tail**2).sum())
    return (waveform + np.convolve(waveform, tail)[: len(waveform)]).astype(np.float32)


@pytest.mark.parametrize("sound", ["noise", "room", "voices"])
def test_added_energies_vary_as_those_of_added_sound(sound, voice, rng):
    """At each level of what was there: the mean of what was added, and how far it goes up and down."""
    clean, others = log_mel(voice), np.roll(voice, 9000)
    energies = np.exp(clean)
    if sound == "noise":
        hiss = 0.02 * rng.standard_normal(len(voice)).astype(np.float32)
        real = [log_mel(voice + np.roll(hiss, shift)) for shift in range(0, 32000, 1000)]
        power = np.exp(log_mel(hiss).astype(float)).mean() / augmentation._white_noise(40)[0].mean()
        noise = (power * augmentation._white_noise(40)[0]).astype(np.float32)
        found = [np.log(augmentation.mix(energies, noise[i : i + len(clean)], rng)) for i in range(0, 3200, 100)]
    elif sound == "room":
        real = [log_mel(in_a_room(voice, 0.5, 3.0, rng)) for _ in range(32)]
        found = [np.log(add_echoes(energies, 0.5, 3.0, rng)) for _ in range(32)]
    else:
        real = [log_mel(voice + others * sign) for sign in (1, -1)]
        found = [np.log(augmentation.mix(energies, np.exp(log_mel(others)), rng)) for _ in range(32)]
    quantiles = np.quantile(clean, [0, 0.3, 0.5, 0.7, 0.9, 1])
    for low, high in itertools.pairwise(quantiles):
        there = (clean >= low) & (clean <= high)
        added = [np.concatenate([(each - clean)[there] for each in results]) for results in (real, found)]
        assert added[1].mean() == pytest.approx(added[0].mean(), abs=0.2)
        assert added[1].std() == pytest.approx(added[0].std(), rel=0.25)


def coloured(size, decibels_an_octave, rng):
    """A waveform of noise of root mean square 0.1."""
    spectrum = np.fft.rfft(rng.standard_normal(size))
    spectrum *= np.maximum(np.fft.rfftfreq(size), 1e-3) ** (decibels_an_octave / 6.02)
    noise = np.fft.irfft(spectrum, size)
    return (0.1 * noise / noise.std()).astype(np.float32)


@pytest.mark.parametrize("colour", [0.0, -3.0, -6.0])
def test_noises_have_the_colours_of_real_ones(colour, rng, monkeypatch):
    """White, pink and brown noise: the spectra of their waveforms, as pre-emphasis and triangles show them."""
    real = np.exp(log_mel(coloured(160_000, colour, rng)).astype(float)).mean(0)
    monkeypatch.setattr(augmentation, "COLOUR", (colour, colour))
    found = np.mean([noise_energies((300, 40), rng).mean(0) for _ in range(300)], axis=0)
    difference = np.log(found / real)
    assert np.abs(difference - difference.mean())[1:].max() < 0.5


@pytest.mark.parametrize("colour", [0.0, -3.0, -6.0])
@pytest.mark.parametrize("snr", [5.0, 20.0])
def test_a_noise_lies_as_far_below_speech_as_in_the_waveform(voice, colour, snr, rng, monkeypatch):
    speech = (0.1 * coloured(32000, -6.0, rng) * np.sqrt(np.abs(voice))).astype(np.float32)
    noise = coloured(32000, colour, rng)
    noise *= speech.std() / noise.std() * 10 ** (-snr / 20)
    monkeypatch.setattr(augmentation, "NOISE_SNR", (snr, snr))
    monkeypatch.setattr(augmentation, "COLOUR", (colour, colour))
    config = ConditionsConfig(noise=1.0)
    found = [change_conditions(log_mel(speech), config, np.random.default_rng(seed)).mean() for seed in range(20)]
    assert np.mean(found) == pytest.approx(log_mel(speech + noise).mean(), abs=1.0)


def test_a_telephone_keeps_its_band(voice):
    features, centres = log_mel(voice), mel_frequencies(40)
    loud = features.mean(1) > np.median(features.mean(1))
    inside, outside = (centres > 500) & (centres < 3000), centres > 4500
    lost = []
    for seed in range(30):
        found = change_conditions(features, ConditionsConfig(telephone=1.0), np.random.default_rng(seed))
        changed = (features - found)[loud].mean(0)
        assert np.abs(changed[inside]).max() < 1.5
        lost.append(changed[outside].min())
    files = np.array(lost) > 10  # of 8,000 samples a second
    assert 0.4 < files.mean() < 0.9
    assert np.array(lost)[~files].max() < 8


def test_a_file_of_half_the_rate_looks_like_one(voice, rng, monkeypatch):
    """Above 4 kHz lies what the window lets through of the rest: loud where the frame is, not where its own bin was."""
    hiss = np.convolve(0.1 * rng.standard_normal(32000), [1, -0.95], "same") * (np.arange(32000) // 4000 % 2)
    sound = voice + hiss.astype(np.float32)  # loud at both ends of the scale, at different times
    features, centres = log_mel(sound), mel_frequencies(40)
    real = log_mel(resample(resample(sound, 16000, 8000), 8000, 16000))
    monkeypatch.setattr(augmentation, "CIRCUIT_NOISE", (-90.0, -90.0))
    monkeypatch.setattr(augmentation, "HIGH_EDGE", (3900.0, 3900.0))
    files = [augmentation.through_telephone(np.exp(features), np.random.default_rng(seed)) for seed in range(9)]
    above = centres > 4200
    files = [np.log(each) for each in files if np.log(each[:, above]).mean() < 10]
    assert len(files) >= 4
    for found in files:
        assert np.abs((found - real)[:, above].mean(0)).max() < 3
        assert np.corrcoef(found[:, -1], real[:, -1])[0, 1] > 0.8


def test_another_vocal_tract_has_other_formants():
    peak = np.exp(-0.5 * ((np.arange(40) - 20) / 2) ** 2)[None]
    assert warp_frequencies(peak, 1.1)[0].argmax() == 18
    assert warp_frequencies(peak, 0.9)[0].argmax() == 22
    np.testing.assert_array_equal(warp_frequencies(peak, 1.0), peak)


def test_conditions_are_drawn_for_each_utterance(voice):
    features, half = log_mel(voice), ConditionsConfig(reverb=0.3, noise=0.5, telephone=0.1)
    same = [np.array_equal(change_conditions(features, half, np.random.default_rng(i)), features) for i in range(300)]
    assert np.mean(same) == pytest.approx(0.7 * 0.5 * 0.9, abs=0.08)
    every = ConditionsConfig(max_warp=0.1, reverb=1.0, noise=1.0, telephone=1.0)
    one, two, other = (change_conditions(features, every, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert np.abs(one - other).mean() > 0.1
    assert one.dtype == np.float32
    assert np.isfinite(one).all()


def test_music_and_babble_lie_below_the_speech_by_what_was_drawn(voice, rng, monkeypatch):
    features = log_mel(voice)
    monkeypatch.setattr(augmentation, "SNR", (2.0, 10.0))  # less is lost among the chances of phases
    for config, voices in ((ConditionsConfig(music=1.0), ()), (ConditionsConfig(babble=1.0), [features[::-1]] * 3)):
        found = change_conditions(features, config, np.random.default_rng(3), voices)
        added = np.exp(found.astype(float)) - np.exp(features.astype(float))
        flat = 1 / augmentation.emphasis(mel_frequencies(40))
        powers = [(energies @ flat).mean() for energies in (np.exp(features.astype(float)), added)]
        assert 1 <= 10 * np.log10(powers[0] / powers[1]) <= 11
    alone = change_conditions(features, ConditionsConfig(babble=1.0), rng)  # there are no others
    np.testing.assert_allclose(alone, features, atol=1e-5)


def test_chords_are_lines_and_hum_stays(rng):
    """A frame of a chord has peaks, and each bin of a hum stays as it is."""
    for seed in range(20):
        chords = chord_energies((200, 80), np.random.default_rng(seed))
        assert np.median(chords.max(axis=1) / np.median(chords, axis=1)) > 3
        assert (chords[0] != chords[-1]).any()
    hum = hum_energies((50, 80), rng)
    assert (hum == hum[0]).all()
    assert hum.max() > 10 * np.median(hum)


@pytest.mark.parametrize("seed", range(6))
def test_a_hum_has_the_energies_of_sounding_harmonics(seed):
    """Bins of sounding tones, pre-emphasised, rise and fall by the same law; which triangle has a tone is rounded."""
    drawn = np.random.default_rng(seed)
    fundamental, fall = drawn.uniform(50, 400), drawn.uniform(2, 5)
    orders = np.arange(1, int(8000 / fundamental))
    seconds = np.arange(16000)[:, None] / 16000
    phases = drawn.uniform(0, 2 * np.pi, len(orders))
    tones = 0.1 * orders ** (-fall / 2) * np.sin(2 * np.pi * fundamental * orders * seconds + phases)
    real = np.exp(log_mel(tones.sum(1).astype(np.float32)).astype(float)).mean(0)
    found = hum_energies((1, 40), np.random.default_rng(seed))[0]
    edges = np.flatnonzero(mel_frequencies(40) > fundamental)[[0, 8, 16, 24]]
    parts = [[each[low:high].sum() for low, high in itertools.pairwise(edges)] for each in (real, found)]
    difference = np.diff(np.log(parts[1])) - np.diff(np.log(parts[0]))
    assert np.abs(difference).max() < 1.2  # without pre-emphasis it is 2 and more


def test_what_is_around_an_utterance_has_no_part_in_it(voice):
    features, before, behind = log_mel(voice), 37, 90
    kinds = set()
    for seed in range(30):
        found = change_conditions(features, ConditionsConfig(), np.random.default_rng(seed), (), (before, behind))
        assert found.shape == (before + len(features) + behind, 40)
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found[before:-behind], features, atol=1e-5)
        level = 10 * np.log10(np.exp(found[:before].astype(float)).mean() / np.exp(features.astype(float)).mean())
        assert level < 6
        kinds.add("silence" if level < -60 else "sound")
    assert kinds == {"silence", "sound"}


def test_what_stands_in_place_of_speech_has_nothing_of_it_but_its_length(voice):
    features = log_mel(voice)
    louder, levels = features + 6 * np.log(10) / 10, []
    for seed in range(30):
        found, again, other = (
            without_speech(each, np.random.default_rng(seed)) for each in (features, features, louder)
        )
        assert found.shape == features.shape
        np.testing.assert_array_equal(found, again)
        levels.append(10 * np.log10(np.exp(found.astype(float)).mean() / np.exp(features.astype(float)).mean()))
        assert np.corrcoef(found.mean(axis=1) + 1e-6 * np.arange(len(found)), features.mean(axis=1))[0, 1] < 0.7
        if levels[-1] > -50:  # it is as much louder as the utterance is
            np.testing.assert_allclose(np.median(other - found), 6 * np.log(10) / 10, atol=0.1)
    assert max(levels) < 6
    assert sum(level < -60 for level in levels) in range(3, 14)  # silence


def test_padding_is_drawn_for_a_share_of_the_utterances():
    drawn = np.array([draw_padding(ConditionsConfig(padding=0.5), np.random.default_rng(i)) for i in range(1000)])
    assert (drawn.sum(axis=1) > 0).mean() == pytest.approx(0.5 * (1 - 0.4**2), abs=0.05)
    assert 250 < drawn.max() < 300
    assert drawn[drawn > 0].min() >= 10


@pytest.mark.parametrize("seed", range(20))
def test_masks_are_bands_and_spans_within_their_bounds(seed):
    config = SpecAugmentConfig(
        num_freq_masks=2, max_freq_width=5, num_time_masks=3, max_time_width=12, max_time_share=0.1
    )
    features = np.ones((90, 40), np.float32)
    zero = mask_features(features, config, np.random.default_rng(seed)) == 0
    bands, spans = zero.all(axis=0), zero.all(axis=1)
    assert bands.sum() <= 2 * 5
    assert spans.sum() <= 3 * 9  # a tenth of 90 frames
    np.testing.assert_array_equal(zero, bands[None, :] | spans[:, None])
    assert features.all()  # the argument is left alone


def test_masks_reach_their_bounds_and_all_of_the_features():
    config = SpecAugmentConfig(num_freq_masks=1, max_freq_width=4, num_time_masks=1, max_time_width=9)
    rng = np.random.default_rng(0)
    zero = np.stack([mask_features(np.ones((200, 10), np.float32), config, rng) == 0 for _ in range(400)])
    bands, spans = zero.all(axis=1), zero.all(axis=2)
    assert set(bands.sum(axis=1)) == set(range(5))
    assert set(spans.sum(axis=1)) == set(range(10))
    assert bands.any(axis=0).all()
    assert spans.any(axis=0).all()


def test_masks_of_features_that_are_smaller_than_the_masks():
    config = SpecAugmentConfig(num_freq_masks=2, max_freq_width=50, num_time_masks=2, max_time_share=1.0)
    for seed in range(20):
        assert mask_features(np.ones((3, 4), np.float32), config, np.random.default_rng(seed)).shape == (3, 4)
