"""Text as tokens: phones and words are separated by white space, characters are not.

A text of any size is read in blocks, and kept as the numbers of its tokens: four bytes a token.

Letters: N numbers of a text, its tokens and edges; S sentences; V different tokens.
"""

import gzip
import unicodedata
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from asr.core.errors import ConfigError
from asr.core.settings import one_of
from asr.core.terminal import Progress
from asr.lm.language_model import EDGE, UNKNOWN

UNITS = ("phones", "characters", "words")
GRAPHONES = "graphones"  # unit of the models of `asr.lm.graphones`, which no text file has
EDGES = {"<s>", EDGE}
BLOCK = 1 << 22  # bytes of a file that are read at once
LONG = 16  # megabytes of a file whose reading shows its progress


def split(line: str, unit: str) -> list[str]:
    """Return the tokens of a line, in Unicode's normal form NFC.

    >>> split("the  cat", "words"), split("경마장에", "characters")
    (['the', 'cat'], ['경', '마', '장', '에'])
    """
    line = unicodedata.normalize("NFC", line)
    return list(line.rstrip("\r\n")) if unit == "characters" else line.split()


def join(tokens: Iterable[str], unit: str) -> str:
    """Join tokens to a line.

    >>> join(["a", "b"], "words"), join(["a", "b"], "characters")
    ('a b', 'ab')
    """
    return ("" if unit == "characters" else " ").join(tokens)


def blocks(path: str | Path) -> Iterator[str]:
    r"""Yield a UTF-8 file, gzipped if its name ends in .gz, in blocks of whole lines; each line ends in "\n".

    Raises
    ------
    ConfigError
        The file is missing, damaged or not UTF-8.
    """
    path, done = Path(path), 0
    try:
        megabytes = path.stat().st_size >> 20
        shown = Progress(f"reading {path.name}, megabytes", megabytes) if megabytes >= LONG else nullcontext()
        with path.open("rb") as raw, shown as progress:
            file = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
            rest = b""
            while chunk := file.read(BLOCK):
                whole, newline, after = chunk.rpartition(b"\n")
                if not newline:
                    rest += chunk
                    continue
                yield _decoded(rest + whole + newline, path, done)
                done += len(rest) + len(whole) + 1
                rest = after
                if progress is not None:
                    progress.update(raw.tell() >> 20)
            if rest:
                yield _decoded(rest, path, done) + "\n"
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot read {path}: {reason}; a text file with a sentence a line") from error


def lines(path: str | Path) -> Iterator[str]:
    """Yield the lines of a file, without their ends, as `blocks` reads it."""
    for block in blocks(path):
        yield from block.removesuffix("\n").split("\n")


def _decoded(block: bytes, path: Path, start: int) -> str:
    try:
        text = block.decode("utf-8" if start else "utf-8-sig")
    except UnicodeDecodeError as error:
        at = start + error.start
        raise ConfigError(f"{path} is not UTF-8 ({error.reason} at byte {at}): convert it") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read(path: str | Path, unit: str) -> Iterator[list[list[str]]]:
    """Yield some thousands of sentences at a time of a file with one on each line; empty lines are skipped.

    Raises
    ------
    ConfigError
        As in `blocks`; the file holds no text; a token is <s> or </s>.
    """
    one_of("unit", unit, UNITS)
    num_sentences = 0
    for block in blocks(path):
        if sentences := [tokens for line in block.split("\n") if (tokens := split(line, unit))]:
            _check(sentences, path, num_sentences)
            num_sentences += len(sentences)
            yield sentences
    if num_sentences == 0:
        raise ConfigError(f"{path} holds no text: a sentence a line is needed")


def _check(sentences: Sequence[Sequence[str]], path: str | Path, num_before: int) -> None:
    for number, tokens in enumerate(sentences, num_before + 1):
        if not EDGES.isdisjoint(tokens):
            raise ConfigError(f"{path}, sentence {number}: <s> and </s> are a model's own: take them out")


@dataclass(frozen=True)
class Text:
    """Sentences as the numbers of their tokens.

    Attributes
    ----------
    unit
        phones, characters or words.
    tokens : (V,)
        The different tokens; token 0 is the edge of a sentence.
    stream : (N,) int32
        The numbers of all tokens, with an edge before, between and after the sentences.
    """

    unit: str
    tokens: tuple[str, ...]
    stream: np.ndarray

    @property
    def num_sentences(self) -> int:
        """Number of sentences."""
        return len(self.stream) - 1 - self.num_tokens

    @property
    def num_tokens(self) -> int:
        """Number of tokens without the edges."""
        return int(np.count_nonzero(self.stream))

    def sentences(self) -> Iterator[list[str]]:
        """Yield the tokens of each sentence."""
        names = np.array(self.tokens, object)
        start = 1
        for end in np.flatnonzero(self.stream == 0)[1:].tolist():
            yield names[self.stream[start:end]].tolist()
            start = end + 1

    def select(self, chosen: np.ndarray) -> "Text":
        """Return some of the sentences; chosen (S,) is true for these."""
        lengths = np.diff(np.flatnonzero(self.stream == 0))
        stream = np.concatenate([self.stream[:1], self.stream[1:][np.repeat(chosen, lengths)]])
        return replace(self, stream=stream)

    def at_most(self, count: int) -> "Text":
        """Return so many sentences, evenly spaced, of a text that has more.

        >>> text = Text("words", ("</s>", "a", "b"), np.array([0, 1, 0, 2, 0, 1, 0, 2, 0], np.int32))
        >>> text.at_most(2).stream.tolist()
        [0, 1, 0, 1, 0]
        """
        if self.num_sentences <= count:
            return self
        chosen = np.zeros(self.num_sentences, bool)
        chosen[np.arange(count) * self.num_sentences // count] = True
        return self.select(chosen)

    def fits(self, tokens: Iterable[str]) -> np.ndarray:
        """Tell which sentences have no tokens but these (S,)."""
        known = {EDGE, *tokens}
        strange = np.array([token not in known for token in self.tokens])
        starts = np.flatnonzero(self.stream == 0)
        return np.add.reduceat(strange[self.stream], starts)[:-1] == 0

    def over(self, tokens: Sequence[str]) -> "Text":
        """Return the text over another vocabulary, which is given without the edge.

        Raises
        ------
        ConfigError
            A token of the text is not in a vocabulary without UNKNOWN.
        """
        names = (EDGE, *tokens)
        index = {name: i for i, name in enumerate(names)}
        numbers = np.array([index.get(token, index.get(UNKNOWN, -1)) for token in self.tokens], np.int32)
        stream = np.empty_like(self.stream)
        for start in range(0, len(stream), BLOCK):
            stream[start : start + BLOCK] = numbers[self.stream[start : start + BLOCK]]
        if stream.min(initial=0) < 0:
            token = self.tokens[self.stream[int((stream < 0).argmax())]]
            raise ConfigError(
                f"{token!r} is not one of the {len(tokens)} {self.unit} given: allow others (text.open_vocabulary)"
            )
        return Text(self.unit, names, stream)


class Numbering:
    """Numbers tokens in the order in which they first come.

    Examples
    --------
    >>> numbering = Numbering("words")
    >>> text = numbering.text([numbering.number([["b", "a"], ["b"]])])
    >>> text.tokens, text.stream.tolist()
    (('</s>', 'b', 'a'), [0, 1, 2, 0, 1, 0])
    """

    def __init__(self, unit: str) -> None:
        one_of("unit", unit, UNITS)
        self.unit = unit
        self._index: defaultdict[str, int] = defaultdict()
        self._index.default_factory = self._index.__len__
        self._index[EDGE] = 0

    def text(self, parts: Iterable[np.ndarray]) -> Text:
        """Return numbered sentences as one text."""
        stream = np.concatenate([np.zeros(1, np.int32), *parts])  # which may number new tokens
        return Text(self.unit, tuple(self._index), stream)

    def number(self, sentences: Iterable[Sequence[str]]) -> np.ndarray:
        """Return the numbers of sentences, each with an edge after it (N,) int32."""
        tokens = list(chain.from_iterable((*sentence, EDGE) for sentence in sentences))
        return self._numbers(tokens)

    def read(self, path: str | Path, lowercase: bool = False) -> Iterator[np.ndarray]:
        """Yield the sentences of a file as `number` returns them, block by block.

        Raises
        ------
        ConfigError
            As in the function `read`.
        """
        num_sentences = 0
        for block in blocks(path):
            block = unicodedata.normalize("NFC", block)
            block = block.lower() if lowercase else block
            if self.unit == "characters":
                tokens = [EDGE if letter == "\n" else letter for letter in block]
            else:
                if any(edge in block for edge in EDGES):
                    _check([tokens for line in block.split("\n") if (tokens := line.split())], path, num_sentences)
                tokens = block.replace("\n", f" {EDGE} ").split()
            numbers = self._numbers(tokens)
            is_kept = numbers != 0
            is_kept[1:] |= numbers[:-1] != 0  # the edges of empty lines are left out
            num_sentences += int(np.count_nonzero(numbers[is_kept] == 0))
            yield numbers[is_kept]
        if num_sentences == 0:
            raise ConfigError(f"{path} holds no text: a sentence a line is needed")

    def _numbers(self, tokens: list[str]) -> np.ndarray:
        return np.fromiter(map(self._index.__getitem__, tokens), np.int32, len(tokens))


def vocabulary(text: Text, min_count: int = 1, max_words: int | None = None) -> list[str]:
    """Return the tokens of a text, sorted, without the edge and UNKNOWN.

    Parameters
    ----------
    text
        The text.
    min_count
        Tokens that occur fewer times are left out.
    max_words
        Only so many tokens are returned: the most frequent ones, and of those with equal counts the first ones.

    Examples
    --------
    >>> numbering = Numbering("words")
    >>> text = numbering.text([numbering.number([["b", "a", "c"], ["b"]])])
    >>> vocabulary(text, min_count=2), vocabulary(text, max_words=2)
    (['b'], ['a', 'b'])
    """
    counts = np.bincount(text.stream[1:], minlength=len(text.tokens)).tolist()
    known = {token: -count for token, count in zip(text.tokens, counts, strict=True) if count >= min_count}
    found = sorted(known.keys() - {EDGE, UNKNOWN}, key=lambda token: (known[token], token))
    return sorted(found[:max_words])
