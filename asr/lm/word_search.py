"""Words from posteriors of phones: a beam search over the lexicon's tree with a word n-gram.

Letters: T frames, B utterances, C classes, N hypotheses.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice, pairwise

import numpy as np
from numpy.typing import ArrayLike

from asr.core import workers
from asr.ctc import beam_kernels
from asr.ctc.arguments import check_log_probs, check_values
from asr.ctc.beam import hypotheses
from asr.ctc.hypothesis import Hypothesis
from asr.lm import kernels, word_graph
from asr.lm.hints import Hints
from asr.lm.language_model import UNKNOWN
from asr.lm.lexicon import Lexicon
from asr.lm.ngram import NGram
from asr.lm.search_arrays import Answers, Beam, History, LexiconGraph, Limits, Offers

NO_PATH = Hypothesis((), (), -math.inf, (), words=())
ANSWERS = 1 << 13  # of the n-gram that are remembered: more do not stay near the processor
MOST = 4  # times the beam's size: prefixes kept when several sentences are requested


class WordSearch:
    """Search for words with a lexicon and a language model.

    Parameters
    ----------
    lexicon
        Pronunciations of the words.
    lm
        An n-gram over words.
    labels : (C,)
        Labels of the acoustic model; class 0 is the blank.
    lm_weight
        Weight of the language model's log probabilities.
    word_penalty
        Nats that each word costs; a negative value is a bonus.
    spells_unknown
        Spell words that are not in the lexicon by a bigram of its phones; the language model scores them as UNKNOWN. By
        default only the lexicon's words are recognised.
    hints
        Words and phrases to expect.

    Raises
    ------
    ConfigError
        Lexicon, language model and labels do not fit.

    Examples
    --------
    >>> from asr.lm.estimation import estimate
    >>> lm = estimate([["a", "b"]], "words", order=2, smoothing="witten_bell")
    >>> lexicon = Lexicon.build([("a", ["AH"]), ("b", ["B", "IY"])])
    >>> search = WordSearch(lexicon, lm, ["<blank>", "AH", "B", "IY"])
    >>> log_probs = np.log(np.eye(4)[[1, 0, 2, 3]] * 0.9 + 0.025)[:, None]
    >>> search(log_probs)[0][0].words
    ('a', 'b')
    """

    def __init__(
        self,
        lexicon: Lexicon,
        lm: NGram,
        labels: Sequence[str],
        lm_weight: float = 1.0,
        word_penalty: float = 0.0,
        spells_unknown: bool = False,
        hints: Hints = word_graph.NO_HINTS,
    ):
        self.lm, self.labels, self.lm_weight, self.word_penalty = lm, list(labels), lm_weight, word_penalty
        self.hints = hints
        self.graph, self._unlisted = word_graph.build(lexicon, labels, lm, lm_weight, spells_unknown, hints)

    def __call__(
        self,
        log_probs: np.ndarray,
        input_lengths: ArrayLike | None = None,
        beam_size: int = 50,
        nbest: int = 1,
        beam_threshold: float = math.inf,
        token_threshold: float = 0.0,
    ) -> list[list[Hypothesis]]:
        """Find the most probable sentences, summing over the paths and the pronunciations of each sequence of words.

        Parameters
        ----------
        log_probs : (T, B, C)
            Natural logs.
        input_lengths : (B,), optional
            Number of frames of each utterance; T by default.
        beam_size, beam_threshold, token_threshold
            As for `asr.ctc.beam_search`; a prefix consists of phones and words.
        nbest
            Number of sentences to return for each utterance, at most `beam_size`, no two of the same words: unknown
            words count as one word, however they are spelt. The search keeps as many prefixes of those with the same
            continuations, and up to four times the prefixes in all: it takes that much longer.

        Raises
        ------
        ValueError
            Shapes, sizes or thresholds do not fit, or a log probability is NaN or above 0.
        """
        log_probs, lengths = check_log_probs(log_probs, input_lengths, 0)
        check_values(log_probs, lengths)
        num_frames, batch, num_classes = log_probs.shape
        if num_classes != len(self.labels):
            raise ValueError(f"log_probs have {num_classes} classes, and there are {len(self.labels)} labels")
        if not (1 <= nbest <= beam_size and beam_threshold >= 0 and 0 <= token_threshold <= 1):
            raise ValueError("nbest lies in 1..beam_size, beam_threshold from 0, and token_threshold is a probability")
        # Words that are hinted and the same that are not are two readings, of which the better one is returned.
        count = min(2 * int(nbest), int(beam_size)) if self.hints.phrases and nbest > 1 else int(nbest)
        least = math.log(token_threshold) if token_threshold else -math.inf
        limits = Limits(
            0,
            int(beam_size),
            float(beam_threshold),
            least,
            float(self.lm_weight),
            float(self.word_penalty),
            int(self.lm.start()[0]),
            count,
            (min(count, MOST) - 1) * int(beam_size),
        )
        arcs = np.full((batch, count, num_frames), -1, np.int32)
        spans, scores = np.zeros((*arcs.shape, 2), np.int32), np.full((batch, count), -np.inf)
        size = _workspace_size(num_frames, limits.beam_size + limits.extra)
        order = np.argsort(-lengths, kind="stable")  # so that the threads' shares are alike
        workers.run(self._search, batch, size, order, log_probs, lengths, limits, (arcs, spans, scores))
        tokens = np.where(arcs >= 0, self.graph.tokens[arcs], -1).astype(np.int64)
        found = hypotheses(log_probs, lengths, 0, tokens, spans, scores)
        return [
            _different(self._words(each, row[row >= 0]) for each, row in zip(nbest_found, rows, strict=False))[:nbest]
            for nbest_found, rows in zip(found, arcs, strict=True)
        ]

    def _search(
        self,
        places: np.ndarray,
        order: np.ndarray,
        log_probs: np.ndarray,
        lengths: np.ndarray,
        limits: Limits,
        found: tuple[np.ndarray, ...],
        work: np.ndarray,
    ) -> None:
        """Search the utterances at some places of an order, one after another."""
        answers = Answers(np.full(ANSWERS, -1), np.empty(ANSWERS), np.empty(ANSWERS, np.int32))
        network = self.graph, self.lm.trie, answers
        for b in order[places].tolist():
            rows = np.array(log_probs[: lengths[b], b], np.float64, order="C")
            history, beam, offers = _begin(self.graph, limits, work)
            each, reached = tuple(array[b] for array in found), (0, 1, 1)
            while True:
                reached = num_done, size, count = kernels.search(
                    rows, reached, network, limits, (history, beam, offers), each
                )
                if num_done == len(rows):
                    break
                history, count = _make_room(beam.nodes[kernels.HELD, :size], count, beam.keys.size, history)
                reached = num_done, size, count

    def _words(self, hypothesis: Hypothesis, arcs: np.ndarray) -> Hypothesis:
        """Add the words of a sequence of arcs; an unfinished last word is given by its phones."""
        tokens, words = hypothesis.tokens, self.graph.words[arcs].tolist()
        ends = [0, *(i + 1 for i, word in enumerate(words) if word >= 0)]
        if ends[-1] < len(words):
            ends.append(len(words))
        said = []
        for first, end in pairwise(ends):
            word = self.lm.tokens[words[end - 1]] if words[end - 1] >= 0 else UNKNOWN
            word = self._unlisted.get(int(arcs[end - 1]), word)
            phones = " ".join(self.labels[token] for token in tokens[first:end])
            said.append(_in_brackets(phones) if word == UNKNOWN else word)
        return replace(hypothesis, words=tuple(said), word_lengths=tuple(b - a for a, b in pairwise(ends)))


def _different(hypotheses: Iterable[Hypothesis]) -> list[Hypothesis]:
    """Return the first hypothesis of each words: there may be another with words of a hint that are not hinted."""
    found: dict[tuple[str, ...] | None, Hypothesis] = {}
    for each in hypotheses:
        found.setdefault(each.words, each)
    return [*found.values()] or [NO_PATH]


def spell_unknown(hypothesis: Hypothesis, labels: Sequence[str]) -> Hypothesis:
    """Return a hypothesis of `WordSearch`, which gives unknown words by their phones, with these words spelt.

    A word with a phone that `asr.lm.graphones.spelling` does not know stays as it is.
    """
    from asr.lm.graphones import spelling

    phones, written = (labels[token] for token in hypothesis.tokens), []
    for word, length in zip(hypothesis.words or (), hypothesis.word_lengths, strict=True):
        spoken = tuple(islice(phones, length))
        is_unknown = word == _in_brackets(" ".join(spoken))
        written.append(_in_brackets(spelling(spoken) or " ".join(spoken)) if is_unknown else word)
    return replace(hypothesis, words=tuple(written))


def _in_brackets(text: str) -> str:
    return f"[{text}]"


def _workspace_size(num_frames: int, num_prefixes: int) -> int:
    """Return how many float64 the history takes: room for K nodes in each of so many frames, and the root."""
    room = 1 + min(num_frames, beam_kernels.ROOM) * num_prefixes
    return room + (room * kernels.NODE_FIELDS + 1) // 2


def _begin(graph: LexiconGraph, limits: Limits, work: np.ndarray) -> tuple[History, Beam, Offers]:
    """Return what a search works on, before the first frame of an utterance. The history lies in the workspace.

    All arrays are made in Python, as Numba would need seconds to compile the functions that make them.
    """
    size, most = limits.beam_size + limits.extra, int(np.diff(graph.offsets).max(initial=1))
    room = 2 * len(work) // (2 + kernels.NODE_FIELDS)
    tree = work[room:].view(np.int32)[: room * kernels.NODE_FIELDS].reshape(room, kernels.NODE_FIELDS)
    tree[0] = -1
    tree[0, [kernels.SEEN, kernels.NODE, kernels.STATE, kernels.WORDS]] = 0, 0, limits.start, 0
    history = History(work[:room], tree, np.zeros((size, most), np.int32))
    scores, table = np.full((6, size), -np.inf), np.full((2, 4 * size + 1), -1)  # odd, as keys may be multiples of 2ⁿ
    scores[[kernels.ENDS_BLANK, kernels.ENDS], 0] = 0.0
    nodes = np.zeros((2, size), np.int64)
    choices, slots, keys, words, others = (np.zeros(size, np.int64) for _ in range(5))
    num = size * (1 + most)
    totals, paths, gains = (np.empty(num) for _ in range(3))
    prefixes, arcs, states = (np.empty(num, np.int64) for _ in range(3))
    order, ends = np.empty(num + 1, np.int64), np.empty(num + 1, np.int64)
    active = np.empty(graph.classes.shape[1], np.int64)
    offers = Offers(totals, prefixes, arcs, paths, gains, states, order, ends, active)
    return history, Beam(scores, nodes, choices, slots, keys, words, others, np.empty((2, size)), table), offers


def _make_room(held: np.ndarray, count: int, beam_size: int, history: History) -> tuple[History, int]:
    """Clear a full history, as `beam_kernels.make_room` does; return it and how many nodes it has."""
    tree, former = beam_kernels.make_room(held, count, beam_size, history.tree)
    gains = history.gains if len(tree) == len(history.gains) else np.empty(len(tree))
    gains[: len(former)] = history.gains[former]
    return History(gains, tree, history.taken), len(former)
