import numpy as np
import pytest

from asr.evaluation import breakdown
from asr.evaluation.breakdown import ScoredUtterance
from asr.evaluation.score import regime_rows
from asr.models.calibration import Calibration
from asr.speech.segments import Segment


def utterance(name, reference, hypothesis, confidences=None, *, speaker="a", gender=None, age=None, duration=1.0):
    labels = hypothesis.split()
    sure = confidences or [0.5] * len(labels)
    segments = [Segment(label, i / 10, (i + 1) / 10, c) for i, (label, c) in enumerate(zip(labels, sure, strict=True))]
    return ScoredUtterance(name, speaker, "text", gender, age, duration, reference.split(), [], segments)


@pytest.fixture
def spoken():
    """Seven reference phones; one substitution, one insertion, one deletion."""
    return [
        utterance("u1", "HH AY", "HH EY", [0.9, 0.4], speaker="1", gender="f", age=9, duration=1.5),
        utterance("u2", "K AE T", "K AE T S", [0.8] * 4, speaker="1", gender="f", age=9, duration=2.5),
        utterance("u3", "D UW", "D", [1.0], speaker="2", gender="m", age=70, duration=2.0),
    ]


def sides(spoken):
    return [each.reference for each in spoken], [each.labels for each in spoken]


def test_everything_counts_the_same_errors(spoken):
    found = breakdown.analyse(spoken, "arpabet39", "arpabet39", Calibration())
    texts = [{each.id: labels for each, labels in zip(spoken, side, strict=True)} for side in sides(spoken)]
    (row,) = regime_rows(*texts, "arpabet39")
    assert (row["substitutions"], row["insertions"], row["deletions"], row["num_phones"]) == (1, 1, 1, 7)
    assert row["per"] == 42.86
    confusions = found["confusions"]
    index = confusions["labels"].index
    assert confusions["counts"][index("AY")][index("EY")] == 1
    assert sum(map(sum, confusions["counts"])) == 6
    assert sum(confusions["insertions"]) == confusions["insertions"][index("S")] == 1
    assert sum(confusions["deletions"]) == confusions["deletions"][index("UW")] == 1
    assert [each["per"] for each in found["utterances"]] == [50.0, 33.33, 50.0]


def test_groups(spoken):
    found = breakdown.analyse(spoken, "arpabet39", "arpabet39", Calibration())["groups"]
    rows = {name: {row["group"]: (row["per"], row["num_phones"]) for row in rows} for name, rows in found.items()}
    assert rows["speaker"] == {"1": (40.0, 5), "2": (50.0, 2)}
    assert rows["gender"] == {"female": (40.0, 5), "male": (50.0, 2)}
    assert rows["children"] == {"adults": (50.0, 2), "children": (40.0, 5)}
    assert rows["age"] == {"0 - 10 years": (40.0, 5), "60 years and more": (50.0, 2)}
    assert rows["length"] == {"0 - 2 s": (50.0, 2), "2 - 4 s": (40.0, 5)}


def test_what_the_corpus_does_not_tell_is_left_out(spoken):
    plain = [utterance("u", "HH AY", "HH AY")]
    assert set(breakdown.analyse(plain, "arpabet39", "arpabet39", Calibration())["groups"]) == {"speaker", "length"}


def test_confidences_are_measured_before_and_after(spoken):
    """Right: HH, K, AE, T, D; wrong: EY and the inserted S."""
    pairs = [breakdown.align(each, "arpabet39", "arpabet39") for each in spoken]
    raw, correct = breakdown.scored_confidences(spoken, pairs, "arpabet39", "arpabet39")
    assert raw.tolist() == [0.9, 0.4, 0.8, 0.8, 0.8, 0.8, 1.0]
    assert correct.tolist() == [True, False, True, True, True, False, True]
    fitted = Calibration((0.0, 1.0), (0.0, 0.5))
    found = breakdown.analyse(spoken, "arpabet39", "arpabet39", fitted)
    assert found["calibration"]["ece"] != found["calibration"]["ece_raw"]
    assert [each["confidence"] for each in found["utterances"][0]["hypothesis"]] == [0.45, 0.2]


def test_folding_for_scoring_keeps_confidences_beside_their_phones():
    each = utterance("u", "h# k ix q h#", "h# k ih q h#", [0.9, 0.8, 0.7, 0.6, 0.5])
    pairs = [breakdown.align(each, "timit61", "timit39")]
    raw, correct = breakdown.scored_confidences([each], pairs, "timit61", "timit39")
    assert raw.tolist() == [0.9, 0.8, 0.7, 0.5]  # q is dropped, and its confidence with it
    assert correct.all()


def test_an_utterance_without_phones_has_no_rate():
    spoken = [utterance("u", "HH", "HH"), utterance("v", "", "T")]
    found = breakdown.analyse(spoken, "arpabet39", "arpabet39", Calibration())
    assert sum(found["confusions"]["insertions"]) == 1
    assert [each["per"] for each in found["utterances"]] == [0.0, None]


@pytest.mark.parametrize(("value", "name"), [(0, "0 - 2 s"), (1.999, "0 - 2 s"), (16, "16 s and more")])
def test_ranges(value, name):
    assert breakdown._range(np.float64(value), breakdown.LENGTHS, "s") == name
