"""What a decoder returns."""

from dataclasses import dataclass, field, replace

import numpy as np


@dataclass(frozen=True)
class Hypothesis:
    """A decoded label sequence of length L.

    Attributes
    ----------
    tokens : tuple of int, length L
        Indices of the classes, without blanks.
    timesteps : tuple of int, length L
        The output frame in which each token peaks, in ascending order.
    score : float
        Natural log probability: of the path for `best_path`, of the labelling over all its paths in the beam for
        `beam_search`.
    confidences : tuple of float, length L
        The network's posterior of each token in the frame of its timestep, in 0..1; not calibrated.
    words : tuple of str, optional
        The words that the tokens spell, where the search was for words. A word that is not in the lexicon is given by
        its phones: [K AE T].
    word_lengths : tuple of int
        Number of tokens of each word.
    """

    tokens: tuple[int, ...]
    timesteps: tuple[int, ...]
    score: float
    confidences: tuple[float, ...]
    words: tuple[str, ...] | None = field(default=None, kw_only=True)
    word_lengths: tuple[int, ...] = field(default=(), kw_only=True)

    def sure_by(self, log_probs: np.ndarray) -> "Hypothesis":
        """Return the hypothesis with other confidences: posteriors of its tokens, of which log_probs (T, C) are logs.

        >>> Hypothesis((1,), (0,), -0.5, (0.6,)).sure_by(np.log([[0.25, 0.75]])).confidences
        (0.75,)
        """
        confidences = np.exp(log_probs[list(self.timesteps), list(self.tokens)], dtype=np.float64)
        return replace(self, confidences=tuple(confidences.tolist()))
