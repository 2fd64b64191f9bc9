"""Figures beside experts' scores: as scipy and scikit-learn compute them; the file as the corpus documents it."""

import json

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import f1_score, roc_auc_score

from asr.core.errors import CorpusError
from asr.evaluation.pronunciation import Experts, agreement, detection, plant, ranks, read_experts
from asr.models.base import BLANK
from asr.models.pronunciation import Scores

EXAMPLE = {  # of the corpus's README
    "text": "BEAR LISA",
    "accuracy": 8,
    "completeness": 10.0,
    "fluency": 9,
    "prosodic": 9,
    "total": 8,
    "words": [
        {
            "accuracy": 6,
            "stress": 10,
            "total": 6,
            "text": "BEAR",
            "phones": "B EH0 R",
            "phones-accuracy": [2.0, 1.0, 1.0],
        },
        {
            "text": "LISA",
            "accuracy": 5,
            "phones": ["L", "IY1", "S", "AH0"],
            "phones-accuracy": [0.4, 0, 0.2, 0],
            "mispronunciations": [
                {"canonical-phone": "L", "index": 0, "pronounced-phone": "D"},
                {"canonical-phone": "IY", "index": 1, "pronounced-phone": "<DEL>"},
                {"canonical-phone": "S", "index": 2, "pronounced-phone": "S*"},
                {"canonical-phone": "AH", "index": 3, "pronounced-phone": "<unk>"},
            ],
            "stress": 10,
            "total": 6,
        },
    ],
}


def test_the_corpus_file_is_read(tmp_path):
    (tmp_path / "scores.json").write_text(json.dumps({"000010011": EXAMPLE}))
    (experts,) = read_experts(tmp_path / "scores.json").values()
    assert experts.spellings == [["B", "EH", "R"], ["L", "IY", "S", "AH"]]
    assert experts.scores.phones.tolist() == [2, 1, 1, 0.4, 0, 0.2, 0]
    assert experts.scores.words.tolist() == [[6, 10, 6], [5, 10, 6]]
    assert experts.scores.sentence.tolist() == [8, 9, 10, 9, 8]
    assert experts.said == {3: "D", 4: BLANK}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "is not the scores.json"),
        ('{"a": {"words": [{}]}}', "is not the scores.json"),
        (json.dumps({"a": EXAMPLE | {"words": [EXAMPLE["words"][0] | {"phones": "B EH0"}]}}), "2 phones and 3 scores"),
    ],
)
def test_other_files_are_refused(tmp_path, text, message):
    (tmp_path / "scores.json").write_text(text)
    with pytest.raises(CorpusError, match=message):
        read_experts(tmp_path / "scores.json")
    with pytest.raises(CorpusError, match="give the corpus's scores"):
        read_experts(tmp_path / "none.json")


def test_figures_are_those_of_other_libraries(rng):
    known = rng.choice([0.0, 0.4, 1.0, 1.6, 2.0], 500)
    found = (known + rng.normal(size=500)).round(1)
    figures = agreement(found, known)
    assert figures["spearman"] == pytest.approx(spearmanr(found, known)[0])
    assert figures["pcc"] == pytest.approx(np.corrcoef(found, known)[0, 1])
    is_wrong = known < 0.5
    caught = detection(found, is_wrong, 0.5)
    assert caught["auc"] == pytest.approx(roc_auc_score(is_wrong, -found))
    assert caught["f1"] == pytest.approx(f1_score(is_wrong, found < 0.5))
    assert ranks(found).mean() == pytest.approx(249.5)


def test_a_right_word_is_written_as_another_that_shares_no_phone(rng):
    """Of "a bear sees me" the bear is not right, and "a" too short."""
    spellings = [["AH"], ["B", "EH", "R"], ["S", "IY", "Z"], ["M", "IY"]]
    phones = np.array([2.0, 2.0, 1.8, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0])
    experts = Experts(spellings, Scores(phones, np.empty((4, 3)), np.empty(5)))
    assert experts.right_words == [2, 3]
    vocabulary = [("S", "OW"), ("AH",), ("K", "AE", "T", "S"), ("D", "AO", "G"), ("F", "L", "AW", "ER", "D")]
    found = [plant(experts, vocabulary, rng) for _ in range(50)]
    assert {(each.word, *each.spellings[each.word]) for each in found} == {
        (2, "D", "AO", "G"),
        (3, "S", "OW"),
        (3, "D", "AO", "G"),
    }
    for each in found:
        kept = [k for k in range(4) if k != each.word]
        assert [each.spellings[k] for k in kept] == [spellings[k] for k in kept]
    assert plant(experts, [("AH",), ("S", "IY")], rng) is None
    assert plant(Experts(spellings, Scores(0 * phones, np.empty((4, 3)), np.empty(5))), vocabulary, rng) is None
