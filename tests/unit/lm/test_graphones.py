"""Joint n-grams of letters and phones: EM and both searches held against enumeration, a made language, files."""

import itertools
import math
from dataclasses import replace

import naive
import numpy as np
import pytest

from asr.core.errors import ConfigError, ModelError
from asr.lm import graphones
from asr.lm.estimation import estimate
from asr.lm.folder import save
from asr.lm.graphone_training import Alignment, train
from asr.lm.graphones import Graphones, guesser, name, parts, spelling
from asr.lm.language_model import perplexity
from asr.lm.lexicon import Lexicon
from asr.speech.phones import PhoneSet
from asr.speech.pronounce import by_rules, spelt_words

PAIRS = [("ab", ("A", "B")), ("abc", ("A", "B", "K", "S")), ("cab", ("K", "A")), ("b", ("B", "A")), ("ab", ("A",))]


def made_word(rng):
    """Return a word of a made language, whose letters tell the phones, and whose phones tell the letters.

    c is S before e and i, else K; x is K S; sh is SH; e at the end is silent.
    """
    return "".join(rng.choice(["ca", "ce", "ci", "co", "sha", "sa", "axo", "ta", "tos", "ni", "nox"], 3)) + "ne"


def made_sound(word):
    sounds = {"a": "AA", "e": "EH", "i": "IH", "o": "OW", "t": "T", "n": "N", "s": "S"}
    phones = []
    for i, letter in enumerate(word):
        after = word[i + 1 : i + 2]
        if letter == "c":
            phones.append("S" if after in ("e", "i") else "K")
        elif letter == "x":
            phones += ["K", "S"]
        elif letter == "s" and after == "h":
            phones.append("SH")
        elif letter != "h" and not (letter == "e" and not after):
            phones.append(sounds[letter])
    return tuple(phones)


@pytest.fixture(scope="module")
def made():
    rng = np.random.default_rng(1)
    words = list(dict.fromkeys(made_word(rng) for _ in range(1000)))
    lexicon = {word: [made_sound(word)] for word in words}
    return train(dict(list(lexicon.items())[:400]), order=4), dict(list(lexicon.items())[400:])


def test_expected_counts_are_those_of_all_alignments(rng):
    alignment = Alignment(PAIRS, 2, num_steps=0)
    alignment.probs = rng.dirichlet(np.ones(len(alignment.names)))
    probs = dict(zip(map(parts, alignment.names), alignment.probs, strict=True))
    expected, log_likelihood = naive.graphone_expectations(PAIRS, probs, 2)
    counts, found = alignment.expectations()
    np.testing.assert_allclose(counts, list(expected.values()), rtol=1e-9, atol=1e-12)
    assert found == pytest.approx(log_likelihood, rel=1e-12)
    for way, (word, phones) in zip(alignment.best(), PAIRS, strict=True):
        ways = {tuple(each): math.prod(probs[g] for g in each) for each in naive.alignments(word, phones, 2)}
        assert tuple(map(parts, way)) == max(ways, key=ways.get)


def test_em_never_lowers_the_likelihood(made):
    steps = np.diff(made[0].log_likelihoods)
    assert len(steps) > 3
    assert steps.min() >= 0
    assert steps.sum() > 100


def test_a_long_word_does_not_underflow():
    alignment = Alignment([("aab" * 300, ("A", "A", "B") * 300), ("ba", ("B", "A")), ("b", ("B",))], 2)
    assert np.isfinite(alignment.log_likelihoods).all()
    assert "".join(parts(each)[0] for each in alignment.best()[0]) == "aab" * 300


@pytest.fixture(scope="module")
def small():
    sequences = [["a·A", "b"], ["a·A", "b·B"], ["b·B", "a", "c·K·A"], ["c", "a·A", "c·K"], ["b·B"], ["a", "b·B"]]
    return Graphones(replace(estimate(sequences, "words", 3, "witten_bell"), unit="graphones"))


@pytest.mark.parametrize("word", ["ab", "cab", "bca", "b"])
def test_pronunciations_are_those_of_all_sequences(small, word, monkeypatch):
    monkeypatch.setattr(graphones, "BEAM", 10**6)
    monkeypatch.setattr(graphones, "THRESHOLD", np.inf)
    known = [parts(token) for token in small.lm.tokens[1:]]
    expected = {}
    for sequence in naive.joint_sequences([((letter,), phones) for letter, phones in known], tuple(word), 0, 0):
        total = small.lm.totals([[name(letter, phones) for (letter,), phones in sequence]])[0]
        found = tuple(itertools.chain.from_iterable(phones for _, phones in sequence))
        expected[found] = np.logaddexp(expected.get(found, -np.inf), total)
    found = small.pronounce([word], nbest=10**6)[0]
    assert [phones for phones, _ in found] == sorted(expected, key=lambda phones: -expected[phones])
    np.testing.assert_allclose([score for _, score in found], [expected[phones] for phones, _ in found], rtol=1e-9)


@pytest.mark.parametrize("phones", [("A", "B"), ("K", "A"), ("B",)])
def test_spellings_are_those_of_all_sequences(small, phones, monkeypatch):
    monkeypatch.setattr(graphones, "BEAM", 10**6)
    monkeypatch.setattr(graphones, "THRESHOLD", np.inf)
    monkeypatch.setattr(graphones, "SILENT", 2)
    known = [parts(token) for token in small.lm.tokens[1:]]
    expected = {}
    for sequence in naive.joint_sequences(known, phones, 1, 2):
        letters = "".join(letter for letter, _ in sequence)
        total = small.lm.totals([[name(*each) for each in sequence]])[0]
        expected[letters] = np.logaddexp(expected.get(letters, -np.inf), total)
    found = small.spell([phones], nbest=10**6)[0]
    assert dict(found).keys() == expected.keys()
    np.testing.assert_allclose([score for _, score in found], [expected[letters] for letters, _ in found], rtol=1e-9)
    assert all(a >= b for (_, a), (_, b) in itertools.pairwise(found))


def test_a_made_language_is_learnt_in_both_directions(made):
    trained, held_out = made
    model, words = trained.model, list(held_out)
    assert len(words) > 100
    assert [best[0][0] for best in model.pronounce(words)] == [held_out[word][0] for word in words]
    assert [best[0][0] for best in model.spell([held_out[word][0] for word in words])] == words


def test_longer_graphone_contexts_foretell_better(made):
    _, held_out = made
    lexicon = {word: each for word, each in list(held_out.items())[:80]}
    perplexities = []
    for order in (1, 2, 3):
        lm = train(lexicon, order).model.lm
        rows = lm.score(Alignment([(word, each[0]) for word, each in lexicon.items()], 2).best())
        perplexities.append(perplexity(rows))
    assert perplexities[0] > 2 * perplexities[1] > 2.5 * perplexities[2]


def test_words_together_are_as_words_alone(made, monkeypatch):
    trained, held_out = made
    words = list(held_out)[:10]
    together = trained.model.pronounce(words, nbest=3)
    monkeypatch.setattr(graphones, "CHUNK", 3)
    assert trained.model.pronounce(words, nbest=3) == together
    for word, found in zip(words, together, strict=True):
        assert [each for each, _ in trained.model.pronounce([word], nbest=3)[0]] == [each for each, _ in found]


def test_what_a_model_does_not_know_has_no_answer(made):
    model = made[0].model
    assert model.pronounce(["cane", "caße", ""], nbest=2)[1] == []
    assert [len(each) for each in model.spell([["K"], ["K", "ʁ"]])] == [1, 0]
    assert model.pronounce([]) == model.spell([]) == []


def test_a_file_gives_the_same_answers(made, tmp_path):
    model, words = made[0].model, list(made[1])[:5]
    save(tmp_path / "m", model.lm, "a card")
    again = Graphones.load(tmp_path / "m")
    assert again.letters == model.letters
    assert again.phones == model.phones
    assert again.pronounce(words, 3) == model.pronounce(words, 3)
    assert again.spell([["T", "AA"]], 3) == model.spell([["T", "AA"]], 3)


def test_damaged_and_other_models_are_one_line(made, tmp_path):
    save(tmp_path / "m", made[0].model.lm, "a card")
    weights = tmp_path / "m" / "model.safetensors"
    whole = weights.read_bytes()
    for damaged in (whole[:100], whole[:-50], b""):
        weights.write_bytes(damaged)
        with pytest.raises(ModelError, match="damaged") as caught:
            Graphones.load(tmp_path / "m")
        assert "\n" not in str(caught.value)
    weights.write_bytes(bytes(len(whole)))
    with pytest.raises(ModelError):
        Graphones.load(tmp_path / "m")
    save(tmp_path / "w", estimate([["a"]], "words", 1), "a card")
    with pytest.raises(ModelError, match="over words neither pronounces nor spells"):
        Graphones.load(tmp_path / "w")


def test_what_cannot_be_learnt():
    with pytest.raises(ConfigError, match="must not have"):
        train({"a": [("A·B",)]})
    with pytest.raises(ConfigError, match="no word with a pronunciation"):
        train({"a": [("A", "B", "C")]})
    trained = train({"a": [("A", "B", "C"), ("A",)], "b": [("B",)], "c": [()]}, order=2)
    assert trained.num_pairs == 2
    assert trained.left_out == [("a", ("A", "B", "C")), ("c", ())]


def test_a_small_model_answers_nearly_as_well():
    known = spelt_words()
    lexicon = {word: known[word] for word in list(known)[::30]}
    large, small = train(lexicon, 5).model, train(lexicon, 5, threshold=1e-5, bits=5).model
    assert small.lm.trie.words.nbytes < 0.3 * large.lm.trie.words.nbytes
    words = list(known)[7::400]
    right = [
        sum(best[0][0] in known[word] for word, best in zip(words, model.pronounce(words), strict=True))
        for model in (large, small)
    ]
    assert right[0] > 0.4 * len(words)
    assert right[1] > 0.8 * right[0]


def test_the_shipped_model_knows_the_phone_set_and_the_letters():
    model = graphones.english()
    assert model.phones == {*PhoneSet.load("arpabet39").labels} - {"SIL"}
    assert {*"abcdefghijklmnopqrstuvwxyz'"} == model.letters
    assert sum(file.stat().st_size for file in graphones.PRETRAINED.iterdir()) < 700_000
    assert spelling(("G", "L", "AO", "R", "IY", "AH", "S")) == "glorious"
    assert spelling(("h#", "sh")) is None


def test_guesses_are_of_the_model_and_where_it_knows_no_letter_of_rules():
    guess = guesser(["wugging", "wuggïng", "smørbod"])
    assert guess("wugging") == guess("wuggïng") == ("W", "AH", "G", "IH", "NG")
    assert guess("smørbod") == by_rules("smørbod")
    assert guess("snark") == by_rules("snark")  # not asked for before
    assert Lexicon.of(["wugging-hello"]).words == {
        "wugging-hello": [
            ("W", "AH", "G", "IH", "NG", "HH", "AH", "L", "OW"),
            ("W", "AH", "G", "IH", "NG", "HH", "EH", "L", "OW"),
        ]
    }
