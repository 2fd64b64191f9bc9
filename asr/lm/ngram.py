"""The n-gram language model: what it answers. asr/lm/estimation.py makes it, asr/lm/arpa.py reads and writes it.

Letters: V tokens, K contexts, L tokens of a sentence, M n-grams, C classes of an acoustic model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from asr.lm import kernels
from asr.lm.kernels import Trie
from asr.lm.model import LanguageModel


@dataclass(frozen=True)
class Order:
    """The n-grams of one length, sorted by parent and last token.

    Attributes
    ----------
    parents : (M,)
        Node of each n-gram without its last token; 0 for unigrams.
    tokens : (M,)
        Its last token.
    log_probs, backoffs : (M,)
        Natural logs; 0 for a backoff that is 1.
    """

    parents: np.ndarray
    tokens: np.ndarray
    log_probs: np.ndarray
    backoffs: np.ndarray


@dataclass(frozen=True)
class NGram(LanguageModel[np.ndarray]):
    """An n-gram with backoff; a state is a node of its tree.

    Attributes
    ----------
    trie
        See `asr.lm.kernels`.
    firsts
        The first node of each order, from the root's, and M + 1 at the end.

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
        """Build the tree from the n-grams of each order, of which the first has every token.

        Parents must be there before their children; shorter endings of an n-gram may lack.
        """
        firsts = np.cumsum([0, 1, *(len(order.tokens) for order in orders)])
        none = np.zeros(1)
        last = np.concatenate([none - 1, *(order.tokens for order in orders)]).astype(np.int32)
        parents = np.concatenate([none - 1, *(order.parents for order in orders)]).astype(np.int64)
        log_probs = np.concatenate([none, *(order.log_probs for order in orders)])
        backoffs = np.concatenate([none, *(order.backoffs for order in orders)])
        children = 1 + np.searchsorted(parents[1:], np.arange(len(last) + 1))
        keys = parents * len(tokens) + last  # ascending, since children lie in the order of their parents
        is_context = (np.diff(children) > 0) | (backoffs != 0)
        is_context[0] = True
        endings = np.zeros(len(last), np.int64)  # longest proper ending that is an n-gram
        targets = np.zeros(len(last), np.int32)
        for first, end in pairwise(firsts[1:]):
            nodes = np.arange(first, end)
            if first > 1:
                endings[nodes] = _find_endings(nodes, parents, last, keys, endings, len(tokens))
            targets[nodes] = np.where(is_context[nodes], nodes, targets[endings[nodes]])
        trie = Trie(last, children.astype(np.int32), log_probs, backoffs, targets, targets[endings])
        return cls(unit, tuple(tokens), trie, tuple(firsts.tolist()))

    @property
    def order(self) -> int:
        """Tokens of the longest n-grams."""
        return len(self.firsts) - 2

    @property
    def num_parameters(self) -> int:
        """Probabilities, and backoffs that are not 1."""
        return len(self.trie.tokens) - 1 + int((self.trie.backoffs != 0).sum())

    def options(self) -> dict[str, Any]:
        """Return where each order begins."""
        return {"firsts": list(self.firsts)}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the tree."""
        return self.trie._asdict()

    @classmethod
    def restore(
        cls, unit: str, tokens: tuple[str, ...], options: dict[str, Any], arrays: dict[str, np.ndarray]
    ) -> "NGram":
        """Check the tree, in which kernels look without asking, and make the model of it."""
        trie, firsts = Trie(**arrays), tuple(options["firsts"])
        count, vocabulary = len(trie.tokens), len(tokens)
        nodes = (trie.children[:-1], trie.targets, trie.shorter)
        fits = (
            [each.shape for each in trie] == [(count + (name == "children"),) for name in Trie._fields]
            and all(((each >= 0) & (each <= count)).all() for each in nodes)
            and (np.diff(trie.children) >= 0).all()
            and trie.children[0] == 1
            and trie.children[-1] == count == firsts[-1]
            and (trie.tokens[1 : 1 + vocabulary] == np.arange(vocabulary)).all()
            and ((trie.tokens[1:] >= 0) & (trie.tokens[1:] < vocabulary)).all()
            and (trie.shorter < np.maximum(np.arange(count), 1)).all()
            and trie.targets.max(initial=0) < count
        )
        if not fits:
            raise ValueError("the arrays are no tree of n-grams")
        return cls(unit, tokens, trie, firsts)

    def orders(self) -> Iterator[Order]:
        """Yield what `build` was given."""
        trie = self.trie
        parents = np.repeat(np.arange(len(trie.tokens)), np.diff(trie.children))
        for first, end in pairwise(self.firsts[1:]):
            rows = slice(first, end)
            yield Order(parents[first - 1 : end - 1], trie.tokens[rows], trie.log_probs[rows], trie.backoffs[rows])

    def start(self, count: int = 1) -> np.ndarray:
        """Return the node before a sentence (K,)."""
        return np.full(count, self.trie.targets[1])

    def advance(self, states: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Return the nodes after one more token each (K,)."""
        return kernels.advance(self.trie, states, np.asarray(tokens))

    def select(self, states: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Return some of the nodes."""
        return states[indices]

    def concat(self, states: Sequence[np.ndarray]) -> np.ndarray:
        """Return batches of nodes as one."""
        return np.concatenate(states)

    def log_probs(self, states: np.ndarray) -> np.ndarray:
        """Return natural log probabilities of the next token (K, V)."""
        return self.tables(states)[0]

    def tables(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return natural log probabilities of each token and the node it leads to, both (K, V)."""
        log_probs = np.empty((len(states), len(self.tokens)))
        after = np.empty(log_probs.shape, np.int32)
        kernels.rows(self.trie, states, log_probs, after)
        return log_probs, after

    def score(self, sentences: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """Return the natural log probability of each token, and of the end, of each sentence (L + 1,)."""
        if not sentences:
            return []
        lengths = np.array([len(sentence) + 1 for sentence in sentences])
        end = np.zeros(1, np.int64)
        tokens = np.concatenate([part for sentence in sentences for part in (self.indices(sentence), end)])
        found = np.empty(len(tokens))
        kernels.score(self.trie, self.start()[0], tokens, lengths, found)
        return np.split(found, np.cumsum(lengths)[:-1])


def _find_endings(
    nodes: np.ndarray, parents: np.ndarray, last: np.ndarray, keys: np.ndarray, endings: np.ndarray, num_tokens: int
) -> np.ndarray:
    """Return of each node its longest proper ending that is a node: its last token after an ending of its parent."""
    contexts, found = endings[parents[nodes]], np.full(len(nodes), -1)
    while (missing := found < 0).any():
        wanted = contexts[missing] * num_tokens + last[nodes[missing]]
        places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        found[missing] = np.where(keys[places] == wanted, places, -1)
        contexts = endings[contexts]
    return found
