"""The graph of a search for words, held against a tree made of dictionaries."""

from itertools import pairwise

import numpy as np
import pytest

from asr.lm import word_graph
from asr.lm.estimation import estimate
from asr.lm.hints import Hints
from asr.lm.language_model import UNKNOWN
from asr.lm.lexicon import Lexicon

pytestmark = pytest.mark.kernels

LABELS = ["<blank>", *"ABCDE"]


@pytest.fixture
def lexicon(rng):
    """Words of one to four phones, many with others' beginnings; some share phones, repeat, or are unknown."""
    words = ["".join(rng.choice(list("ABCD"), length)) for length in rng.integers(1, 5, 80)]
    entries = [(word.lower(), word) for word in words] + [("other", words[0]), ("other", words[0][::-1] + "E")]
    return Lexicon.build([*entries, ("outside", "AA"), *entries[:5]])


@pytest.fixture
def lm(lexicon, rng):
    words = [word for word in lexicon.words if word != "outside"]
    return estimate([rng.choice(words, 4) for _ in range(40)], "words", 2, "witten_bell", [UNKNOWN, *words])


def plain(lexicon, lm, weight):
    """Return the arcs and the look-ahead of each node; a node is the tuple of the phones that lead to it."""
    arcs, ahead = {(): set()}, {}
    for word, pronunciations in lexicon.words.items():
        if word not in lm.index:
            continue
        score = weight * lm.log_probs(np.zeros(1, int))[0, lm.index[word]]
        for phones in pronunciations:
            for i in range(1, len(phones)):
                arcs.setdefault(phones[:i], set())
                arcs[phones[: i - 1]].add((phones[i - 1], phones[:i], None, 0.0))
                ahead[phones[:i]] = max(ahead.get(phones[:i], -np.inf), score)
            arcs[phones[:-1]].add((phones[-1], (), word, 0.0))
    return arcs, {**ahead, (): 0.0}


def explored(graph, lm):
    """Return what `plain` does, of a graph that is a tree but for arcs to the root."""
    arcs, ahead, left = {}, {}, [((), 0)]
    while left:
        name, node = left.pop()
        assert name not in arcs
        arcs[name], ahead[name] = set(), graph.ahead[node]
        for arc in range(graph.offsets[node], graph.offsets[node + 1]):
            phone, word = LABELS[graph.tokens[arc]], graph.words[arc]
            after = () if graph.nodes[arc] == 0 else (*name, phone)
            each = phone, after, None if word < 0 else lm.tokens[word], graph.weights[arc]
            assert each not in arcs[name]
            arcs[name].add(each)
            if after:
                left.append((after, graph.nodes[arc]))
    assert len(arcs) == len(graph.ahead) == len(graph.offsets) - 1
    return arcs, ahead


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_a_lexicon_is_a_tree(weight, lexicon, lm):
    graph, unlisted = word_graph.build(lexicon, LABELS, lm, weight)
    arcs, ahead = explored(graph, lm)
    expected_arcs, expected_ahead = plain(lexicon, lm, weight)
    assert arcs == expected_arcs
    assert ahead == pytest.approx(expected_ahead)
    assert unlisted == {}


def test_an_unknown_word_is_spelt_by_a_bigram_of_the_lexicons_phones(lexicon, lm):
    """From the root and from a node for each phone, to each phone's node, and to the root with the end of the word."""
    known = [each for word, spelt in lexicon.words.items() if word in lm.index for each in spelt]
    spelling = estimate(known, "phones", 2, "witten_bell")
    tree, _ = word_graph.build(lexicon, LABELS, lm, 0.7)
    graph, _ = word_graph.build(lexicon, LABELS, lm, 0.7, spells_unknown=True)
    first, phones = len(tree.ahead), spelling.tokens[1:]
    assert sorted(phones) == LABELS[1:]
    assert len(graph.ahead) == first + len(phones)
    assert graph.ahead[first:] == pytest.approx(0.7 * lm.log_probs(np.zeros(1, int))[0, lm.index[UNKNOWN]])
    nodes = {(): 0, **{(phone,): first + i for i, phone in enumerate(sorted(phones))}}
    for before, node in nodes.items():
        arcs = range(graph.offsets[node], graph.offsets[node + 1])
        found = {
            (LABELS[graph.tokens[arc]], graph.nodes[arc], graph.words[arc]): graph.weights[arc]
            for arc in arcs
            if graph.nodes[arc] >= first or graph.words[arc] == lm.index[UNKNOWN]
        }
        state = spelling.start()
        for phone in before:
            state = spelling.advance(state, np.array([spelling.index[phone]]))
        expected = {}
        for phone in phones:
            ((log_prob,), after) = spelling.query(state, np.array([spelling.index[phone]]))
            ((ending,), _) = spelling.query(after, np.array([0]))
            expected[phone, nodes[(phone,)], -1] = 0.7 * log_prob
            expected[phone, 0, lm.index[UNKNOWN]] = 0.7 * (log_prob + ending)
        assert found == pytest.approx(expected, abs=1e-6)


def test_arcs_of_a_node_are_in_groups_of_a_class(lexicon, lm):
    graph, _ = word_graph.build(lexicon, LABELS, lm, 0.7, spells_unknown=True)
    for node in range(len(graph.ahead)):
        starts = graph.starts[graph.groups[node] : graph.groups[node + 1] + 1]
        assert starts[0] == graph.offsets[node]
        assert starts[-1] == graph.offsets[node + 1]
        tokens = [set(graph.tokens[a:b].tolist()) for a, b in pairwise(starts)]
        assert all(len(each) == 1 for each in tokens)
        assert [token for (token,) in tokens] == [c for c in range(32) if graph.classes[node, 0] >> c & 1]


def test_phones_that_no_word_has_spell_none():
    lexicon = Lexicon.build([("ab", "AB")])
    lm = estimate([["ab"]], "words", 2, "witten_bell", [UNKNOWN, "ab"])
    graph, _ = word_graph.build(lexicon, LABELS, lm, 1.0, spells_unknown=True)
    assert np.isfinite(graph.weights).all()
    assert set(graph.tokens.tolist()) == {1, 2}


def paths(graph, node=0, *before):
    """Yield each way from the root back to it: phone, word, weight and the look-ahead after it, of each arc."""
    for arc in range(graph.offsets[node], graph.offsets[node + 1]):
        after = graph.nodes[arc]
        said = graph.words[arc] if graph.words[arc] >= 0 else None
        path = (*before, (LABELS[graph.tokens[arc]], said, graph.weights[arc], graph.ahead[after]))
        if after == 0:
            yield path
        else:
            yield from paths(graph, after, *path)


def test_a_hint_is_a_path_beside_those_of_its_words():
    """With the bonus of each word in the look-ahead from its first phone on, and all of it on the last arc."""
    lexicon = Lexicon.build([("ab", "AB"), ("ab", "B"), ("cab", "CAB"), ("cad", "CAD")])
    lm = estimate([["ab", "ab", "cab"], ["cad"]], "words", 2, "witten_bell", [UNKNOWN, "ab", "cab", "cad"])
    hints = Hints.read(["cab", "cab ab", "Cabe\tC A B E"], 2.0)
    graph, unlisted = word_graph.build(lexicon, LABELS, lm, 0.5, hints=hints)
    unknown, ab, cab, cad = range(1, 5)
    of_unknown, of_ab, of_cab, of_cad = 0.5 * lm.log_probs(np.zeros(1, int))[0, 1:]
    begin = [("C", None, 0, max(of_cab, of_cad)), ("A", None, 0, max(of_cab, of_cad))]
    # the hints share nodes where they begin alike
    hinted = [(phone, None, 0, 2 + max(of_cab, of_unknown)) for phone in "CA"]
    expected = [
        [("A", None, 0, of_ab), ("B", ab, 0, 0)],
        [("B", ab, 0, 0)],
        [*begin, ("B", cab, 0, 0)],
        [*begin, ("D", cad, 0, 0)],
        [*hinted, ("B", cab, 2, 0)],
        [*hinted, ("B", cab, 0, 2), ("A", None, 0, 4 + of_ab), ("B", ab, 4, 0)],
        [*hinted, ("B", cab, 0, 2), ("B", ab, 4, 0)],
        [*hinted, ("B", None, 0, 2 + of_unknown), ("E", unknown, 2, 0)],
    ]

    def written(each):
        return [" ".join(f"{phone} {word} {weight:.4f} {ahead:.4f}" for phone, word, weight, ahead in each)]

    assert sorted(map(written, paths(graph))) == sorted(map(written, expected))
    assert [(graph.words[arc], label) for arc, label in unlisted.items()] == [(unknown, "Cabe")]
