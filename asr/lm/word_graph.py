"""The graph that a search for words runs on: a tree of pronunciations, hints, and the spelling of unknown words.

Pronunciations are rows of a matrix. They are sorted, so that those that begin alike are neighbours: where a row differs
from the row above, its path leaves that row's path and goes on to a new node.

Letters: R pronunciations, L phones of the longest, N nodes, A arcs, V words of a language model, C classes of an
acoustic model.
"""

from collections.abc import Sequence
from itertools import repeat
from typing import NamedTuple

import numpy as np

from asr.core.errors import ConfigError
from asr.lm.hints import Hints, Step
from asr.lm.language_model import UNKNOWN
from asr.lm.lexicon import Lexicon
from asr.lm.ngram import NGram
from asr.lm.search_arrays import LexiconGraph

ROOT = 0
NO_HINTS = Hints()
SHOWN = 5  # labels in a message
MENDS = {  # of pronunciations with other labels, by who gives them; and the setting
    "lexicon": ("decode.lexicon must name a file with words", "decode.lexicon"),
    "hint": ("write its phones", "decode.hints"),
}


class _Rows(NamedTuple):
    """Pronunciations.

    Attributes
    ----------
    phones : (R, L)
        Classes of their phones, and 0 behind the last one.
    words : (R,)
        Numbers of their words: in the language model, or V + the number of a step of hints.
    trees : (R,)
        Pronunciations of one tree share nodes where they begin alike. 0 is the lexicon's tree, and 1 + place that of
        the hints' words that start in a place (`asr.lm.hints`).
    ends : (R,)
        The places where they end.
    num_words : (R,)
        How many words of a hint have been said at their end; 0 in the lexicon's tree.
    """

    phones: np.ndarray
    words: np.ndarray
    trees: np.ndarray
    ends: np.ndarray
    num_words: np.ndarray


class _Arcs(NamedTuple):
    """Arcs (A,) in any order: the nodes that they leave, and what a `LexiconGraph` has of them."""

    sources: np.ndarray
    tokens: np.ndarray
    nodes: np.ndarray
    words: np.ndarray
    weights: np.ndarray


def build(
    lexicon: Lexicon,
    labels: Sequence[str],
    lm: NGram,
    weight: float,
    spells_unknown: bool = False,
    hints: Hints = NO_HINTS,
) -> tuple[LexiconGraph, dict[int, str]]:
    """Build the graph of the words that are in a language model.

    Parameters
    ----------
    lexicon
        Pronunciations of the words.
    labels : (C,)
        Labels of the acoustic model; class 0 is the blank.
    lm
        N-gram over words.
    weight
        Weight of its log probabilities.
    spells_unknown
        Let a bigram of the lexicon's phones spell words that are not in the graph; they count as the language model's
        UNKNOWN. By default only the graph's words are recognised.
    hints
        Words and phrases to expect.

    Returns
    -------
    graph : LexiconGraph
    unlisted : dict
        By their arcs, words of hints that the language model does not know.

    Raises
    ------
    ConfigError
        A phone is not one of the labels, no word of the model is in the lexicon, unknown words are to be spelt in a
        closed vocabulary, or a hint cannot be pronounced.
    """
    unknown = lm.index.get(UNKNOWN, 0)
    if spells_unknown and not unknown:
        raise ConfigError(f"the language model has no {UNKNOWN}: train it with text.open_vocabulary=true")
    tokens = np.arange(len(lm.tokens))
    unigrams = weight * lm.query(np.zeros_like(tokens), tokens)[0]
    steps = hints.steps(lexicon, lm, unigrams)
    hinted = np.array([step.token for step in steps], np.int64)
    rows = _rows(lexicon, steps, labels, lm)
    *arcs, ahead = _tree(rows, np.append(unigrams, unigrams[hinted]), hints.bonus)
    if spells_unknown:
        arcs.append(_spelling(rows.phones[rows.trees == 0], len(labels), len(ahead), unknown, weight))
        ahead = np.append(ahead, np.full(arcs[-1].nodes.max() + 1 - len(ahead), unigrams[unknown]))
    graph = _graph(arcs, ahead, len(labels))
    (of_hints,) = np.nonzero(graph.words >= len(unigrams))
    said = graph.words[of_hints] - len(unigrams)
    graph.words[of_hints] = hinted[said]
    written = {arc: steps[i].label for arc, i in zip(of_hints.tolist(), said.tolist(), strict=True)}
    return graph, {arc: label for arc, label in written.items() if label not in lm.index}


def _rows(lexicon: Lexicon, steps: Sequence[Step], labels: Sequence[str], lm: NGram) -> _Rows:
    """Return the pronunciations of the language model's words and of hints."""
    numbers = np.fromiter(map(lm.index.get, lexicon.entries, repeat(0)), np.int64, len(lexicon.entries))
    (known,) = np.nonzero((numbers > 0) & (numbers != lm.index.get(UNKNOWN, 0)))
    if not len(known):
        raise ConfigError("no word of the language model is in the lexicon: are their letters of one case?")
    hinted = Lexicon.build([(step.label, step.phones) for step in steps])
    starts, ends, num_words = np.array([step[3:] for step in steps], np.int64).reshape(-1, 3).T
    hints = np.arange(len(steps))
    phones = _classes(lexicon, known, labels, "lexicon"), _classes(hinted, hints, labels, "hint")
    width = max(each.shape[1] for each in phones)
    return _sorted(
        np.concatenate([np.pad(each, ((0, 0), (0, width - each.shape[1]))) for each in phones]),
        np.append(numbers[known], len(lm.tokens) + hints),
        *(np.append(np.zeros_like(known), each) for each in (1 + starts, ends, num_words)),
    )


def _classes(lexicon: Lexicon, entries: np.ndarray, labels: Sequence[str], giver: str) -> np.ndarray:
    """Return the classes of the phones of some of a lexicon's pronunciations (R, L), with 0 behind the last one.

    Raises
    ------
    ConfigError
        A phone is not one of the labels, or there are no phones; `giver` says who gives them.
    """
    numbers = {label: c for c, label in enumerate(labels)}
    rows = lexicon.rows[entries]
    classes = np.array([0, *(numbers.get(phone, 0) for phone in lexicon.phones)], np.int32)[rows]
    wrong = ((classes == 0) & (rows > 0)).any(axis=1) | (np.count_nonzero(rows, axis=1) == 0)
    for i in np.flatnonzero(wrong):
        missing = [lexicon.phones[number - 1] for number in rows[i][(classes[i] == 0) & (rows[i] > 0)]]
        what = f"{missing[0]}, which the acoustic model has no label for" if missing else "no phones"
        mend, key = MENDS[giver]
        mend = f"{mend} in its labels, such as {' '.join(labels[1 : 1 + SHOWN])}"
        raise ConfigError(f"the {giver} gives {lexicon.entries[entries[i]]} {what}: {mend}", key)
    return classes


def _tree(rows: _Rows, scores: np.ndarray, bonus: float) -> tuple[_Arcs, _Arcs, np.ndarray]:
    """Build the tree of the lexicon and those of the hints.

    The last phone of a word is on an arc to the root, or in a hint to the node of the place where the word ends. The
    look-ahead of a node is the score of the best word below, and in a hint the bonus of the words up to this one: a
    sentence keeps it only if the hint is complete, since no other path leads on from the hint's nodes.

    Parameters
    ----------
    rows
        Sorted.
    scores
        Unigram score of each word.
    bonus
        Nats for each word of a hint.

    Returns
    -------
    inner, ends
        Arcs within words, and those with the last phones.
    ahead : (N,)
        The look-ahead.
    """
    phones, lengths = rows.phones.copy(), np.count_nonzero(rows.phones, axis=1)
    last = np.arange(len(phones)), lengths - 1
    phones[last] = 0  # no node of a tree comes after it
    is_new = np.ones(phones.shape, bool)
    differs = (phones[1:] != phones[:-1]) | (rows.trees[1:] != rows.trees[:-1])[:, None]
    np.logical_or.accumulate(differs, axis=1, out=is_new[1:])
    is_new &= phones > 0
    nodes, count = np.zeros(phones.shape, np.int64), np.count_nonzero(is_new)
    nodes[is_new] = 1 + np.arange(count)
    np.maximum.accumulate(nodes, axis=0, out=nodes)  # where a row has a phone, the node of the last new one above
    places = np.append(ROOT, 1 + count + np.arange(rows.ends.max()))
    sources = np.concatenate([places[np.maximum(rows.trees - 1, 0)][:, None], nodes[:, :-1]], axis=1)
    inner = _Arcs(sources[is_new], phones[is_new], nodes[is_new], np.full(count, -1), np.zeros(count))
    gains = np.where(rows.ends == 0, bonus * rows.num_words, 0.0)
    ends = _Arcs(sources[last], rows.phones[last], places[rows.ends], rows.words, gains)
    ahead = np.full(count + len(places), -np.inf)
    row, i = np.nonzero(phones)
    np.maximum.at(ahead, nodes[row, i], (scores[rows.words] + bonus * rows.num_words)[row])
    ahead[places[rows.ends]] = bonus * rows.num_words
    ahead[ROOT] = 0.0
    return inner, ends, ahead


def _sorted(phones: np.ndarray, words: np.ndarray, trees: np.ndarray, *others: np.ndarray) -> _Rows:
    """Sort pronunciations by tree, phones and word, and leave out those that repeat one of the same word."""
    order = np.lexsort((words, *phones.T[::-1], trees))
    found = _Rows(*(each[order] for each in (phones, words, trees, *others)))
    is_other = np.ones(len(order), bool)
    is_other[1:] = (found.phones[1:] != found.phones[:-1]).any(axis=1) | (found.words[1:] != found.words[:-1])
    return _Rows(*(each[is_other] for each in found))


def _spelling(phones: np.ndarray, num_classes: int, first: int, unknown: int, weight: float) -> _Arcs:
    """Return arcs that spell unknown words: there is a node for each last phone so far.

    Parameters
    ----------
    phones : (R, L)
        Pronunciations.
    num_classes
        Of the acoustic model.
    first
        Number of the first node.
    unknown
        The language model's number of UNKNOWN.
    weight
        Weight of the log probabilities of phones.
    """
    used = np.unique(phones[phones > 0])
    nodes = first + np.arange(len(used))
    log_probs = weight * np.log(bigram(phones, num_classes)[np.ix_(np.append(0, used), np.append(0, used))])
    after = log_probs[:, 1:]
    going_on = np.append(ROOT, nodes)[:, None], used, nodes, np.array(-1), after
    ending = *going_on[:2], np.array(ROOT), np.array(unknown), after + log_probs[1:, 0]
    flat = ([np.broadcast_to(each, after.shape).ravel() for each in arcs] for arcs in (going_on, ending))
    return _Arcs(*map(np.concatenate, zip(*flat, strict=True)))


def bigram(phones: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the probability of each class after each other (C, C), where class 0 is the edge of a word.

    Witten-Bell smoothing, as in `asr.lm.estimation`: so few classes need no sorted text.

    Parameters
    ----------
    phones : (R, L)
        Pronunciations, with 0 behind the last phone.
    num_classes
        Number of classes. Those that do not occur have the probability 0.
    """
    padded = np.pad(phones, ((0, 0), (1, 1))).astype(np.int64)
    counts = np.bincount((num_classes * padded[:, :-1] + padded[:, 1:]).ravel(), minlength=num_classes**2)
    counts = counts.reshape(num_classes, num_classes)
    counts[0, 0] = 0  # behind the ends of words
    single = counts.sum(axis=0)
    probs = (single + (single > 0)) / (single.sum() + np.count_nonzero(single))
    varieties = np.count_nonzero(counts, axis=1)[:, None]
    return (counts + varieties * probs) / np.maximum(counts.sum(axis=1, keepdims=True) + varieties, 1)


def _graph(arcs: Sequence[_Arcs], ahead: np.ndarray, num_classes: int) -> LexiconGraph:
    """Sort arcs by the nodes that they leave, and by their classes."""
    joined = _Arcs(*map(np.concatenate, zip(*arcs, strict=True)))
    order = np.lexsort((joined.tokens, joined.sources))
    sources, tokens, nodes, words = (
        each[order].astype(np.int32) for each in (joined.sources, joined.tokens, joined.nodes, joined.words)
    )
    is_first = np.append(True, (sources[1:] != sources[:-1]) | (tokens[1:] != tokens[:-1]))
    starts = np.append(np.flatnonzero(is_first), len(order)).astype(np.int32)
    numbers = np.arange(len(ahead) + 1)
    offsets, groups = (np.searchsorted(each, numbers).astype(np.int32) for each in (sources, sources[starts[:-1]]))
    classes = np.zeros((len(ahead), -(-num_classes // 32)), np.uint32)
    of_groups = tokens[starts[:-1]]
    np.bitwise_or.at(
        classes, (sources[starts[:-1]], of_groups >> 5), np.uint32(1) << (of_groups & 31).astype(np.uint32)
    )
    return LexiconGraph(
        offsets, groups, starts, classes, tokens, nodes, words, words.copy(), joined.weights[order], ahead
    )
