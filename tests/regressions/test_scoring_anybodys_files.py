"""`asr score` on files as anybody writes them: spellings of phones, formats, words; and what was done is said."""

import json
import re
import tomllib
import unicodedata

import pytest

from asr.core.errors import AsrError
from asr.evaluation.metrics import ErrorCounts, matched_pairs
from asr.evaluation.score import headline, score_files
from asr.evaluation.tables import regime_table
from asr.recognition.recogniser import Transcript
from asr.recognition.render import SUFFIXES, render
from asr.speech.label_files import read_labels, to_textgrid
from asr.speech.segments import Segment
from tests.conftest import ROOT

PLAIN = "HH AH L OW W ER L D"
SAME = {  # the same eight phones
    "stress digits": "HH AH0 L OW1 W ER1 L D",
    "positions": "HH_B AH_I L_I OW_E W_B ER_I L_I D_E",
    "both": "HH_B AH0_I L_I OW1_E W_B ER1_I L_I D_E",
    "lower case": "hh ah l ow w er l d",
    "lower case and stress": "hh ah0 l ow1 w er1 l d",
    "IPA": "h ʌ l oʊ w ɝ l d",
    "IPA with marks": "h ˈə l ˈoʊ w ɜː ɫ d",
}
NOTES = {"IPA": "taken for IPA", "lower": "ARPAbet in lower case", "stress": "without stress digits"}


def write(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf8")
    return path


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("turned", [False, True])
def test_other_spellings_of_the_same_phones_are_right_and_said(tmp_path, name, turned):
    paths = [write(tmp_path / "one", f"u1 {SAME[name]}"), write(tmp_path / "other", f"u1 {PLAIN}")]
    found = score_files(*(paths[::-1] if turned else paths))
    assert found["phone_set"] == found["hypothesis_phone_set"] == "arpabet39"
    assert headline(found["regimes"])["per"] == 0
    assert headline(found["regimes"])["num_phones"] == 8
    (note,) = found["notes"]
    assert note.startswith("hypotheses: " if turned else "references: ")
    assert next((text for start, text in NOTES.items() if name.startswith(start)), "word positions") in note


@pytest.mark.parametrize("suffix", ["trn", "ctm", "TextGrid", "json"])
def test_labels_in_both_forms_of_unicode_are_the_same(tmp_path, suffix):
    """A nasal vowel was wrong where one file had it in one character and the other in two."""
    for folder, form in (("one", "NFC"), ("other", "NFD")):
        said = [Segment(unicodedata.normalize(form, each), i, i + 1.0, 0.5) for i, each in enumerate(("ã", "t͡ʃ", "ç"))]
        content = {
            "trn": " ".join(each.label for each in said) + " (é)\n",
            "ctm": "".join(f"é 1 {each.start} 1.0 {each.label}\n" for each in said),
            "TextGrid": to_textgrid({"phones": said}, 3.0),
            "json": json.dumps({"path": "é.wav", "phones": [vars(each) for each in said]}) + "\n",
        }[suffix]
        (tmp_path / folder).mkdir()
        name = unicodedata.normalize(form, "é")
        (tmp_path / folder / f"{name}.{suffix}").write_text(unicodedata.normalize(form, content), encoding="utf8")
    files = [next((tmp_path / folder).iterdir()) for folder in ("one", "other")]
    row = headline(score_files(*(each.parent if suffix == "TextGrid" else each for each in files))["regimes"])
    assert (row["num_labels"], row["substitutions"], row["deletions"], row["insertions"]) == (3, 0, 0, 0)


def test_an_error_stays_an_error_in_another_spelling(tmp_path):
    paths = write(tmp_path / "r", "u1 HH AH0 L OW1", "u2 S IY1"), write(tmp_path / "h", "u1 hh ah l", "u2 s ih")
    row = headline(score_files(*paths)["regimes"])
    assert (row["substitutions"], row["deletions"], row["insertions"]) == (1, 1, 0)


@pytest.mark.parametrize("strange", ["spn", "AX9", "GARBAGE", "sil"])
@pytest.mark.parametrize("turned", [False, True])
def test_a_strange_label_is_refused_in_both_directions(tmp_path, strange, turned):
    paths = [write(tmp_path / "one", f"u1 {strange} {PLAIN}"), write(tmp_path / "other", f"u1 {PLAIN}")]
    with pytest.raises(AsrError, match=f"one: '{strange}' in utterance 'u1' is not in arpabet39, the .* phone set"):
        score_files(*(paths[::-1] if turned else paths))


def test_lower_case_is_no_timit_where_the_other_file_is_arpabet(tmp_path):
    """`ao` is none of TIMIT's 39, in which it is `aa`."""
    paths = write(tmp_path / "r", "u1 HH AO L Z"), write(tmp_path / "h", "u1 hh ao l z")
    assert headline(score_files(*paths)["regimes"])["per"] == 0
    assert headline(score_files(*paths[::-1])["regimes"])["per"] == 0


def test_timits_labels_in_upper_case(tmp_path):
    found = score_files(write(tmp_path / "r", "u1 H# S IX DCL D H#"), write(tmp_path / "h", "u1 h# s ix dcl d h#"))
    assert (found["phone_set"], headline(found["regimes"])["per"]) == ("timit61", 0)


def test_the_phone_set_that_is_given_may_be_spelt_otherwise(tmp_path):
    paths = write(tmp_path / "r", "u1 HH AY1"), write(tmp_path / "h", "u1 HH AY")
    assert headline(score_files(*paths, phone_set="arpabet39")["regimes"])["per"] == 0


def test_what_both_files_say_alike_is_right_though_no_set_has_it(tmp_path):
    paths = write(tmp_path / "r", "u1 spn HH AH0"), write(tmp_path / "h", "u1 spn HH AH")
    found = score_files(*paths)
    assert found["phone_set"] is None
    assert found["regimes"][0]["ler"] == 0
    assert "LER %" in regime_table(found["regimes"])


def test_ipa_of_both_is_compared_as_it_stands(tmp_path):
    found = score_files(write(tmp_path / "r", "u1 h ə l ʌ"), write(tmp_path / "h", "u1 h ə l ə"))
    assert (found["phone_set"], found["regimes"][0]["ler"]) == (None, 25)


def test_words_have_a_word_error_rate(cli, tmp_path):
    paths = write(tmp_path / "r", "u1 the cat sat down"), write(tmp_path / "h", "u1 the cat sat")
    (row,) = score_files(*paths)["regimes"]
    assert (row["name"], row["wer"], row["num_words"]) == ("words", 25, 4)
    code, out, _ = cli("score", *paths)
    assert code == 0
    assert "WER %" in out
    assert "PER" not in out


SAID = {
    "a": Transcript([Segment("HH", 0.1, 0.2, 0.9), Segment("AY", 0.2, 0.3, 0.8)], 0.5),
    "b": Transcript([Segment("S", 0.0, 0.2, 0.9)], 0.5),
    "c": Transcript([], 0.5),
}
LABELS = {"a": ["HH", "AY"], "b": ["S"], "c": []}


@pytest.mark.parametrize("form", ["text", "json", "tsv", "ctm", "textgrid", "audacity"])
def test_folders_that_the_commands_write_are_read(tmp_path, form):
    for name, said in SAID.items():
        (tmp_path / f"{name}{SUFFIXES[form]}").write_text(render(said, form, name), encoding="utf8")
    assert read_labels(tmp_path) == LABELS
    assert read_labels(tmp_path, form) == LABELS


@pytest.mark.parametrize("form", ["text", "json", "tsv"])
def test_files_of_mirrored_folders_are_told_apart(tmp_path, form):
    for name, said in SAID.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / f"1{SUFFIXES[form]}").write_text(render(said, form, f"{name}/1.wav"), encoding="utf8")
    assert read_labels(tmp_path) == {f"{name}/1": labels for name, labels in LABELS.items()}


@pytest.mark.parametrize("form", ["text", "json", "ctm"])
@pytest.mark.parametrize("suffix", [".txt", ".out"])
def test_what_the_commands_print_is_read(tmp_path, form, suffix):
    """`asr transcribe` names each recording of several before its text."""
    named = {name: f"talks/my {name}.wav" if form == "text" else f"{name}.wav" for name in SAID}
    printed = "".join(
        (f"{named[name]}: " if form == "text" else "") + render(said, form, name if form == "ctm" else named[name])
        for name, said in SAID.items()
    )
    path = tmp_path / f"printed{suffix}"
    path.write_text(printed, encoding="utf8")
    found = read_labels(path)
    expected = {f"my {name}" if form == "text" else name: labels for name, labels in LABELS.items()}
    assert found == {name: labels for name, labels in expected.items() if labels or form != "ctm"}


def test_the_text_of_one_recording_is_read_and_said(tmp_path):
    paths = write(tmp_path / "r.txt", "u1 HH AH L OW"), write(tmp_path / "h.txt", "HH AH L")
    found = score_files(*paths)
    assert (found["regimes"][0]["deletions"], found["regimes"][0]["num_phones"]) == (1, 4)
    (note,) = found["notes"]
    assert "hypotheses: read as lines without names" in note


def test_plain_text_does_not_pass_for_kaldis(tmp_path):
    """Taken for Kaldi's, the first phone of each line would be its name, and not be scored."""
    paths = write(tmp_path / "r", "HH AH L OW", "S IY", "T UW"), write(tmp_path / "h", "HH AH L OW", "S IH", "T UW")
    found = score_files(*paths)
    assert (found["regimes"][0]["num_phones"], found["regimes"][0]["num_utterances"]) == (8, 3)
    assert len(found["notes"]) == 2
    words = write(tmp_path / "words", "the cat sat", "no")
    with pytest.raises(AsrError, match=r"begins with 'the', which may be .*--format kaldi or --format plain"):
        read_labels(words)
    assert read_labels(words, "plain") == {"1": ["the", "cat", "sat"], "2": ["no"]}
    assert read_labels(words, "kaldi") == {"the": ["cat", "sat"], "no": []}
    assert read_labels(write(tmp_path / "named", "spk-1 the cat", "spk-2 no")) == {
        "spk-1": ["the", "cat"],
        "spk-2": ["no"],
    }


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("a.srt", ["1", "00:00:00,100 --> 00:00:00,300", "HH AY"], "holds subtitles"),
        ("a.tsv", ["0.1\t0.2\tHH"], "the first line must name the columns"),
        ("a.tsv", ["start\tend\tlabel", "0.1\tx\tHH"], "line 2: .* is not 'start end label'"),
        ("a.tsv", ["start\tend\tlabel", "0.3\t0.2\tHH"], "line 2: start and end must be"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, lines, message):
    with pytest.raises(AsrError, match=message):
        read_labels(write(tmp_path / name, *lines))


def test_folders_that_hold_several_formats_or_utterances(tmp_path):
    write(tmp_path / "a.tsv", "start\tend\tlabel", "0\t1\tHH")
    write(tmp_path / "a.txt", "HH")
    with pytest.raises(AsrError, match="holds text, tsv: choose one of them with --format"):
        read_labels(tmp_path)
    assert read_labels(tmp_path, "text") == {"a": ["HH"]}
    write(tmp_path / "b.txt", "u1 HH", "u2 S")
    with pytest.raises(AsrError, match="has 2 lines: in a folder a text file is one utterance"):
        read_labels(tmp_path, "text")
    with pytest.raises(AsrError, match="of this format one file is read"):
        read_labels(tmp_path, "kaldi")


def test_notes_stand_in_the_table_and_the_json(cli, tmp_path):
    paths = write(tmp_path / "r", "u1 HH AH0"), write(tmp_path / "h", "u1 HH AH")
    _, out, _ = cli("score", *paths)
    note = "references: without stress digits and word positions: AH0 is AH"
    assert out.splitlines()[1] == note
    _, out, _ = cli("score", *paths, "--json")
    assert json.loads(out)["notes"] == [note]


@pytest.mark.parametrize(("num", "expected"), [(2, 1 / 2), (3, 1 / 4), (10, 2 / 2**10)])
def test_a_p_value_of_equal_differences_is_that_of_the_signs(num, expected):
    """All n differences on one side: of the 2ⁿ patterns of signs two are as one-sided."""
    worse, better = [ErrorCounts(3, 0, 0, 10)] * num, [ErrorCounts(1, 0, 0, 10)] * num
    assert matched_pairs(worse, better).p_value == expected
    assert matched_pairs(worse, worse).p_value == 1


def test_a_p_value_is_never_0():
    worse = [ErrorCounts(50 + i % 2, 0, 0, 100) for i in range(5000)]
    assert 0 < matched_pairs(worse, [ErrorCounts(0, 0, 0, 100)] * 5000).p_value < 1e-300


LACKING = """
import importlib.abc, sys
class Lacking(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {lacking}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Lacking())
from asr.cli import main
main()
"""


def test_a_light_install_scores_and_counts_n_grams(python, tmp_path):
    """Without anything of the extra `train`."""
    train = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["train"]
    others = {"scikit-learn": "sklearn", "pillow": "PIL"}
    names = [re.split("[>=<]", each)[0] for each in train]
    code = LACKING.format(lacking={others.get(name, name).replace("-", "_") for name in names} | {"panphon"})
    timit = write(tmp_path / "r", "u1 h# s iy h#", "u2 t"), write(tmp_path / "h", "u1 h# s ih", "u2 t")
    speakers = write(tmp_path / "utt2spk", "u1 ann", "u2 bob")
    text = write(tmp_path / "text", "the cat sat", "the dog sat on the mat", "no")
    recipe = write(tmp_path / "lm.yaml", f"text: {{unit: words, text: {text}}}", "model: {name: ngram, order: 2}")
    run = tmp_path / "run"
    for arguments, expected in (
        (("score", *timit, "--speakers", speakers), "39, sil forgiven"),
        (("lm", "train", recipe, "--run", run), "model folder"),
        (("lm", "score", run, text), "perplexity"),
        (("lm", "generate", run, "the"), "the"),
        (("lm", "export", run, tmp_path / "a.arpa"), ""),
    ):
        done = python(code, *arguments)
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout
    assert "ngram 2=" in (tmp_path / "a.arpa").read_text()
