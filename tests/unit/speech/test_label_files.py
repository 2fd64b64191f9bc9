from itertools import pairwise

import numpy as np
import pytest
from praatio import textgrid

from asr.core.errors import AsrError
from asr.recognition.recogniser import Transcript
from asr.speech.label_files import read_labels, read_segments, to_audacity, to_ctm, to_textgrid
from asr.speech.segments import Segment

GRID = 'File type = "ooTextFile"\nObject class = "TextGrid"\n\n'
PHONES = [Segment("sil", 0.0, 0.1, 0.5), Segment("HH", 0.1, 0.25, 0.9), Segment("AY", 0.25, 0.5, 1.0)]


def file(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf8")
    return path


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.txt", "u1 HH AY\nu2\n\nu3 S\n", {"u1": ["HH", "AY"], "u2": [], "u3": ["S"]}),
        ("a.trn", "HH AY (u1)\n (u2)\nS (sp-u3)\n", {"u1": ["HH", "AY"], "u2": [], "sp-u3": ["S"]}),
        (
            "a.CTM",
            ";; comment\nu1 A 0.2 0.1 AY 0.5\nu1 A 0.0 0.2 HH\nu2 1 0 1 S\n",
            {"u1": ["HH", "AY"], "u2": ["S"]},
        ),
        ("SI1.PHN", "0 1600 h#\n1600 3200 s\n", {"SI1": ["h#", "s"]}),
    ],
)
def test_formats_by_suffix(tmp_path, name, text, expected):
    assert read_labels(file(tmp_path, name, text)) == expected


def test_plain_text_goes_by_its_lines(tmp_path):
    path = file(tmp_path, "a.txt", "HH AY\n\nS\n")
    assert read_labels(path, "plain") == {"1": ["HH", "AY"], "3": ["S"]}


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    (tmp_path / "a").write_bytes("\ufeffu1 s\r\nu2 t\r\n".encode())
    assert read_labels(tmp_path / "a") == {"u1": ["s"], "u2": ["t"]}


def test_timit_counts_samples(tmp_path):
    found = read_segments(file(tmp_path, "a.PHN", "0 1600 h#\n1600 3200 s\n"))
    assert found == {"a": [Segment("h#", 0.0, 0.1), Segment("s", 0.1, 0.2)]}


def test_our_own_output_is_read(tmp_path):
    lines = [Transcript(PHONES, 0.5).to_json("/somewhere/u1.flac"), Transcript([], 0.5).to_json("u2.wav")]
    path = file(tmp_path, "a.jsonl", "\n".join(lines) + "\n")
    assert read_segments(path) == {"u1": PHONES, "u2": []}
    assert read_labels(path) == {"u1": ["sil", "HH", "AY"], "u2": []}
    path = file(
        tmp_path, "a.json", '{"path": "u3.wav", "phones": [{"label": "S", "start": 0, "end": 1, "goodness": 0}]}'
    )
    assert read_segments(path) == {"u3": [Segment("S", 0, 1)]}


def test_audacity_and_back(tmp_path):
    path = file(tmp_path, "u1.txt", to_audacity([Segment("two words", 0.1, 0.25), Segment("b", 0.25, 0.5)]))
    assert read_segments(path, "audacity") == {"u1": [Segment("two words", 0.1, 0.25), Segment("b", 0.25, 0.5)]}
    file(tmp_path, "u1.txt", "0.1\t0.2\ta\n\\\t100.0\t4000.0\n0.2\t0.2\t\n")  # a label's frequencies; no label
    assert read_segments(path, "audacity") == {"u1": [Segment("a", 0.1, 0.2)]}


def test_ctm_and_back(tmp_path):
    text = to_ctm("u1", PHONES) + to_ctm("u2", [Segment("S", 1.0, 1.5)])
    assert text.splitlines()[1] == "u1 1 0.100 0.150 HH 0.900"
    found = read_segments(file(tmp_path, "a.ctm", text))
    assert found == {"u1": PHONES, "u2": [Segment("S", 1.0, 1.5)]}


def test_neighbours_still_touch_in_a_ctm(tmp_path, rng):
    edges = np.cumsum(rng.uniform(0.001, 0.3, 200))
    segments = [Segment("s", float(a), float(b)) for a, b in pairwise(edges)]
    path = file(tmp_path, "a.ctm", to_ctm("a recording", segments))
    found = read_segments(path)["a_recording"]
    assert all(before.end == pytest.approx(after.start, abs=1e-9) for before, after in pairwise(found))
    assert [each.end for each in found] == pytest.approx(edges[1:].tolist(), abs=5.1e-4)


def test_textgrid_and_back(tmp_path):
    words = [Segment("hi", 0.1, 0.5)]
    text = to_textgrid({"words": words, "phones": PHONES[1:]}, 0.75)
    path = file(tmp_path, "u1.TextGrid", text)
    assert read_segments(path) == {"u1": [Segment("HH", 0.1, 0.25), Segment("AY", 0.25, 0.5)]}
    grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=True)
    assert grid.tierNames == ("words", "phones")
    assert [tuple(entry) for entry in grid.getTier("words").entries] == [
        (0, 0.1, ""),
        (0.1, 0.5, "hi"),
        (0.5, 0.75, ""),
    ]
    assert grid.maxTimestamp == 0.75


def test_textgrid_is_praats_own_format():
    lines = to_textgrid({"phones": PHONES}, 0.5).splitlines()
    assert lines[:2] == ['File type = "ooTextFile"', 'Object class = "TextGrid"']
    assert '"IntervalTier"' in lines
    assert lines[-3:] == ["0.25", "0.5", '"AY"']


def test_labels_with_quotes_survive(tmp_path):
    odd = [Segment('"t', 0.0, 0.2), Segment("ə̥", 0.2, 0.5)]
    assert read_segments(file(tmp_path, "a.TextGrid", to_textgrid({"phones": odd}, 0.5)))["a"] == odd


def test_a_tier_without_phones_is_empty():
    assert '""' in to_textgrid({"phones": []}, 0.5)


def test_a_folder_of_textgrids(tmp_path):
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        file(tmp_path / name, f"{name}.TextGrid", to_textgrid({"phones": PHONES}, 0.5))
    assert read_labels(tmp_path) == {"a": ["sil", "HH", "AY"], "b": ["sil", "HH", "AY"]}
    file(tmp_path / "a", "b.TextGrid", to_textgrid({"phones": PHONES}, 0.5))
    assert sorted(read_labels(tmp_path)) == ["a/a", "a/b", "b/b"]
    file(tmp_path / "a", "b.textgrid", to_textgrid({"phones": PHONES}, 0.5))
    with pytest.raises(AsrError, match="'a/b' but for their suffix"):
        read_labels(tmp_path)


def test_the_only_tier_is_taken_and_of_several_the_phones(tmp_path):
    path = file(tmp_path, "a.TextGrid", to_textgrid({"MAU": PHONES}, 0.5))
    assert read_labels(path) == {"a": ["sil", "HH", "AY"]}
    file(tmp_path, "a.TextGrid", to_textgrid({"words": PHONES[1:], "Phones": PHONES}, 0.5))
    assert read_labels(path) == {"a": ["sil", "HH", "AY"]}
    file(tmp_path, "a.TextGrid", to_textgrid({"words": PHONES[1:], "MAU": PHONES}, 0.5))
    with pytest.raises(AsrError, match="tiers 'words', 'MAU': name one of them 'phones'"):
        read_labels(path)


def test_audacity():
    assert to_audacity(PHONES[1:]) == "0.100000\t0.250000\tHH\n0.250000\t0.500000\tAY\n"


def test_touching_segments_are_no_overlap():
    text = to_textgrid({"phones": [Segment("a", 0.0, 0.2004), Segment("b", 0.2, 0.5002)]}, 0.5)
    assert text.splitlines()[-3:] == ["0.2004", "0.5", '"b"']


@pytest.mark.parametrize(
    "segments",
    [
        [Segment("a", 0.0, 0.3), Segment("b", 0.2, 0.5)],
        [Segment("a", 0.0, 0.6)],
        [Segment("a", 0.3, 0.2)],
        [Segment("a", -0.1, 0.2)],
    ],
)
def test_overlap_is_refused(segments):
    with pytest.raises(AsrError, match=r"tier phones: '[ab]' at .* overlaps its neighbour or the edges"):
        to_textgrid({"phones": segments}, 0.5)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "u1 s\nu1 t\n", "a.txt, line 2: utterance 'u1' stands here a second time"),
        ("a.txt", "\n", "a.txt is empty"),
        ("a.trn", "s (u1)\nt iy\n", r"a.trn, line 2: 't iy' does not end with its utterance in brackets"),
        ("a.trn", "s ()\n", r"a.trn, line 1: 's \(\)' does not end with its utterance"),
        ("a.ctm", "u1 1 0.0 s\n", "a.ctm, line 1: .* is not 'utterance channel start duration label"),
        ("a.ctm", "u1 1 0.0 x s\n", "a.ctm, line 1: .* is not 'utterance channel start duration label"),
        ("a.ctm", "u1 1 0.0 -0.1 s\n", "a.ctm, line 1: start and duration must be 0 or more"),
        ("a.ctm", "u1 1 0.0 inf s\n", "a.ctm, line 1: start and duration must be 0 or more"),
        ("a.ctm", "u1 1 0.0 1 s 7\n", r"a.ctm, line 1: .* a confidence in 0\.\.1"),
        ("a.phn", "0 100 s\n-5 90 t\n", "a.phn, line 2: the start must be 0 or more"),
        ("a.phn", "0 100 s\n100 x t\n", "a.phn, line 2: .* is not 'start end label' in samples"),
        (
            "a.TextGrid",
            "not one\n",
            "a.TextGrid, line 1: it does not begin with 'File type = .*: save it again from Praat",
        ),
        ("a.TextGrid", f"{GRID}xmax = two\n", "a.TextGrid, line 4: 'xmax = two' has no number"),
        ("a.TextGrid", f"{GRID}item []:\n  item [1]:\n    class =\n", "a.TextGrid, line 6: the file ends within"),
        (
            "a.TextGrid",
            f'{GRID}item []:\n  item [1]:\n    name = "a"\n',
            "a.TextGrid is not a TextGrid that can be read",
        ),
        ("a.ctm", "", "a.ctm is empty"),
        ("a.json", "{\n", "a.json, line 1 is not an object with 'path' and 'phones'"),
        ("a.json", "[1]", "a.json, line 1 is not an object with 'path' and 'phones'"),
        ("a.json", '{"path": "u1"}', "a.json, line 1 is not an object with 'path' and 'phones'"),
        (
            "a.jsonl",
            '{"path": "u1.wav", "phones": []}\n{"path": "u1.wav", "phones": []}',
            "a.jsonl, line 2: 'u1.wav' stands here a second time",
        ),
    ],
)
def test_faults_are_named_by_line(tmp_path, name, text, message):
    with pytest.raises(AsrError, match=message) as caught:
        read_labels(file(tmp_path, name, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("0.1 0.2 a", "line 1: .* between tabs"), ("0\t1\ta\n2\t1\tb", "line 2: start and end must be 0 or more")],
)
def test_audacity_faults_are_named_by_line(tmp_path, text, message):
    with pytest.raises(AsrError, match=message):
        read_labels(file(tmp_path, "a.txt", text), "audacity")


def test_files_that_are_no_text(tmp_path):
    (tmp_path / "a").write_bytes(b"u1 \xff\xfe")
    for path, message in ((tmp_path / "a", "not text in UTF-8 .byte 3."), (tmp_path / "none", "no file .*none")):
        with pytest.raises(AsrError, match=message):
            read_labels(path)
    for path in (tmp_path, tmp_path / "none.TextGrid"):
        with pytest.raises(AsrError, match=r"no label files in|no file or folder"):
            read_labels(path)
    with pytest.raises(AsrError, match="no format of labels is called 'mlf': choose from kaldi, trn, plain, text, ctm"):
        read_labels(tmp_path / "a", "mlf")
    with pytest.raises(AsrError, match="has no times"):
        read_segments(file(tmp_path, "b.txt", "u1 s"))
