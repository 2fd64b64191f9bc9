"""The quality of alignments whose levels, durations and confidences are known."""

import numpy as np
import pytest

from asr.recognition import quality
from asr.recognition.alignment import Alignment
from asr.speech.segments import Segment


def tone(seconds, power, rng):
    """Noise of an exact power."""
    noise = rng.standard_normal(round(16000 * seconds))
    return noise * np.sqrt(power / np.mean(noise**2))


def alignment(confidences=(0.9, 0.9), ends=(1.1, 1.2), unsaid=False):
    """Two words, of a phone each, from 1 s on; their durations are those of the table's mean where nothing is said."""
    phones = [Segment("AE", 1.0, ends[0], confidences[0]), Segment("S", ends[0], ends[1], confidences[1])]
    words = [Segment("ah", 1.0, ends[0], confidences[0]), Segment("ess", ends[0], ends[1], confidences[1])]
    words += [Segment("gone", ends[1], ends[1], 0.0)] if unsaid else []
    return Alignment(phones=phones, duration=3.0, words=words, score=-0.1, unsaid=[2] if unsaid else [])


def test_levels_are_above_those_of_the_parts_without_words(rng):
    parts = (tone(1.0, 1e-4, rng), tone(0.1, 1e-2, rng), tone(0.1, 2e-4, rng), tone(1.8, 1e-4, rng))
    found = quality.assess(alignment(), np.concatenate(parts).astype(np.float32))
    loud, faint = found.words
    assert loud.snr == pytest.approx(10 * np.log10(99), abs=0.1)
    assert faint.snr == pytest.approx(0, abs=0.1)
    assert faint.quality == pytest.approx(0, abs=0.02)
    assert [note for note in faint.notes if note.startswith("faint")] == ["faint (0 dB)"]
    assert loud.quality == pytest.approx(0.9, abs=0.01)
    assert loud.notes == ()
    assert found.snr == pytest.approx(10 * np.log10((1e-2 + 2e-4) / 2 / 1e-4 - 1), abs=0.1)


def test_an_offset_is_no_sound(rng):
    parts = np.concatenate((tone(1.0, 1e-4, rng), tone(0.2, 1e-2, rng), tone(1.8, 1e-4, rng)))
    plain, moved = (quality.assess(alignment(), (parts + offset).astype(np.float32)) for offset in (0.0, 0.03))
    assert moved.snr == pytest.approx(plain.snr, abs=0.1)


def test_odd_durations_are_named(rng):
    """AE's log duration has a mean of -2.311 and a deviation of 0.423 in the table."""
    mean, deviation = quality._durations()["AE"]
    end = 1.0 + float(np.exp(mean + 4 * deviation))
    loud = np.concatenate((tone(1.0, 1e-6, rng), tone(end - 0.9, 1e-2, rng), tone(1.8, 1e-6, rng)))
    found = quality.assess(alignment(ends=(end, end + 0.1)), loud.astype(np.float32))
    assert found.words[0].deviation == pytest.approx(4, abs=0.01)
    assert found.words[0].notes == (f"AE is long ({1000 * (end - 1):.0f} ms)",)
    assert found.words[0].quality == pytest.approx(0.9 * (5 - 4) / 2.5, abs=0.01)


def test_words_that_are_unsure_or_not_said(rng):
    loud = np.concatenate((tone(1.0, 1e-6, rng), tone(0.2, 1e-2, rng), tone(1.8, 1e-6, rng))).astype(np.float32)
    found = quality.assess(alignment((0.2, 0.9), unsaid=True), loud)
    unsure, sure, gone = found.words
    assert unsure.notes == ("unsure (0.20)",)
    assert (gone.quality, gone.notes) == (0.0, ("not said",))
    assert found.quality == pytest.approx((unsure.quality + sure.quality) / 3)
    assert found.confidence == pytest.approx(0.55)
    both = quality.joined([found, quality.assess(alignment(), loud)])
    assert len(both.words) == 5
    assert both.confidence == pytest.approx((3 * 0.55 + 2 * 0.9) / 5)


def test_silence_and_nothing_have_a_quality_too():
    silent = quality.assess(alignment(), np.zeros(48000, np.float32))
    assert all(np.isfinite(word.snr) and word.quality == 0 for word in silent.words)
    nothing = Alignment(phones=[], duration=0.1, words=[], score=0.0)
    assert quality.assess(nothing, np.zeros(1600, np.float32)).words == []
