"""Pruned and quantised n-grams: relative entropies by definition, SRILM's result, code books by trying all."""

import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest

from asr.core.errors import ConfigError
from asr.lm import arpa
from asr.lm.estimation import SMOOTHINGS, estimate
from asr.lm.folder import load, save
from asr.lm.language_model import UNKNOWN
from asr.lm.pruning import prune
from asr.lm.quantisation import code_book, quantise

pytestmark = pytest.mark.kernels

GOLDEN = Path(__file__).parents[2] / "golden"
EDGES = {"<s>", "</s>"}


def n_grams(path):
    """Return the decimal log probability and backoff weight of each n-gram of an ARPA file."""
    found, n = {}, 0
    for line in Path(path).read_text().splitlines():
        fields = line.split()
        if match := re.fullmatch(r"\\(\d)-grams:", line):
            n = int(match[1])
        elif n and len(fields) > n:
            found[tuple(fields[1 : n + 1])] = (float(fields[0]), float(fields[n + 1]) if len(fields) > n + 1 else 0.0)
    return found


def model(rng, order, smoothing="kneser_ney", num_sentences=40):
    draws = [["abcdefgh"[i] for i in rng.zipf(1.5, 7) % 8] for _ in range(num_sentences)]
    return estimate(draws, "words", order, smoothing, tokens=[UNKNOWN, *"abcdefgh"])


def test_as_srilm_prunes():
    """srilm_pruned.arpa is kenlm.arpa after `Ngram::pruneProbs(0.003)` of SRILM 1.7.3 (`ngram -unk -prune`)."""
    lm = prune(arpa.read(GOLDEN / "kenlm.arpa", "words"), 0.003)
    theirs = arpa.read(GOLDEN / "srilm_pruned.arpa", "words")
    assert lm.packing.counts == theirs.packing.counts == (10, 21, 7)
    sentences = [list(each) for each in itertools.product("abcdefghx", repeat=3)]
    np.testing.assert_allclose(lm.totals(sentences), theirs.totals(sentences), atol=1e-5)


def relative_entropy(grams, gram, tokens):
    """Return D of the model without an n-gram, over the predictions after its context, by the definition."""

    def log_prob(grams, context, token):
        spared = 0.0
        while (*context, token) not in grams:
            spared += grams.get(context, (0, 0))[1]
            context = context[1:]
        return (spared + grams[*context, token][0]) * math.log(10)

    context = gram[:-1]
    others = {each: values for each, values in grams.items() if each != gram}
    explicit = [each[-1] for each in others if each[:-1] == context and each[-1] != "<s>"]
    left = 1 - sum(math.exp(log_prob(others, context, token)) for token in explicit)
    shorter_left = 1 - sum(math.exp(log_prob(others, context[1:], token)) for token in explicit)
    others[context] = (grams[context][0], math.log10(left / shorter_left))
    before, after = ([log_prob(each, context, token) for token in tokens] for each in (grams, others))
    history = sum(log_prob(grams, context[:i], "</s>" if token == "<s>" else token) for i, token in enumerate(context))
    return math.exp(history) * sum(math.exp(p) * (p - q) for p, q in zip(before, after, strict=True))


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("order", [2, 3, 4])
def test_n_grams_of_the_least_relative_entropy_go(order, smoothing, rng, tmp_path):
    lm = model(rng, order, smoothing)
    arpa.write(lm, tmp_path / "whole.arpa")
    whole = n_grams(tmp_path / "whole.arpa")
    tokens = [token for (token,) in (gram for gram in whole if len(gram) == 1) if token != "<s>"]
    increases = {gram: math.expm1(relative_entropy(whole, gram, tokens)) for gram in whole if len(gram) > 1}
    for quantile in (0.2, 0.5, 0.8):
        threshold = float(np.quantile(list(increases.values()), quantile))
        arpa.write(prune(lm, threshold), tmp_path / "pruned.arpa")
        left = n_grams(tmp_path / "pruned.arpa")
        stays = {gram for gram, increase in increases.items() if increase >= threshold}
        close = {gram for gram, increase in increases.items() if abs(increase / threshold - 1) < 1e-3}
        for n in range(order, 2, -1):  # a longer n-gram's beginning and ending
            stays |= {each for gram in left if len(gram) == n for each in (gram[:-1], gram[1:])}
        assert {gram for gram in left if len(gram) > 1} ^ stays <= close
        assert all(left[gram][0] == whole[gram][0] for gram in left)


@pytest.mark.parametrize("order", [2, 3, 4])
def test_after_pruning_probabilities_sum_to_one(order, rng):
    lm = model(rng, order)
    pruned = prune(lm, 1e-3)
    assert sum(pruned.packing.counts) < sum(lm.packing.counts)
    rows = pruned.log_probs(np.arange(pruned.num_states))
    np.testing.assert_allclose(np.exp(rows).sum(axis=1), 1, atol=1e-5)


def test_thresholds_at_either_end(rng):
    lm = model(rng, 3)
    assert prune(lm, 1e9).packing.counts[1:] == (0, 0)
    sentences = [list("abcab"), list("hgf")]
    for few, many in ((1e-4, 1e-3), (1e-3, 1e-2)):
        assert sum(prune(lm, few).packing.counts) > sum(prune(lm, many).packing.counts)
    single = lm.log_probs(np.zeros(1, np.int32))[0]
    expected = [single[lm.indices(each)].sum() + single[0] for each in sentences]
    np.testing.assert_allclose(prune(lm, 1e9).totals(sentences), expected, rtol=1e-6)


def test_another_model_can_say_how_probable_contexts_are(rng):
    lm, other = model(rng, 3), model(rng, 2, "witten_bell", 5)
    assert prune(lm, 1e-3, lm).packing == prune(lm, 1e-3).packing
    assert prune(lm, 1e-3, other).packing != prune(lm, 1e-3).packing
    with pytest.raises(ConfigError, match="'<unk>' is not one of the 2 words"):
        prune(lm, 1e-3, estimate([["a", "b"]], "words", 2))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_code_book_has_the_least_squared_error(size, rng):
    values, weights = rng.normal(size=9), rng.uniform(0.5, 2, 9)
    places = np.argsort(values)
    ordered, weighed = values[places], weights[places] + 1e-3 * weights.mean()

    def error(numbers):
        return (weighed * np.abs(ordered[:, None] - np.asarray(numbers)).min(axis=1) ** 2).sum()

    best = np.inf
    for cuts in itertools.combinations(range(1, 9), size - 1):
        cells = np.split(np.arange(9), cuts)
        best = min(best, error([np.average(ordered[cell], weights=weighed[cell]) for cell in cells]))
    found = code_book(values, weights, size)
    assert (np.diff(found) >= 0).all()
    assert error(found) <= 1.3 * best  # Lloyd's method ends in a local optimum


def test_a_code_book_keeps_few_values_as_they_are():
    assert code_book(np.array([2.0, 1.0, 2.0]), np.ones(3), 4).tolist() == [1, 2, 2, 2]
    assert code_book(np.zeros(0), np.zeros(0), 2).tolist() == [0, 0]


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("bits", [2, 5, 8])
def test_values_are_rounded_and_backoff_weights_of_one_kept(order, bits, rng):
    lm = prune(model(rng, order), 1e-4)
    rounded = quantise(lm, bits)
    assert rounded.packing.bits == bits
    for ours, theirs in zip(lm.orders(), rounded.orders(), strict=True):
        np.testing.assert_array_equal(theirs.tokens, ours.tokens)
        np.testing.assert_array_equal(theirs.backoffs == 0, ours.backoffs == 0)
        assert len(np.unique(theirs.log_probs)) <= 2**bits
        assert len(np.unique(theirs.backoffs)) <= 2**bits - 1
        nearest = np.abs(ours.log_probs[:, None] - np.unique(theirs.log_probs)).min(axis=1)
        np.testing.assert_allclose(np.abs(theirs.log_probs - ours.log_probs), nearest, atol=1e-6)
    states = np.arange(lm.num_states)
    np.testing.assert_array_equal(rounded.tables(states)[1], lm.tables(states)[1])
    if bits == 8:
        np.testing.assert_allclose(rounded.log_probs(states), lm.log_probs(states), atol=0.1)


def test_eight_bits_score_nearly_alike_also_from_a_folder(rng, tmp_path):
    lm = model(rng, 3, num_sentences=300)
    save(tmp_path, quantise(lm, 8), "card")
    sentences = [list("abcab"), list("hgf"), []]
    np.testing.assert_allclose(load(tmp_path).totals(sentences), lm.totals(sentences), rtol=0.01)
    with pytest.raises(ConfigError, match="1 bits"):
        quantise(lm, 1)


def test_commands(rng, cli, tmp_path):
    lm = model(rng, 3)
    arpa.write(lm, tmp_path / "lm.arpa")
    code, out, _ = cli("lm", "import", tmp_path / "lm.arpa", tmp_path / "whole")
    assert (code, out.split(" (")[0]) == (0, f"model folder: {tmp_path / 'whole'}")
    options = ("--threshold", "1e-3", "--history", tmp_path / "lm.arpa")
    code, out, _ = cli("lm", "prune", tmp_path / "whole", tmp_path / "pruned", *options)
    pruned = load(tmp_path / "pruned")
    assert code == 0
    assert f"{sum(pruned.packing.counts):,} n-grams" in out
    assert pruned.packing.counts == prune(lm, 1e-3).packing.counts
    code, _, _ = cli("lm", "quantise", tmp_path / "pruned", tmp_path / "small", "--bits", "5")
    assert (code, load(tmp_path / "small").packing.bits) == (0, 5)
    card = (tmp_path / "small" / "README.md").read_text()
    assert re.search(r"imported from lm.arpa.*\n.*threshold 0.001.*lm.arpa.*\n.*values of 5 bits", card)
    code, _, errors = cli("lm", "import", tmp_path / "pruned" / "README.md", tmp_path / "no")
    assert code == 2
    assert "ends too early" in errors
