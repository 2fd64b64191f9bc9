"""Text that is read in blocks, as the numbers of its tokens; vocabularies of some of the tokens."""

import gzip
import itertools
import re

import numpy as np
import pytest

from asr.core.errors import ConfigError
from asr.lm import config as configuration
from asr.lm import text
from asr.lm.estimation import estimate
from asr.lm.folder import load
from asr.lm.language_model import EDGE, UNKNOWN
from asr.training.lm import train

LINES = ["the cat", "", "  ", "cafe\u0301 İ ΑΣ ΑΣ", "a\tb c", "<unk> the"]
WORDS = [["the", "cat"], ["café", "İ", "ΑΣ", "ΑΣ"], ["a", "b", "c"], ["<unk>", "the"]]


@pytest.fixture(params=["a.txt", "a.txt.gz"])
def path(request, tmp_path):
    data = "\ufeff" + "\r\n".join(LINES)  # with a mark at the beginning and no end of the last line
    opened = gzip.open if request.param.endswith(".gz") else open
    with opened(tmp_path / request.param, "wb") as file:
        file.write(data.encode())
    return tmp_path / request.param


def numbered(path, unit="words", lowercase=False):
    numbering = text.Numbering(unit)
    return numbering.text(numbering.read(path, lowercase))


@pytest.mark.parametrize("size", [1, 2, 7, 16, 1 << 22])
def test_blocks_of_any_size_hold_the_same_sentences(size, path, monkeypatch):
    monkeypatch.setattr(text, "BLOCK", size)
    assert list(text.lines(path)) == LINES
    assert list(itertools.chain.from_iterable(text.read(path, "words"))) == WORDS
    found = numbered(path)
    assert list(found.sentences()) == WORDS
    assert (found.num_sentences, found.num_tokens) == (4, 11)
    assert found.stream.dtype == np.int32
    letters = [list(line) for line in ("the cat", "  ", "café İ ΑΣ ΑΣ", "a\tb c", "<unk> the")]
    assert list(numbered(path, "characters").sentences()) == letters
    assert list(itertools.chain.from_iterable(text.read(path, "characters"))) == letters


def test_lower_case_is_that_of_each_word(path):
    assert list(numbered(path, lowercase=True).sentences()) == [[word.lower() for word in words] for words in WORDS]


@pytest.mark.parametrize("size", [4, 1 << 22])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\nb\n\xff\n", r"is not UTF-8 \(invalid start byte at byte 4\): convert it"),
        (b"a\n\nb\nc <s> d\n", "sentence 3: <s> and </s> are a model's own: take them out"),
        (b"a\n</s>\n", "sentence 2: <s> and </s>"),
        (b"\n \n", "holds no text: a sentence a line is needed"),
        (b"", "holds no text"),
    ],
)
def test_text_that_cannot_be_learnt(size, content, message, tmp_path, monkeypatch):
    monkeypatch.setattr(text, "BLOCK", size)
    (tmp_path / "a.txt").write_bytes(content)
    for read in (numbered, lambda path: list(text.read(path, "words"))):
        with pytest.raises(ConfigError, match=re.escape(str(tmp_path / "a.txt")) + ".*" + message):
            read(tmp_path / "a.txt")


def test_a_word_that_only_looks_like_an_edge_is_a_word(tmp_path):
    (tmp_path / "a.txt").write_text("a <s>b x</s>\n")
    assert list(numbered(tmp_path / "a.txt").sentences()) == [["a", "<s>b", "x</s>"]]


@pytest.mark.parametrize("content", [b"no archive", gzip.compress(b"a b\n" * 1000, mtime=0)[:-20]], ids=["none", "cut"])
def test_a_damaged_archive_is_named(content, tmp_path):
    (tmp_path / "a.txt.gz").write_bytes(content)
    with pytest.raises(ConfigError, match=r"cannot read .*a.txt.gz: .+; a text file"):
        list(text.lines(tmp_path / "a.txt.gz"))
    with pytest.raises(ConfigError, match=r"cannot read .*none.txt: No such file"):
        list(text.lines(tmp_path / "none.txt"))


def test_sentences_are_selected():
    numbering = text.Numbering("words")
    given = numbering.text([numbering.number([["a"], [], ["b", "a"], ["c"]])])
    assert list(given.select(np.array([True, True, False, True])).sentences()) == [["a"], [], ["c"]]
    assert given.select(np.zeros(4, bool)).num_sentences == 0
    assert given.fits(["a", "c"]).tolist() == [True, True, False, True]
    assert list(given.over([UNKNOWN, "a"]).sentences()) == [["a"], [], [UNKNOWN, "a"], [UNKNOWN]]
    with pytest.raises(ConfigError, match=r"'b' is not one of the 1 words given: .*open_vocabulary"):
        given.over(["a"])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ["a", "b", "c", "d"]),
        ({"max_words": 2}, ["a", "c"]),
        ({"max_words": 3}, ["a", "b", "c"]),  # b and d occur once: b comes first
        ({"max_words": 9, "min_count": 2}, ["a", "c"]),
        ({"vocabulary": "e a\nd\n<unk>\n"}, ["a", "d", "e"]),
    ],
)
def test_the_rest_of_the_vocabulary_is_unknown(settings, expected, tmp_path):
    (tmp_path / "a.txt").write_text("a a d c\nc a b\n")
    if "vocabulary" in settings:
        (tmp_path / "words.txt").write_text(settings["vocabulary"])
        settings = {"vocabulary": str(tmp_path / "words.txt")}
    given = {"text": str(tmp_path / "a.txt"), "unit": "words", "open_vocabulary": True} | settings
    values = {"text": given, "model": {"name": "ngram", "order": 2, "smoothing": "witten_bell"}}
    lm = load(train(configuration.from_dict(values), tmp_path / "run"))
    assert list(lm.tokens) == [EDGE, UNKNOWN, *expected]
    known = [
        [word if word in expected else UNKNOWN for word in line] for line in (["a", "a", "d", "c"], ["c", "a", "b"])
    ]
    same = estimate(known, "words", 2, "witten_bell", [UNKNOWN, *expected])
    for line in (["a", "b"], ["d", "never", "c"]):
        np.testing.assert_allclose(lm.score([line])[0], same.score([line])[0], rtol=1e-6)


def test_a_recurrent_model_of_the_most_frequent_words_meets_unknown_ones():
    given = {"text": "a.txt", "unit": "words", "open_vocabulary": True, "max_words": 5}
    assert configuration.from_dict({"text": given, "model": {"name": "recurrent"}}).text.max_words == 5


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_words": 5}, "text.max_words must be 1 or more, and left out without text.open_vocabulary"),
        ({"max_words": 0, "open_vocabulary": True}, "text.max_words must be 1 or more"),
        ({"vocabulary": "a", "open_vocabulary": True, "min_count": 2}, "text.vocabulary must be left out with"),
        ({"vocabulary": "a", "open_vocabulary": True, "max_words": 2}, "text.vocabulary must be left out with"),
        ({"vocabulary": "a", "unit": "phones"}, "text.vocabulary must be left out with"),
    ],
)
def test_vocabularies_that_cannot_be(given, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        configuration.from_dict({"text": {"text": "a.txt", "unit": "words"} | given, "model": {"name": "ngram"}})


@pytest.mark.parametrize("counts", [[], [2], [1, 3, 2], [1, 1, 1, 1], [0]])
def test_counts_that_cannot_be(counts):
    with pytest.raises(ConfigError, match=r"model.min_counts must be at most 3 counts, the first one 1, none less"):
        configuration.from_dict({"text": {"text": "a.txt"}, "model": {"name": "ngram", "min_counts": counts}})
