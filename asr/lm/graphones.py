"""Joint n-grams of letters and phones: how an unknown word sounds, and how unknown sounds are written.

A graphone is a letter with the phones that it stands for, none, one or more. A word with its pronunciation is a
sequence of graphones, and an n-gram over graphones gives each sequence a probability. So a model of one kind answers
both questions,

    argmax_phones Σ p(graphones)   and   argmax_letters Σ p(graphones),

where the sums are over the sequences that have these letters and phones: M. Bisani and H. Ney, "Joint-sequence models
for grapheme-to-phoneme conversion", Speech Communication 50(5), 2008, section 2. The field calls the first G2P
(grapheme to phoneme), and the second P2G. `asr.lm.graphone_training` makes the models.

Both are answered by one beam search, for many words at once, that consumes the known side symbol by symbol. A graphone
that consumes nothing, which is a silent letter where the phones are known, is followed at most `SILENT` times in a row.

Letters: V graphones, K hypotheses of all words, W words, S the most symbols of a word.
"""

import functools
import itertools
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from asr.core.errors import ModelError
from asr.lm import folder
from asr.lm.ngram import NGram
from asr.lm.text import GRAPHONES

JOINT = "·"  # before each phone in the name of a graphone
PRETRAINED = Path(__file__).parent / "pretrained" / "en-us-graphones"
BEAM, THRESHOLD = 20, 6.0  # hypotheses of a word, and nats below the best of them
SILENT = 3  # graphones in a row that consume nothing
CHUNK = 1000  # words that are searched together
FACTOR, HASHES = 0x9E3779B97F4A7C15, 1 << 64  # of the hashes of sequences of symbols
Symbols = tuple[str, ...]


def name(letter: str, phones: Sequence[str]) -> str:
    """Return the name of a graphone, which is a token of the n-gram.

    >>> name("x", ["K", "S"]), name("e", [])
    ('x·K·S', 'e')
    """
    return letter + "".join(JOINT + phone for phone in phones)


def parts(token: str) -> tuple[str, Symbols]:
    """Return the letter and the phones of a graphone.

    >>> parts("x·K·S"), parts("e")
    (('x', ('K', 'S')), ('e', ()))
    """
    return token[0], tuple(token[2:].split(JOINT)) if len(token) > 1 else ()


class Hypotheses(NamedTuple):
    """Beginnings of what is looked for, of several words.

    Attributes
    ----------
    words : (K,)
        The word that each belongs to.
    states : (K,)
        Of the n-gram.
    outputs : (K,) uint64
        Hashes of the symbols found so far.
    scores : (K,)
        Log probabilities, summed over the sequences of graphones that end in one state.
    nodes : (K,)
        The last graphone of the most probable of these in the `_Tree`.
    """

    words: np.ndarray
    states: np.ndarray
    outputs: np.ndarray
    scores: np.ndarray
    nodes: np.ndarray

    def select(self, chosen: np.ndarray) -> "Hypotheses":
        """Return some of the hypotheses."""
        return Hypotheses(*(each[chosen] for each in self))

    def merged(self, keys: np.ndarray) -> "Hypotheses":
        """Add up the probabilities of hypotheses with equal keys (K,); the most probable one stands for all."""
        order = np.lexsort((-self.scores, keys))
        starts = np.flatnonzero(np.diff(keys[order], prepend=~keys[order[:1]]))
        best = self.select(order[starts])
        counts = np.diff(np.append(starts, len(order)))
        shares = np.exp(self.scores[order] - np.repeat(best.scores, counts))
        return best._replace(scores=best.scores + np.log(np.add.reduceat(shares, starts)))

    def best(self, count: int, threshold: float) -> "Hypotheses":
        """Return the best hypotheses of each word, best first."""
        order = np.lexsort((-self.scores, self.words))
        starts = np.flatnonzero(np.diff(self.words[order], prepend=-1))
        firsts = np.repeat(starts, np.diff(np.append(starts, len(order))))
        is_near = self.scores[order] >= self.scores[order[firsts]] - threshold
        return self.select(order[(np.arange(len(order)) - firsts < count) & is_near])


def _together(several: Sequence[Hypotheses]) -> Hypotheses:
    return Hypotheses(*(np.concatenate(each) for each in zip(*several, strict=True)))


class _Tree:
    """The graphones of all hypotheses: node → the graphone and the node before it; node 0 is the root."""

    def __init__(self) -> None:
        self.parents, self.graphones, self.size = [np.zeros(1, np.int64)], [np.zeros(1, np.int64)], 1

    def add(self, parents: np.ndarray, graphones: np.ndarray) -> np.ndarray:
        """Add nodes and return their numbers (K,)."""
        self.parents.append(parents)
        self.graphones.append(graphones)
        self.size += len(parents)
        return np.arange(self.size - len(parents), self.size)

    def paths(self, nodes: np.ndarray) -> Iterator[list[int]]:
        """Yield the graphones that lead to each node."""
        parents, graphones = np.concatenate(self.parents).tolist(), np.concatenate(self.graphones).tolist()
        for node in nodes.tolist():
            path = []
            while node > 0:
                path.append(graphones[node])
                node = parents[node]
            yield path[::-1]


class _Side:
    """The graphones as one direction of the search sees them, by what they consume.

    Attributes
    ----------
    rows
        A number for each sequence of symbols that a graphone consumes; the last row has no graphones.
    offsets, graphones
        The graphones of each row are ``graphones[offsets[row] : offsets[row + 1]]``.
    outputs
        The symbols that each graphone adds.
    factors, terms : (V,) uint64
        A hash h of symbols becomes ``h * factors + terms``.
    """

    def __init__(self, inputs: Sequence[Symbols], outputs: Sequence[Symbols]):
        members: dict[Symbols, list[int]] = {}
        for graphone, consumed in enumerate(inputs[1:], 1):
            members.setdefault(consumed, []).append(graphone)
        self.rows = {consumed: row for row, consumed in enumerate(members)}
        self.offsets = np.cumsum([0, *map(len, members.values()), 0])
        self.graphones = np.array(list(itertools.chain.from_iterable(members.values())), np.int64)
        self.sizes = sorted({len(consumed) for consumed in self.rows} - {0})
        self.silent = self.rows.get((), len(self.rows))
        self.outputs = outputs
        codes = {symbol: i for i, symbol in enumerate(dict.fromkeys(itertools.chain.from_iterable(outputs)), 1)}
        terms = [functools.reduce(lambda term, symbol: term * FACTOR + codes[symbol], added, 0) for added in outputs]
        self.factors = np.array([FACTOR ** len(added) % HASHES for added in outputs], np.uint64)
        self.terms = np.array([term % HASHES for term in terms], np.uint64)

    def rows_of(self, words: Sequence[Symbols], size: int, width: int) -> np.ndarray:
        """Return the row of the `size` symbols from each position of each word on (W, S + 1)."""
        found = np.full((len(words), width + 1), len(self.rows))
        for w, symbols in enumerate(words):
            for i in range(len(symbols) - size + 1):
                found[w, i] = self.rows.get(tuple(symbols[i : i + size]), len(self.rows))
        return found


class Graphones:
    """A joint n-gram.

    Parameters
    ----------
    lm
        An n-gram whose tokens are graphones.

    Attributes
    ----------
    letters, phones
        The symbols that the model knows.

    Examples
    --------
    >>> from asr.lm.graphone_training import train
    >>> words = {"ax": [("AE", "K", "S")], "at": [("AE", "T")], "tax": [("T", "AE", "K", "S")]}
    >>> model = train(words, order=3).model
    >>> model.pronounce(["xat"])[0][0][0], model.spell([["T", "AE", "T"]])[0][0][0]
    (('K', 'S', 'AE', 'T'), 'tat')
    """

    def __init__(self, lm: NGram):
        if lm.unit != GRAPHONES or not all(lm.tokens):
            raise ModelError(f"a model over {lm.unit} neither pronounces nor spells: make one with `asr lm graphones`")
        self.lm = lm
        pairs = [parts(token) for token in lm.tokens]
        letters, phones = [(letter,) for letter, _ in pairs], [phones for _, phones in pairs]
        self.letters = frozenset(letter for letter, _ in pairs[1:])
        self.phones = frozenset(itertools.chain.from_iterable(phones[1:]))
        self._to_phones, self._to_letters = _Side(letters, phones), _Side(phones, letters)

    @classmethod
    def load(cls, path: str | Path) -> "Graphones":
        """Read a model folder.

        Raises
        ------
        ModelError
            There is no model, it is damaged, or it is over something else.
        """
        lm = folder.load(path)
        if not isinstance(lm, NGram):
            raise ModelError(f"{path} is a recurrent model: make one with `asr lm graphones`")
        return cls(lm)

    def pronounce(self, words: Sequence[str], nbest: int = 1) -> list[list[tuple[Symbols, float]]]:
        """Return the most probable pronunciations of each word with their joint log probabilities, best first.

        A word with a letter that the model does not know has none.
        """
        return self._search(self._to_phones, [tuple(word) for word in words], nbest)

    def spell(self, pronunciations: Sequence[Sequence[str]], nbest: int = 1) -> list[list[tuple[str, float]]]:
        """Return the most probable spellings of pronunciations with their joint log probabilities, best first.

        A pronunciation with a phone that the model does not know has none.
        """
        found = self._search(self._to_letters, [tuple(phones) for phones in pronunciations], nbest)
        return [[("".join(letters), score) for letters, score in each] for each in found]

    def _search(self, side: _Side, words: Sequence[Symbols], nbest: int) -> list[list[tuple[Symbols, float]]]:
        found = list[list[tuple[Symbols, float]]]()
        for start in range(0, len(words), CHUNK):
            found += self._search_some(side, words[start : start + CHUNK], nbest)
        return found

    def _search_some(self, side: _Side, words: Sequence[Symbols], nbest: int) -> list[list[tuple[Symbols, float]]]:
        lengths, tree = np.array([len(symbols) for symbols in words]), _Tree()
        width, count = int(lengths.max()), len(words)
        rows = {size: side.rows_of(words, size, width) for size in side.sizes}
        zeros = np.zeros(count, np.int64)
        start = Hypotheses(np.arange(count), self.lm.start(count), zeros.astype(np.uint64), np.zeros(count), zeros)
        waiting, ended = [[start], *([] for _ in range(width + max(side.sizes)))], []
        for i in range(width + 1):
            layer = self._layer(side, _together(waiting[i]), tree) if waiting[i] else start.select(zeros[:0])
            ended.append(layer.select(lengths[layer.words] == i))
            for size in side.sizes:
                waiting[i + size].append(self._extended(side, layer, rows[size][layer.words, i], tree))
        return self._ended(side, _together(ended), tree, count, max(nbest, 1))

    def _layer(self, side: _Side, arrived: Hypotheses, tree: _Tree) -> Hypotheses:
        """Return the best hypotheses that have consumed equally much, with those that consume nothing more."""
        layer = newest = _pruned(arrived)
        for _ in range(SILENT if side.silent < len(side.rows) else 0):
            newest = _pruned(self._extended(side, newest, np.full(len(newest.words), side.silent), tree))
            layer = _pruned(_together([layer, newest]))
        return layer

    def _extended(self, side: _Side, layer: Hypotheses, rows: np.ndarray, tree: _Tree) -> Hypotheses:
        """Return each hypothesis with each graphone of its row after it, but for those far below the best of a word."""
        counts = side.offsets[rows + 1] - side.offsets[rows]
        places = np.repeat(np.arange(len(rows)), counts)
        within = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
        graphones = side.graphones[side.offsets[rows][places] + within]
        log_probs, states = self.lm.query(layer.states[places], graphones)
        scores, words = layer.scores[places] + log_probs, layer.words[places]
        tops = np.full(words.max(initial=0) + 1, -np.inf)
        np.maximum.at(tops, words, scores)
        near = np.flatnonzero(scores >= tops[words] - THRESHOLD)
        before, graphones = layer.select(places[near]), graphones[near]
        outputs = before.outputs * side.factors[graphones] + side.terms[graphones]
        return Hypotheses(before.words, states[near], outputs, scores[near], tree.add(before.nodes, graphones))

    def _ended(
        self, side: _Side, ended: Hypotheses, tree: _Tree, count: int, nbest: int
    ) -> list[list[tuple[Symbols, float]]]:
        """Return what whole hypotheses have found for each word."""
        log_probs, _ = self.lm.query(ended.states, np.zeros(len(ended.states), np.int64))
        ended = ended._replace(scores=ended.scores + log_probs)
        best = ended.merged(_keys(ended.words, ended.outputs)).best(nbest, np.inf)
        found: list[list[tuple[Symbols, float]]] = [[] for _ in range(count)]
        for word, score, path in zip(best.words.tolist(), best.scores.tolist(), tree.paths(best.nodes), strict=True):
            found[word].append((tuple(itertools.chain.from_iterable(side.outputs[each] for each in path)), score))
        return found


def _pruned(hypotheses: Hypotheses) -> Hypotheses:
    keys = _keys(hypotheses.states, _keys(hypotheses.words, hypotheses.outputs))
    return hypotheses.merged(keys).best(BEAM, THRESHOLD)


def _keys(numbers: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """Return hashes of pairs (K,) uint64; different pairs have equal ones with a probability of about K² / 2⁶⁵."""
    mixed = (hashes ^ (hashes >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9) + numbers.astype(np.uint64)
    return (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0x94D049BB133111EB)


@functools.cache
def english() -> Graphones:
    """Return the shipped model of American English, in the phone set ``arpabet39``."""
    return Graphones.load(PRETRAINED)


def guesser(words: Iterable[str], model: Graphones | None = None) -> Callable[[str], Symbols]:
    """Return a function that pronounces any of these words, as `asr.speech.pronounce.pronunciations` takes it.

    The words are pronounced at once, by the shipped model if no other is given, and without those accents that it does
    not know. `asr.speech.pronounce.by_rules` pronounces those with other letters that it does not know, and words that
    are not among these.

    Examples
    --------
    >>> guesser(["snark", "naïvish"])("snark")
    ('S', 'N', 'AA', 'R', 'K')
    """
    from asr.speech.pronounce import by_rules

    model = model or english()
    different = list(dict.fromkeys(words))
    known = [word if model.letters.issuperset(word) else _without_accents(word) for word in different]
    found = model.pronounce(known) if known else []
    guessed = {word: best[0][0] for word, best in zip(different, found, strict=True) if best}
    return lambda word: guessed.get(word) or by_rules(word)


def _without_accents(word: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFD", word) if not unicodedata.combining(c))


@functools.lru_cache(1000)
def spelling(phones: Symbols) -> str | None:
    """Return how the shipped model writes phones; None where it does not know one of them.

    >>> spelling(("G", "L", "AO", "R", "IY", "AH", "S"))
    'glorious'
    """
    found = english().spell([phones])[0]
    return found[0][0] if found else None
