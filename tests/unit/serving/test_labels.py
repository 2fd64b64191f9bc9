"""Labels that clients send back: what is written of them, and what is refused."""

import json

import pytest

pytest.importorskip("starlette", reason="the extra `serve` is not installed")

from asr.core.errors import AsrError
from asr.serving.labels import FORMATS, convert
from asr.speech import elan, label_files

PHONES = [{"label": "HH", "start": 0.1, "end": 0.2, "confidence": 0.9}, {"label": "AY", "start": 0.2, "end": 0.3}]
WORDS = [{"label": "hi", "start": 0.1, "end": 0.3}, {"label": "there", "start": 0.3, "end": 0.3}]
LABELS = {"duration": 0.5, "phones": PHONES, "words": WORDS, "path": "a.wav"}


def written(form, labels=LABELS):
    return convert(json.dumps(labels).encode(), "a", form)


def test_tiers_are_those_of_the_labels(tmp_path):
    path = tmp_path / "a.eaf"
    path.write_text(written("eaf"))
    tiers = elan.read_tiers(path)
    assert [(each.label, each.start, each.end) for each in tiers["phones"]] == [("HH", 0.1, 0.2), ("AY", 0.2, 0.3)]
    assert [each.label for each in tiers["words"]] == ["hi"]  # a word that is not said has no place
    path = tmp_path / "a.TextGrid"
    path.write_text(written("textgrid"))
    assert {name: [each.label for each in tier] for name, tier in label_files.read_tiers(path).items()} == {
        "words": ["hi"],
        "phones": ["HH", "AY"],
    }


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_each_form_has_the_words_if_there_are_any(form):
    assert "hi" in written(form)
    assert "HH" in written(form, {"duration": 0.5, "phones": PHONES})


def row(**changes):
    return {"duration": 0.5, "phones": [PHONES[0] | changes]}


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([], "lack phones"),
        ({"phones": []}, "duration must be a number"),
        ({"duration": 1e999, "phones": []}, "duration must be a number"),
        ({"duration": 0.5, "phones": {}}, "phones must be a list"),
        ({"duration": 0.5, "phones": [[]]}, "phones, number 1"),
        (row(label="a\0"), "can be printed"),
        (row(label=1), "can be printed"),
        (row(start=-1), "start must be a number from 0"),
        (row(start=True), "start must be a number from 0"),
        (row(confidence="high"), "confidence must be a number"),
        (row(end=0.6), "within the recording"),
        (row(end=0.05), "in order"),
        ({"duration": 0.5, "phones": PHONES[::-1]}, "in order"),
    ],
)
def test_other_labels_are_refused(labels, words):
    with pytest.raises(AsrError, match=words):
        written("ctm", labels)


@pytest.mark.parametrize("content", [b"", b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_refused(content):
    with pytest.raises(AsrError, match="no JSON"):
        convert(content, "a", "ctm")
