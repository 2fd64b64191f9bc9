"""What a decoder returns."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Hypothesis:
    """A decoded label sequence of length L.

    Attributes
    ----------
    tokens : tuple of int, length L
        Indices of the classes, without blanks.
    timesteps : tuple of int, length L
        The output frame in which each token peaks: rising, one for each.
    score : float
        Natural log probability: of the path for `best_path`, of the labelling over all its paths in the beam for
        `beam_search`.
    confidences : tuple of float, length L
        Posterior of each token, in 0..1, in the frame of its timestep: the network's own, not calibrated.
    words : tuple of str, optional
        What the tokens are together, where the search was for words. One that the lexicon lacks is spelt: [K AE T].
    word_lengths : tuple of int
        How many tokens each word has.
    """

    tokens: tuple[int, ...]
    timesteps: tuple[int, ...]
    score: float
    confidences: tuple[float, ...]
    words: tuple[str, ...] | None = field(default=None, kw_only=True)
    word_lengths: tuple[int, ...] = field(default=(), kw_only=True)
