"""The graph that a text is aligned by: each word by one of its pronunciations, and what the text lacks left out.

Before, between and after the words stands a filler, which may be passed by: it takes in speech of any kind. In each
frame it has the probability of the likeliest label times a penalty, or that of the blank if that is greater. Without
it, words next to speech that the text lacks would be drawn over it, since some state must emit each frame. Pauses are
free between words and dear within one.

Words that nobody says are passed by: a path in the filler before a word may go on in that behind it, in the same frame.
That costs less than to lay the word's phones over a pause or over other words, and more than a few phones that are said
badly.

The weights were chosen on LibriSpeech's speakers 4088, 4406, 5652 and 8226: their utterances alone, where no filler and
no pause may appear that is not there, and with others joined before, after and between them. What a filler and an
unsaid phone cost depends on the criterion that a network was trained with. It is as little as it may be until speech is
left out that the text has. For the shipped model,

    python benchmarks/long_alignment.py LibriSpeech/train-clean-100 --speakers 4088 5652 8226 \
        --removed 0.15 --added 0.15 --costs 2,4 1.4,2.8 1.2,2.4 1,2 0.7,2

prints, of 45 sentences that are taken from the text, 45 that are put into it, and 8,096 words that are said:

    filler, unsaid  removed found  added found  words passed by  seconds left out
    −2, −4          33             36           2                1.4
    −1.4, −2.8      40             40           3                2.0
    −1.2, −2.4      41             45           4                3.0
    −1, −2          45             45           15               7.2
    −0.7, −2        45             45           20               10.9

Letters: T' output frames, C classes, S nodes of the graph, L labels.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from asr.ctc.align import TokenAlignment
from asr.ctc.graph import Arc, LabelGraph, graph_align
from asr.models.base import Spellings

ENTRY = -8.0  # nats for entering the filler: at −5 a few take badly heard sounds of texts that fit; −15 does as well
PAUSE = -10.0  # nats for each second of blank within a word; real words have at most 0.45 s at once, or 5 nats


class Costs(NamedTuple):
    """What it costs that text and sound differ.

    Attributes
    ----------
    filler
        Nats for each frame of the filler.
    unsaid
        Nats for each phone of a word that is passed by.
    """

    filler: float
    unsaid: float


OF_CTC = Costs(-2.0, -4.0)  # of networks trained with plain CTC; half of it passes by words that are said
OF_CRF = Costs(-1.0, -2.0)


class TextGraph(NamedTuple):
    """A graph, and what its nodes are.

    Attributes
    ----------
    graph
        With the filler as class C.
    words : (S,)
        The word that each node belongs to; −1 for fillers and the start.
    filler
        Nats for each frame of the filler.
    """

    graph: LabelGraph
    words: np.ndarray
    filler: float


@dataclass(frozen=True, eq=False)
class PlacedText:
    """The likeliest path of a text.

    Attributes
    ----------
    alignment
        Of the labels of the chosen pronunciations. Its score has the penalties of fillers in it, and no cost of pauses.
    words : (L,)
        The word of each label. Words that are not said have none.
    unspoken : (M, 2)
        First frame of each stretch of speech that the text lacks, and the frame after its last one.
    """

    alignment: TokenAlignment
    words: np.ndarray
    unspoken: np.ndarray


def build(
    text: Spellings, index: dict[str, int], frame_shift: float, costs: Costs = OF_CTC, is_whole: bool = False
) -> TextGraph:
    """Return the graph of a text for classes of these numbers, 0 the blank.

    If the text is whole or `all_said`, or has no words, no word is passed by.

    >>> index = {"<blank>": 0, "AH": 1, "EY": 2}
    >>> build(Spellings([[["AH"], ["EY"]]]), index, 0.03).graph.tokens.tolist()  # either between two fillers
    [0, 3, 1, 2, 3]
    """
    builder = _Builder(len(index), PAUSE * frame_shift if text.has_words else 0.0)
    for number, pronunciations in enumerate(text.words):
        builder.add_filler()
        builder.add_word(number, [[index[label] for label in labels] for labels in pronunciations])
    builder.add_filler()
    glides = list[Arc]()
    if text.has_words and not (is_whole or text.all_said):
        weights = [costs.unsaid * min(map(len, pronunciations)) for pronunciations in text.words]
        glides = [(*pair, weight) for pair, weight in zip(pairwise(builder.fillers), weights, strict=True)]
    graph = LabelGraph.of(builder.tokens[1:], builder.arcs, builder.before, builder.rests, glides=glides)
    return TextGraph(graph, np.array(builder.words), costs.filler)


class _Step(NamedTuple):
    """A token of a word, and the different sequences of tokens that may follow it in the word; none ends the word."""

    token: int
    rest: tuple[tuple[int, ...], ...]


def _branch(waiting: dict[_Step, list[int]], sequences: tuple[tuple[int, ...], ...], sources: list[int]) -> None:
    """Note that the first tokens of sequences follow some nodes."""
    rests = dict[int, set[tuple[int, ...]]]()
    for sequence in sequences:
        rests.setdefault(sequence[0], set()).add(sequence[1:])
    for token, rest in rests.items():
        if () in rest:
            waiting.setdefault(_Step(token, ()), []).extend(sources)
        if rest - {()}:
            waiting.setdefault(_Step(token, tuple(sorted(rest - {()}))), []).extend(sources)


class _Builder:
    """Adds the parts of a text to a graph, one after the other."""

    def __init__(self, filler: int, pause: float):
        self.filler, self.pause = filler, pause
        self.tokens, self.words, self.rests = [0], [-1], [0.0]
        self.arcs = list[Arc]()
        self.fillers = list[int]()
        self.before = [0]  # the nodes from which the next part may be entered

    def add_filler(self) -> None:
        """Add speech of any kind, which may be missing."""
        self.arcs += [(source, len(self.tokens), ENTRY) for source in self.before]
        self.fillers.append(self._add(self.filler, -1, -np.inf))  # it stands for blanks too
        self.before = [*self.before, self.fillers[-1]]

    def add_word(self, number: int, pronunciations: list[list[int]]) -> None:
        """Add a word, of which one pronunciation is said; they share their beginnings and ends."""
        if len(pronunciations) == 1:
            (tokens,) = pronunciations
            for token in tokens[:-1]:
                self.before = self._follow(self.before, token, number, self.pause)
            self.before = self._follow(self.before, tokens[-1], number, 0.0)
            return
        waiting, lasts = dict[_Step, list[int]](), list[int]()
        _branch(waiting, tuple(map(tuple, pronunciations)), self.before)
        while waiting:
            step = max(waiting, key=lambda each: max(map(len, each.rest), default=0))  # all nodes before it are there
            nodes = self._follow(waiting.pop(step), step.token, number, self.pause if step.rest else 0.0)
            _branch(waiting, step.rest, nodes)
            lasts += [] if step.rest else nodes
        self.before = lasts

    def _follow(self, sources: list[int], token: int, word: int, rest: float) -> list[int]:
        self.arcs += [(source, len(self.tokens), 0.0) for source in sources]
        return [self._add(token, word, rest)]

    def _add(self, token: int, word: int, rest: float) -> int:
        self.tokens.append(token)
        self.words.append(word)
        self.rests.append(rest)
        return len(self.tokens) - 1


def place(log_probs: np.ndarray, text: TextGraph, log_posteriors: np.ndarray) -> PlacedText:
    """Find the likeliest path of a text in log_probs (T', C), and its labels' means in log_posteriors (T', C).

    Raises
    ------
    InfeasibleError
        There are too few frames for the text, or it has probability 0.
    """
    any_label = log_probs[:, 1:].max(axis=1) + np.float32(text.filler)
    filler = np.maximum(any_label, log_probs[:, 0])
    path = graph_align(np.concatenate((log_probs, filler[:, None]), axis=1), text.graph)
    words = text.words[path.nodes]
    said = words >= 0
    starts, ends, nodes = path.starts[said], path.ends[said], path.nodes[said]
    tokens = text.graph.tokens[nodes].astype(np.int64)
    means = [
        log_posteriors[start:end, token].mean(dtype=np.float64)
        for token, start, end in zip(tokens, starts, ends, strict=True)
    ]
    within = words[said][1:] == words[said][:-1]
    pauses = text.graph.rests[nodes[:-1]][within] @ (starts[1:] - ends[:-1])[within]
    alignment = TokenAlignment(tokens, starts, ends, np.exp(means), path.score - float(pauses))
    unspoken = [
        start + speech[[0, -1]] + (0, 1)
        for start, end in zip(path.starts[~said], path.ends[~said], strict=True)
        if len(speech := np.flatnonzero(any_label[start:end] > log_probs[start:end, 0]))
    ]  # a filler without speech only passes by words
    return PlacedText(alignment, words[said], np.array(unspoken, np.int64).reshape(-1, 2))
