import json
import time

import numpy as np
import pytest

from asr.core.errors import AsrError
from asr.evaluation.metrics import count_errors
from asr.evaluation.regimes import forgiving_errors
from asr.evaluation.score import headline, regime_rows, score_files
from asr.evaluation.tables import regime_table
from asr.speech import phones
from asr.speech.label_spellings import recognise

REFERENCE = {"a_1": "h# dh ax kcl k ae q h#", "b_2": "h# s iy h#"}
HYPOTHESIS = {"a_1": "h# dh ah k ae tcl h#", "b_2": "s iy"}


def kaldi(path, texts):
    path.write_text("".join(f"{key} {labels}\n" for key, labels in texts.items()))
    return path


def trn(path, texts):
    path.write_text("".join(f"{labels} ({key})\n" for key, labels in texts.items()))
    return path


def ctm(path, texts):
    lines = [
        f"{key} 1 {i / 10:.2f} 0.10 {label}\n" for key, text in texts.items() for i, label in enumerate(text.split())
    ]
    path.write_text("".join(lines))
    return path


@pytest.mark.parametrize(("write", "suffix"), [(kaldi, ".txt"), (trn, ".trn"), (ctm, ".ctm")])
def test_anybodys_output_in_all_regimes(tmp_path, write, suffix):
    paths = [write(tmp_path / f"{name}{suffix}", texts) for name, texts in (("r", REFERENCE), ("h", HYPOTHESIS))]
    found = score_files(*paths)
    assert found["phone_set"] == "timit61"
    rows = {row["name"]: (row["substitutions"], row["insertions"], row["deletions"]) for row in found["regimes"]}
    assert rows == {  # by hand
        "39, sil scored": (0, 1, 3),
        "61 labels": (2, 0, 3),
        "39, sil forgiven": (0, 1, 0),
        "39, sil merged": (0, 0, 3),
        "39, sil dropped": (0, 0, 0),
    }
    assert headline(found["regimes"])["name"] == "39, sil scored"
    assert headline(found["regimes"])["per"] == 36.36  # 4 of 11


def test_plain_text_goes_by_lines(tmp_path):
    for name, texts in (("r", REFERENCE), ("h", HYPOTHESIS)):
        (tmp_path / name).write_text("\n".join(texts.values()) + "\n")
    found = score_files(tmp_path / "r", tmp_path / "h", file_format="plain")
    assert headline(found["regimes"])["num_utterances"] == 2
    assert headline(found["regimes"])["per"] == 36.36


def test_timit_references_score_arpabet_hypotheses(tmp_path):
    paths = [kaldi(tmp_path / "r", {"u": "h# dcl d ix s q h#"}), kaldi(tmp_path / "h", {"u": "D IH Z"})]
    found = score_files(*paths)
    assert (found["phone_set"], found["hypothesis_phone_set"]) == ("timit61", "arpabet39")
    (row,) = found["regimes"]
    assert (row["per"], row["num_phones"]) == (33.33, 3)


def test_what_a_ctm_lacks_was_not_recognised(tmp_path):
    reference, hypothesis = (ctm(tmp_path / f"{name}.ctm", {"a": "s iy", "b": "t"}) for name in ("r", "h"))
    ctm(hypothesis, {"a": "s iy"})
    row = headline(score_files(reference, hypothesis)["regimes"])
    assert (row["deletions"], row["num_phones"]) == (1, 3)
    ctm(hypothesis, {"a": "s iy", "c": "t"})
    with pytest.raises(AsrError, match="'c' has no reference"):
        score_files(reference, hypothesis)


def test_speakers_give_their_interval(tmp_path):
    paths = [kaldi(tmp_path / name, texts) for name, texts in (("r", REFERENCE), ("h", HYPOTHESIS))]
    who = kaldi(tmp_path / "utt2spk", {"a_1": "ann", "b_2": "bob"})
    row = headline(score_files(*paths, speakers=who)["regimes"])
    assert row["interval_speakers"] == [28.57, 50.0]  # one's rate and the other's
    kaldi(who, {"a_1": "ann"})
    with pytest.raises(AsrError, match="names no speaker for 'b_2'"):
        score_files(*paths, speakers=who)


def test_faults_are_named(tmp_path):
    reference = kaldi(tmp_path / "r", REFERENCE)
    for texts, message in (
        ({"A1": "s", "B2": "s"}, "share no utterance: one has 'A1', the other 'a_1'"),
        ({"a_1": "s"}, "'b_2' has no hypothesis"),
        (HYPOTHESIS | {"c": "s"}, "'c' has no reference"),
    ):
        with pytest.raises(AsrError, match=message):
            score_files(reference, kaldi(tmp_path / "h", texts))
    with pytest.raises(AsrError, match="label 'h#' at position 1 of 8 is not in the phone set arpabet39"):
        score_files(reference, kaldi(tmp_path / "h", HYPOTHESIS), phone_set="arpabet39")


@pytest.mark.parametrize("name", phones.names())
def test_a_phone_set_is_known_by_its_labels(name):
    assert recognise([phones.PhoneSet.load(name).labels]).phone_set == name


def test_labels_of_no_set_are_scored_as_they_stand(tmp_path):
    paths = [kaldi(tmp_path / "r", {"u1": "he llo"}), kaldi(tmp_path / "h", {"u1": "he lo"})]
    found = score_files(*paths)
    assert found["phone_set"] is None
    assert [row["wer"] for row in found["regimes"]] == [50.0]


@pytest.mark.parametrize(("hypothesis", "label"), [("HH AY9", "AY9"), ("HH AY sil", "sil"), ("HH spn", "spn")])
def test_labels_strange_to_the_references_set_are_refused_rather_than_counted_as_errors(tmp_path, hypothesis, label):
    paths = [kaldi(tmp_path / "r", {"u": "HH AY"}), kaldi(tmp_path / "h", {"u": hypothesis})]
    with pytest.raises(AsrError, match=f"'{label}' in utterance 'u' is not in arpabet39, the references' phone set"):
        score_files(*paths)


def test_the_strange_label_is_named_before_those_of_another_set(tmp_path):
    paths = [kaldi(tmp_path / "r", {"u": "sil s"}), kaldi(tmp_path / "h", {"u": "h# s spn"})]
    with pytest.raises(AsrError, match="'spn' in utterance 'u' is not in timit39"):
        score_files(*paths)


def test_hypotheses_without_any_label_are_deletions_in_every_regime(tmp_path):
    found = score_files(kaldi(tmp_path / "r", REFERENCE), kaldi(tmp_path / "h", dict.fromkeys(REFERENCE, "")))
    assert (found["phone_set"], found["hypothesis_phone_set"]) == ("timit61", "timit61")
    assert {row["name"]: row["per"] for row in found["regimes"]} == {
        "39, sil scored": 100.0,
        "61 labels": 100.0,
        "39, sil forgiven": 54.55,  # 6 of 11: 5 silences are free
        "39, sil merged": 100.0,
        "39, sil dropped": 100.0,
    }


@pytest.mark.parametrize(
    ("counter", "reference", "hypothesis", "errors", "sclites"),
    [
        # Weights 4 (substitution) and 3: five substitutions, 20, lose to 3 deletions and 3 insertions, 18.
        (count_errors, "a b c d e", "x y z a b", 5, (2, 0, 3, 3)),
        (count_errors, "c c c b a", "b a a b", 4, (2, 0, 3, 2)),
        # An optional deletion weighs 2: substitutions, 8, tie with one right, two deletions and an insertion.
        (forgiving_errors, "sil a a", "b sil", 2, (1, 0, 2, 1)),
    ],
)
def test_sclite_may_count_more_and_never_less(counter, reference, hypothesis, errors, sclites):
    """What sclite 2.10 printed (-r r.trn trn -h h.trn trn -i rm -o pra stdout, and -D for "(sil)"): C, S, D, I."""
    assert counter(reference.split(), hypothesis.split()).errors == errors < sum(sclites[1:])


def test_the_command_prints_a_table_and_json(cli, tmp_path):
    paths = [kaldi(tmp_path / name, texts) for name, texts in (("r", REFERENCE), ("h", HYPOTHESIS))]
    code, out, _ = cli("score", *paths)
    assert code == 0
    assert "39, sil scored" in out
    assert "36.36" in out
    code, out, _ = cli("score", *paths, "--json")
    assert headline(json.loads(out)["regimes"])["per"] == 36.36
    code, _, errors = cli("score", tmp_path / "none", paths[1])
    assert code == 2
    assert str(tmp_path / "none") in errors
    assert errors.count("\n") == 1


def test_columns_of_the_table_line_up(tmp_path):
    rows = regime_rows({"u": ["h#", "s"]}, {"u": ["h#", "s"]}, "timit61", {"u": "ann"})
    lines = regime_table(rows).splitlines()
    assert len({len(line) for line in lines}) == 1


def test_ten_thousand_utterances_are_scored_in_all_regimes_in_seconds(rng):
    """A fifth of the bound, of the processor's time, where this was written."""
    labels = np.array(phones.PhoneSet.load("timit61").labels)
    references, hypotheses = {}, {}
    for i in range(10_000):
        row = labels[rng.integers(0, 61, 40)]
        references[f"u{i}"] = row.tolist()
        changed = np.where(rng.random(40) < 0.2, labels[rng.integers(0, 61, 40)], row)
        hypotheses[f"u{i}"] = changed[rng.random(40) > 0.05].tolist()
    speakers = {name: name[-2:] for name in references}
    start = time.process_time()
    rows = regime_rows(references, hypotheses, "timit61", speakers)
    assert time.process_time() - start < 12
    assert len(rows) == 5
