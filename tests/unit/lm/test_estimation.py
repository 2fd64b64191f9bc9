"""Estimation as KenLM's lmplz does it, n-grams that are left out, vocabularies that are limited."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.core.errors import ConfigError
from asr.lm import arpa, estimation, text
from asr.lm.estimation import SMOOTHINGS, estimate, estimate_from
from asr.lm.language_model import EDGE, UNKNOWN, perplexity

pytestmark = pytest.mark.kernels

GOLDEN = Path(__file__).parents[2] / "golden"
SENTENCES = [list(line) for line in ("abab", "abc", "cab", "aab", "b", "", "acba", "abcab")]


def numbered(sentences, tokens):
    numbering = text.Numbering("words")
    return numbering.text([numbering.number(sentences)]).over(tokens)


def lines_of(path):
    """Return the n-grams of an ARPA file with their log10 probability and backoff weight, but for p(<s>)."""
    found = {}
    for line in path.read_text().splitlines():
        fields = line.split("\t")
        if len(fields) > 1:
            backoff = float(fields[2]) if len(fields) > 2 else 0.0
            found[fields[1]] = (float(fields[0]) if fields[1] != "<s>" else -99, backoff)
    return found


@pytest.mark.parametrize(
    ("name", "order", "min_counts", "expected"),
    [("genesis-3", 3, [1], 3.728985), ("genesis-4-pruned", 4, [1, 1, 2, 3], 7.469724)],
)
def test_estimates_are_those_of_lmplz(name, order, min_counts, expected, tmp_path):
    """genesis.txt (King James Version), whose discounts lmplz can estimate for each order, and KenLM's commands.

    lmplz -o 3 --interpolate_unigrams 0 --arpa genesis-3.arpa < genesis.txt
    lmplz -o 4 --interpolate_unigrams 0 --prune 0 0 1 2 --arpa genesis-4-pruned.arpa < genesis.txt
    query -v summary genesis-3.arpa < genesis.txt        # and the same of the other: the perplexity
    """
    numbering = text.Numbering("words")
    words = numbering.text(numbering.read(GOLDEN / "genesis.txt"))
    lm, ours = estimate_from(words.over([UNKNOWN, *text.vocabulary(words)]), order, min_counts=min_counts)
    assert ours == pytest.approx(expected, rel=1e-5)
    assert perplexity(itertools.chain.from_iterable(map(lm.score, text.read(GOLDEN / "genesis.txt", "words")))) == (
        pytest.approx(expected, rel=1e-5)
    )
    arpa.write(lm, tmp_path / "ours.arpa")
    found, wanted = lines_of(tmp_path / "ours.arpa"), lines_of(GOLDEN / f"{name}.arpa")
    assert found.keys() == wanted.keys()
    np.testing.assert_allclose([found[key] for key in wanted], list(wanted.values()), atol=2e-6)


@settings(max_examples=40)
@given(
    st.lists(st.lists(st.sampled_from("abcd"), max_size=8), min_size=1, max_size=12),
    st.integers(1, 4),
    st.sampled_from(SMOOTHINGS),
    st.sampled_from([[1], [1, 2], [1, 1, 2], [1, 1, 2, 3], [1, 3]]),
)
def test_without_rare_ngrams_probabilities_still_sum_to_one(sentences, order, smoothing, min_counts):
    given = numbered(sentences, list("abcd"))
    lm, found = estimate_from(given, order, smoothing, min_counts)
    states = [lm.start(), np.zeros(1, np.int32)]
    for token in range(1, 5):
        states += [lm.advance(states[0], np.array([token])), lm.advance(states[1], np.array([token]))]
    np.testing.assert_allclose(np.exp(lm.log_probs(np.concatenate(states))).sum(axis=1), 1, atol=1e-6)
    assert found == pytest.approx(perplexity(lm.score(sentences)), rel=1e-6)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_what_is_left_out_is_what_is_rare(smoothing):
    given = numbered(SENTENCES, list("abc"))
    lm, _ = estimate_from(given, 3, smoothing, [1, 2, 3])
    edged = [(EDGE, *sentence, EDGE) for sentence in SENTENCES]
    for n, least in ((2, 2), (3, 3)):
        grams = [each[i : i + n] for each in edged for i in range(len(each) - n + 1)]
        expected = {gram for gram in grams if grams.count(gram) >= least}
        assert expected, "no such n-gram: the test says nothing"
        orders = list(lm.orders())
        firsts = np.cumsum([1, *(len(order.tokens) for order in orders)])
        found = set()
        for parent, token in zip(orders[n - 1].parents, orders[n - 1].tokens, strict=True):
            gram = [lm.tokens[token]]
            for order, first in zip(orders[n - 2 :: -1], firsts[n - 2 :: -1], strict=False):
                row = parent - first
                gram.append(lm.tokens[order.tokens[row]])
                parent = order.parents[row]
            found.add(tuple(reversed(gram)))
        assert found == expected


def test_a_text_without_sentences_or_with_too_many_tokens(monkeypatch):
    with pytest.raises(ConfigError, match="no sentences"):
        estimate_from(numbered([], ["a"]), 2)
    monkeypatch.setattr(estimation, "MOST_TOKENS", 3)
    with pytest.raises(ConfigError, match="the text has 4 tokens and ends: 3 are possible"):
        estimate([["a", "b"]], "words", 2)
