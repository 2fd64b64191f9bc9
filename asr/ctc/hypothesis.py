"""What a decoder returns."""

from dataclasses import dataclass


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
    """

    tokens: tuple[int, ...]
    timesteps: tuple[int, ...]
    score: float
    confidences: tuple[float, ...]
