r"""ARPA files, the format of n-grams that SRILM, KenLM and others read and write. Their logarithms are decimal.

    \data\
    ngram 1=4
    ngram 2=5

    \1-grams:
    -99	<s>	-0.30103
    -0.60206	</s>
    …
    \end\

The sentence's edge is <s> at the start and </s> at the end. White space within a token, which models of characters
have, is written as its code point: <0x20>.
"""

import gzip
import math
import re
import unicodedata
import zlib
from collections.abc import Sequence
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import NoReturn

import numpy as np

from asr.core import files
from asr.core.errors import ModelError
from asr.lm import arpa_kernels as kernels
from asr.lm.language_model import EDGE
from asr.lm.ngram import NGram
from asr.lm.packing import Order

START = "<s>"
LN10 = math.log(10)
IMPOSSIBLE = -99.0  # the decimal logarithm that other programs write for a probability of 0
NO_BEGINNING, REPEATED = "an n-gram whose beginning has no line before", "an n-gram that was there before"


def write(lm: NGram, path: Path) -> None:
    """Write an n-gram as an ARPA file."""
    names = [re.sub(r"\s", lambda found: f"<0x{ord(found[0]):02X}>", token) for token in lm.tokens]
    with files.replacing(path) as temporary, temporary.open("w", encoding="utf8", newline="\n") as file:
        file.write("\\data\\\n")
        orders = list(lm.orders())
        for n, order in enumerate(orders, 1):
            file.write(f"ngram {n}={len(order.tokens) + (n == 1)}\n")
        words, first = [""], 0  # text of each n-gram as a context, and the state of the first
        for n, order in enumerate(orders, 1):
            file.write(f"\n\\{n}-grams:\n")
            before, words = words, []
            if n == 1:
                file.write(f"{IMPOSSIBLE:.0f}\t{START}\t{order.backoffs[0] / LN10:.7g}\n")
            columns = order.parents.tolist(), order.tokens.tolist(), order.log_probs / LN10, order.backoffs / LN10
            for parent, token, log_prob, backoff in zip(*columns, strict=True):
                context = before[parent - first]
                line = f"{log_prob:.7g}\t{context}{names[token]}"
                ends = token == 0
                file.write(line + ("\n" if n == len(orders) or ends else f"\t{backoff:.7g}\n"))
                words.append(f"{context}{START if ends else names[token]} ")
            first += len(before)
        file.write("\n\\end\\\n")


def read(path: str | Path, unit: str) -> NGram:
    """Read an ARPA file, gzipped or not.

    Raises
    ------
    ModelError
        The file is missing or not an ARPA file; the message names the line.
    """
    path = Path(path)
    try:
        if path.stat().st_size == 0:
            raise ModelError(f"{path} is empty: copy or make it again")
        with path.open("rb") as file, gzip.open(file) as unzipped:
            data = unzipped.read() if path.suffix == ".gz" else mmap(file.fileno(), 0, access=ACCESS_READ)
        return _Reader(path, data).read(unit)
    except (OSError, UnicodeDecodeError, EOFError, zlib.error) as error:
        raise ModelError(f"cannot read {path} as an ARPA file: {error}") from error


class _Reader:
    """Reads one section after the other."""

    def __init__(self, path: Path, data: bytes | mmap):
        self.path, self.data = path, data
        self.bytes = np.frombuffer(data, np.uint8)
        self.place = self.number = 0  # first byte of the next line, and number of the last
        self.index = {EDGE: 0}
        self.names = {START.encode(): kernels.START, EDGE.encode(): 0}  # as written, with their numbers
        self.offsets: list[np.ndarray] = []  # of each order but the last, the first n-gram after each and the end

    def read(self, unit: str) -> NGram:
        """Return the model."""
        while self._next() != "\\data\\":
            pass
        counts = []
        while match := re.fullmatch(r"ngram\s+(\d+)\s*=\s*(\d+)", line := self._next()):
            counts.append(int(match[2]))
        if not counts:
            self._fail("no counts of n-grams")
        orders: list[Order] = []
        for n, count in enumerate(counts, 1):
            if line != f"\\{n}-grams:":
                self._fail(f"expected \\{n}-grams:")
            orders.append(self._unigrams(count) if n == 1 else self._longer(n, count, orders))
            line = self._next()
        if line != "\\end\\":
            self._fail("expected \\end\\")
        return NGram.build(unit, list(self.index), orders)

    def _next(self) -> str:
        """Return the next line that is not empty; raise ModelError at the end of the file."""
        while self.place < len(self.data):
            end = self.data.find(b"\n", self.place)
            end = len(self.data) if end < 0 else end
            line = self.data[self.place : end].decode("utf8", "replace").strip("\r\n\t ")
            self.place, self.number = end + 1, self.number + 1
            if line:
                return line
        self._fail("the file ends too early")

    def _fail(self, reason: str) -> NoReturn:
        self._fail_at(self.number, reason)

    def _fail_at(self, number: int, reason: str) -> NoReturn:
        raise ModelError(f"{self.path}, line {number}: {reason}; is it an ARPA file, and whole?")

    def _unigrams(self, count: int) -> Order:
        """Read the unigrams and number the tokens."""
        spans, numbers, lines = self._section(1, count)
        log_probs, backoffs = [IMPOSSIBLE * LN10], [0.0]
        for (first, end), (log_prob, backoff), line in zip(
            spans.tolist(), numbers.tolist(), lines.tolist(), strict=True
        ):
            written = self.data[first:end]
            name = _token(written.decode("utf8"))
            if name == START:
                backoffs[0] = backoff
            elif name == EDGE:
                log_probs[0] = log_prob
            elif name in self.index:
                self._fail_at(line, REPEATED)
            else:
                self.index[name] = len(self.index)
                log_probs.append(log_prob)
                backoffs.append(backoff)
            self.names[written] = kernels.START if name == START else self.index[name]
        tokens = np.arange(len(log_probs), dtype=np.int32)
        return Order(np.zeros_like(tokens), tokens, np.array(log_probs), np.array(backoffs))

    def _longer(self, n: int, count: int, orders: Sequence[Order]) -> Order:
        """Read the n-grams of two tokens or more, given the shorter ones.

        Those that are never looked up are left out: with <s> as a prediction, or </s> as a context.
        """
        tokens, numbers, lines = self._section(n, count)
        kept = (tokens[:, 1:] != kernels.START).all(axis=1) & (tokens[:, :-1] != 0).all(axis=1)
        if not kept.all():
            tokens, numbers, lines = tokens[kept], numbers[kept], lines[kept]
        contexts = np.maximum(tokens[:, 0], 0)  # of <s>: token 0
        for i in range(1, n - 1):
            of = contexts, np.ascontiguousarray(tokens[:, i])
            contexts = kernels.descend(self.offsets[i - 1], orders[i].tokens, *of)
        if len(contexts) and contexts.min() < 0:
            self._fail_at(lines[contexts.argmin()], NO_BEGINNING)
        keys = contexts.astype(np.int64) * len(self.index) + tokens[:, -1]
        if not (keys[1:] > keys[:-1]).all():
            places = np.argsort(keys, kind="stable")
            keys, numbers, lines = keys[places], numbers[places], lines[places]
            (again,) = np.nonzero(keys[1:] == keys[:-1])
            if len(again):
                self._fail_at(lines[1 + again].min(), REPEATED)
        contexts, last = np.divmod(keys, len(self.index))
        num_contexts = len(orders[-1].tokens)
        self.offsets.append(np.searchsorted(contexts, np.arange(num_contexts + 1)))
        parents = contexts + (1 + sum(len(order.tokens) for order in orders[:-1]))
        return Order(parents.astype(np.int32), last.astype(np.int32), *numbers.T)

    def _section(self, n: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Read a section's tokens, decimal logarithms and numbers of lines."""
        most = min(count, len(self.data) // (2 * n + 2) + 1)  # no more can be in the file, whatever its head says
        tokens, numbers, lines = np.empty((most, max(n, 2)), np.int32), np.empty((most, 2)), np.empty(most, np.int32)
        done, vocabulary = 0, self._vocabulary()
        while True:
            rows = tokens[done:], numbers[done:], lines[done:]
            fault, self.place, number, num, first, end = kernels.section(
                self.bytes, self.place, self.number, n, vocabulary, *rows
            )
            done += num
            if fault == kernels.GOOD:
                self.number = number
                return tokens, numbers * LN10, lines
            if fault == kernels.TOO_SHORT:
                self._fail_at(number, "the file ends too early")
            if fault == kernels.NO_NUMBERS:
                self._fail_at(number, f"not a probability, {n} tokens and perhaps a backoff")
            written = self.data[first:end]
            name = _token(written.decode("utf8"))
            if name not in self.index:
                other = f"{name} is not among the unigrams"
                self._fail_at(number, NO_BEGINNING if fault == kernels.UNKNOWN_BEGINNING else other)
            self.names[written], vocabulary = self.index[name], self._vocabulary()  # in another normal form
            self.number = int(lines[done - 1]) if done else self.number

    def _vocabulary(self) -> tuple[np.ndarray, ...]:
        """Return the names of tokens for kernels: a hash table, their bytes, where each starts, and their numbers."""
        names, starts = np.frombuffer(b"".join(self.names), np.uint8), np.cumsum([0, *map(len, self.names)])
        return kernels.hashed(names, starts), names, starts, np.array([*self.names.values()], np.int32)


def _token(field: str) -> str:
    """Return a token with its white space restored, which `write` encodes."""
    found = re.fullmatch(r"<0x([0-9A-F]{2,4})>", field)
    return chr(int(found[1], 16)) if found else unicodedata.normalize("NFC", field)
