"""TextGrids and .eaf files that are read, kept and added to; other programs read what is written."""

import pytest
from praatio import textgrid

from asr.core.errors import AsrError
from asr.speech import elan, label_files, tier_files
from asr.speech.label_files import to_textgrid
from asr.speech.segments import Segment

SAID = [Segment("hello there", 0.2, 1.0), Segment("bye", 1.5, 2.0)]
WORDS = [Segment("hello", 0.25, 0.5), Segment("there", 0.5, 0.9), Segment("bye", 1.55, 1.9)]
EAF = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="anna" DATE="2024-01-01T00:00:00+00:00" FORMAT="3.0" VERSION="3.0"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
 xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">
  <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">
    <MEDIA_DESCRIPTOR MEDIA_URL="file:///a.wav" MIME_TYPE="audio/x-wav"/>
    <PROPERTY NAME="lastUsedAnnotationId">3</PROPERTY>
  </HEADER>
  <TIME_ORDER>
    <TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="200"/>
    <TIME_SLOT TIME_SLOT_ID="ts2"/>
    <TIME_SLOT TIME_SLOT_ID="ts3" TIME_VALUE="1000"/>
  </TIME_ORDER>
  <TIER LINGUISTIC_TYPE_REF="default-lt" PARTICIPANT="anna" TIER_ID="tx@anna">
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts3">
      <ANNOTATION_VALUE>hello there</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
  </TIER>
  <TIER LINGUISTIC_TYPE_REF="ref" PARENT_REF="tx@anna" TIER_ID="ft@anna">
    <ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a3" ANNOTATION_REF="a1">
      <ANNOTATION_VALUE>salut &amp; bonjour</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>
  </TIER>
  <LINGUISTIC_TYPE GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="default-lt" TIME_ALIGNABLE="true"/>
  <LINGUISTIC_TYPE CONSTRAINTS="Symbolic_Association" GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="ref"
   TIME_ALIGNABLE="false"/>
  <CONSTRAINT DESCRIPTION="1-1 association with a parent annotation" STEREOTYPE="Symbolic_Association"/>
</ANNOTATION_DOCUMENT>
"""


INTERLINEAR = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2024-01-01T00:00:00+00:00" FORMAT="3.0" VERSION="3.0">
  <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds"/>
  <TIME_ORDER>
    <TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="100"/>
    <TIME_SLOT TIME_SLOT_ID="ts2"/>
    <TIME_SLOT TIME_SLOT_ID="ts3"/>
    <TIME_SLOT TIME_SLOT_ID="ts4" TIME_VALUE="1300"/>
  </TIME_ORDER>
  <TIER LINGUISTIC_TYPE_REF="lt" TIER_ID="tx@a">{}</TIER>
  <TIER LINGUISTIC_TYPE_REF="subdivision" PARENT_REF="tx@a" TIER_ID="wd@a">{}{}{}</TIER>
  <TIER LINGUISTIC_TYPE_REF="symbolic" PARENT_REF="wd@a" TIER_ID="mb@a">{}{}</TIER>
  <TIER LINGUISTIC_TYPE_REF="association" PARENT_REF="mb@a" TIER_ID="ge@a">{}</TIER>
</ANNOTATION_DOCUMENT>
""".format(
    *(
        f'<ANNOTATION><{kind}_ANNOTATION ANNOTATION_ID="{name}" {places}>'
        f"<ANNOTATION_VALUE>{value}</ANNOTATION_VALUE></{kind}_ANNOTATION></ANNOTATION>"
        for kind, name, places, value in (
            ("ALIGNABLE", "a1", 'TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts4"', "the suns set"),
            ("ALIGNABLE", "a2", 'TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2"', "the"),
            ("ALIGNABLE", "a3", 'TIME_SLOT_REF1="ts2" TIME_SLOT_REF2="ts3"', "suns"),
            ("ALIGNABLE", "a4", 'TIME_SLOT_REF1="ts3" TIME_SLOT_REF2="ts4"', "set"),
            ("REF", "a5", 'ANNOTATION_REF="a3"', "sun"),
            ("REF", "a6", 'ANNOTATION_REF="a3" PREVIOUS_ANNOTATION="a5"', "-s"),
            ("REF", "a7", 'ANNOTATION_REF="a6"', "PL"),
        )
    )
)
NASTY = ['"hi"', "<a&b>", "Ёлка 你好 नमस्ते 😀", "h_ɔ̃ʃ", "c\\d", "it's"]


def grid_of(tmp_path):
    """A TextGrid with utterances and points, as Praat writes it."""
    grid = textgrid.Textgrid(0.0, 2.5)
    grid.addTier(textgrid.IntervalTier("anna", [(each.start, each.end, each.label) for each in SAID], 0.0, 2.5))
    grid.addTier(textgrid.PointTier("clicks", [(0.75, "click"), (2.0, "bang")], 0.0, 2.5))
    grid.save(str(tmp_path / "a.TextGrid"), format="long_textgrid", includeBlankSpaces=True)
    return tmp_path / "a.TextGrid"


def eaf_of(tmp_path):
    (tmp_path / "a.eaf").write_text(EAF, encoding="utf8")
    return tmp_path / "a.eaf"


def test_utterances_of_both_kinds_of_file(tmp_path):
    assert tier_files.read_utterances(grid_of(tmp_path)) == {"anna": SAID}
    assert tier_files.read_utterances(eaf_of(tmp_path)) == {"tx@anna": SAID[:1]}
    assert tier_files.read_utterances(eaf_of(tmp_path), ["ft@anna"]) == {
        "ft@anna": [Segment("salut & bonjour", 0.2, 1.0)]
    }
    with pytest.raises(AsrError, match=r"a\.eaf has no tier 'x': it has 'tx@anna', 'ft@anna'"):
        tier_files.read_utterances(eaf_of(tmp_path), ["x"])


def test_tiers_of_words_and_phones_are_no_utterances(tmp_path):
    path = tmp_path / "a.TextGrid"
    path.write_text(to_textgrid({"words": WORDS, "anna - phones": WORDS, "Sentences": SAID}, 2.5), encoding="utf8")
    assert tier_files.read_utterances(path) == {}


def test_a_textgrid_keeps_what_it_has(tmp_path):
    given = grid_of(tmp_path)
    out = tmp_path / "b.TextGrid"
    out.write_text(tier_files.with_tiers(given, {"words": WORDS}, "textgrid", 2.5, tmp_path / "a.wav"), encoding="utf8")
    before, after = (textgrid.openTextgrid(str(path), includeEmptyIntervals=True) for path in (given, out))
    assert after.tierNames == ("anna", "clicks", "words")
    for name in before.tierNames:
        assert after.getTier(name).entries == before.getTier(name).entries
    assert label_files.read_tiers(out)["words"] == WORDS
    again = tier_files.with_tiers(out, {"words": WORDS[:1]}, "textgrid", 2.5, tmp_path / "a.wav")
    out.write_text(again, encoding="utf8")
    assert label_files.read_tiers(out) == {"anna": SAID, "words": WORDS, "words 2": WORDS[:1]}


def test_an_eaf_keeps_what_it_has(tmp_path):
    given, out = eaf_of(tmp_path), tmp_path / "b.eaf"
    out.write_text(tier_files.with_tiers(given, {"words": WORDS}, "eaf", 2.5, tmp_path / "a.wav"), encoding="utf8")
    assert elan.read_tiers(out) == elan.read_tiers(given) | {"words": WORDS}
    assert elan.read(out) == elan.read(given)
    text = out.read_text(encoding="utf8")
    for kept in ('AUTHOR="anna"', "file:///a.wav", 'PARENT_REF="tx@anna"', "Symbolic_Association", ">6<"):
        assert kept in text
    assert text.index('"ts2"') < text.index('"ts3"')  # a slot without a time has its place among the others


def test_one_kind_becomes_the_other(tmp_path):
    given = grid_of(tmp_path)
    (tmp_path / "b.eaf").write_text(
        tier_files.with_tiers(given, {"words": WORDS}, "eaf", 2.5, tmp_path / "a.wav"), encoding="utf8"
    )
    assert elan.read_tiers(tmp_path / "b.eaf") == {"anna": SAID, "words": WORDS}
    grid = tier_files.with_tiers(tmp_path / "b.eaf", {"phones": WORDS}, "textgrid", 2.5, tmp_path / "a.wav")
    (tmp_path / "c.TextGrid").write_text(grid, encoding="utf8")
    assert label_files.read_tiers(tmp_path / "c.TextGrid") == {"anna": SAID, "words": WORDS, "phones": WORDS}


def test_annotations_without_times_of_their_own_share_those_above_them(tmp_path):
    """As ELAN shows words whose boundaries are not set, morphemes and glosses."""
    path = tmp_path / "a.eaf"
    path.write_text(INTERLINEAR)
    known = {
        "tx@a": [Segment("the suns set", 0.1, 1.3)],
        "wd@a": [Segment("the", 0.1, 0.5), Segment("suns", 0.5, 0.9), Segment("set", 0.9, 1.3)],
        "mb@a": [Segment("sun", 0.5, 0.7), Segment("-s", 0.7, 0.9)],
        "ge@a": [Segment("PL", 0.7, 0.9)],
    }
    assert elan.read_tiers(path) == known
    assert tier_files.read_utterances(path) == {"tx@a": known["tx@a"]}
    for form, read in (("eaf", elan.read_tiers), ("textgrid", label_files.read_tiers)):
        out = tmp_path / "out"
        text = tier_files.with_tiers(path, {"words": WORDS[:1]}, form, 2.0, tmp_path / "a.wav")
        out.write_text(text, encoding="utf8")
        assert read(out) == known | {"words": WORDS[:1]}


def test_segments_without_length_are_in_no_eaf(tmp_path):
    path = tmp_path / "a.eaf"
    path.write_text(elan.to_eaf({"words": [WORDS[0], Segment("unsaid", 0.5, 0.5), WORDS[1]]}), encoding="utf8")
    assert elan.read_tiers(path) == {"words": WORDS[:2]}


def test_elans_own_reader_reads_it(tmp_path):
    pympi = pytest.importorskip("pympi", reason="pympi-ling is not installed")
    out = tmp_path / "b.eaf"
    for text in (
        elan.to_eaf({"words": WORDS}, tmp_path / "a.wav"),
        tier_files.with_tiers(eaf_of(tmp_path), {"words": WORDS}, "eaf", 2.5, tmp_path / "a.wav"),
    ):
        out.write_text(text, encoding="utf8")
        read = pympi.Elan.Eaf(str(out))
        assert read.get_annotation_data_for_tier("words") == [
            (round(1000 * each.start), round(1000 * each.end), each.label) for each in WORDS
        ]
    nasty = [Segment(label, k, k + 1) for k, label in enumerate(NASTY)]
    out.write_text(elan.to_eaf({'"a" & ʌ': nasty, "none": []}, tmp_path / "ä b.wav"), encoding="utf8")
    strange = pympi.Elan.Eaf(str(out))
    assert [each[2] for each in strange.get_annotation_data_for_tier('"a" & ʌ')] == NASTY
    assert strange.get_annotation_data_for_tier("none") == []
    assert strange.get_linked_files()[0]["MEDIA_URL"] == (tmp_path / "ä b.wav").as_uri()
    assert read.get_annotation_data_for_tier("tx@anna") == [(200, 1000, "hello there")]
    assert [each[:3] for each in read.get_ref_annotation_data_for_tier("ft@anna")] == [(200, 1000, "salut & bonjour")]


def test_praat_reads_it(tmp_path):
    parselmouth = pytest.importorskip("parselmouth", reason="praat-parselmouth is not installed")
    out = tmp_path / "b.TextGrid"
    for text in (
        to_textgrid({"words": WORDS, "ʌ": SAID}, 2.5),
        tier_files.with_tiers(grid_of(tmp_path), {"words": WORDS}, "textgrid", 2.5, tmp_path / "a.wav"),
    ):
        out.write_text(text, encoding="utf8")
        grid = parselmouth.read(str(out))
        tiers = {
            parselmouth.praat.call(grid, "Get tier name", k): k
            for k in range(1, int(parselmouth.praat.call(grid, "Get number of tiers")) + 1)
        }
        count = int(parselmouth.praat.call(grid, "Get number of intervals", tiers["words"]))
        labels = [parselmouth.praat.call(grid, "Get label of interval", tiers["words"], i + 1) for i in range(count)]
        assert [label for label in labels if label] == [each.label for each in WORDS]
        assert parselmouth.praat.call(grid, "Get total duration") == 2.5
