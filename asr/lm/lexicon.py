"""Words and their pronunciations.

Letters: R pronunciations, L phones of the longest one, P phones of all.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Self

import numpy as np

from asr.core.errors import ConfigError
from asr.core.files import write_text
from asr.lm.language_model import EDGE, UNKNOWN
from asr.speech import lexicons
from asr.speech.ipa import STRESS

BLANK, LINE_BREAK = 32, 10  # bytes: all up to a blank part words and phones
OTHER_FORMS = ("\t", "(2)", lexicons.COMMENT, *STRESS)  # marks of files that are no plain lexicon.txt


@dataclass(frozen=True)
class Lexicon:
    """Pronunciations, each a row of numbers, so that those of many words are read and searched through in no time.

    Attributes
    ----------
    entries : (R,)
        The word of each pronunciation; a word may have several.
    phones
        Names of phones.
    rows : (R, L)
        The phones of each pronunciation, counted from 1, and 0 behind the last.

    Examples
    --------
    >>> lexicon = Lexicon.of(["the", "zoo"])
    >>> lexicon.words
    {'the': [('DH', 'AH'), ('DH', 'IY')], 'zoo': [('Z', 'UW')]}
    >>> lexicon.entries, lexicon.phones
    (['the', 'the', 'zoo'], ['DH', 'AH', 'IY', 'Z', 'UW'])
    >>> lexicon.rows.tolist()
    [[1, 2], [1, 3], [4, 5]]
    """

    entries: Sequence[str]
    phones: Sequence[str]
    rows: np.ndarray

    @classmethod
    def build(cls, words: Iterable[tuple[str, Sequence[str]]]) -> Self:
        """Make a lexicon of words, each with the phones of a pronunciation.

        >>> Lexicon.build([("a", ["AH"]), ("a", ["EY"])]).words
        {'a': [('AH',), ('EY',)]}
        """
        pairs = list(words)
        numbers = {phone: i for i, phone in enumerate(dict.fromkeys(chain.from_iterable(each for _, each in pairs)), 1)}
        lengths = np.array([len(each) for _, each in pairs], np.int64)
        flat = np.array([numbers[phone] for _, each in pairs for phone in each], np.int64)
        return cls([word for word, _ in pairs], list(numbers), _padded(flat, lengths))

    @classmethod
    def of(cls, words: Iterable[str]) -> Self:
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
        guess = guesser(chain.from_iterable(parts.values()))
        found: list[tuple[str, Sequence[str]]] = []
        for word in parts:
            with suppress(UnspeakableError):
                found += [(word, each) for each in pronunciations(word, guess)]
        return cls.build(found)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a file with a word and its phones on each line, as Kaldi's lexicon.txt; a word may have several lines.

        Files of the other forms that `asr.speech.lexicons` reads, with tabs, probabilities or stress, take longer.

        Raises
        ------
        ConfigError
            The file is missing, not UTF-8, has a line without phones, or a probability that is not from 0 to 1.
        """
        try:
            text = unicodedata.normalize("NFC", Path(path).read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the lexicon {path}: {error}") from error
        if any(mark in text for mark in OTHER_FORMS):
            return cls.build((word, phones) for _, word, phones, _ in lexicons.entries(path))
        if not text.isascii():
            text = re.sub(r"[^\S\n]", " ", text)
        data = np.frombuffer(f"{text}\n".encode(), np.uint8)
        (edges,) = np.nonzero(np.diff(data > BLANK, prepend=False))
        starts, ends = edges[::2], edges[1::2]
        if not len(starts):
            raise ConfigError(f"{path} holds no words: write a word and its phones a line")
        lines = np.cumsum(data == LINE_BREAK)[starts]
        is_word = np.diff(lines, prepend=-1) > 0
        lengths = np.diff(np.flatnonzero(is_word), append=len(starts)) - 1
        first, last = starts[is_word], ends[is_word]
        if not lengths.all():
            bad = lengths.argmin()
            word, number = _string(data, first[bad], last[bad]), lines[is_word][bad] + 1
            raise ConfigError(f"{path}, line {number}: {word} has no phones; write a word and its phones a line")
        numbers, phones = _numbered(data, starts[~is_word], ends[~is_word])
        if any(map(lexicons.is_number, phones)):
            return cls.build((word, phones) for _, word, phones, _ in lexicons.entries(path))
        return cls(_strings(data, first, last), phones, _padded(numbers, lengths))

    def write(self, path: Path) -> None:
        """Write a file that `read` reads, in the order of the words."""
        lines = (f"{word} {' '.join(phones)}\n" for word in sorted(self.words) for phones in self.words[word])
        write_text(path, "".join(lines))

    @cached_property
    def words(self) -> Mapping[str, Sequence[tuple[str, ...]]]:
        """The pronunciations of each word, each once."""
        names, found = np.array(["", *self.phones], object), dict[str, dict[tuple[str, ...], None]]()
        lengths = np.count_nonzero(self.rows, axis=1).tolist()
        for word, row, length in zip(self.entries, names[self.rows].tolist(), lengths, strict=True):
            found.setdefault(word, {})[tuple(row[:length])] = None
        return {word: list(each) for word, each in found.items()}


def _padded(numbers: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return numbers (P,) as rows of so many (R, L), and 0 behind them."""
    rows = np.zeros((len(lengths), lengths.max(initial=0)), np.int32)
    rows[np.arange(rows.shape[1]) < lengths[:, None]] = numbers
    return rows


def _string(data: np.ndarray, start: int, end: int) -> str:
    return data[start:end].tobytes().decode()


def _strings(data: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> list[str]:
    """Return parts of a text (P,), given the bytes where each starts and where it ends."""
    steps = np.zeros(len(data), np.int8)
    steps[starts], steps[ends] = 1, -1
    is_kept = np.cumsum(steps, dtype=np.int8) > 0
    is_kept[ends] = True
    text = data.copy()
    text[ends] = LINE_BREAK
    return _string(text[is_kept], 0, -1).split("\n")


def _numbered(data: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Give equal parts of a text equal numbers.

    Byte after byte, parts that were equal so far keep one number where the next byte is the same.

    Returns
    -------
    numbers : (P,)
        Counted from 1.
    strings
        The different parts.
    """
    numbers = np.zeros(len(starts), np.int64)
    for i in range((ends - starts).max()):
        keys = 256 * numbers + np.where(starts + i < ends, data[np.minimum(starts + i, ends)], 0)
        is_used = np.zeros(keys.max() + 1, bool)
        is_used[keys] = True
        numbers = (np.cumsum(is_used) - 1)[keys]
    examples = np.zeros(numbers.max() + 1, np.int64)
    examples[numbers] = np.arange(len(numbers))
    return numbers + 1, [_string(data, starts[i], ends[i]) for i in examples]
