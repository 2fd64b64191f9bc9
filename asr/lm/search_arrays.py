"""What the beam search for words (asr/lm/kernels.py) reads and works on.

Letters: K prefixes in the beam, M nodes of the history or candidates of a frame, C classes, N nodes of the lexicon with
G groups of A arcs.
"""

from typing import NamedTuple

import numpy as np


class LexiconGraph(NamedTuple):
    """The lexicon's tree, whose arcs may lead back to the root.

    Attributes
    ----------
    offsets : (N + 1,) int32
        The arcs of node n are offsets[n] … offsets[n + 1] − 1, in the order of their classes; words begin and end in
        node 0.
    groups : (N + 1,) int32
        The groups of node n are groups[n] … groups[n + 1] − 1: a group has all arcs of a node and a class.
    starts : (G + 1,) int32
        The arcs of group g are starts[g] … starts[g + 1] − 1.
    classes : (N, ⌈C / 32⌉) uint32
        Bit c of a row of bits tells whether the node has a group of class c.
    tokens, nodes, words : (A,) int32
        The class of an arc, the node that it leads to, and the language model's word that ends with it, or −1.
    readings : (A,) int32
        As `words`, but a pronunciation of a hint's word has a number of its own: it is no other reading of the word.
    weights : (A,)
        Log probability that an arc adds.
    ahead : (N,)
        Estimate of the most that the words still possible at a node will add (language model look-ahead): it is added
        before the word is known and removed when it is.
    """

    offsets: np.ndarray
    groups: np.ndarray
    starts: np.ndarray
    classes: np.ndarray
    tokens: np.ndarray
    nodes: np.ndarray
    words: np.ndarray
    readings: np.ndarray
    weights: np.ndarray
    ahead: np.ndarray


class Answers(NamedTuple):
    """What the n-gram has said of late, by a hash of what was asked: most ends of words return in frame after frame.

    Attributes
    ----------
    asked : (2ⁿ,) int64
        2³² times a state plus a word, −1 for nothing.
    log_probs : (2ⁿ,)
        Of the word.
    states : (2ⁿ,) int32
        The state after it.
    """

    asked: np.ndarray
    log_probs: np.ndarray
    states: np.ndarray


class Limits(NamedTuple):
    """What a search keeps, and the weights of words."""

    blank: int
    beam_size: int  # prefixes kept that may be the best at the end
    threshold: float  # nats below the best prefix
    least: float  # nats, for a class's log probability in a frame
    weight: float  # of the language model's log probabilities
    penalty: float  # nats that each word costs
    start: int  # the n-gram's state before a sentence
    alike: int  # prefixes of other words kept of those with the same continuations: the number of sentences requested
    extra: int  # prefixes kept for further sentences alone: K = beam_size + extra


class History(NamedTuple):
    """The prefixes of an utterance as nodes of a tree with room for M; node 0 is the empty prefix.

    Attributes
    ----------
    gains : (M,)
        What the last arc of each prefix added beside its frames.
    tree : (M, 10) int32
        Its columns are named in asr/lm/kernels.py.
    taken : (K, ·) int32
        The last frame in which a prefix in the beam was not to be grown by an arc, as the longer one was there.
    """

    gains: np.ndarray
    tree: np.ndarray
    taken: np.ndarray


class Beam(NamedTuple):
    """The prefixes that a search holds, and those that it chooses in a frame.

    Attributes
    ----------
    scores : (6, K)
        Log probabilities of the prefixes.
    nodes : (2, K) int64
        Nodes of the history tree: those held, and those kept after a frame.
    choices, slots : (K,) int64
        The candidates chosen, and the rows of the table with their keys.
    keys, words : (K,) int64
        What identifies a choice's continuations, and its words.
    others : (K,) int64
        The place of another choice with the same key, −1 after the last.
    ends : (2, K)
        Log probabilities of a choice's paths that end in a blank, and of those that end in its last label.
    table : (2, 4 K + 1) int64
        A hash table of the keys: a choice's place, −1 where empty, and the number of choices with its key.
    """

    scores: np.ndarray
    nodes: np.ndarray
    choices: np.ndarray
    slots: np.ndarray
    keys: np.ndarray
    words: np.ndarray
    others: np.ndarray
    ends: np.ndarray
    table: np.ndarray


class Offers(NamedTuple):
    """The candidates of a frame (M,), for which there is room if every prefix is extended by every arc.

    Most ends of words are too bad to be chosen whatever the n-gram says, so they are looked up late: until then their
    score is −inf, and their state `UNSEEN`. A path with its gain is then a bound, as no log probability exceeds 0.

    Attributes
    ----------
    scores
        Log probabilities: the paths with their gains.
    prefixes, arcs
        Which prefix is extended by which arc.
    paths
        Log probabilities of the prefixes, and of the arcs' labels in the frame.
    gains
        What the arcs add beside the frame.
    states
        The n-gram's states.
    order
        Numbers of candidates, the best first as far as they are sorted.
    ends
        Places in the order between which it is not sorted (`asr.lm.kernels._next`).
    active : (⌈C / 32⌉,) int64
        Bits of the classes that are likely enough in a frame.
    """

    scores: np.ndarray
    prefixes: np.ndarray
    arcs: np.ndarray
    paths: np.ndarray
    gains: np.ndarray
    states: np.ndarray
    order: np.ndarray
    ends: np.ndarray
    active: np.ndarray
