"""TextGrids as Praat itself writes them, and what Praat and praatio read of ours."""

import pytest
from praatio import textgrid

from asr.core.errors import AsrError
from asr.speech import label_files, textgrids, tier_files
from asr.speech.segments import Segment
from asr.speech.textgrids import TextGrid, Tier

LABELS = [
    'say "hi"',
    '"',
    " lead, trail ",
    "two\nlines",
    "Ёлка — 你好 नमस्ते 😀",
    "h_ɔ̃ʃ <a&b> c\\d",
    'text = "x" 3',
    "intervals [2]:",
    '"IntervalTier"',
    "<exists>",
]


@pytest.fixture(scope="module")
def praat():
    parselmouth = pytest.importorskip("parselmouth", reason="praat-parselmouth is not installed")
    yield parselmouth
    parselmouth.praat.run('Text writing preferences: "try ASCII, then UTF-16"')


def read_by(praat, path):
    """All tiers of a TextGrid as Praat has them: names, and times with labels."""
    call = praat.praat.call
    grid, found = praat.read(str(path)), []
    for k in range(1, int(call(grid, "Get number of tiers")) + 1):
        rows = []
        if call(grid, "Is interval tier", k):
            for i in range(1, int(call(grid, "Get number of intervals", k)) + 1):
                times = [call(grid, f"Get {which} time of interval", k, i) for which in ("start", "end")]
                rows.append((*times, call(grid, "Get label of interval", k, i)))
        else:
            for i in range(1, int(call(grid, "Get number of points", k)) + 1):
                rows.append((call(grid, "Get time of point", k, i), call(grid, "Get label of point", k, i)))
        found.append((call(grid, "Get tier name", k), rows))
    return found


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16", "try ASCII, then UTF-16"])
@pytest.mark.parametrize("command", ["Save as text file", "Save as short text file"])
def test_what_praat_writes_is_read_and_kept(praat, tmp_path, encoding, command):
    call, given, out = praat.praat.call, tmp_path / "a.TextGrid", tmp_path / "b.TextGrid"
    praat.praat.run(f'Text writing preferences: "{encoding}"')
    for label in LABELS:
        grid = call("Create TextGrid", 0.5, 3, "anna clicks empty", "clicks")
        call(grid, "Set tier name", 1, 'anna "x"')
        call(grid, "Insert boundary", 1, 1.1)
        call(grid, "Set interval text", 1, 2, label)
        call(grid, "Insert point", 2, 0.7, label)
        call(grid, command, str(given))
        assert textgrids.read(given) == TextGrid(
            0.5,
            3.0,
            [
                Tier('anna "x"', False, [Segment("", 0.5, 1.1), Segment(label, 1.1, 3.0)]),
                Tier("clicks", True, [Segment(label, 0.7, 0.7)]),
                Tier("empty", False, [Segment("", 0.5, 3.0)]),
            ],
        )
        words = [Segment("a", 1.2, 1.5)]
        out.write_text(tier_files.with_tiers(given, {"words": words}, "textgrid", 3.0, given), encoding="utf8")
        assert read_by(praat, out) == [
            *read_by(praat, given),
            ("words", [(0.5, 1.2, ""), (1.2, 1.5, "a"), (1.5, 3.0, "")]),
        ]


def test_what_is_written_is_read_by_praat_and_praatio(praat, tmp_path):
    path, step = tmp_path / "a.TextGrid", 0.1
    segments = [Segment(label, k * step, (k + 1) * step) for k, label in enumerate(LABELS)]
    path.write_text(label_files.to_textgrid({"words": segments, "none": [], 'a "ʌ"': segments[3:4]}, 2.0), "utf8")
    found = read_by(praat, path)
    assert [name for name, _ in found] == ["words", "none", 'a "ʌ"']
    assert [row[2] for row in found[0][1]] == [*LABELS, ""]
    assert found[1:] == [
        ("none", [(0.0, 2.0, "")]),
        ('a "ʌ"', [(0.0, segments[3].start, ""), (segments[3].start, 0.4, LABELS[3]), (0.4, 2.0, "")]),
    ]
    path.write_text(label_files.to_textgrid({"words": segments[:-4]}, 2.0), "utf8")  # others are too much for praatio
    read = textgrid.openTextgrid(str(path), includeEmptyIntervals=False)
    assert [each.label for each in read.getTier("words").entries] == [label.strip() for label in LABELS[:-4]]


def test_times_are_kept_to_the_last_digit_and_small_gaps_are_none():
    thirds = [Segment("a", 1 / 3, 2 / 3), Segment("b", 2 / 3 + 1e-12, 1.0)]
    (tier,) = textgrids.parse(label_files.to_textgrid({"x": thirds}, 1.0)).tiers
    assert tier.entries == [Segment("", 0.0, 1 / 3), thirds[0], Segment("b", 2 / 3, 1.0)]


@pytest.mark.parametrize(
    ("tiers", "fault"),
    [
        ([Tier("a", False, []), Tier("a", False, [])], "has several tiers called 'a': give each a name of its own"),
        ([Tier("a", False, [Segment("x", 0.5, 0.4)])], "the tier 'a' goes back in time at 0.5 s"),
        ([Tier("a", False, [Segment("x", 0.5, 0.6), Segment("y", 0.4, 0.7)])], "goes back in time at 0.4 s"),
    ],
)
def test_faults_are_named(tmp_path, tiers, fault):
    path = tmp_path / "a.TextGrid"
    path.write_text(textgrids.to_text(TextGrid(0.0, 1.0, tiers)).replace("0.6\n0.7", "0.4\n0.7"))
    with pytest.raises(AsrError, match=fault):
        label_files.read_tiers(path)


def test_a_binary_textgrid_is_to_be_saved_as_text(praat, tmp_path):
    call, path = praat.praat.call, tmp_path / "a.TextGrid"
    call(call("Create TextGrid", 0, 3, "a", ""), "Save as binary file", str(path))
    with pytest.raises(AsrError, match="save it again from Praat, as a text file"):
        label_files.read_tiers(path)
