"""From n-grams in plain arrays, one set for each order, to the trie of `asr.lm.trie` and back.

Letters: V tokens, M n-grams of an order, N the highest order. Rows count from 0: row 0 has the unigrams.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from asr.core.jit import njit
from asr.lm.trie import (
    BACKOFF,
    BOOKS,
    COUNT,
    FIRST,
    FLOAT_BITS,
    KEY,
    LOG_PROB,
    LONGER,
    RECORDS,
    SAMPLED,
    SAMPLES,
    VALUE,
    WIDTH,
    Trie,
    read,
)

BOOK_BITS = range(2, 17)  # of a number in a code book
NO_CONTEXT, CONTEXT = range(2)  # numbers of the backoff weight 1 where no longer n-gram follows and where one does
CONTEXT_FLOAT = np.uint32(1 << 31)  # the latter where weights are float32: −0


@dataclass(frozen=True)
class Order:
    """The n-grams of one length, sorted by parent and last token.

    Attributes
    ----------
    parents : (M,)
        State of each n-gram without its last token (`asr.lm.trie`); 0 for unigrams.
    tokens : (M,)
        Last token of each n-gram.
    log_probs, backoffs : (M,)
        Natural logs; 0 for a backoff weight of 1.
    """

    parents: np.ndarray
    tokens: np.ndarray
    log_probs: np.ndarray
    backoffs: np.ndarray


@dataclass(frozen=True)
class Packing:
    """Numbers from which the layout of a trie follows.

    Attributes
    ----------
    counts
        Number of n-grams of each order.
    bits
        Bits of a value: 32 for a float32, or 2 to 16 for a number in a code book.
    rank_bits
        Bits of a key of the longest n-grams, if these have three tokens or more.
    """

    counts: tuple[int, ...]
    bits: int
    rank_bits: int

    def __post_init__(self) -> None:
        numbers = (*self.counts, self.bits, self.rank_bits)
        fits = (
            all(type(number) is int and number >= 0 for number in numbers)
            and sum(self.counts[:1]) > 0
            and sum(self.counts) < 2**31
            and (self.bits == FLOAT_BITS or self.bits in BOOK_BITS)
            and self.rank_bits < FLOAT_BITS
        )
        if not fits:
            raise ValueError(f"n-grams cannot be packed so: {numbers}")

    def layout(self) -> tuple[np.ndarray, int]:
        """Return the trie's layout (N, 9) and the number of its words."""
        layout, num_orders = np.zeros((len(self.counts), 9), np.int64), len(self.counts)
        layout[:, COUNT], layout[:, VALUE] = self.counts, self.bits
        layout[:, FIRST] = 1 + np.cumsum((0, *self.counts[:-1]))
        layout[1:, KEY] = [max(1, (count - 1).bit_length()) for count in self.counts[:-1]]
        if num_orders > 2:
            layout[-1, KEY] = self.rank_bits
        layout[:, WIDTH] = layout[:, KEY] + 2 * self.bits
        layout[-1, WIDTH] -= self.bits
        end = 0
        for row in layout:
            row[RECORDS] = 32 * end
            end += _words(int(row[COUNT] * row[WIDTH]))
        for row in layout if self.bits != FLOAT_BITS else ():
            row[BOOKS] = end
            end += 2 << self.bits
        for n in range(num_orders - 1):
            layout[n, LONGER] = end
            end += self.counts[0] + 1 if n == 0 else _words(self.counts[n] + self.counts[n + 1] + 1)
            layout[n, SAMPLES] = end
            end += 0 if n == 0 else (self.counts[n] >> SAMPLED) + 1
        return layout, end + 1  # a word more, since numbers are read from two


def _words(bits: int) -> int:
    return (bits + 31) // 32


def pack(orders: Sequence[Order], books: np.ndarray | None = None) -> tuple[Packing, Trie]:
    """Pack n-grams into a trie.

    Parameters
    ----------
    orders
        The unigrams include every token. Every n-gram's parent is among the n-grams of the previous order. An ending
        that is not is added, with the probability that it has already.
    books : (N, 2, ·) float32, optional
        The values that each order's log probabilities and backoff weights are rounded to: a power of 2 of each,
        ascending but for the first two backoff weights, which are 0 and not rounded to. By default all are float32.
    """
    closed, links = _closed(orders)
    counts = tuple(len(order.tokens) for order in closed)
    keys = [order.tokens if n < 2 else links.endings[n] for n, order in enumerate(closed)]
    rank_bits = 0
    if len(closed) > 2:
        keys[-1] = keys[-1] - links.offsets[-2][links.endings[-2][links.parents[-1]]]
        rank_bits = max(1, int(keys[-1].max(initial=0)).bit_length())
    bits = FLOAT_BITS if books is None else books.shape[2].bit_length() - 1
    packing = Packing(counts, bits, rank_bits)
    layout, size = packing.layout()
    words = np.zeros(size, np.uint32)
    for n, order in enumerate(closed):
        start, width, key_bits = layout[n, [RECORDS, WIDTH, KEY]].tolist()
        if n > 0:
            _write(words, start, width, keys[n].astype(np.uint32))
        log_prob_book, backoff_book = (None, None) if books is None else books[n].astype(np.float32)
        _write(words, start + key_bits, width, _numbers(order.log_probs, log_prob_book))
        if n + 1 < len(closed):
            weights = _weights(order.backoffs, np.diff(links.offsets[n]) > 0, backoff_book)
            _write(words, start + key_bits + bits, width, weights)
            _put(words, layout[n, LONGER], links.offsets[n] if n == 0 else _unary(links.offsets[n]))
            if n > 0:
                _put(words, layout[n, SAMPLES], _ones(links.offsets[n])[:: 1 << SAMPLED])
        if books is not None:
            _put(words, layout[n, BOOKS], books[n].astype(np.float32).view(np.uint32).ravel())
    return packing, Trie(layout, words)


def _put(words: np.ndarray, start: int, numbers: np.ndarray) -> None:
    words[start : start + len(numbers)] = numbers


def unpack(trie: Trie) -> Iterator[Order]:
    """Yield the n-grams of each order.

    Raises
    ------
    ValueError
        The trie is damaged.
    """
    tokens = endings = np.arange(trie.layout[0, COUNT], dtype=np.int32)
    parents, offsets, shorter_offsets = np.zeros_like(tokens), tokens, tokens
    for n in range(len(trie.layout)):
        start, width, key_bits, bits, count = trie.layout[n, [RECORDS, WIDTH, KEY, VALUE, COUNT]].tolist()
        if n > 0:
            contexts = np.repeat(np.arange(len(offsets) - 1, dtype=np.int32), np.diff(offsets))
            keys = _read(trie.words, start, width, count, key_bits).astype(np.int64)
            if 1 < n == len(trie.layout) - 1:
                keys += shorter_offsets[endings[contexts]]
            _check(len(contexts) == count and bool(keys.max(initial=0) < len(tokens)))
            parents = contexts + np.int32(trie.layout[n - 1, FIRST])
            tokens, endings = tokens[keys], keys.astype(np.int32)
        log_probs = _values(_read(trie.words, start + key_bits, width, count, bits), _book(trie, n, LOG_PROB))
        backoffs = np.zeros(count, np.float32)
        if n + 1 < len(trie.layout):
            numbers = _read(trie.words, start + key_bits + bits, width, count, bits)
            backoffs = _values(numbers, _book(trie, n, BACKOFF))
            shorter_offsets, offsets = offsets, _offsets(trie, n)
        _check(bool(np.isfinite(log_probs).all() and np.isfinite(backoffs).all()))
        yield Order(parents, tokens, log_probs, backoffs + np.float32(0))  # −0 becomes 0


def _check(fits: bool) -> None:
    if not fits:
        raise ValueError("the arrays are no trie of n-grams")


def _book(trie: Trie, n: int, kind: int) -> np.ndarray | None:
    """Return a code book, None where values are float32."""
    start, bits = trie.layout[n, [BOOKS, VALUE]].tolist()
    start += kind << bits
    return None if bits == FLOAT_BITS else trie.words[start : start + (1 << bits)].view(np.float32)


def _offsets(trie: Trie, n: int) -> np.ndarray:
    """Return the first n-gram after each context of order n + 1, and the number of those n-grams (M + 1,)."""
    count, longer, start = trie.layout[n, COUNT], trie.layout[n + 1, COUNT], trie.layout[n, LONGER]
    if n == 0:
        offsets = trie.words[start : start + count + 1].astype(np.int64)
    else:
        words = trie.words[start : start + _words(count + longer + 1)]
        (ones,) = np.nonzero(np.unpackbits(words.view(np.uint8), bitorder="little"))
        _check(len(ones) == count + 1)
        offsets = ones - np.arange(count + 1)
    _check(bool(offsets[0] == 0 and offsets[-1] == longer and (np.diff(offsets) >= 0).all()))
    return offsets


@dataclass(frozen=True)
class Links:
    """How n-grams hang together; numbers count the n-grams of one order.

    Attributes
    ----------
    parents
        Of each order but the first, the number of each n-gram without its last token (M,).
    offsets
        Of each order but the last, the first longer n-gram of each, and the number of longer n-grams (M + 1,).
    endings
        Of each order, the number of each n-gram without its first token (M,), or −1; for unigrams nothing.
    """

    parents: list[np.ndarray]
    offsets: list[np.ndarray]
    endings: list[np.ndarray]

    @classmethod
    def of(cls, orders: Sequence[Order]) -> "Links":
        """Find the links of n-grams whose parents are there."""
        firsts = np.cumsum([1, *(len(order.tokens) for order in orders)]).tolist()
        parents = [order.parents - np.int32(first) for order, first in zip(orders[1:], firsts, strict=False)]
        offsets = [
            np.searchsorted(each, np.arange(len(order.tokens) + 1, dtype=np.int32)).astype(np.int32)
            for order, each in zip(orders, parents, strict=False)
        ]
        endings = [np.zeros(0, np.int32), *(order.tokens for order in orders[1:2])]
        for n in range(2, len(orders)):
            before = endings[n - 1], offsets[n - 2], orders[n - 1].tokens
            endings.append(_endings(parents[n - 1], orders[n].tokens, *before))
        return cls(parents, offsets, endings)


def _closed(orders: Sequence[Order]) -> tuple[list[Order], Links]:
    """Return orders with the endings that they lack, and their links."""
    closed = [
        replace(order, parents=order.parents.astype(np.int32), tokens=order.tokens.astype(np.int32)) for order in orders
    ]
    links, is_whole = Links.of(closed), True
    while any(each.min(initial=0) < 0 for each in links.endings):
        closed, is_whole = _with_endings(closed, links), False
        links = Links.of(closed)
    for n in range(1, 1 if is_whole else len(closed)):  # the new ones have no probability yet
        new, shorter = np.isnan(closed[n].log_probs), closed[n - 1]
        closed[n].log_probs[new] = (
            shorter.backoffs[links.parents[n - 1][new]] + shorter.log_probs[links.endings[n][new]]
        )
    return closed, links


def _with_endings(orders: Sequence[Order], links: Links) -> list[Order]:
    """Add the missing endings whose own parents are there, without log probabilities (NaN)."""
    num_tokens = len(orders[0].tokens)
    extended, first, moved = [orders[0]], 1, np.arange(num_tokens)  # where the n-grams of the previous order are now
    for n in range(1, len(orders)):
        keys = links.parents[n - 1].astype(np.int64) * num_tokens + orders[n].tokens
        values = np.stack([orders[n].log_probs, orders[n].backoffs])
        if n + 1 < len(orders):
            contexts = links.endings[n][links.parents[n]]
            wanted = (links.endings[n + 1] < 0) & (contexts >= 0)
            new = np.unique(contexts[wanted].astype(np.int64) * num_tokens + orders[n + 1].tokens[wanted])
            keys = np.concatenate([keys, new])
            values = np.concatenate([values, np.repeat([[np.nan], [0.0]], len(new), axis=1)], axis=1)
        order = np.argsort(keys, kind="stable")
        contexts, tokens = np.divmod(keys[order], num_tokens)
        extended.append(Order((first + moved[contexts]).astype(np.int32), tokens.astype(np.int32), *values[:, order]))
        first += len(moved)
        moved = np.empty_like(order)
        moved[order] = np.arange(len(order))
    return extended


def _numbers(log_probs: np.ndarray, book: np.ndarray | None) -> np.ndarray:
    """Return the bits of float32, or the numbers of the nearest values in a code book (M,)."""
    if book is None:
        return log_probs.astype(np.float32).view(np.uint32)
    return np.searchsorted((book[1:] + book[:-1]) / 2, log_probs).astype(np.uint32)


def _weights(backoffs: np.ndarray, has_longer: np.ndarray, book: np.ndarray | None) -> np.ndarray:
    """Return the same for backoff weights; the first two values of a code book are 0."""
    is_one = backoffs.astype(np.float32) == 0
    if book is None:
        return np.where(is_one, np.where(has_longer, CONTEXT_FLOAT, np.uint32(0)), _numbers(backoffs, None))
    return np.where(is_one, np.where(has_longer, CONTEXT, NO_CONTEXT), 2 + _numbers(backoffs, book[2:]))


def _values(numbers: np.ndarray, book: np.ndarray | None) -> np.ndarray:
    """Return the values of bits or numbers (M,) float32."""
    return numbers.view(np.float32) if book is None else book[numbers]


def _ones(offsets: np.ndarray) -> np.ndarray:
    """Return where the string of bits of an order's contexts has ones (M + 1,)."""
    return offsets + np.arange(len(offsets), dtype=np.int64)


def _unary(offsets: np.ndarray) -> np.ndarray:
    """Return the words of the string of bits of an order's contexts."""
    ones = _ones(offsets)
    bits = np.zeros(32 * _words(int(ones[-1]) + 1), bool)
    bits[ones] = True
    return np.packbits(bits, bitorder="little").view(np.uint32)


@njit(cache=True)
def _endings(parents, tokens, shorter, offsets, last):
    """Return the number of each n-gram's ending (M,), or −1.

    `shorter` has the endings of the parents, `offsets` where the n-grams after these start, and `last` the last tokens
    of those n-grams.
    """
    found = np.full(len(parents), -1, np.int32)
    low = end = 0
    for i in range(len(parents)):
        context = shorter[parents[i]]
        if context < 0:
            continue
        if i == 0 or parents[i] != parents[i - 1]:
            low, end = offsets[context], offsets[context + 1]
        high = end
        while low < high:
            middle = (low + high) >> 1
            if last[middle] < tokens[i]:
                low = middle + 1
            else:
                high = middle
        if low < end and last[low] == tokens[i]:
            found[i] = low
    return found


@njit(cache=True)
def _write(words, bit, step, numbers):
    """Write numbers at equal distances into words whose bits are 0 there."""
    for i in range(len(numbers)):
        place = bit >> 5
        number = np.int64(numbers[i]) << (bit & 31)
        words[place] |= np.uint32(number & 0xFFFFFFFF)
        words[place + 1] |= np.uint32(number >> 32)
        bit += step


@njit(cache=True)
def _read(words, bit, step, count, width):
    """Return numbers at equal distances (M,)."""
    numbers = np.empty(count, np.uint32)
    for i in range(count):
        numbers[i] = read(words, bit + i * step, width)
    return numbers
