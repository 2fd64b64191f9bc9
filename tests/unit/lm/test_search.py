"""The search that a `decode` section describes: the penalty for blanks, in each kind of beam search."""

import math

import numpy as np
import pytest

from asr.core.config import DecodeConfig
from asr.core.errors import ConfigError
from asr.lm import folder, search
from asr.lm.config import RecurrentConfig
from asr.lm.estimation import estimate
from asr.lm.recurrent_lm import Network, RecurrentLM
from asr.models import model_folder
from tests import naive

pytestmark = pytest.mark.kernels

LABELS = ["<blank>", "A", "B"]


@pytest.fixture(params=["no model", "phone n-gram", "recurrent", "words"])
def decode(request, tmp_path):
    """The `decode` section of a kind of search, with weight 0: what is left is the network's."""
    lm = estimate([["A", "B"], ["B"]], "phones", 2, "witten_bell", LABELS[1:])
    settings = {"lm": str(tmp_path), "lm_weight": 0.0, "beam_size": 500, "nbest": 500}
    match request.param:
        case "no model":
            settings["lm"] = None
        case "phone n-gram":
            folder.save(tmp_path, lm, "")
        case "recurrent":
            network = Network(RecurrentConfig(embedding_size=4, hidden_size=4), len(lm.tokens))
            folder.save(tmp_path, RecurrentLM("phones", lm.tokens, network.eval()), "")
        case "words":
            folder.save(tmp_path, estimate([["a", "b"]], "words", 2, "witten_bell"), "")
            (tmp_path / "lexicon.txt").write_text("a A\nb B\n")
            settings["lexicon"] = str(tmp_path / "lexicon.txt")
    return DecodeConfig(**settings)


@pytest.fixture
def log_probs(rng):
    logits = rng.standard_normal((5, 3)) + [2.0, 0.0, 0.0]
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


@pytest.mark.parametrize("penalty", [0.0, 1.5])
def test_each_beam_search_takes_the_penalty_from_the_blank_of_every_frame(penalty, decode, log_probs):
    """A path with n blanks loses n penalties; held against the enumeration of all paths."""
    given, penalised = log_probs[:, None].copy(), log_probs - [penalty, 0.0, 0.0]
    expected = {labels: math.log(prob) for labels, prob in naive.labelling_probs(penalised).items()}
    config = DecodeConfig(**{**vars(decode), "blank_penalty": penalty})
    (found,) = search.build(config, LABELS)(given, np.array([5]), 500, 500)
    assert {each.tokens: pytest.approx(each.score) for each in found} == expected
    assert np.array_equal(given[:, 0], log_probs)  # nothing is taken from what was given


def test_confidences_are_the_networks_own(decode, log_probs):
    config = DecodeConfig(**{**vars(decode), "blank_penalty": 3.0})
    (found,) = search.build(config, LABELS)(log_probs[:, None], np.array([5]), 500, 1)
    (best,) = found
    assert len(best.tokens) > 0
    assert best.confidences == pytest.approx(
        [math.exp(log_probs[t, c]) for t, c in zip(best.timesteps, best.tokens, strict=True)]
    )


def test_a_greater_penalty_brings_out_phones_that_blanks_hid(decode, log_probs):
    lengths = []
    for penalty in (0.0, 2.0, 20.0):
        config = DecodeConfig(**{**vars(decode), "blank_penalty": penalty})
        (found,) = search.build(config, LABELS)(log_probs[:, None], np.array([5]), 500, 1)
        lengths.append(len(found[0].tokens))
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1]


def test_the_best_path_and_the_posteriors_do_without_the_penalty(log_probs):
    model = model_folder.load("en-us-phones-small", light=True)
    rows = np.log(np.full((6, len(model.tokens)), 0.4 / (len(model.tokens) - 1)))
    rows[:, 0] = math.log(0.6)
    rows = rows.astype(np.float32)
    penalised = model.with_decoding(DecodeConfig(blank_penalty=5.0))
    assert penalised.decode([rows], 1) == model.decode([rows], 1)
    assert penalised.log_probs(rows) is rows
    assert model.decode([rows], 16)[0].tokens == ()
    assert penalised.decode([rows], 16)[0].tokens != ()


@pytest.mark.parametrize("value", [-0.5, math.inf, math.nan])
def test_a_penalty_that_is_none(value):
    with pytest.raises(ConfigError, match=r"decode\.blank_penalty must be 0 or more, and finite"):
        DecodeConfig(blank_penalty=value)
