"""Times of phones: against sounds whose changes are known, and in the worst posteriors in order and inside."""

import numpy as np
import pytest

from asr.ctc import TokenAlignment, forced_align
from asr.models import times
from asr.models.calibration import Calibration
from asr.models.times import BLOCK_LABELS, phone_segments

NAMES = ("<blank>", "AA", "S", "M", "IY")
RATE = 16000


def posteriors(num_frames, labels):
    """Log posteriors (T', C): blank but for spikes of 0.9, (class, frame)."""
    probs = np.full((num_frames, len(NAMES)), 0.002)
    probs[:, 0] = 1 - 0.002 * (len(NAMES) - 1)
    for label, frame in labels:
        probs[frame] = 0.02
        probs[frame, label], probs[frame, 0] = 0.9, 0.04
    return np.log(probs)


def found(log_probs, tokens, frame_shift=0.01, waveform=None, names=NAMES, **options):
    (alignment,) = forced_align(log_probs[:, None], np.array([tokens]))
    return phone_segments(log_probs, alignment, names, frame_shift, waveform, **options)


def sound(rng, *pieces):
    """Chords of equal loudness, or weak noise for None; (frequency in Hz or None, seconds) each."""
    parts = []
    for frequency, seconds in pieces:
        time = np.arange(round(seconds * RATE)) / RATE
        chord = sum(np.sin(2 * np.pi * frequency * k * time) / 3 for k in (1, 2, 3)) if frequency else 0 * time
        parts.append(0.3 * chord + 1e-3 * rng.standard_normal(len(time)))
    return np.concatenate(parts).astype(np.float32)


@pytest.mark.parametrize("frame_shift", [0.01, 0.02, 0.03])
def test_boundaries_are_where_the_sound_changes(rng, frame_shift):
    """Spikes anywhere within the middle half of their sounds, whose lengths differ."""
    lengths = rng.choice([0.09, 0.13, 0.17], 12)
    true = np.concatenate(([0], lengths.cumsum()))
    tokens = [1 + k % 4 for k in range(12)]
    waveform = sound(rng, *((180 * 2**token, length) for token, length in zip(tokens, lengths, strict=True)))
    places = true[:-1] + lengths * rng.uniform(0.35, 0.65, 12)
    log_probs = posteriors(
        int(np.ceil(true[-1] / frame_shift)), zip(tokens, (places / frame_shift).astype(int), strict=True)
    )
    with_sound, without = (found(log_probs, tokens, frame_shift, wave) for wave in (waveform, None))
    errors = [np.array([phone.start for phone in some[1:]]) - true[1:-1] for some in (with_sound, without)]
    assert np.abs(errors[0]).max() < 0.0101
    assert np.abs(errors[0]).mean() < np.abs(errors[1]).mean()
    assert [phone.end for phone in with_sound[:-1]] == [phone.start for phone in with_sound[1:]]


def test_a_pause_belongs_to_no_phone(rng):
    """Quiet before 0.3 s, from 0.5 to 0.9 s, and after 1.1 s."""
    waveform = sound(rng, (None, 0.3), (300, 0.2), (None, 0.4), (700, 0.2), (None, 0.35))
    first, second = found(posteriors(145, [(1, 38), (2, 98)]), [1, 2], waveform=waveform)
    assert [first.start, first.end, second.start, second.end] == pytest.approx([0.3, 0.5, 0.9, 1.1], abs=0.04)
    assert second.end - second.start > 0.19
    assert first.end - first.start > 0.19


def rumble(rng, num_samples, power):
    """Brown noise above 5 Hz, as of ventilation or traffic."""
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    frequencies = np.fft.rfftfreq(num_samples, 1 / RATE)
    brown = np.fft.irfft(np.where(frequencies > 5, spectrum / np.maximum(frequencies, 5), 0), num_samples)
    return (brown * np.sqrt(power / np.square(brown).mean())).astype(np.float32)


def under(rng, waveform, below):
    """The waveform with a constant offset as of a cheap sound card, or with rumble or hum 20 dB below it."""
    power = np.square(waveform).mean() / 100
    time = np.arange(len(waveform)) / RATE
    return (
        waveform
        + {
            "offset": np.float32(0.05),
            "large offset": np.float32(-0.3),
            "rumble": rumble(rng, len(waveform), power),
            "hum": (np.sqrt(2 * power) * np.sin(2 * np.pi * 50 * time)).astype(np.float32),
        }[below]
    )


BELOW = ["offset", "large offset", "rumble", "hum"]


@pytest.mark.parametrize("below", BELOW)
def test_a_pause_is_found_under_what_is_below_speech(rng, below):
    """Quiet before 0.6 s, from 0.8 to 1.2 s, and after 1.4 s, as without."""
    waveform = sound(rng, (None, 0.6), (300, 0.2), (None, 0.4), (700, 0.2), (None, 0.6))
    first, second = found(posteriors(200, [(1, 68), (2, 128)]), [1, 2], waveform=under(rng, waveform, below))
    assert [first.start, first.end, second.start, second.end] == pytest.approx([0.6, 0.8, 1.2, 1.4], abs=0.04)


@pytest.mark.parametrize("below", BELOW)
def test_a_weak_sound_is_no_pause_under_what_is_below_speech(rng, below):
    """The second sound is 20 dB weaker, and the spikes leave most of it between them."""
    waveform = sound(rng, (None, 0.4), (300, 0.2), (700, 0.2), (1200, 0.2), (None, 0.4))
    waveform[int(0.6 * RATE) : int(0.8 * RATE)] *= 0.1
    spikes = [(1, 50), (2, 63), (3, 85)]
    phones = found(posteriors(140, spikes), [1, 2, 3], waveform=under(rng, waveform, below))
    assert [phone.end for phone in phones[:-1]] == [phone.start for phone in phones[1:]]
    assert [phone.start for phone in phones[1:]] == pytest.approx([0.6, 0.8], abs=0.0101)


@pytest.mark.parametrize("offset", [0.05, -0.3])
def test_an_offset_moves_no_boundary(rng, offset):
    """Also not those near the edges of the recording, where the offset begins and ends."""
    for _ in range(20):
        lengths, tokens = rng.choice([0.04, 0.07, 0.1], 8), [1 + k % 4 for k in range(8)]
        pieces = ((180 * 2**token, length) for token, length in zip(tokens, lengths, strict=True))
        waveform = 0.03 * sound(rng, *pieces)
        frames = (100 * (lengths.cumsum() - lengths / 2)).astype(int)
        log_probs = posteriors(1 + len(waveform) // 160, zip(tokens, frames, strict=True))
        without, with_offset = (found(log_probs, tokens, waveform=waveform + np.float32(by)) for by in (0, offset))
        assert with_offset == without


def test_levels_are_alike_in_one_block_and_in_several(rng, monkeypatch):
    """A pause is found alike wherever the blocks meet in which levels are found."""
    waveform = sound(rng, (None, 0.3), (300, 0.2), (None, 0.4), (700, 0.2), (None, 0.35))
    log_probs = posteriors(145, [(1, 38), (2, 98)])
    whole = found(log_probs, [1, 2], waveform=waveform)
    for steps in (1, 7, 50, 100):
        monkeypatch.setattr(times, "BLOCK_STEPS", steps)
        assert found(log_probs, [1, 2], waveform=waveform) == whole


def test_a_closure_is_no_pause(rng):
    """50 ms of quiet, as before a released stop, stay within the phones."""
    waveform = sound(rng, (300, 0.2), (None, 0.05), (700, 0.2))
    first, second = found(posteriors(45, [(1, 10), (2, 33)]), [1, 2], waveform=waveform)
    assert first.end == second.start
    assert 0.19 < first.end < 0.26


def test_a_label_that_stands_for_silence_takes_it(rng):
    """The labels h# and pau of TIMIT; the sounds are 0.3–0.5 and 0.9–1.1 s."""
    waveform = sound(rng, (None, 0.3), (300, 0.2), (None, 0.4), (700, 0.2), (None, 0.35))
    spikes = [(1, 10), (2, 40), (3, 70), (4, 100), (1, 130)]
    names = ("<blank>", "h#", "aa", "pau", "iy")
    phones = found(posteriors(145, spikes), [1, 2, 3, 4, 1], waveform=waveform, names=names)
    assert [phone.label for phone in phones] == ["h#", "aa", "pau", "iy", "h#"]
    assert [phone.end for phone in phones] == pytest.approx([0.3, 0.5, 0.9, 1.1, 1.45], abs=0.0151)
    assert [phone.start for phone in phones] == [0.0] + [phone.end for phone in phones[:-1]]


def test_a_phone_does_not_reach_across_noise_that_has_no_labels(rng):
    """Two seconds between labels, loud all through: each keeps a quarter of a second."""
    waveform = (0.2 * rng.standard_normal(3 * RATE)).astype(np.float32)
    first, second = found(posteriors(300, [(1, 50), (2, 250)]), [1, 2], waveform=waveform)
    assert [first.start, first.end, second.start, second.end] == pytest.approx([0.25, 0.76, 2.25, 2.76], abs=0.051)


def test_the_lag_moves_starts():
    log_probs = posteriors(60, [(1, 10), (2, 20), (3, 40)])
    plain = found(log_probs, [1, 2, 3])
    moved = found(log_probs, [1, 2, 3], calibration=Calibration(boundary_offset=-0.012))
    assert [phone.start for phone in plain] == pytest.approx([0, 0.155, 0.305], abs=2e-3)
    assert [b.start - a.start for a, b in zip(plain[1:], moved[1:], strict=True)] == pytest.approx([-0.012] * 2)


@pytest.mark.parametrize("seed", range(12))
def test_any_posteriors_give_phones_in_order_inside_the_recording(seed):
    """Random posteriors and sounds, as many labels as fit, lags of any size, audio not a multiple of the frames."""
    rng = np.random.default_rng(seed)
    num_frames, frame_shift = int(rng.integers(1, 90)), float(rng.choice([0.01, 0.03]))
    log_probs = np.log(rng.dirichlet(np.full(5, rng.choice([0.1, 1.0])) + 1e-3, num_frames) + 1e-12)
    tokens = (np.arange(max(1, int(num_frames * rng.choice([0.1, 0.5, 1.0])))) % 4) + 1
    waveform = (rng.choice([0, 0.1], 1 + 240 + int(num_frames * frame_shift * RATE)) * rng.standard_normal()).astype(
        np.float32
    )
    for wave in (waveform, None):
        lag = Calibration(boundary_offset=float(rng.choice([-0.2, 0, 0.2])))
        phones = found(log_probs, tokens, frame_shift, wave, calibration=lag)
        edges = [edge for phone in phones for edge in (phone.start, phone.end)]
        duration = num_frames * frame_shift if wave is None else len(wave) / RATE
        assert edges == sorted(edges)
        assert edges[0] >= 0
        assert edges[-1] <= duration
        assert len(phones) == len(tokens)
        assert all(0 <= phone.confidence <= 1 for phone in phones)


def test_labels_are_placed_alike_in_one_block_and_in_several():
    """A spike every tenth frame: each boundary is in the middle between two, wherever the blocks meet."""
    count = 2 * BLOCK_LABELS + 5
    spikes = [(1 + k % 2, 5 + 10 * k) for k in range(count)]
    phones = found(posteriors(10 * count, spikes), [label for label, _ in spikes])
    starts = np.array([phone.start for phone in phones])
    np.testing.assert_allclose(starts[1:], 0.1 * np.arange(1, count) + 0.005, atol=2e-3)


def test_digital_silence_and_no_labels_are_no_special_case():
    phones = found(posteriors(50, [(1, 10), (2, 30)]), [1, 2], waveform=np.zeros(8000, np.float32))
    assert [phone.start for phone in phones] == pytest.approx([0.0, 0.205], abs=0.0101)
    nothing = TokenAlignment(*(np.zeros(0, int),) * 3, np.zeros(0), 0.0)
    assert phone_segments(posteriors(50, []), nothing, NAMES, 0.01, np.zeros(8000, np.float32)) == []


def test_confidences_are_the_callers_where_given():
    log_probs = posteriors(50, [(1, 10), (2, 30)])
    own = found(log_probs, [1, 2])
    given = found(log_probs, [1, 2], confidences=np.array([0.25, 0.5]), calibration=Calibration((0, 1), (0, 0.5)))
    assert [phone.confidence for phone in own] == pytest.approx([0.9, 0.9], abs=1e-3)
    assert [phone.confidence for phone in given] == [0.125, 0.25]
