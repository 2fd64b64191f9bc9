"""Hints: words and phrases that a search for words is to expect.

A hint is a path of its own through the graph that is searched (`asr.lm.word_graph`), beside the paths that its words
have anyway. A sentence gains a bonus for each hint that it has said to the end.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from asr.core.errors import ConfigError
from asr.lm.language_model import EDGE, UNKNOWN
from asr.lm.lexicon import Lexicon
from asr.lm.ngram import NGram
from asr.speech.text import Word, split_words


class Step(NamedTuple):
    """A pronunciation of a word of a hint, which leads from one place in the hints to another.

    Attributes
    ----------
    label
        The word as it is written: as in the language model, or else as in the hint.
    phones
        The pronunciation.
    token
        The language model's number of the word.
    start, end
        Places; 0 is where hints start, and where they are complete.
    num_words
        How many words of the hint have been said at its end.
    """

    label: str
    phones: tuple[str, ...]
    token: int
    start: int
    end: int
    num_words: int


@dataclass(frozen=True)
class Hints:
    r"""Words and phrases that a search is to expect.

    Attributes
    ----------
    phrases
        The words of each.
    bonus
        Nats that each word of a complete hint adds to the score of a sentence.
    pronunciations
        Of words that have them from the user, by the words in small letters.

    Examples
    --------
    >>> hints = Hints.read(["Ljubljana, Dr. Nguyen", "Nguyen\tW IH N"], bonus=2.0)
    >>> [[word.label for word in phrase] for phrase in hints.phrases]
    [['Ljubljana'], ['Dr', 'Nguyen'], ['Nguyen']]
    >>> hints.pronunciations
    {'nguyen': [('W', 'IH', 'N')]}
    """

    phrases: Sequence[Sequence[Word]] = ()
    bonus: float = 0.0
    pronunciations: Mapping[str, Sequence[tuple[str, ...]]] = field(default_factory=dict)

    @classmethod
    def read(cls, hints: Sequence[str], bonus: float) -> "Hints":
        """Read hints.

        Parameters
        ----------
        hints
            Words and phrases with commas between, or paths of files with one on each line. A word may be followed by a
            tab and its phones.
        bonus
            Nats for each word.

        Raises
        ------
        ConfigError
            A file cannot be read, a hint has no words, or a tab does not stand between one word and its phones.
        """
        phrases: dict[tuple[Word, ...], None] = {}
        pronunciations: dict[str, list[tuple[str, ...]]] = {}
        for hint in (hint for each in hints for hint in re.split(r"[,\n]", _text(each)) if hint.strip()):
            written, tab, phones = hint.strip().partition("\t")
            words = tuple(split_words(written))
            if not words:
                raise ConfigError(f"the hint {written!r} has no words")
            phrases[words] = None
            if tab:
                if len(words) > 1 or not phones.strip():
                    raise ConfigError(f"the hint {written!r}: a tab stands between one word and its phones")
                pronunciations.setdefault(words[0].label.lower(), []).append(tuple(phones.split()))
        return cls(tuple(phrases), bonus, pronunciations)

    def steps(self, lexicon: Lexicon, lm: NGram, unigrams: np.ndarray) -> list[Step]:
        """Return the words of all hints as steps; hints that begin alike share them.

        A word that the language model does not know counts as UNKNOWN, and in a closed vocabulary as the rarest word.

        Parameters
        ----------
        lexicon
            Has pronunciations; those of other words are looked up in CMUdict or guessed, where the user gives none.
        lm
            The language model.
        unigrams : (V,)
            Log probabilities of its words.

        Raises
        ------
        ConfigError
            A word cannot be pronounced.
        """
        other = lm.index.get(UNKNOWN, 1 + int(unigrams[1:].argmin()))
        places: dict[tuple[Word, ...], int] = {(): 0}
        steps: dict[Step, None] = {}
        for phrase in map(tuple, self.phrases):
            for length, word in enumerate(phrase, 1):
                end = 0 if length == len(phrase) else places.setdefault(phrase[:length], len(places))
                known = next((form for form in _forms(word) if form in lm.index), None)
                label, token = (word.label, other) if known is None else (known, lm.index[known])
                for phones in self._pronounced(word, lexicon):
                    steps[Step(label, phones, token, places[phrase[: length - 1]], end, length)] = None
        return list(steps)

    def _pronounced(self, word: Word, lexicon: Lexicon) -> Sequence[tuple[str, ...]]:
        """Return a word's pronunciations: the user's, or the lexicon's, or others."""
        if word.label.lower() in self.pronunciations:
            return self.pronunciations[word.label.lower()]
        known = next((form for form in _forms(word) if form in lexicon.words), None)
        if known is not None:
            return lexicon.words[known]
        from asr.lm.graphones import guesser
        from asr.speech.pronounce import UnspeakableError, parts_to_guess, pronunciations

        try:
            return pronunciations(word.spoken, guesser(parts_to_guess(word.spoken)))
        except UnspeakableError as error:
            fault = f"the hint {word.label!r} is no file and cannot be pronounced: {error.reason}"
            raise ConfigError(fault) from error


def _text(hint: str) -> str:
    """Return the text of a file, or the hint itself if there is no such file."""
    try:
        text = Path(hint).read_text(encoding="utf-8-sig") if Path(hint).is_file() else hint
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(f"cannot read the hints {hint}: {error}") from error
    return unicodedata.normalize("NFC", text)


def _forms(word: Word) -> list[str]:
    """Return how a language model or a lexicon may write a word; never as one of its signs."""
    forms = (form for text in word for form in (text, text.lower(), text.upper(), text.capitalize()))
    return [form for form in forms if form not in (EDGE, UNKNOWN)]
