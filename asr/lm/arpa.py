r"""ARPA files: what SRILM, KenLM and everybody else reads and writes. Logarithms there are decimal.

    \data\
    ngram 1=4
    ngram 2=5

    \1-grams:
    -99	<s>	-0.30103
    -0.60206	</s>
    …
    \end\

The sentence's edge is <s> where it starts one and </s> where it ends one. White space within a token (of characters) is
written as its code point: <0x20>.
"""

import gzip
import math
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from asr.errors import ModelError
from asr.lm.model import EDGE
from asr.lm.ngram import NGram, Order

START = "<s>"
LN10 = math.log(10)
IMPOSSIBLE = -99.0  # what others write for a probability of 0


def write(lm: NGram, path: Path) -> None:
    """Write an n-gram as an ARPA file, under a temporary name first."""
    names = [re.sub(r"\s", lambda found: f"<0x{ord(found[0]):02X}>", token) for token in lm.tokens]
    partial = path.with_name(path.name + ".partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    with partial.open("w", encoding="utf8", newline="\n") as file:
        file.write("\\data\\\n")
        orders = list(lm.orders())
        for n, order in enumerate(orders, 1):
            file.write(f"ngram {n}={len(order.tokens) + (n == 1)}\n")
        words = [""]  # of each node, as a context
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
    partial.replace(path)


def read(path: str | Path, unit: str) -> NGram:
    """Read an ARPA file, gzipped or not.

    Raises
    ------
    ModelError
        It is missing or not an ARPA file; the line is named.
    """
    path = Path(path)
    try:
        with gzip.open(path, "rt", encoding="utf8") if path.suffix == ".gz" else path.open(encoding="utf8") as file:
            return _Reader(path, file).read(unit)
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise ModelError(f"cannot read {path} as an ARPA file: {error}") from error


class _Reader:
    """Reads sections one after the other; nodes are numbered in the order of the file, and sorted at the end."""

    def __init__(self, path: Path, lines: Iterable[str]):
        self.path, self.lines = path, enumerate(lines, 1)
        self.number = 0

    def read(self, unit: str) -> NGram:
        """Return the model."""
        self._until("\\data\\")
        counts = []
        while match := re.fullmatch(r"ngram (\d+)\s*=\s*(\d+)", line := self._next()):
            counts.append(int(match[2]))
        if not counts:
            self._fail("no counts of n-grams")
        index: dict[str, int] = {}
        known: dict[tuple[int, int], int] = {}  # node of a parent and a token
        orders: list[Order] = []
        first = 1
        for n, count in enumerate(counts, 1):
            if line != f"\\{n}-grams:":
                self._fail(f"expected \\{n}-grams:")
            rows = []
            for _ in range(count):
                rows.append(self._row(self._next(), n, index, known))
            line = self._next()
            order, known_here = _sorted(rows, first, n == 1)
            known |= known_here
            first += len(order.tokens)
            orders.append(order)
        if line != "\\end\\":
            self._fail("expected \\end\\")
        return NGram.build(unit, list(index), orders)

    def _next(self) -> str:
        """Return the next line that is not empty."""
        for number, line in self.lines:
            self.number = number
            if line.strip():
                return line.strip("\r\n ")
        self._fail("the file ends too early")
        raise AssertionError

    def _until(self, wanted: str) -> None:
        while self._next() != wanted:
            pass

    def _fail(self, reason: str) -> None:
        raise ModelError(f"{self.path}, line {self.number}: {reason}; is it an ARPA file, and whole?")

    def _row(
        self, line: str, n: int, index: dict[str, int], known: dict[tuple[int, int], int]
    ) -> tuple[int, int, float, float]:
        """Return parent, token, log probability and backoff of a line."""
        fields = line.split()
        try:
            numbers = float(fields[0]) * LN10, float(fields[n + 1]) * LN10 if len(fields) == n + 2 else 0.0
        except (ValueError, IndexError):
            numbers = math.nan, math.nan
        if len(fields) not in (n + 1, n + 2) or not all(map(math.isfinite, numbers)):
            self._fail(f"not a probability, {n} tokens and perhaps a backoff")
        names = [EDGE if field == START else _token(field) for field in fields[1 : n + 1]]
        if n == 1:
            if not index:
                index[EDGE] = 0
            if fields[1] == START:
                return -1, 0, 0.0, numbers[1]
            return 0, index.setdefault(names[0], len(index)), *numbers
        node = 0
        tokens = [index.get(name, -1) for name in names]
        for token in tokens[:-1]:
            node = known.get((node, token), -1)  # a node of −1 has no children
        if node < 0 or tokens[-1] < 0:
            self._fail("an n-gram whose beginning, or a token of it, has no line before")
        return node, tokens[-1], *numbers


def _token(field: str) -> str:
    """Return a token as it was before `write` spelt its white space out."""
    found = re.fullmatch(r"<0x([0-9A-F]{2,6})>", field)
    return chr(int(found[1], 16)) if found else field


def _sorted(
    rows: list[tuple[int, int, float, float]], first: int, unigrams: bool
) -> tuple[Order, dict[tuple[int, int], int]]:
    """Return an order by parent and token, and the node of each pair of these; <s> and </s> become one."""
    if unigrams:
        start = next((row[3] for row in rows if row[0] < 0), 0.0)
        rows = [row for row in rows if row[0] >= 0]
        end = next((row[2] for row in rows if row[1] == 0), IMPOSSIBLE * LN10)
        rows = [(0, 0, end, start), *(row for row in rows if row[1] != 0)]
    table = np.array(sorted(rows), float).reshape(-1, 4)
    parents, tokens = table[:, 0].astype(np.int64), table[:, 1].astype(np.int64)
    nodes = {pair: node for node, pair in enumerate(zip(parents.tolist(), tokens.tolist(), strict=True), first)}
    return Order(parents, tokens, table[:, 2], table[:, 3]), nodes
