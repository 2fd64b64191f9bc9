"""The n-gram language model. asr/lm/estimation.py estimates it; asr/lm/arpa.py reads and writes it.

Letters: V tokens, K contexts, L tokens of a sentence, N sentences, M n-grams, C classes of an acoustic model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import Any

import numpy as np

from asr.lm import kernels
from asr.lm.kernels import BACKOFF, SHORTER, TARGET, Trie
from asr.lm.language_model import LanguageModel


@dataclass(frozen=True)
class Order:
    """The n-grams of one length, sorted by parent and last token.

    Attributes
    ----------
    parents : (M,)
        Node of each n-gram without its last token; 0 for unigrams.
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
class NGram(LanguageModel[np.ndarray]):
    """An n-gram with backoff. A state is a node of its tree.

    Attributes
    ----------
    trie
        The tree of `asr.lm.kernels`.
    firsts
        The first node of each order, beginning with the root's, and M + 1 at the end.

    Examples
    --------
    >>> from asr.lm.estimation import estimate
    >>> lm = estimate([["a", "b"], ["a", "b", "b"]], "words", order=2)
    >>> lm.tokens
    ('</s>', 'a', 'b')
    >>> np.exp(lm.log_probs(lm.start())).round(3).tolist()  # a sentence begins with a
    [[0.146, 0.646, 0.208]]
    """

    unit: str
    tokens: tuple[str, ...]
    trie: Trie = field(repr=False)
    firsts: tuple[int, ...]

    @classmethod
    def build(cls, unit: str, tokens: Sequence[str], orders: Sequence[Order]) -> "NGram":
        """Build the tree from the n-grams of each order; the unigrams include every token.

        Every n-gram's parent must be among the n-grams of the previous order; its shorter endings may be missing.
        """
        firsts = np.cumsum([0, 1, *(len(order.tokens) for order in orders)])
        none = np.zeros(1)
        last = np.concatenate([none - 1, *(order.tokens for order in orders)]).astype(np.int32)
        parents = np.concatenate([none - 1, *(order.parents for order in orders)]).astype(np.int64)
        log_probs = np.concatenate([none, *(order.log_probs for order in orders)])
        backoffs = np.concatenate([none, *(order.backoffs for order in orders)])
        keys = parents * len(tokens) + last  # ascending, since children are in the order of their parents
        is_context = backoffs != 0
        is_context[np.maximum(parents, 0)] = True
        endings = np.zeros(len(last), np.int64)  # longest proper ending that is an n-gram
        targets = np.zeros(len(last), np.int32)
        for first, end in pairwise(firsts[1:]):
            nodes = np.arange(first, end)
            if first > 1:
                endings[nodes] = _find_endings(nodes, parents, last, keys, endings, len(tokens))
            targets[nodes] = np.where(is_context[nodes], nodes, targets[endings[nodes]])
        values, links = np.stack([log_probs, backoffs], axis=1), np.stack([targets, targets[endings]], axis=1)
        tree = (last, parents.astype(np.int32), values, links)
        trie = Trie(*tree, *kernels.hashed(*tree, 1 + len(tokens)))
        return cls(unit, tuple(tokens), trie, tuple(firsts.tolist()))

    @property
    def order(self) -> int:
        """Length of the longest n-grams."""
        return len(self.firsts) - 2

    @property
    def num_parameters(self) -> int:
        """Number of probabilities, and of backoff weights other than 1."""
        return len(self.trie.tokens) - 1 + int((self.trie.values[:, BACKOFF] != 0).sum())

    def options(self) -> dict[str, Any]:
        """Return the first node of each order."""
        return {"firsts": list(self.firsts)}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the tree without its hash table."""
        trie = self.trie
        return {"tokens": trie.tokens, "parents": trie.parents, "values": trie.values, "links": trie.links}

    @classmethod
    def restore(
        cls, unit: str, tokens: tuple[str, ...], options: dict[str, Any], arrays: dict[str, np.ndarray]
    ) -> "NGram":
        """Validate the tree, which kernels trust, and make a model of it.

        Raises
        ------
        KeyError, ValueError
            An array is missing, or the arrays are not a tree of n-grams.
        """
        tree, firsts = (
            (arrays["tokens"], arrays["parents"], arrays["values"], arrays["links"]),
            tuple(options["firsts"]),
        )
        trie = Trie(*tree, *kernels.hashed(*tree, len(tree[0])))  # with an empty table
        count, vocabulary = len(trie.tokens), len(tokens)
        numbers = np.arange(count)
        fits = (
            trie.parents.shape == (count,)
            and trie.values.shape == trie.links.shape == (count, 2)
            and firsts[-1] == count > vocabulary
            and (trie.tokens[1 : 1 + vocabulary] == np.arange(vocabulary)).all()
            and ((trie.tokens[1:] >= 0) & (trie.tokens[1:] < vocabulary)).all()
            and ((trie.parents[1:] >= 0) & (trie.parents < numbers)[1:]).all()
            and (np.diff(trie.parents.astype(np.int64) * vocabulary + trie.tokens)[1:] > 0).all()
            and ((trie.links >= 0) & (trie.links < count)).all()
            and (trie.links[:, SHORTER] < np.maximum(numbers, 1)).all()
        )
        if not fits:
            raise ValueError("the arrays are no tree of n-grams")
        return cls(unit, tokens, Trie(*tree, *kernels.hashed(*tree, 1 + vocabulary)), firsts)

    def orders(self) -> Iterator[Order]:
        """Yield the orders that `build` was given."""
        trie = self.trie
        for rows in (slice(*each) for each in pairwise(self.firsts[1:])):
            yield Order(trie.parents[rows], trie.tokens[rows], *trie.values[rows].T)

    def start(self, count: int = 1) -> np.ndarray:
        """Return the node of the start of a sentence, `count` times (K,)."""
        return np.full(count, self.trie.links[1, TARGET])

    def advance(self, states: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Return the nodes (K,) after one more token for each, tokens (K,)."""
        return self.query(states, tokens)[1]

    def query(self, states: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the natural log probability of one token after each node, and the nodes after it, both (K,).

        Raises
        ------
        ValueError
            Nodes and tokens differ in number, or one of them does not exist.
        """
        tokens = np.asarray(tokens)
        if states.shape != tokens.shape or not (
            _lie_in(states, len(self.trie.tokens)) and _lie_in(tokens, len(self.tokens))
        ):
            raise ValueError(f"nodes {states.tolist()} and tokens {tokens.tolist()} do not fit the model")
        return kernels.advance(self.trie, states, tokens)

    def select(self, states: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Return some of the nodes."""
        return states[indices]

    def concat(self, states: Sequence[np.ndarray]) -> np.ndarray:
        """Concatenate batches of nodes."""
        return np.concatenate(states)

    def log_probs(self, states: np.ndarray) -> np.ndarray:
        """Return natural log probabilities of the next token (K, V)."""
        return self.tables(states)[0]

    def tables(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return natural log probabilities of each token and the node it leads to, both (K, V)."""
        if not _lie_in(states, len(self.trie.tokens)):
            raise ValueError(f"nodes {states.tolist()} do not fit the model")
        log_probs = np.empty((len(states), len(self.tokens)))
        after = np.empty(log_probs.shape, np.int32)
        kernels.rows(self.trie, states, log_probs, after)
        return log_probs, after

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


def _find_endings(
    nodes: np.ndarray, parents: np.ndarray, last: np.ndarray, keys: np.ndarray, endings: np.ndarray, num_tokens: int
) -> np.ndarray:
    """Return the longest proper ending of each node that is a node: its last token after an ending of its parent."""
    contexts, found = endings[parents[nodes]], np.full(len(nodes), -1)
    while (missing := found < 0).any():
        wanted = contexts[missing] * num_tokens + last[nodes[missing]]
        places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        found[missing] = np.where(keys[places] == wanted, places, -1)
        contexts = endings[contexts]
    return found
