"""Language models within the beam: held against the product of CTC and LM over all labellings."""

import math

import numpy as np
import pytest
import torch

from asr import ctc
from asr.core.errors import ConfigError
from asr.lm import fusion
from asr.lm.config import RecurrentConfig
from asr.lm.estimation import estimate
from asr.lm.language_model import EDGE, UNKNOWN
from asr.training.recurrent_lm import Network
from tests import naive

pytestmark = pytest.mark.kernels

LABELS = ["<blank>", "A", "B", "C"]
TEXT = [list(line) for line in ("ABC", "AAB", "CB", "BCA", "A", "ABCB")]


def ngram(order=3, tokens=("C", "B", "A")):  # in another order than LABELS
    return estimate(TEXT, "phones", order, "witten_bell", tokens)


def recurrent(cell="lstm"):
    torch.manual_seed(1)
    network = Network(RecurrentConfig(cell=cell, embedding_size=6, hidden_size=8), 4)
    with torch.no_grad():
        for weights in network.parameters():
            weights.mul_(3)  # opinions to be felt
    return network.lm("phones", (EDGE, "B", "C", "A"))


MODELS = {"bigram": lambda: ngram(2), "trigram": ngram, "lstm": recurrent, "elman": lambda: recurrent("elman")}


def posteriors(rng, num_frames, batch=1, sharp=1.0):
    logits = sharp * rng.standard_normal((num_frames, batch, len(LABELS)))
    return logits - np.logaddexp.reduce(logits, axis=2, keepdims=True)


def product(log_probs, lm, weight, penalty):
    """Return ln p of every labelling, and what the language model adds to it."""
    found = {}
    for labelling, prob in naive.labelling_probs(log_probs).items():
        words = lm.score([[LABELS[c] for c in labelling]])[0].sum()
        found[labelling] = math.log(prob) + weight * words - penalty * len(labelling)
    return found


@pytest.mark.parametrize(("weight", "penalty"), [(1.0, 0.0), (0.5, -1.0), (2.5, 0.7)])
@pytest.mark.parametrize("name", MODELS)
def test_an_unpruned_beam_is_the_product_over_all_labellings(name, weight, penalty, rng):
    lm = MODELS[name]()
    log_probs = posteriors(rng, 5)
    (found,) = fusion.beam_search(log_probs, None, lm, LABELS, weight, penalty, beam_size=600, nbest=600)
    expected = product(log_probs[:, 0], lm, weight, penalty)
    assert {each.tokens: pytest.approx(each.score, abs=1e-4) for each in found} == expected
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("beam_size", [1, 3, 600])
def test_in_the_kernel_as_frame_by_frame(order, beam_size, rng):
    lm = ngram(order)
    log_probs, lengths = posteriors(rng, 9, batch=4), [9, 5, 7, 1]
    nbest = min(beam_size, 5)
    model = fusion.automaton(lm, LABELS, 0.8, 0.2)
    fast = ctc.beam_search(log_probs, lengths, beam_size=beam_size, nbest=nbest, token_model=model)
    slow = fusion.beam_search(log_probs, lengths, lm, LABELS, 0.8, 0.2, beam_size, nbest)
    for ours, theirs in zip(fast, slow, strict=True):
        assert [each.tokens for each in ours] == [each.tokens for each in theirs]
        assert [each.timesteps for each in ours] == [each.timesteps for each in theirs]
        np.testing.assert_allclose([each.score for each in ours], [each.score for each in theirs], atol=1e-9)


@pytest.mark.parametrize("beam_size", [1, 4, 16])
@pytest.mark.parametrize("name", MODELS)
def test_of_no_weight_it_is_the_search_without(name, beam_size, rng):
    lm = MODELS[name]()
    log_probs, lengths = posteriors(rng, 30, batch=3, sharp=3.0), [30, 11, 24]
    expected = ctc.beam_search(log_probs, lengths, beam_size=beam_size, nbest=beam_size)
    assert fusion.beam_search(log_probs, lengths, lm, LABELS, 0.0, 0.0, beam_size, beam_size) == expected
    if name.endswith("gram"):
        model = fusion.automaton(lm, LABELS, 0.0)
        assert ctc.beam_search(log_probs, lengths, beam_size=beam_size, nbest=beam_size, token_model=model) == expected


def test_an_utterance_does_not_feel_its_batch(rng):
    lm = recurrent()
    log_probs, lengths = posteriors(rng, 12, batch=3), [12, 0, 7]
    together = fusion.beam_search(log_probs, lengths, lm, LABELS, 1.0, 0.0, 4, 2)
    for b, length in enumerate(lengths):
        (alone,) = fusion.beam_search(log_probs[:length, b : b + 1], None, lm, LABELS, 1.0, 0.0, 4, 2)
        assert [each.tokens for each in alone] == [each.tokens for each in together[b]]
        np.testing.assert_allclose([each.score for each in alone], [each.score for each in together[b]], atol=1e-4)


def test_the_language_model_decides_what_the_sound_leaves_open():
    lm = estimate([list("AB")] * 5, "phones", 2, tokens=["A", "B", "C"])
    rows = np.full((3, 4), 0.01)
    rows[0, 1] = 0.97  # A
    rows[1, 0] = 0.97
    rows[2, 2:] = 0.49  # B or C
    rows[2, 3] += 0.01
    log_probs = np.log(rows / rows.sum(axis=1, keepdims=True))[:, None]
    assert ctc.beam_search(log_probs)[0][0].tokens == (1, 3)
    assert fusion.beam_search(log_probs, None, lm, LABELS, 0.5)[0][0].tokens == (1, 2)


def test_a_penalty_shortens_and_a_bonus_lengthens(rng):
    lm, log_probs = ngram(), posteriors(rng, 12)
    lengths = [
        len(fusion.beam_search(log_probs, None, lm, LABELS, 0.5, penalty)[0][0].tokens) for penalty in (3.0, 0.0, -3.0)
    ]
    assert lengths[0] < lengths[1] < lengths[2]


def test_models_that_do_not_fit():
    with pytest.raises(ConfigError, match="over words says nothing of phones"):
        fusion.automaton(estimate(TEXT, "words", 2), LABELS, 1.0)
    with pytest.raises(ConfigError, match="does not know D"):
        fusion.automaton(ngram(), [*LABELS, "D"], 1.0)
    opened = ngram(tokens=[UNKNOWN, "A", "B", "C"])
    assert fusion.automaton(opened, [*LABELS, "D"], 1.0).scores.shape[1] == 5


def test_a_denominator_scores_labellings_as_the_model_does(rng):
    lm = ngram(4)
    denominator = fusion.denominator(lm, LABELS)
    symbols = np.zeros((6, 6), np.uintp)
    symbols[:, 1:] = rng.integers(1, 4, (6, 5))
    lengths = np.array([0, 1, 2, 3, 4, 5])
    expected = [
        lm.score([[LABELS[c] for c in row[1 : 1 + n]]])[0].sum() for row, n in zip(symbols, lengths, strict=True)
    ]
    np.testing.assert_allclose(denominator.log_probs(symbols, lengths), expected, rtol=1e-12)
    assert (denominator.num_classes, denominator.blank) == (4, 0)


def test_denominators_of_models_that_do_not_fit():
    with pytest.raises(ConfigError, match="over words says nothing of phones"):
        fusion.denominator(estimate(TEXT, "words", 2), LABELS)
    with pytest.raises(ConfigError, match="does not know D"):
        fusion.denominator(ngram(), [*LABELS, "D"])
