"""Tables of small free corpora: what is in a recording's name or in lists beside it, and splits by names alone."""

import csv
import gzip
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


@pytest.fixture
def asterisk(tmp_path):
    """Write Asterisk's prompts of a language with their seconds and texts; return the folder of the sound."""

    def write(language, prompts, extra=""):
        folder = tmp_path / "debian" / "usr" / "share" / "asterisk" / "sounds" / languages.PROMPTS[language]
        for name, seconds, _ in prompts:
            path = folder / f"{name}.g722"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(int(8000 * seconds)))
        package = f"asterisk-core-sounds-{language}"
        texts = tmp_path / "debian" / "usr" / "share" / "doc" / package / f"core-sounds-{language}.txt.gz"
        texts.parent.mkdir(parents=True)
        lines = "".join(f"{name}: {text}\n" for name, _, text in prompts)
        texts.write_bytes(gzip.compress(f"\ufeff; Core Sounds\n\n{lines}{extra}".encode()))
        return folder

    return write


def test_prompts_that_are_said_as_they_are_written(asterisk):
    folder = asterisk(
        "it",
        [
            ("hello", 1, "Ciao mondo."),
            ("digits/0", 0.5, "zero "),
            ("vm-forward", 4, "Premere 1 per digitare l'interno... “prego”?"),
            ("again", 4, "Premere 1 per digitare l'interno: prego!"),
            ("beep", 0.2, "un suono di beep ascendente"),
            ("pause", 9, "pausa"),
            ("tones", 1, "[toni discendenti]"),
            ("is-full", 2, "La conferenza ? piena."),
            ("two", 2, "Messaggio eliminato vm-then-pound: poi premere"),
            ("pbx", 2, "Grazie per il PBX"),
            ("site", 2, "Grazie da www.asterisk.org"),
            ("iax", 2, "M come asterisco"),
            ("number", 2, "comporre 500"),
            ("hash", 2, "premere #"),
            ("letters/w", 1, "vu doppia"),
            ("digits/e", 0.3, "e"),
            ("twice", 1, "una volta"),
            ("nothing", 1, ""),
        ],
        extra="lost: senza suono\ntwice: due volte\n",
    )
    found = list(languages.prompts(folder))
    assert [(row.path.relative_to(folder).as_posix(), row.text) for row in found] == [
        ("hello.g722", "Ciao mondo."),
        ("digits/0.g722", "zero"),
        ("vm-forward.g722", "Premere 1 per digitare l'interno... “prego”?"),
    ]
    assert {row.speaker for row in found} == {"carlo"}


def test_prompts_of_russian_have_their_yo_and_no_latin_letters(asterisk):
    prompts = [
        ("a", 2, "Нажмите решётку."),
        ("b", 2, "Введите решетку"),
        ("c", 2, "нажмите решетку"),
        ("d", 1, "первoe"),
        ("e", 1, "Asterisk это"),
    ]
    found = [row.text for row in languages.prompts(asterisk("ru", prompts))]
    assert found == ["Нажмите решётку.", "Введите решётку"]


def test_prompts_of_spanish_without_its_tilde_are_left_out(asterisk):
    prompts = [("a", 2, "Ingrese su contrasena"), ("b", 0.8, "Manana"), ("c", 2, "Ingrese su numero")]
    assert [row.text for row in languages.prompts(asterisk("es", prompts))] == ["Ingrese su numero"]


def test_prompts_without_their_texts(asterisk, tmp_path, monkeypatch, capsys):
    folder = asterisk("fr", [("hello", 1, "Allo")])
    next(tmp_path.rglob("*.txt.gz")).unlink()
    with pytest.raises(CorpusError, match=r"unpack the package asterisk-core-sounds-fr$"):
        next(languages.prompts(folder))
    monkeypatch.setattr("sys.argv", ["languages", str(tmp_path), str(tmp_path / "out")])
    languages.main()
    assert "fr is left out: there is no" in capsys.readouterr().out


def test_prompts_have_half_the_minutes_of_dev_and_test(asterisk, tmp_path, monkeypatch, capsys):
    asterisk("es", [(f"prompt-{i}", 30, "hola " * 90 + "sí" * i) for i in range(20)])
    monkeypatch.setattr("sys.argv", ["languages", str(tmp_path), str(tmp_path / "out")])
    languages.main()
    said = capsys.readouterr().out
    assert "es: test 4.0 min, dev 1.5 min, train 4.5 min" in said
    assert "it is left out, for there is no" in said


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
