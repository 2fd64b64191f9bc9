"""Lexicons in the forms that people have them, with the line of what is wrong."""

import pytest

from asr.core.errors import ConfigError
from asr.speech import characters, lexicons


def read(folder, content):
    path = folder / "lexicon.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return lexicons.read(path)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("haus h aʊ s\nHaus h a ʊ s\n", {"haus": [("h", "aʊ", "s"), ("h", "a", "ʊ", "s")]}),
        (";;; CMUdict\nREAD R IY1 D\nREAD(2) R EH1 D\n", {"read": [("R", "IY1", "D"), ("R", "EH1", "D")]}),
        ("New York\tn j uː j ɔː k\n", {"new york": [("n", "j", "uː", "j", "ɔː", "k")]}),
        ("a 0.3 ə\na 1.0 eɪ\n", {"a": [("eɪ",), ("ə",)]}),
        ("a\t0.3\t0.1\t0.9\t1.2\tə\na\t0.99\t0.2\t1\t1\teɪ\n", {"a": [("eɪ",), ("ə",)]}),
        ("a\t1\tə\n", {"a": [("ə",)]}),
        ("a 0.3\tə\nNew York 1e-05\tn j\n", {"a": [("ə",)], "new york": [("n", "j")]}),  # utils/prepare_lang.sh
        ("a 0.3 0.1 1.2 ə\na 1,0 eɪ\n", {"a": [("eɪ",), ("ə",)]}),
        ("南 1.0 nan\n南方\t1\tnan fang\n", {"南": [("nan",)], "南方": [("nan", "fang")]}),
        ("neu\t1 n 9\nÖl 0.5 2 l\n", {"neu": [("1", "n", "9")], "öl": [("2", "l")]}),  # SAMPA
        ("catch 22\tk æ\n", {"catch 22": [("k", "æ")]}),
        ("Web 2.0\tw ɛ\nVersion 1,5\tv ɜː\n", {"web 2.0": [("w", "ɛ")], "version 1,5": [("v", "ɜː")]}),
        ("南 nan\n南方\tnan fang\n", {"南": [("nan",)], "南方": [("nan", "fang")]}),  # no line has a probability
        ("inf ɪ n f\nnan nan\n", {"inf": [("ɪ", "n", "f")], "nan": [("nan",)]}),
        ("ma 5 m a\n", {"ma": [("5", "m", "a")]}),  # a tone, and no probability
        ("<unk>\tspn\nja\tj ˈaː\r\n", {"ja": [("j", "aː")]}),
        ("!SIL SIL\n<UNK> SPN\nja j a\n", {"ja": [("j", "a")]}),
        ("e\u0301te\u0301 e t e\n", {"été": [("e", "t", "e")]}),
    ],
)
def test_forms(content, found, tmp_path):
    assert read(tmp_path, content) == found


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("ja j a\nnein\n", "line 2: 'nein' has no phones"),
        ("ja\tj a\nnein\t\n", "line 2: 'nein' has no phones"),
        ("ja 1.5 j a\n", "line 1: the probability of 'ja' is 1.5"),
        ("ja j a\nja -0.5 j a\n", "line 2: the probability of 'ja' is -0.5: write a number from 0 to 1"),
        ("nein 0.5 n\nja nan j a\n", "line 2: the probability of 'ja' is nan"),
        ("ja\tNaN\tj a\n", "line 1: the probability of 'ja' is NaN"),
        ("ja 1.0\nnein nan\n", "line 1: 'ja 1.0' has no phones"),
        ("ja\t-inf\tj a\n", "line 1: the probability of 'ja' is -inf"),
        ("New York -0.5\tn j\n", "line 1: the probability of 'New York' is -0.5"),
        ("ja\t0.5\t0.1\t-1\tj a\n", "line 1: the probability of 'ja' is -1"),
        ("ja 0.5\n", "line 1: 'ja 0.5' has no phones"),
        (b"ja j a\nsch\xf6n \xf6\n", "line 2 is not UTF-8"),
        (";;; nothing\n", "has no words"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(content, fault, tmp_path):
    with pytest.raises(ConfigError, match=r"lexicon\.txt") as caught:
        read(tmp_path, content)
    assert fault in str(caught.value)


def test_what_is_written_is_read_again(tmp_path):
    lexicon = {"new york": [("n", "j", "uː")], "a": [("eɪ",), ("ə",)], "南方": [("nan", "fang")]}
    lexicons.write(tmp_path / "a.txt", lexicon)
    assert lexicons.read(tmp_path / "a.txt") == lexicon
    assert lexicons.key_of(lexicon) == lexicons.key_of(lexicons.read(tmp_path / "a.txt"))
    assert lexicons.key_of(lexicon) != lexicons.key_of({"a": [("ə",), ("eɪ",)], "new york": lexicon["new york"]})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("L'été, “c'est” fini…", ["l'été", "c'est", "fini"]),
        ("नमस्ते दुनिया।", ["नमस्ते", "दुनिया"]),
        ("Ёлка—2 шт.", ["ёлка", "2", "шт"]),
        ("می\u200cخواهم", ["میخواهم"]),
        ("你好，世界！", ["你好", "世界"]),
        ("Hawai‘i", ["hawai'i"]),
        ("col·lecció · צה״ל مــرحبا İzmir", ["col·lecció", "צה״ל", "مرحبا", "izmir"]),
        ("'quoted' rock ’n’ roll", ["quoted", "rock", "n", "roll"]),
    ],
)
def test_characters_of_any_script(text, words):
    assert characters.words(text) == words
    spelt = [label for word in characters.spell(words) for label in word]
    assert characters.join(spelt) == words
