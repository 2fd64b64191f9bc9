"""Words in a row that a text shares with others, such as the sentences that a language model is tested on.

Words are compared in lower case and without punctuation, and across the ends of the text's lines, since books and
transcripts are cut into sentences in different ways. The references are kept in memory, as a sorted array of the hashes
of their n-grams; the text is read in blocks and may have any size.

Letters: N words of a block of the text, M different n-grams of the references.
"""

import gzip
import re
import unicodedata
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path

import numpy as np

from asr.core import files
from asr.lm.text import blocks, lines

WORDS = re.compile(r"[^\W_]+(?:'[^\W_]+)*|\n")
FACTOR = np.uint64(0x9E3779B97F4A7C15)  # of the hash, a polynomial modulo 2^64
GAP = 0  # a word that the references do not have, the end of a sentence of theirs, or of a document of the text
END = -1  # the end of a line


@dataclass(frozen=True)
class Shared:
    """Words in a row that the text shares with a sentence of the references.

    Attributes
    ----------
    first_line, last_line
        Lines of the text that have the words, from 1.
    document
        The document that they are in: the number of lines without words before it.
    reference
        File and line of the sentence, as in ``dev.txt:12``.
    words
        The words.
    """

    first_line: int
    last_line: int
    document: int
    reference: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class _Run:
    """N-grams in a row, the first of them at `place` in the text and at `found` in the references."""

    place: int
    found: int
    count: int
    first_line: int
    last_line: int
    document: int


class References:
    r"""The n-grams of words of some sentences, to be found in texts.

    Parameters
    ----------
    paths
        UTF-8 files with a sentence on each line.
    order
        Number of words in a row that are looked for.
    has_ids
        Whether each line begins with an utterance's id.

    Attributes
    ----------
    num_sentences
        Sentences that have so many words.
    num_short
        Sentences that have fewer and cannot be found.

    Raises
    ------
    ConfigError
        A file is missing, damaged or not UTF-8.

    Examples
    --------
    >>> import tempfile
    >>> dev, book = (Path(tempfile.mkdtemp(), name) for name in ("dev.txt", "book.txt"))
    >>> dev.write_text("a-1 THE CAT SAT DOWN\n"), book.write_text("So, the cat\nsat - and slept.\n")
    (21, 29)
    >>> references = References([dev], order=3, has_ids=True)
    >>> [(each.first_line, each.last_line, each.words) for each in references.find(book)]
    [(1, 2, ('the', 'cat', 'sat'))]
    """

    def __init__(self, paths: Sequence[Path], order: int = 8, has_ids: bool = False):
        self.order = order
        self.num_sentences = self.num_short = 0
        self._index = {"": GAP, "\n": END}
        self._sources: list[str] = []
        numbers, starts = array("i"), array("q")
        for path in paths:
            for line, sentence in enumerate(lines(path), 1):
                words = _words(" ".join(sentence.split()[1:]) if has_ids else sentence)
                if len(words) < order:
                    self.num_short += bool(words)
                    continue
                self.num_sentences += 1
                starts.append(len(numbers))
                self._sources.append(f"{path}:{line}")
                numbers.extend(self._index.setdefault(word, len(self._index) - 1) for word in words)
                numbers.append(GAP)
        self._names = [name for name in self._index if name != "\n"]
        self._starts, self._numbers = np.array(starts, np.int64), np.array(numbers, np.int32)
        places, hashes = self._hashed(self._numbers)
        self._hashes, first = np.unique(hashes, return_index=True)  # (M,)
        self._places = places[first]
        self._is_likely = np.zeros(1 << max(16, 4 + len(first).bit_length()), bool)  # by the highest bits of a hash
        self._is_likely[self._bucket(self._hashes)] = True

    def find(self, path: Path) -> Iterator[Shared]:
        """Yield what a text shares with the references, in the order of the text.

        Raises
        ------
        ConfigError
            As for the references.
        """
        run = None
        for each in self._runs(path):
            follows = run is not None and each.place - run.place == each.found - run.found == run.count
            if run is not None and follows:
                run = replace(run, count=run.count + each.count, last_line=each.last_line)
                continue
            if run is not None:
                yield self._shared(run)
            run = each
        if run is not None:
            yield self._shared(run)

    def _shared(self, run: _Run) -> Shared:
        numbers = self._numbers[run.found : run.found + run.count + self.order - 1]
        source = self._sources[int(np.searchsorted(self._starts, run.found, "right")) - 1]
        words = tuple(self._names[number] for number in numbers)
        return Shared(run.first_line, run.last_line, run.document, source, words)

    def _runs(self, path: Path) -> Iterator[_Run]:
        """Yield n-grams in a row within each block of a text."""
        kept = np.zeros((3, 0), np.int64)  # words, lines and documents of what later n-grams may begin with
        line, document, first = 1, 0, 0
        for block in blocks(path):
            tokens = _words(block)
            numbers = np.fromiter(map(self._index.get, tokens, repeat(GAP)), np.int64, len(tokens))
            is_end = numbers == END
            is_empty = is_end & np.concatenate([[True], is_end[:-1]])
            rows = np.stack(
                [np.where(is_empty, GAP, numbers), line + np.cumsum(is_end), document + np.cumsum(is_empty)]
            )
            line, document = int(rows[1, -1]), int(rows[2, -1])
            words, line_numbers, documents = rows = np.concatenate([kept, rows[:, is_empty | ~is_end]], axis=1)
            last = self.order - 1
            places, found = self._look_up(words)
            breaks = np.flatnonzero((np.diff(places) != 1) | (np.diff(found) != 1)) + 1
            for start, end in zip([0, *breaks], [*breaks, len(places)], strict=True):
                if start < end:
                    place, until = places[start], places[end - 1] + last
                    of_text = int(line_numbers[place]), int(line_numbers[until]), int(documents[place])
                    yield _Run(first + int(place), int(found[start]), int(end - start), *of_text)
            first += max(0, len(words) - last)
            kept = rows[:, max(0, len(words) - last) :]

    def _look_up(self, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where the n-grams that the references have start, in words (N,) and in the references."""
        places, hashes = self._hashed(words)
        likely = self._is_likely[self._bucket(hashes)]
        places, hashes = places[likely], hashes[likely]
        rows = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        found, offsets = self._places[rows], np.arange(self.order)
        alike = (self._numbers[found[:, None] + offsets] == words[places[:, None] + offsets]).all(axis=1)
        return places[alike], found[alike]

    def _hashed(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the places of the n-grams without gaps, and their hashes."""
        count = max(0, len(numbers) - self.order + 1)
        gaps = np.concatenate([[0], np.cumsum(numbers == GAP)])
        places = np.flatnonzero(gaps[self.order :] == gaps[:count])
        hashes = np.zeros(len(places), np.uint64)
        for offset in range(self.order):
            hashes = hashes * FACTOR + numbers[places + offset].astype(np.uint64)
        return places, hashes

    def _bucket(self, hashes: np.ndarray) -> np.ndarray:
        return hashes >> np.uint64(65 - len(self._is_likely).bit_length())


def _words(line: str) -> list[str]:
    r"""Return the words of a text, and the ends of its lines.

    >>> _words("“Don’t,” he said,\n the well-known ...")
    ["don't", 'he', 'said', '\n', 'the', 'well', 'known']
    """
    return WORDS.findall(unicodedata.normalize("NFC", line).lower().replace("’", "'"))


def copy_without(path: Path, output: Path, is_left_out: Callable[[int, int], bool]) -> int:
    """Copy a text without some of its lines, gzipped if the copy's name ends in .gz.

    Parameters
    ----------
    path, output
        The text and its copy.
    is_left_out
        Of a line and its document, both numbered as in `Shared`.

    Returns
    -------
    int
        Number of lines left out.

    Raises
    ------
    ConfigError, OutputError
        The text cannot be read, or the copy not written.
    """
    document = num_left_out = 0
    opened = gzip.open if output.suffix == ".gz" else open
    with files.replacing(output) as temporary, opened(temporary, "wt", encoding="utf8", newline="\n") as file:
        for number, line in enumerate(lines(path), 1):
            if not WORDS.search(line):
                document += 1
            elif is_left_out(number, document):
                num_left_out += 1
                continue
            file.write(f"{line}\n")
    return num_left_out
