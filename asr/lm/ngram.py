"""The n-gram language model. asr/lm/estimation.py estimates it; asr/lm/arpa.py reads and writes it.

Letters: V tokens, K states, L tokens of a sentence, N sentences.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any, ClassVar

import numpy as np

from asr.core.errors import ModelError
from asr.lm import trie as kernels
from asr.lm.language_model import LanguageModel
from asr.lm.packing import Order, Packing, pack, unpack
from asr.lm.trie import FIRST, Trie


@dataclass(frozen=True)
class NGram(LanguageModel[np.ndarray]):
    """An n-gram with backoff. A state is a number (`asr.lm.trie`).

    Attributes
    ----------
    packing
        How the n-grams are packed.
    trie
        The n-grams.

    Examples
    --------
    >>> from asr.lm.estimation import estimate
    >>> lm = estimate([["a", "b"], ["a", "b", "b"]], "words", order=2)
    >>> lm.tokens
    ('</s>', 'a', 'b')
    >>> np.exp(lm.log_probs(lm.start())).round(3).tolist()  # a sentence begins with a
    [[0.146, 0.646, 0.208]]
    """

    FORMAT: ClassVar[int] = 2  # 1: arrays of a tree that were copied into a hash table
    unit: str
    tokens: tuple[str, ...]
    packing: Packing
    trie: Trie = field(repr=False)

    @classmethod
    def build(
        cls, unit: str, tokens: Sequence[str], orders: Sequence[Order], books: np.ndarray | None = None
    ) -> "NGram":
        """Pack the n-grams of each order; `asr.lm.packing.pack` says what they must be."""
        return cls(unit, tuple(tokens), *pack(orders, books))

    @property
    def order(self) -> int:
        """Length of the longest n-grams."""
        return len(self.packing.counts)

    @property
    def num_states(self) -> int:
        """Number of contexts: the longest n-grams are none."""
        return int(self.trie.layout[-1, FIRST])

    @property
    def num_parameters(self) -> int:
        """Number of probabilities, and of backoff weights other than 1."""
        return sum(len(order.tokens) + int((order.backoffs != 0).sum()) for order in self.orders())

    def options(self) -> dict[str, Any]:
        """Return how the n-grams are packed."""
        return asdict(self.packing)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the trie's words; its layout follows from the options."""
        return {"words": self.trie.words}

    @classmethod
    def restore(
        cls, unit: str, tokens: tuple[str, ...], options: dict[str, Any], arrays: dict[str, np.ndarray]
    ) -> "NGram":
        """Make a model of its words, of which only the number is checked: they may be a file mapped into memory.

        Raises
        ------
        KeyError, TypeError, ValueError
            An option or array is missing, or they do not fit each other.
        """
        packing, words = Packing(**options | {"counts": tuple(options["counts"])}), arrays["words"]
        layout, size = packing.layout()
        if packing.counts[0] != len(tokens) or words.shape != (size,) or words.dtype != np.uint32:
            raise ValueError("the arrays are no trie of these n-grams")
        return cls(unit, tokens, packing, Trie(layout, words))

    def orders(self) -> Iterator[Order]:
        """Yield the n-grams of each order.

        Raises
        ------
        ModelError
            The n-grams are damaged.
        """
        try:
            yield from unpack(self.trie)
        except (ValueError, IndexError) as error:
            raise ModelError("the n-grams are damaged: copy the model again, or train again") from error

    def start(self, count: int = 1) -> np.ndarray:
        """Return the state at the start of a sentence, `count` times (K,)."""
        none = np.zeros(count, np.int32)
        return self.advance(none, none)

    def advance(self, states: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Return the states (K,) after one more token for each, tokens (K,)."""
        return self.query(states, tokens)[1]

    def query(self, states: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the natural log probability of one token after each state, and the states after it, both (K,).

        Raises
        ------
        ValueError
            States and tokens differ in number, or one of them does not exist.
        """
        states, tokens = np.asarray(states, np.int64), np.asarray(tokens, np.int64)
        if states.shape != tokens.shape or not (_lie_in(states, self.num_states) and _lie_in(tokens, len(self.tokens))):
            raise ValueError(f"states {states.tolist()} and tokens {tokens.tolist()} do not fit the model")
        return kernels.advance(self.trie, states, tokens)

    def select(self, states: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Return some of the states."""
        return states[indices]

    def concat(self, states: Sequence[np.ndarray]) -> np.ndarray:
        """Concatenate batches of states."""
        return np.concatenate(states)

    def log_probs(self, states: np.ndarray) -> np.ndarray:
        """Return natural log probabilities of the next token (K, V)."""
        return self.tables(states)[0]

    def tables(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return natural log probabilities of each token and the state it leads to, both (K, V)."""
        states = np.asarray(states, np.int64)
        if not _lie_in(states, self.num_states):
            raise ValueError(f"states {states.tolist()} do not fit the model")
        log_probs = np.empty((len(states), len(self.tokens)))
        after = np.empty(log_probs.shape, np.int32)
        kernels.rows(self.trie, states, log_probs, after)
        return log_probs, after

    def all_tables(self) -> tuple[np.ndarray, np.ndarray]:
        """Return what `tables` returns, for all states (Q, V), in less time; sums are rounded in another order."""
        log_probs = np.empty((self.num_states, len(self.tokens)))
        after = np.empty(log_probs.shape, np.int32)
        kernels.all_rows(self.trie, log_probs, after)
        return log_probs, after

    def back_off(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the states without their first token and their natural-log backoff weights, both (K,).

        Of the empty context it is the empty context, with weight 0.
        """
        states = np.asarray(states, np.int64)
        if not _lie_in(states, self.num_states):
            raise ValueError(f"states {states.tolist()} do not fit the model")
        return kernels.back_off(self.trie, states)

    def score(self, sentences: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """Return the natural log probability of each token, and of the end, of each sentence (L + 1,)."""
        if not sentences:
            return []
        found, ends = self._score(sentences)
        return np.split(found, ends[:-1])

    def totals(self, sentences: Sequence[Sequence[str]]) -> np.ndarray:
        """Return the natural log probability of each sentence (N,)."""
        if not sentences:
            return np.zeros(0)
        found, ends = self._score(sentences)
        return np.add.reduceat(found, np.concatenate([[0], ends[:-1]]))

    def _score(self, sentences: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
        """Return the log probabilities of all sentences, concatenated, and the end of each sentence."""
        lengths = np.fromiter(map(len, sentences), np.int64, len(sentences))
        found = np.empty(lengths.sum() + len(lengths))
        tokens = self.indices(list(chain.from_iterable(sentences)))
        kernels.score(self.trie, self.start()[0], tokens, lengths, found)
        return found, np.cumsum(lengths + 1)


def _lie_in(numbers: np.ndarray, count: int) -> bool:
    return bool(numbers.min(initial=0) >= 0 and numbers.max(initial=-1) < count)
