"""The search that a `decode` section describes: priors divided out, in each kind of beam search."""

import math
from dataclasses import replace

import numpy as np
import pytest

from asr.core.config import DecodeConfig
from asr.core.errors import ConfigError, ModelError
from asr.lm import folder, search
from asr.lm.config import RecurrentConfig
from asr.lm.estimation import estimate
from asr.lm.language_model import UNKNOWN
from asr.models import model_folder
from asr.training.recurrent_lm import Network
from tests import naive

pytestmark = pytest.mark.kernels

LABELS, PRIORS = ["<blank>", "A", "B"], (0.7, 0.25, 0.05)


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
            folder.save(tmp_path, network.lm("phones", lm.tokens), "")
        case "words":
            folder.save(tmp_path, estimate([["a", "b"]], "words", 2, "witten_bell"), "")
            (tmp_path / "lexicon.txt").write_text("a A\nb B\n")
            settings["lexicon"] = str(tmp_path / "lexicon.txt")
    return DecodeConfig(**settings)


@pytest.fixture
def log_probs(rng):
    logits = rng.standard_normal((5, 3)) + np.array([2.0, 0.0, 0.0])
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


def searched(decode, log_probs, scale, nbest=1):
    """Return what a search finds that divides priors out."""
    config = DecodeConfig(**{**vars(decode), "label_prior_scale": scale})
    (found,) = search.build(config, LABELS, PRIORS)(log_probs[:, None], np.array([len(log_probs)]), 500, nbest)
    return found


@pytest.mark.parametrize("scale", [0.0, 0.6])
def test_each_beam_search_divides_priors_out_of_every_frame(scale, decode, log_probs):
    """Held against the enumeration of all paths through frames of p / prior^scale, made to sum to 1."""
    frames = np.exp(log_probs) / np.array(PRIORS) ** scale
    divided = np.log(frames / frames.sum(axis=1, keepdims=True))
    expected = {labels: math.log(prob) for labels, prob in naive.labelling_probs(divided).items()}
    given = log_probs.copy()
    found = searched(decode, given, scale, 500)
    assert {each.tokens: pytest.approx(each.score) for each in found} == expected
    assert np.array_equal(given, log_probs)  # what was given is not changed


def test_confidences_are_the_networks_own(decode, log_probs):
    (best,) = searched(decode, log_probs, 2.0)
    posteriors = [math.exp(log_probs[t, c]) for t, c in zip(best.timesteps, best.tokens, strict=True)]
    assert len(posteriors) > 0
    assert best.confidences == pytest.approx(posteriors)


def test_priors_bring_out_labels_that_blanks_hid(decode, log_probs):
    without, divided = (searched(decode, log_probs, scale)[0] for scale in (0.0, 1.0))
    assert len(without.tokens) < len(divided.tokens)


def test_the_best_path_and_the_posteriors_do_without_priors():
    shipped = model_folder.load("en-us-phones-small", light=True)
    rows = np.log(np.full((6, len(shipped.tokens)), 0.4 / (len(shipped.tokens) - 1)))
    rows[:, 0] = math.log(0.6)
    rows = rows.astype(np.float32)
    known = replace(shipped.calibration, priors=tuple(np.exp(rows[0]).tolist()))
    model = replace(shipped, lm=None, calibration=known).with_decoding(DecodeConfig())
    divided = model.with_decoding(DecodeConfig(label_prior_scale=1.5))
    assert divided.decode([rows], 1) == model.decode([rows], 1)
    assert divided.log_probs(rows) is rows
    assert model.decode([rows], 16)[0].tokens == ()
    assert divided.decode([rows], 16)[0].tokens != ()


def test_a_model_without_priors_says_how_to_find_them():
    with pytest.raises(ConfigError, match=r"label_prior_scale needs priors of 3 classes, and the model has 0: asr cal"):
        search.build(DecodeConfig(label_prior_scale=0.5), LABELS)


@pytest.mark.parametrize("value", [-0.5, math.nan])
def test_a_scale_that_is_none(value):
    with pytest.raises(ConfigError, match=r"decode\.label_prior_scale must be 0 or more"):
        DecodeConfig(label_prior_scale=value)


def test_tables_of_a_phone_ngram_are_made_once_and_only_for_a_search(tmp_path, log_probs, monkeypatch):
    folder.save(tmp_path, estimate([["A", "B"], ["B"]], "phones", 2, "witten_bell", LABELS[1:]), "")
    made, make = [], search.fusion.automaton
    monkeypatch.setattr(search.fusion, "automaton", lambda *given: made.append(given) or make(*given))
    found = search.build(DecodeConfig(lm=str(tmp_path), beam_size=4), LABELS)
    assert not made  # an alignment does without
    for _ in range(2):
        found(log_probs[:, None], np.array([len(log_probs)]), 4, 1)
    assert len(made) == 1
    with pytest.raises(ConfigError, match="does not know C"):  # before anything is searched
        search.build(DecodeConfig(lm=str(tmp_path), beam_size=4), [*LABELS, "C"])


@pytest.mark.parametrize("unit", ["phones", "words"])
def test_another_model_takes_a_share_of_the_weight(unit, tmp_path, log_probs):
    said = {"phones": [["A", "B"], ["B"]], "words": [["a", "b"], ["b", "b"]]}[unit]
    tokens = {"phones": LABELS[1:], "words": ["a", "b", UNKNOWN]}[unit]
    first = estimate(said, unit, 2, "witten_bell", tokens)
    network = Network(RecurrentConfig(embedding_size=4, hidden_size=4), len(first.tokens))
    for weights in network.parameters():
        weights.data.mul_(9)
    second = network.lm(unit, first.tokens)
    for lm, name in ((first, "first"), (second, "second")):
        folder.save(tmp_path / name, lm, "")
    (tmp_path / "lexicon.txt").write_text("a A\nb B\n")
    settings = {"lm": str(tmp_path / "first"), "lexicon": str(tmp_path / "lexicon.txt"), "lm_weight": 0.7}
    more = {"rescore_lm": str(tmp_path / "second"), "rescore_weight": 0.4, "rescored_lm_weight": 0.1}
    arguments = log_probs[:, None], np.array([len(log_probs)]), 500, 500
    plain, again = (search.build(DecodeConfig(**settings, **each), LABELS)(*arguments)[0] for each in ({}, more))

    def added(hypothesis):
        sentence = hypothesis.words if unit == "words" else [LABELS[token] for token in hypothesis.tokens]
        return 0.4 * second.totals([sentence])[0] - 0.6 * first.totals([sentence])[0]

    expected = sorted((each.score + added(each) for each in plain), reverse=True)
    assert [each.score for each in again] == pytest.approx(expected)
    assert [each.tokens for each in again] != [each.tokens for each in plain]


def test_a_closed_vocabulary_is_not_rescored(tmp_path):
    folder.save(tmp_path, estimate([["a", "b"]], "words", 2, "witten_bell"), "")
    (tmp_path / "lexicon.txt").write_text("a A\nb B\n")
    settings = {"lm": str(tmp_path), "lexicon": str(tmp_path / "lexicon.txt"), "rescore_lm": str(tmp_path)}
    with pytest.raises(ConfigError, match=r"decode\.rescore_lm must know <unk> to rescore with: train it with text"):
        search.build(DecodeConfig(**settings), LABELS)


def test_a_rescoring_model_that_is_missing_can_be_left_out(tmp_path):
    folder.save(tmp_path, estimate([["A", "B"]], "phones", 2, "witten_bell", LABELS[1:]), "")
    with pytest.raises(ModelError, match=r"no language model at nowhere: .*--no-rescore or decode\.rescore_lm=null"):
        search.build(DecodeConfig(lm=str(tmp_path), rescore_lm="nowhere"), LABELS)
