import numpy as np
import pytest

from asr.core.errors import ModelError
from asr.hmm.em import Utterance
from asr.hmm.phone_hmms import PhoneHMMs, silences_of
from asr.models import boundaries as module
from asr.models.base import BLANK
from asr.models.boundaries import BLOCK, NORMALISER, STEP, PhoneBoundaries, frames
from asr.speech import phones
from asr.speech.audio import SAMPLE_RATE
from asr.speech.segments import Segment
from asr.training.boundaries import fit

pytestmark = pytest.mark.kernels
LABELS = ("IY", "S", "M", "AA")
TOKENS = (BLANK, *phones.PhoneSet.load("arpabet39").labels)
HMMS = PhoneHMMs.monophones(*silences_of("arpabet39"))
NEAR = 0.0201  # seconds


def sound(rng, label, seconds):
    """Tones or noise: what a phone of this name sounds like here."""
    size = round(seconds * SAMPLE_RATE)
    times = np.arange(size) / SAMPLE_RATE
    tones = {"IY": (300, 2300), "AA": (700, 1100), "M": (200, 250)}.get(label, ())
    level = {"S": 0.1, "SIL": 1e-4}.get(label, 1e-3)
    return sum((0.1 * np.sin(2 * np.pi * tone * times) for tone in tones), level * rng.standard_normal(size))


def spoken(rng, words, pause=0.0):
    """A waveform, its phones with the times at which they begin and end, and the numbers of phones in words."""
    parts, segments, time = [sound(rng, "SIL", 0.2)], [], 0.2
    for word in words:
        for label in word:
            seconds = rng.integers(8, 16) * STEP
            parts.append(sound(rng, label, seconds))
            segments.append(Segment(label, round(time, 3), round(time + seconds, 3), 0.9))
            time += seconds
        parts.append(sound(rng, "SIL", pause))
        time += pause
    return np.concatenate([*parts, sound(rng, "SIL", 0.2)]).astype(np.float32), segments, [len(each) for each in words]


def random_words(rng, count):
    """Words of three phones, no two alike side by side."""
    labels = ["M"]
    while len(labels) <= 3 * count:
        labels.append(str(rng.choice([each for each in LABELS if each != labels[-1]])))
    return [labels[1 + 3 * i : 4 + 3 * i] for i in range(count)]


def blurred(rng, segments, spread=0.06):
    """The phones with wrong times, in order still, that meet in pairs."""
    edges = [segments[0].start, *(each.end for each in segments)]
    edges = np.maximum.accumulate(np.array(edges) + rng.uniform(-spread, spread, len(edges))).clip(0).tolist()
    return [
        Segment(each.label, start, end, each.confidence)
        for each, start, end in zip(segments, edges, edges[1:], strict=False)
    ]


def times(segments):
    return np.array([[each.start, each.end] for each in segments])


@pytest.fixture(scope="module")
def placer():
    """What learnt the boundaries of these sounds from wrong times alone."""
    rng = np.random.default_rng(0)
    utterances, segments = [], []
    for number in range(40):
        waveform, true, lengths = spoken(rng, random_words(rng, 4), pause=0.1 * (number % 2))
        transcript = HMMS.transcript([each.label for each in true], lengths)
        utterances.append(Utterance(str(number), NORMALISER(frames(waveform)), transcript))
        segments.append(blurred(rng, true, 0.03))
    return PhoneBoundaries(fit(HMMS, utterances, segments))


@pytest.mark.parametrize("count", [2, BLOCK])  # one block, and four of them
def test_boundaries_come_to_where_the_sound_changes(rng, placer, count):
    waveform, true, lengths = spoken(rng, random_words(rng, count))
    rough = blurred(rng, true)
    assert np.abs(times(rough) - times(true)).max() > 2 * NEAR
    found = placer.place(rough, lengths, waveform)
    assert [(each.label, each.confidence) for each in found] == [(each.label, each.confidence) for each in true]
    np.testing.assert_allclose(times(found), times(true), atol=NEAR)
    assert (times(found)[1:, 0] == times(found)[:-1, 1]).all()  # there are no pauses


def test_pauses_between_words_are_found_where_the_rough_times_have_none(rng, placer):
    waveform, true, lengths = spoken(rng, random_words(rng, 4), pause=0.12)
    rough = [
        Segment(each.label, each.start, after.start) for each, after in zip(true, [*true[1:], true[-1]], strict=True)
    ]
    rough[-1] = true[-1]
    np.testing.assert_allclose(times(placer.place(rough, lengths, waveform)), times(true), atol=NEAR)


def test_phones_stay_near_their_rough_places(rng, placer):
    waveform, true, lengths = spoken(rng, random_words(rng, 3))
    far = 0.5
    wrong = [Segment(each.label, each.start + far, each.end + far) for each in true]
    silence = np.zeros(round(SAMPLE_RATE * 2 * far), np.float32)
    found = placer.place(wrong, lengths, np.concatenate([waveform, silence]))
    assert (np.abs(times(found) - times(wrong)) <= module.REACH * STEP + 1e-6).all()


def test_phones_beyond_a_long_gap_are_placed_by_themselves(rng, placer):
    first, second = spoken(rng, random_words(rng, 2)), spoken(rng, random_words(rng, 2))
    between = sound(rng, "S", 3.0).astype(np.float32)  # what the text lacks
    shift = (len(first[0]) + len(between)) / SAMPLE_RATE
    moved = [Segment(each.label, each.start + shift, each.end + shift) for each in second[1]]
    waveform = np.concatenate([first[0], between, second[0]])
    found = placer.place([*first[1], *moved], [*first[2], *second[2]], waveform)
    np.testing.assert_allclose(times(found), times([*first[1], *moved]), atol=NEAR)


def test_phones_without_a_path_stay(rng, placer):
    waveform, true, lengths = spoken(rng, random_words(rng, 2))
    crowd = [Segment(each.label, round(2 * i * STEP, 3), round(2 * (i + 1) * STEP, 3)) for i, each in enumerate(true)]
    short = waveform[: 2 * len(true) * round(STEP * SAMPLE_RATE)]  # phones have three states, and two frames here
    assert times(placer.place(crowd, lengths, short)).tolist() == times(crowd).tolist()
    assert placer.place([], [], waveform) == []


def test_disagreement_with_the_network_has_its_price(rng, placer, monkeypatch):
    waveform, true, lengths = spoken(rng, random_words(rng, 3))
    late = [Segment(each.label, each.start + 0.05, each.end + 0.05) for each in true]
    np.testing.assert_allclose(times(placer.place(late, lengths, waveform)), times(true), atol=NEAR)
    monkeypatch.setattr(module, "DOUBT", 1e6)
    np.testing.assert_allclose(times(placer.place(late, lengths, waveform)), times(late), atol=1e-6)


def test_an_offset_moves_no_boundary(rng, placer):
    waveform, true, lengths = spoken(rng, random_words(rng, 4), pause=0.1)
    shifted = (waveform + 0.03).astype(np.float32)
    np.testing.assert_allclose(
        times(placer.place(true, lengths, shifted)), times(placer.place(true, lengths, waveform)), atol=NEAR
    )


def test_rumble_moves_no_boundary(rng, placer):
    """Brown noise 20 dB below the speech, as of ventilation or traffic."""
    waveform, true, lengths = spoken(rng, random_words(rng, 24))
    noise = np.cumsum(rng.standard_normal(len(waveform)))
    noise -= np.linspace(noise[0], noise[-1], len(noise))
    rumble = noise * np.sqrt(np.square(waveform).mean() / 100 / np.square(noise).mean())
    rough = blurred(rng, true)
    np.testing.assert_allclose(
        times(placer.place(rough, lengths, (waveform + rumble).astype(np.float32))),
        times(placer.place(rough, lengths, waveform)),
        atol=NEAR,
    )


def test_pauses_are_as_long_as_a_silence_at_least(rng, placer):
    waveform, true, lengths = spoken(rng, random_words(rng, 24), pause=0.015)
    found = times(placer.place(blurred(rng, true), lengths, waveform))
    pauses = (found[1:, 0] - found[:-1, 1]).round(3)
    assert ((pauses == 0) | (pauses >= module.SHORTEST * STEP)).all()


def test_what_is_saved_comes_back(rng, placer, tmp_path):
    path = tmp_path / "boundaries.safetensors"
    placer.save(path, TOKENS, {})
    assert path.stat().st_size < 300_000
    waveform, true, lengths = spoken(rng, random_words(rng, 4))
    loaded = PhoneBoundaries.load(path, TOKENS, "arpabet39")
    np.testing.assert_allclose(
        times(loaded.place(true, lengths, waveform)), times(placer.place(true, lengths, waveform)), atol=STEP
    )
    with pytest.raises(ModelError, match="other labels: make it again with asr train-boundaries"):
        PhoneBoundaries.load(path, TOKENS[:-1], "arpabet39")


def test_a_damaged_file_is_one_line(placer, tmp_path):
    path = tmp_path / "boundaries.safetensors"
    mixtures = placer.model.mixtures
    for name, value in (("covars_", -mixtures.covars_), ("offsets", mixtures.offsets[:-1])):
        broken = module.Mixtures(mixtures.offsets, mixtures.weights_, mixtures.means_, mixtures.covars_)
        object.__setattr__(broken, name, value)
        PhoneBoundaries(module.GmmHmm(HMMS, broken)).save(path, TOKENS, {})
        with pytest.raises(ModelError, match="damaged"):
            PhoneBoundaries.load(path, TOKENS, "arpabet39")
