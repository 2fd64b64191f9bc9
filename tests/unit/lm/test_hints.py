"""Hints: what they say, and a search that expects them, held against all ways to read phones as words and hints."""

import logging
import math

import numpy as np
import pytest

from asr.core.config import DecodeConfig
from asr.core.errors import ConfigError
from asr.lm import arpa, graphones, search
from asr.lm.estimation import estimate
from asr.lm.hints import Hints
from asr.lm.language_model import UNKNOWN
from asr.lm.lexicon import Lexicon
from asr.lm.word_search import WordSearch
from tests import naive

pytestmark = pytest.mark.kernels

LABELS = ["<blank>", "A", "B", "C"]
LEXICON = Lexicon.build([("a", "A"), ("ab", "AB"), ("ab", "B"), ("b", "B"), ("ca", "CA")])  # phones are letters
WEIGHT, PENALTY, BONUS = 0.7, 0.3, 1.5
HINTS = ["a b, ca", "a b ca", "Zee\tC B", "Zee\tC", "b Zee"]


def language_model(*more):
    text = [["a", "ab"], ["b", "a"], ["ca", "b"], ["a"]]
    return estimate(text, "words", 3, "witten_bell", [*more, *LEXICON.words])


@pytest.fixture
def lm():
    return language_model(UNKNOWN)


def word_search(lm, hints=HINTS, bonus=BONUS, **options):
    return WordSearch(LEXICON, lm, LABELS, WEIGHT, PENALTY, hints=Hints.read(hints, bonus), **options)


def readings(phones, units):
    """Yield every way to read phones as words and hints: the words, how many are in hints, and the words or hints."""
    if not phones:
        yield (), 0, ()
    for words, spelt, hinted in units:
        if phones[: len(spelt)] == spelt:
            for rest, count, others in readings(phones[len(spelt) :], units):
                yield (*words, *rest), hinted + count, ((words, spelt) if hinted else words, *others)


def units(phrases):
    """Return words, phones and the number of hinted words, of each word of the lexicon and each hint."""
    pronunciations = {**LEXICON.words, "Zee": [("C", "B"), ("C",)]}
    found = [((word,), each, 0) for word, spelt in LEXICON.words.items() for each in spelt]
    for phrase in phrases:
        ways = [()]
        for word in phrase:
            ways = [(*way, *each) for way in ways for each in pronunciations[word]]
        found += [(phrase, way, len(phrase)) for way in ways]
    return found


def spelt(tokens):
    return tuple(LABELS[token] for token in tokens)


@pytest.mark.parametrize("num_frames", [1, 4, 6])
def test_an_unpruned_search_finds_all_words_and_the_score_of_their_best_reading(num_frames, lm, rng):
    phrases = [("a", "b"), ("ca",), ("a", "b", "ca"), ("Zee",), ("b", "Zee")]
    logits = rng.standard_normal((num_frames, len(LABELS)))
    log_probs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    sums, expected = {}, {}
    for labelling, prob in naive.labelling_probs(log_probs).items():
        for words, hinted, reading in readings(spelt(labelling), units(phrases)):
            score = math.log(prob) + WEIGHT * lm.score([words])[0].sum() - PENALTY * len(words) + BONUS * hinted
            sums[words, reading] = np.logaddexp(score, sums.get((words, reading), -math.inf))
    for (words, _), score in sums.items():
        expected[words] = max(score, expected.get(words, -math.inf))
    (found,) = word_search(lm)(log_probs[:, None], beam_size=20000, nbest=20000)
    assert len(found) == len(expected)
    assert {each.words: pytest.approx(each.score) for each in found} == expected


def certain(phones):
    """Return posteriors that all but say phones, a blank between."""
    rows = [row for phone in phones for row in (LABELS.index(phone), 0)]
    return np.log(np.eye(len(LABELS))[rows] * 0.9996 + 0.0001)[:, None]


def best(search, phones, **options):
    return search(certain(phones), **options)[0][0]


def test_a_hint_is_written_as_it_is_spelt_and_each_pronunciation_is_known(lm):
    search = word_search(lm, bonus=3.0)
    assert best(search, "CB").words == ("Zee",)
    assert best(search, "CC").words == ("Zee", "Zee")
    found = best(search, "ACB")
    assert (found.words, found.word_lengths) == (("a", "Zee"), (1, 2))
    assert [found.timesteps[i] for i in (0, 1, 2)] == [0, 2, 4]
    assert best(word_search(lm, []), "CB").words != ("Zee",)


def test_nothing_is_given_for_part_of_a_hint(lm):
    """Also at the end, where only unfinished words may be left."""
    without = word_search(lm, [])
    for phones in ("AB", "AC", "C", "A"):
        whole = word_search(lm, ["a b zee", "zee\tC B B B"], bonus=50.0)
        with_hints, plain = best(whole, phones, beam_size=200), best(without, phones, beam_size=200)
        assert with_hints.words == plain.words
        assert with_hints.score == pytest.approx(plain.score)


def test_more_of_a_bonus_never_takes_a_hint_away(lm):
    scores = [best(word_search(lm, ["b a"], bonus), "BA", beam_size=200).score for bonus in (0.0, 1.0, 3.0)]
    assert np.diff(scores) == pytest.approx([2.0, 4.0])  # two words


def test_words_are_written_as_the_language_model_writes_them():
    lm = estimate([["doctor", "Ann", "sees"]], "words", 2, "witten_bell", [UNKNOWN, "doctor", "Ann", "sees", "ANNA"])
    hints = Hints.read(["Dr. ANN, anna, Zoë"], 1.0)
    steps = hints.steps(Lexicon.build([("sees", ["S"])]), lm, np.zeros(5))
    assert list(dict.fromkeys(step.label for step in steps)) == ["doctor", "Ann", "ANNA", "Zoë"]
    assert [step.token == lm.index[UNKNOWN] for step in steps][-1]
    assert ("D", "AA", "K", "T", "ER") in [step.phones for step in steps]


def test_a_lexicon_knows_better_than_rules_and_the_user_better_than_it(lm):
    lexicon = Lexicon.build([("ab", "AB"), ("ljubljana", "CA")])

    def pronounced(*hints):
        return [step.phones for step in Hints.read(hints, 1.0).steps(lexicon, lm, np.zeros(len(lm.tokens)))]

    assert pronounced("Ljubljana") == [("C", "A")]
    assert pronounced("Ljubljana\tB A", "Ljubljana\tB") == [("B", "A"), ("B",)]
    assert pronounced("the") == [("DH", "AH"), ("DH", "IY")]


def test_without_unknown_words_a_hint_is_as_rare_as_the_rarest_word(rng):
    lm = estimate([["a", "b", "a"], ["ab", "a"]], "words", 1, "witten_bell", ["a", "ab", "b", "ca"])
    search = WordSearch(LEXICON, lm, LABELS, 1.0, hints=Hints.read(["Zee\tC B"], 20.0))
    rarest = min(lm.log_probs(np.zeros(1, int))[0, 1:])
    found = best(search, "CB", beam_size=100)
    end = lm.log_probs(np.zeros(1, int))[0, 0]
    assert found.words == ("Zee",)
    assert found.score == pytest.approx(-naive.enumerated_loss(certain("CB")[:, 0], [3, 2]) + 20 + rarest + end)


def test_hints_from_a_file(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("\ufeffLjubljana\n\nDr. Nguyen\nNguyen\tW IH N\r\nNguyen\tN UW Y EH N\n", encoding="utf8")
    hints = Hints.read([str(path), "Ford, Ann  Lee"], 2.0)
    phrases = [" ".join(word.label for word in phrase) for phrase in hints.phrases]
    assert phrases == ["Ljubljana", "Dr Nguyen", "Nguyen", "Ford", "Ann Lee"]
    assert hints.pronunciations == {"nguyen": [("W", "IH", "N"), ("N", "UW", "Y", "EH", "N")]}
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"cannot read the hints .*names\.txt"):
        Hints.read([str(path)], 1.0)


@pytest.mark.parametrize(
    ("hint", "fault"),
    [
        ("...", r"the hint '\.\.\.' has no words"),
        ("Dr. Nguyen\tW IH N", "the hint 'Dr. Nguyen': a tab stands between one word and its phones"),
        ("b, names.txt", r"no such file: 'names\.txt'; as a hint, 'names\.txt' cannot be pronounced: write numbers"),
        ("b, lists/2.names", r"no such file: 'lists/2\.names'; as a hint, '2\.names' cannot be pronounced"),
        ("R2.D2", r"^the hint 'R2\.D2' cannot be pronounced: write numbers"),
        ("Zee\t", "the hint 'Zee': a tab stands between one word and its phones"),
        ("b, Zee\t , ab", "the hint 'Zee': a tab stands between one word and its phones"),
        ("Zee\t" + "C " * 101, "the hint 'Zee' has 101 phones: 100 are the most"),
        ("zee" * 100, "the hint '(zee){26}ze…' has [0-9]+ phones: 100 are the most"),
        (".", r"the hint '\.' is a folder: name a file in it"),
        (
            "Zee\tC X",
            "the hint gives Zee X, which the acoustic model has no label for: write its phones in its labels, such",
        ),
    ],
)
def test_hints_that_cannot_be_used_are_named(hint, fault, lm):
    with pytest.raises(ConfigError, match=fault):
        word_search(lm, ["a b", hint])


def test_a_list_longer_than_a_path_is_no_file():
    names = [f"name{'abcdefghij'[i % 10] * (i // 10 + 1)}" for i in range(100)]
    hints = Hints.read([", ".join(names), "Ann"], 1.0)
    assert [phrase[0].label for phrase in hints.phrases] == [*names, "Ann"]
    hints = Hints.read([", ".join([*names, "R2.D2"])], 1.0)
    with pytest.raises(ConfigError, match=r"R2\.D2") as error:
        hints.steps(LEXICON, language_model(UNKNOWN), np.zeros(6))
    assert len(str(error.value)) < 100
    assert not Hints.read(["", " ,"], 1.0).phrases


@pytest.mark.parametrize("line", ["Zee\t", "Zee Zee\tC", "Zee\t" + "C " * 101])
def test_a_wrong_line_of_a_file_is_named(line, tmp_path):
    path = tmp_path / "names.txt"
    path.write_text(f"Ann\n{line}\nLee\n")
    with pytest.raises(ConfigError, match=r"names\.txt, line 2: 'Zee"):
        Hints.read([str(path)], 1.0)


def test_a_file_loses_the_hints_that_cannot_be_pronounced(lm, tmp_path, caplog):
    """Each with a warning of one line that names the file, the line and the word."""
    path, bad = tmp_path / "names.txt", ["R2.D2", "日本", "a.b-c", "1*2", "c1.d"]
    lines = ["a b", "\N{GRINNING FACE}", *(f"the {word} ca" for word in bad), f"{'zee' * 100}", "ca, Ж ca, b ab"]
    path.write_text("\n".join(lines), encoding="utf8")
    with caplog.at_level(logging.WARNING):
        found = Hints.read([str(path)], 1.0).steps(LEXICON, lm, np.zeros(len(lm.tokens)))
    assert {step.label for step in found} == {"a", "b", "ca", "ab"}
    where = f"left out: {path}, line"
    expected = [f"{where} 2: '\N{GRINNING FACE}' has no words"]
    for number, word in enumerate(bad, 3):
        expected.append(f"{where} {number}: {word!r} cannot be pronounced: write numbers and symbols out in letters")
    messages = [record.getMessage() for record in caplog.records]
    assert messages[:6] == expected
    assert messages[6].startswith(f"{where} 8: 'zeezee")
    assert messages[6].endswith("phones: 100 are the most")
    assert messages[7].startswith(f"{where} 9: 'Ж' cannot be pronounced")
    assert len(messages) == 8


@pytest.mark.parametrize(("title", "spoken", "street"), [("Dr.", "doctor", "drive"), ("St.", "saint", "street")])
def test_a_title_is_the_word_that_is_said(title, spoken, street):
    """Though language model and lexicon know its letters as another word."""
    short = title[:2].lower()
    text = [spoken, "john"], [short, "john"]
    lexicon = Lexicon.build([(spoken, "AB"), (short, "C"), (street, "C"), ("john", "B")])
    lm = estimate(text, "words", 2, "witten_bell", [UNKNOWN, spoken, short, "john"])
    first, _ = Hints.read([f"{title} John"], 1.0).steps(lexicon, lm, np.zeros(5))
    assert (first.label, first.phones, first.token) == (spoken, ("A", "B"), lm.index[spoken])


def test_all_words_are_guessed_at_once(lm, monkeypatch):
    calls, guesser = [], graphones.guesser

    def counted(words):
        calls.append(list(words))
        return guesser(calls[-1])

    monkeypatch.setattr(graphones, "guesser", counted)
    hints = Hints.read(["Boojumed, well-snarky, snarkiness Boojumed, ab, hello"], 1.0)
    hints.steps(LEXICON, lm, np.zeros(len(lm.tokens)))
    assert calls == [["boojumed", "snarky", "snarkiness"]]


def test_hints_are_for_words_alone(tmp_path):
    arpa.write(estimate(["AB", "C"], "phones", 2, "witten_bell"), tmp_path / "phones.arpa")
    for lm in (None, str(tmp_path / "phones.arpa")):
        with pytest.raises(ConfigError, match=r"decode\.hints need a language model over words"):
            search.build(DecodeConfig(lm=lm, hints=("a",)), LABELS)
    with pytest.raises(ConfigError, match=r"decode\.hints must be a list"):
        DecodeConfig(hints="Ljubljana")
    for bonus in (-1.0, math.inf, math.nan):
        with pytest.raises(ConfigError, match=r"decode\.hint_bonus must be 0 or more and finite"):
            DecodeConfig(hint_bonus=bonus)
