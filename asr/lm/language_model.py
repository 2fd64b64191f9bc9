"""The interface of language models, n-gram or recurrent, and perplexity.

Letters: V tokens, K contexts of a batch, L tokens of a sentence, N sentences.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import repeat
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from asr.core.errors import ConfigError

EDGE = "</s>"  # token 0: the start of a sentence as a context, its end as a prediction
UNKNOWN = "<unk>"  # of an open vocabulary: any other token
State = TypeVar("State")


class LanguageModel(ABC, Generic[State]):
    """Probabilities of the next token.

    A state represents a context. States come in batches of K, so that many contexts are looked up at once.

    Attributes
    ----------
    unit
        phones, characters or words.
    tokens : (V,)
        Token 0 is the sentence's edge; an open vocabulary includes UNKNOWN.
    FORMAT
        The number of a kind of model's format in folders; it rises when the format changes.
    """

    FORMAT: ClassVar[int] = 1
    unit: str
    tokens: tuple[str, ...]

    @abstractmethod
    def start(self, count: int = 1) -> State:
        """Return the state at the start of a sentence, `count` times."""

    @abstractmethod
    def advance(self, states: State, tokens: np.ndarray) -> State:
        """Return the states after one more token for each, tokens (K,)."""

    @abstractmethod
    def select(self, states: State, indices: np.ndarray) -> State:
        """Return some of the states by their indices, which may repeat."""

    @abstractmethod
    def concat(self, states: Sequence[State]) -> State:
        """Concatenate batches of states."""

    @abstractmethod
    def log_probs(self, states: State) -> np.ndarray:
        """Return natural log probabilities of the next token (K, V) float64."""

    @abstractmethod
    def score(self, sentences: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """Return the natural log probability of each token, and of the end, of each sentence: (L + 1,) float64.

        Raises
        ------
        ConfigError
            A token is not in a closed vocabulary.
        """

    @property
    @abstractmethod
    def num_parameters(self) -> int:
        """Number of trained parameters."""

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Return what a folder keeps besides tokens and parameters, as plain values."""

    @abstractmethod
    def arrays(self) -> dict[str, np.ndarray]:
        """Return the trained parameters by name."""

    @classmethod
    @abstractmethod
    def restore(
        cls, unit: str, tokens: tuple[str, ...], options: dict[str, Any], arrays: dict[str, np.ndarray]
    ) -> "LanguageModel":
        """Make a model from the results of `options` and `arrays`.

        Raises
        ------
        KeyError, RuntimeError, TypeError, ValueError
            Something is missing or does not fit the rest.
        """

    def totals(self, sentences: Sequence[Sequence[str]]) -> np.ndarray:
        """Return the natural log probability of each sentence including its end (N,)."""
        return np.array([log_probs.sum() for log_probs in self.score(sentences)])

    def indices(self, sentence: Sequence[str]) -> np.ndarray:
        """Return the indices of a sentence's tokens, with UNKNOWN's for tokens outside the vocabulary.

        Raises
        ------
        ConfigError
            A token is not in a closed vocabulary.
        """
        known = self.index
        other = known.get(UNKNOWN, -1)
        found = np.fromiter(map(known.get, sentence, repeat(other)), np.int64, len(sentence))
        if (found <= 0).any():
            token = sentence[int((found <= 0).argmax())]
            raise ConfigError(f"{token!r} is not one of the {len(self.tokens) - 1} {self.unit} of the language model")
        return found

    @cached_property
    def index(self) -> dict[str, int]:
        """The index of each token."""
        return {token: i for i, token in enumerate(self.tokens)}


def perplexity(log_probs: Iterable[np.ndarray]) -> float:
    """Return e to the mean negative log probability of a token, including the ends of sentences.

    >>> round(perplexity([np.log([0.25, 0.25]), np.log([0.25])]), 6)
    4.0
    """
    values = np.concatenate(list(log_probs))
    return math.exp(min(700.0, -float(values.mean())))
