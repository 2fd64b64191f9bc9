"""Words and their pronunciations, and the tree of them that a search runs on.

Letters: N nodes, A arcs, V words of a language model, C classes of an acoustic model.
"""

import itertools
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.core.errors import ConfigError
from asr.lm.kernels import LexiconGraph
from asr.lm.language_model import EDGE, UNKNOWN
from asr.lm.ngram import NGram

ROOT = 0


@dataclass(frozen=True)
class Lexicon:
    """Pronunciations.

    Attributes
    ----------
    words
        One or more pronunciations of each word.

    Examples
    --------
    >>> Lexicon.of(["the"]).words
    {'the': [('DH', 'AH'), ('DH', 'IY')]}
    """

    words: Mapping[str, Sequence[tuple[str, ...]]]

    @classmethod
    def of(cls, words: Iterable[str]) -> "Lexicon":
        """Look up all pronunciations of words in CMUdict, without stress, and guess those of words that it lacks.

        Words that cannot be pronounced, such as numbers in digits, are left out.
        """
        from asr.lm.graphones import guesser
        from asr.speech.pronounce import UnspeakableError, parts_to_guess, pronunciations

        parts = dict[str, list[str]]()
        for word in words:
            if word not in (EDGE, UNKNOWN):
                with suppress(UnspeakableError):
                    parts[word] = parts_to_guess(word)
        guess = guesser(itertools.chain.from_iterable(parts.values()))
        found = dict[str, list[tuple[str, ...]]]()
        for word in parts:
            with suppress(UnspeakableError):
                found[word] = pronunciations(word, guess)
        return cls(found)

    @classmethod
    def read(cls, path: str | Path) -> "Lexicon":
        """Read a file with a word and its phones on each line, as Kaldi's lexicon.txt; a word may have several lines.

        Raises
        ------
        ConfigError
            The file is missing, not UTF-8, or has a line without phones.
        """
        words: dict[str, list[tuple[str, ...]]] = {}
        try:
            lines = unicodedata.normalize("NFC", Path(path).read_text(encoding="utf-8-sig")).split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the lexicon {path}: {error}") from error
        for number, line in enumerate(lines, 1):
            fields = line.split()
            if len(fields) == 1:
                raise ConfigError(
                    f"{path}, line {number}: {fields[0]} has no phones; write a word and its phones a line"
                )
            if fields and tuple(fields[1:]) not in words.setdefault(fields[0], []):
                words[fields[0]].append(tuple(fields[1:]))
        if not words:
            raise ConfigError(f"{path} holds no words: write a word and its phones a line")
        return cls(words)

    def graph(self, labels: Sequence[str], lm: NGram, weight: float, spelling: NGram | None = None) -> LexiconGraph:
        """Build the tree of the words that are in a language model.

        Parameters
        ----------
        labels : (C,)
            Labels of the acoustic model; class 0 is the blank.
        lm
            N-gram over words.
        weight
            Weight of its log probabilities.
        spelling
            Bigram over phones for words that are not in the tree, which count as the language model's UNKNOWN. By
            default only the tree's words are recognised.

        Raises
        ------
        ConfigError
            A phone is not one of the labels, no word of the model is in the lexicon, or spelling is given for a closed
            vocabulary.
        """
        if spelling is not None and UNKNOWN not in lm.index:
            raise ConfigError(f"the language model has no {UNKNOWN}: train it with text.open_vocabulary=true")
        builder = _Builder({label: c for c, label in enumerate(labels)})
        for word, pronunciations in self.words.items():
            if word in lm.index and word not in (EDGE, UNKNOWN):
                for phones in pronunciations:
                    builder.add(phones, lm.index[word], word)
        if len(builder.children) == 1 and not builder.ends[ROOT]:
            raise ConfigError("no word of the language model is in the lexicon: are their letters of one case?")
        single = lm.log_probs(np.zeros(1, np.int32))[0] * weight
        return builder.graph(single, spelling, lm.index.get(UNKNOWN, -1), weight)


class _Builder:
    """Builds the tree; words begin and end in its root, node 0."""

    def __init__(self, classes: Mapping[str, int]):
        self.classes = classes
        self.children: list[dict[int, int]] = [{}]  # class → node
        self.ends: list[list[tuple[int, int]]] = [[]]  # class and word of each arc that ends a word

    def add(self, phones: Sequence[str], word: int, name: str) -> None:
        """Add a pronunciation."""
        missing = [phone for phone in phones if self.classes.get(phone, 0) == 0]
        if missing or not phones:
            what = f"{missing[0]}, which the acoustic model has no label for" if missing else "no phones"
            raise ConfigError(f"the lexicon gives {name} {what}")
        node = ROOT
        for phone in phones[:-1]:
            if self.classes[phone] not in self.children[node]:
                self.children[node][self.classes[phone]] = len(self.children)
                self.children.append({})
                self.ends.append([])
            node = self.children[node][self.classes[phone]]
        end = (self.classes[phones[-1]], word)
        if end not in self.ends[node]:
            self.ends[node].append(end)

    def graph(self, single: np.ndarray, spelling: NGram | None, unknown: int, weight: float) -> LexiconGraph:
        """Return the tree's arrays; a node's look-ahead is the unigram score (single) of its most probable word."""
        ahead = np.full(len(self.children), -np.inf)
        for node in range(len(self.children) - 1, -1, -1):  # children have higher numbers than their parents
            below = [ahead[child] for child in self.children[node].values()]
            ahead[node] = max([*below, *(single[word] for _, word in self.ends[node])], default=-np.inf)
        ahead[ROOT] = 0.0
        arcs = [
            [(c, child, -1, 0.0) for c, child in self.children[node].items()]
            + [(c, ROOT, word, 0.0) for c, word in self.ends[node]]
            for node in range(len(self.children))
        ]
        if spelling is not None:
            arcs, ahead = self._with_spelling(arcs, ahead, spelling, unknown, single, weight)
        flat = [arc for each in arcs for arc in each]
        tokens, nodes, words = (np.array([arc[i] for arc in flat], np.int32) for i in range(3))
        offsets = np.cumsum([0, *map(len, arcs)]).astype(np.int32)
        return LexiconGraph(offsets, tokens, nodes, words, np.array([arc[3] for arc in flat]), ahead)

    def _with_spelling(
        self,
        arcs: list[list[tuple[int, int, int, float]]],
        ahead: np.ndarray,
        spelling: NGram,
        unknown: int,
        single: np.ndarray,
        weight: float,
    ) -> tuple[list[list[tuple[int, int, int, float]]], np.ndarray]:
        """Add a node for each last phone of an unknown word so far; from each the word continues or ends."""
        phones = [(name, c) for name, c in self.classes.items() if name in spelling.index and c > 0]
        first = len(arcs)
        node_of = {c: first + i for i, (_, c) in enumerate(phones)}
        rows = np.array([spelling.index[name] for name, _ in phones])
        start = weight * spelling.log_probs(spelling.start())[0]
        states = spelling.advance(spelling.start(len(rows)), rows)
        after = weight * spelling.log_probs(states)

        def spelt(log_probs: np.ndarray) -> list[tuple[int, int, int, float]]:
            return [
                arc
                for (_, c), row in zip(phones, rows, strict=True)
                for arc in ((c, node_of[c], -1, log_probs[row]), (c, ROOT, unknown, log_probs[row] + after_end[c]))
            ]

        after_end = {c: after[i, 0] for i, (_, c) in enumerate(phones)}
        arcs = [arcs[ROOT] + spelt(start), *arcs[1:], *(spelt(after[i]) for i in range(len(phones)))]
        return arcs, np.concatenate([ahead, np.full(len(phones), single[unknown])])
