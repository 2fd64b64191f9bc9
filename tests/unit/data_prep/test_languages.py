"""Tables of small free corpora: what is in a recording's name or in lists beside it, and splits by names alone."""

import csv
import sys

import numpy as np
import pytest
import soundfile

from asr.core.errors import CorpusError
from data_prep import forms, languages

VOICE = "dataset-voice-kerstin"


def record(path, seconds=1.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(int(16000 * seconds), np.float32), 16000)


def rows(folder):
    with (folder / "utterances.tsv").open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


@pytest.fixture
def voice(tmp_path):
    """A voice of Rhasspy with 20 recordings of 20 s."""
    folder = tmp_path / VOICE
    for i in range(20):
        record(folder / "verified" / f"de-{i}.flac", 20)
    lines = [f"de-{i}|Guten Tag, Nummer {'i' * (i + 1)}.\n" for i in range(20)]
    (folder / "verified" / "metadata.csv").write_text("".join(lines), encoding="utf-8")
    return folder


def test_a_voice_of_rhasspy(voice):
    found = list(languages.rhasspy(voice))
    assert len(found) == 20
    assert found[0] == languages.Row(voice / "verified" / "de-0.flac", "kerstin", "Guten Tag, Nummer i.")


def test_the_parts_of_librispeech_are_its_splits(tmp_path):
    for part in ("train-clean-5", "test-clean"):
        folder = tmp_path / part / "84" / "1"
        folder.mkdir(parents=True)
        (folder / "84-1.trans.txt").write_text("84-1-0000 GO DO YOU HEAR\n")
    found = list(languages.librispeech(tmp_path))
    assert [(row.path.name, row.speaker, row.text, row.split) for row in found] == [
        ("84-1-0000.flac", "84", "GO DO YOU HEAR", split) for split in ("train", "test")
    ]


def test_the_fish_have_a_voice_each(tmp_path):
    (tmp_path / "script" / "city").mkdir(parents=True)
    (tmp_path / "script" / "city" / "dialogs_nl.lua").write_text(
        'dialogId("vit-m-a", "font_small", "What (is) this?")\ndialogStr("Wat is \\"dit\\"?")\n\n'
        'dialogId("vit-v-b", "font_big", "A city.")\ndialogStr("Een stad.")\n\n'
        'dialogId("vit-m-lost", "font_small", "Hm.")\ndialogStr("Hm.")\n\n'
        'dialogId("vit-hs-c", "font_statue", "Welcome.")\ndialogStr("Welkom.")\n',
        encoding="utf-8",
    )
    for name in ("vit-m-a", "vit-v-b", "vit-hs-c"):
        record(tmp_path / "sound" / "city" / "nl" / f"{name}.ogg")
    texts = [[(row.speaker, row.text) for row in languages.game(tmp_path, "nl", fish)] for fish in "mv"]
    assert texts == [[("nl-m", 'Wat is "dit"?')], [("nl-v", "Een stad.")]]


def test_mandarin_syllables_without_interjections(tmp_path):
    for name in ("zhong1", "_hm1", "nv3"):
        record(tmp_path / "64k" / "syllabs" / f"cmn-{name}.mp3")
    found = [row.phones for row in languages.mandarin_syllables(tmp_path)]
    assert found == ["n y˨˩˦", "ʈʂ ʊ˥ ŋ"]


def test_words_say_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pypinyin", None)
    with pytest.raises(CorpusError, match=r"\[mandarin\]"):
        next(languages.mandarin_words(tmp_path))


def test_splits_depend_on_names_alone(voice, tmp_path, monkeypatch):
    monkeypatch.setattr(languages, "TEST_MINUTES", 2)
    monkeypatch.setattr(languages, "DEV_MINUTES", 1)
    found = list(languages.rhasspy(voice))
    assert languages.write(found, tmp_path / "a", 3) == "test 2.0 min, dev 1.0 min, train 3.0 min"
    languages.write(reversed(found), tmp_path / "b", 3)
    assert rows(tmp_path / "a") == rows(tmp_path / "b")
    languages.write(found, tmp_path / "c", 1)
    fewer, more = ({row["path"]: row["split"] for row in rows(tmp_path / name)} for name in "ca")
    assert fewer.items() < more.items()


def test_the_command_writes_tables_of_what_is_there(voice, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["languages", str(tmp_path), str(tmp_path / "out"), "--minutes", "3"])
    languages.main()
    said = capsys.readouterr().out
    assert "de: test 6.7 min" in said
    assert "nl is left out, for there is no" in said
    form, root = forms.form_of(tmp_path / "out" / "de")
    found = list(form.read(root))
    assert form.name == "a table"
    assert {(record.speaker, record.split) for record in found} == {("kerstin", "test")}
    assert all(record.audio.is_file() and record.text.startswith("Guten Tag") for record in found)
