"""Generation of text by a language model.

Nucleus sampling: A. Holtzman, J. Buys, L. Du, M. Forbes and Y. Choi, "The curious case of neural text degeneration",
ICLR 2020, section 3.1. Letters: V tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from asr.core.settings import check
from asr.lm.language_model import LanguageModel


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes
    ----------
    temperature
        Divisor of the log probabilities; 0 takes the most probable token (greedy).
    top_k
        Draw only from the k most probable tokens; 0 draws from all.
    top_p
        Draw only from the most probable tokens that together have this probability.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        check(self.temperature >= 0, "temperature", "be 0 or more", self.temperature)
        check(self.top_k >= 0, "top-k", "be 0 or more", self.top_k)
        check(0 < self.top_p <= 1, "top-p", "lie in 0..1", self.top_p)

    def probabilities(self, log_probs: np.ndarray) -> np.ndarray:
        """Return the distribution (V,) that the next token is drawn from, for log probabilities (V,).

        >>> Sampling(top_k=2).probabilities(np.log([0.5, 0.3, 0.2])).round(3).tolist()
        [0.625, 0.375, 0.0]
        >>> Sampling(temperature=0).probabilities(np.log([0.5, 0.3, 0.2])).tolist()
        [1.0, 0.0, 0.0]
        """
        order = np.argsort(-log_probs, kind="stable")
        if self.temperature == 0:
            return np.eye(len(log_probs))[order[0]]
        scaled = (log_probs[order] - log_probs[order[0]]) / self.temperature
        weights = np.exp(scaled)
        weights[self.top_k or len(weights) :] = 0
        before = np.cumsum(weights) - weights
        weights[before >= self.top_p * weights.sum()] = 0
        found = np.zeros_like(weights)
        found[order] = weights / weights.sum()
        return found


def continuation(
    lm: LanguageModel, beginning: Sequence[str], sampling: Sampling | None = None, seed: int = 1
) -> Iterator[str]:
    """Yield tokens that continue a beginning, until the model ends the sentence, which may never happen.

    Parameters
    ----------
    lm
        N-gram or recurrent.
    beginning
        Tokens from the start of a sentence.
    sampling
        By default the model's own distribution.
    seed
        Seed of the random draws.

    Raises
    ------
    ConfigError
        The beginning has a token that is not in the model's closed vocabulary.

    Examples
    --------
    >>> from asr.lm.estimation import estimate
    >>> lm = estimate([list("hello")], "characters", order=3, smoothing="witten_bell")
    >>> "".join(continuation(lm, "h", Sampling(temperature=0)))
    'ello'
    """
    sampling, draws = sampling or Sampling(), np.random.default_rng(seed)
    state = lm.start()
    for token in lm.indices(beginning):
        state = lm.advance(state, np.array([token]))
    while token := int(draws.choice(len(lm.tokens), p=sampling.probabilities(lm.log_probs(state)[0]))):
        yield lm.tokens[token]
        state = lm.advance(state, np.array([token]))
