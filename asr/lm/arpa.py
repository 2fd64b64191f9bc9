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
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import numpy as np

from asr.core import files
from asr.core.errors import ModelError
from asr.lm.language_model import EDGE
from asr.lm.ngram import NGram, Order

START = "<s>"
LN10 = math.log(10)
IMPOSSIBLE = -99.0  # the decimal logarithm that other programs write for a probability of 0


def write(lm: NGram, path: Path) -> None:
    """Write an n-gram as an ARPA file."""
    names = [re.sub(r"\s", lambda found: f"<0x{ord(found[0]):02X}>", token) for token in lm.tokens]
    with files.replacing(path) as temporary, temporary.open("w", encoding="utf8", newline="\n") as file:
        file.write("\\data\\\n")
        orders = list(lm.orders())
        for n, order in enumerate(orders, 1):
            file.write(f"ngram {n}={len(order.tokens) + (n == 1)}\n")
        words = [""]  # text of each node as a context
        for n, order in enumerate(orders, 1):
            file.write(f"\n\\{n}-grams:\n")
            before = words
            words = []
            first = lm.firsts[n - 1]
            if n == 1:
                file.write(f"{IMPOSSIBLE:.0f}\t{START}\t{order.backoffs[0] / LN10:.7g}\n")
            columns = order.parents.tolist(), order.tokens.tolist(), order.log_probs / LN10, order.backoffs / LN10
            for parent, token, log_prob, backoff in zip(*columns, strict=True):
                context = before[parent - first]
                line = f"{log_prob:.7g}\t{context}{names[token]}"
                ends = token == 0
                file.write(line + ("\n" if n == len(orders) or ends else f"\t{backoff:.7g}\n"))
                words.append(f"{context}{START if ends else names[token]} ")
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
        with gzip.open(path, "rt", encoding="utf8") if path.suffix == ".gz" else path.open(encoding="utf8") as file:
            return _Reader(path, file).read(unit)
    except (OSError, UnicodeDecodeError, EOFError, zlib.error) as error:
        raise ModelError(f"cannot read {path} as an ARPA file: {error}") from error


class _Reader:
    """Reads one section after the other, and numbers n-grams as in the tree."""

    def __init__(self, path: Path, lines: Iterable[str]):
        self.path, self.lines = path, enumerate(lines, 1)
        self.number = 0
        self.start = 0.0  # backoff of <s>

    def read(self, unit: str) -> NGram:
        """Return the model."""
        self._until("\\data\\")
        counts = []
        while match := re.fullmatch(r"ngram\s+(\d+)\s*=\s*(\d+)", line := self._next()):
            counts.append(int(match[2]))
        if not counts:
            self._fail("no counts of n-grams")
        index: dict[str, int] = {EDGE: 0}
        before: dict[tuple[int, ...], int] = {(): 0}  # node of each n-gram of the previous order
        orders: list[Order] = []
        first = 1
        for n, count in enumerate(counts, 1):
            if line != f"\\{n}-grams:":
                self._fail(f"expected \\{n}-grams:")
            rows = {}
            for _ in range(count):
                tokens, numbers = self._row(self._next(), n, index)
                if tokens is None:
                    continue
                if tokens in rows:
                    self._fail("an n-gram that was there before")
                if tokens[:-1] not in before:
                    self._fail("an n-gram whose beginning has no line before")
                rows[tokens] = (before[tokens[:-1]], tokens[-1], *numbers)
            line = self._next()
            if n == 1:
                rows[0,] = (0, 0, rows.get((0,), (0, 0, IMPOSSIBLE * LN10))[2], self.start)
            names = sorted(rows, key=lambda tokens: rows[tokens][:2])
            table = np.array([rows[tokens] for tokens in names], float).reshape(-1, 4)
            orders.append(Order(table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2], table[:, 3]))
            before = {tokens: node for node, tokens in enumerate(names, first)} if n < len(counts) else {}
            first += len(names)
        if line != "\\end\\":
            self._fail("expected \\end\\")
        return NGram.build(unit, list(index), orders)

    def _next(self) -> str:
        """Return the next line that is not empty; raise ModelError at the end of the file."""
        for number, line in self.lines:
            self.number = number
            if line.strip():
                return line.strip("\r\n ")
        self._fail("the file ends too early")

    def _until(self, wanted: str) -> None:
        while self._next() != wanted:
            pass

    def _fail(self, reason: str) -> NoReturn:
        raise ModelError(f"{self.path}, line {self.number}: {reason}; is it an ARPA file, and whole?")

    def _row(self, line: str, n: int, index: dict[str, int]) -> tuple[tuple[int, ...] | None, tuple[float, float]]:
        """Return tokens, log probability and backoff of a line; None for tokens that are never looked up.

        These are <s> as a prediction, whose backoff is kept, and </s> as a context.
        """
        fields = re.split(r"[ \t]+", line)
        try:
            numbers = float(fields[0]) * LN10, float(fields[n + 1]) * LN10 if len(fields) == n + 2 else 0.0
        except (ValueError, IndexError):
            numbers = math.nan, math.nan
        if len(fields) not in (n + 1, n + 2) or not all(map(math.isfinite, numbers)):
            self._fail(f"not a probability, {n} tokens and perhaps a backoff")
        names = fields[1 : n + 1]
        if n == 1 and names[0] == START:
            self.start = numbers[1]
        if names[-1] == START or START in names[1:] or EDGE in names[:-1]:
            return None, numbers
        tokens = [EDGE if name == START else _token(name) for name in names]
        if n == 1:
            index.setdefault(tokens[0], len(index))
        if tokens[-1] not in index:
            self._fail(f"{tokens[-1]} is not among the unigrams")
        return tuple(index.get(token, -1) for token in tokens), numbers


def _token(field: str) -> str:
    """Return a token with its white space restored, which `write` encodes."""
    found = re.fullmatch(r"<0x([0-9A-F]{2,4})>", field)
    return chr(int(found[1], 16)) if found else unicodedata.normalize("NFC", field)
