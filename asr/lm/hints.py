"""Hints: words and phrases that a search for words is to expect.

A hint is a path of its own through the graph that is searched (`asr.lm.word_graph`), beside the paths that its words
have anyway. A sentence gains a bonus for each hint that it has said to the end.
"""

import logging
import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from asr.core.errors import ConfigError
from asr.lm.language_model import EDGE, UNKNOWN
from asr.lm.lexicon import Lexicon
from asr.lm.ngram import NGram
from asr.speech.text import Word, split_words

LONGEST = 80  # characters of a hint that a message repeats
MOST_PHONES = 100  # of a word: the longest pronunciation sets the width of the matrix of all

log = logging.getLogger(__name__)
Phones = tuple[str, ...]


class Source(NamedTuple):
    """Where a hint stands.

    Attributes
    ----------
    written
        The hint as it is written.
    place
        The file and the line; empty for a hint that is given as such.
    """

    written: str
    place: str = ""

    def fault(self, what: str) -> str:
        """Return a message that says what is wrong with the hint.

        >>> Source("R2D2", "names.txt, line 3").fault("'R2D2' cannot be pronounced")
        "names.txt, line 3: 'R2D2' cannot be pronounced"
        >>> Source("names.txt").fault("'names.txt' cannot be pronounced")
        "no such file: 'names.txt'; as a hint, 'names.txt' cannot be pronounced"
        """
        if self.place:
            return f"{self.place}: {what}"
        if "/" in self.written or self.written.lower().endswith(".txt"):
            return f"no such file: {_quoted(self.written)}; as a hint, {what}"
        return f"the hint {what}"


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
    phones: Phones
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
        The words of each, and where it stands.
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

    phrases: Mapping[tuple[Word, ...], Source] = field(default_factory=dict)
    bonus: float = 0.0
    pronunciations: Mapping[str, Sequence[Phones]] = field(default_factory=dict)

    @classmethod
    def read(cls, hints: Sequence[str], bonus: float) -> "Hints":
        """Read hints.

        Parameters
        ----------
        hints
            Words and phrases with commas between, or paths of files with one or several on each line. A word may be
            followed by a tab and its phones.
        bonus
            Nats for each word.

        Raises
        ------
        ConfigError
            A file cannot be read, a path is that of a folder, a hint that is no line of a file has no words, a tab does
            not stand between one word and its phones, or there are more than `MOST_PHONES` of them.

        Notes
        -----
        A line of a file without words is left out with a warning.
        """
        phrases: dict[tuple[Word, ...], Source] = {}
        pronunciations: dict[str, list[Phones]] = {}
        for text, place in chain.from_iterable(map(_lines, hints)):
            for hint in filter(str.strip, text.split(",")):
                written, tab, after = hint.lstrip().partition("\t")
                source, words = Source(written.rstrip(), place), tuple(split_words(written))
                name, phones = _quoted(source.written), tuple(after.split())
                if not words:
                    _refuse(source, f"{name} has no words")
                    continue
                phrases.setdefault(words, source)
                if not tab:
                    continue
                if len(words) > 1 or not phones:
                    raise ConfigError(source.fault(f"{name}: a tab stands between one word and its phones"))
                if len(phones) > MOST_PHONES:
                    raise ConfigError(source.fault(f"{name} has {len(phones)} phones: {MOST_PHONES} are the most"))
                pronunciations.setdefault(words[0].label.lower(), []).append(phones)
        return cls(phrases, bonus, pronunciations)

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
            A word cannot be pronounced, or only with more than `MOST_PHONES`.

        Notes
        -----
        A hint from a file with such a word is left out with a warning.
        """
        if not self.phrases:
            return []
        pronounced, faults = self._pronounced(lexicon)
        other = lm.index.get(UNKNOWN, 1 + int(unigrams[1:].argmin()))
        places: dict[tuple[Word, ...], int] = {(): 0}
        steps: dict[Step, None] = {}
        for phrase, source in self.phrases.items():
            wrong = next((word for word in phrase if word in faults), None)
            if wrong is not None:
                _refuse(source, f"{_quoted(wrong.label)} {faults[wrong]}")
                continue
            for length, word in enumerate(phrase, 1):
                end = 0 if length == len(phrase) else places.setdefault(phrase[:length], len(places))
                known = next((form for form in _forms(word) if form in lm.index), None)
                label, token = (word.label, other) if known is None else (known, lm.index[known])
                for phones in pronounced[word]:
                    steps[Step(label, phones, token, places[phrase[: length - 1]], end, length)] = None
        return list(steps)

    def _pronounced(self, lexicon: Lexicon) -> tuple[dict[Word, Sequence[Phones]], dict[Word, str]]:
        """Return the pronunciations of words: the user's, or the lexicon's, or others.

        Returns
        -------
        pronounced
            The pronunciations of each word that has one.
        faults
            What is wrong with each other word.
        """
        from asr.lm.graphones import guesser
        from asr.speech.pronounce import UnspeakableError, speakable, ways

        pronounced: dict[Word, Sequence[Phones]] = {}
        readings: dict[Word, dict[str, list[str]]] = {}
        faults: dict[Word, str] = {}
        for word in dict.fromkeys(chain.from_iterable(self.phrases)):
            known = next((form for form in _forms(word) if form in lexicon.words), None)
            if word.label.lower() in self.pronunciations:
                pronounced[word] = self.pronunciations[word.label.lower()]
            elif known is not None:
                pronounced[word] = lexicon.words[known]
            else:
                try:
                    readings[word] = speakable(word.readings)
                except UnspeakableError as error:
                    faults[word] = f"cannot be pronounced: {error.reason}"
        parts = (part for several in readings.values() for each in several.values() for part in each)
        guess = guesser(parts)  # all at once, which is much faster than word by word
        for word, several in readings.items():
            try:
                pronounced[word] = [way.phones for way in ways([*several], guess)]
            except UnspeakableError as error:
                faults[word] = f"cannot be pronounced: {error.reason}"
        for word, spelt in pronounced.items():
            longest = max(map(len, spelt))
            if longest > MOST_PHONES:
                faults[word] = f"has {longest} phones: {MOST_PHONES} are the most"
        return pronounced, faults


def _lines(hint: str) -> Iterator[tuple[str, str]]:
    """Yield the lines of a file with their places, or those of the hint itself if there is no such file."""
    # unlike Path's methods, these are False for what is too long to be a path
    is_file = os.path.isfile(hint)
    if hint and os.path.isdir(hint):
        raise ConfigError(f"the hint {hint!r} is a folder: name a file in it, or put a comma behind the word")
    try:
        text = Path(hint).read_text(encoding="utf-8-sig") if is_file else hint
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the hints {hint}: {error}") from error
    for number, line in enumerate(unicodedata.normalize("NFC", text).split("\n"), 1):
        yield line, f"{hint}, line {number}" if is_file else ""


def _quoted(text: str) -> str:
    """Return a text in quotes, shortened where it is long."""
    return repr(text if len(text) <= LONGEST else f"{text[:LONGEST]}…")


def _refuse(source: Source, what: str) -> None:
    """Leave out a hint from a file with a warning; any other ends the run.

    Raises
    ------
    ConfigError
        The hint is not from a file.
    """
    if not source.place:
        raise ConfigError(source.fault(what))
    log.warning("left out: %s", source.fault(what))


def _forms(word: Word) -> list[str]:
    """Return how a language model or a lexicon may write a word; never as one of its signs.

    The word that is said comes first: Dr. before a name is doctor, though there may be a word dr, which is drive.
    """
    forms = (
        form
        for text in (word.readings[0], word.label)
        for form in (text, text.lower(), text.upper(), text.capitalize())
    )
    return [form for form in forms if form not in (EDGE, UNKNOWN)]
