"""The calibration in a model folder: the map from posteriors to probabilities of being right, lag of times, priors."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import geometric_mean
from typing import Any, Self

import numpy as np

from asr.core import files
from asr.core.errors import ModelError

FILE = "calibration.json"
FLOOR = 1e-3  # of a confidence in a geometric mean, since confidences are rounded to three digits


@dataclass(frozen=True)
class Calibration:
    """What was fitted on dev speakers; a model folder keeps it as ``calibration.json``.

    Attributes
    ----------
    posteriors, probabilities
        Points of the map from posteriors to probabilities of being right, both rising; the map is linear between them.
        Without points a posterior stays as it is.
    boundary_offset
        Seconds to add to boundaries that come from frames.
    priors : (C,)
        Mean posteriors of the classes of a CTC system (`asr.core.config.DecodeConfig.label_prior_scale`); none where
        they are not known.
    """

    posteriors: tuple[float, ...] = ()
    probabilities: tuple[float, ...] = ()
    boundary_offset: float = 0.0
    priors: tuple[float, ...] = ()

    @classmethod
    def load(cls, folder: Path) -> "Calibration":
        """Read a model folder's calibration; without the file nothing is changed.

        Raises
        ------
        ModelError
            The file is damaged.
        """
        path = folder / FILE
        if not path.is_file():
            return cls()
        try:
            return cls.of(json.loads(path.read_text(encoding="utf8")))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ModelError(
                f"{path} is damaged ({error!r}): copy the model folder again, or delete the file to do without it"
            ) from error

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Return the calibration of plain values by the attributes' names.

        Raises
        ------
        KeyError, TypeError, ValueError
            A value is missing, or no such thing.
        """
        posteriors, probabilities = (tuple(map(float, values[name])) for name in ("posteriors", "probabilities"))
        priors = tuple(map(float, values.get("priors", ())))  # which older files lack
        calibration = cls(posteriors, probabilities, float(values["boundary_offset"]), priors)
        calibration._check()
        return calibration

    def save(self, folder: Path) -> None:
        """Write ``calibration.json`` into a model folder."""
        files.write_json(folder / FILE, asdict(self))

    def _check(self) -> None:
        if len(self.posteriors) != len(self.probabilities):
            raise ValueError(f"{len(self.posteriors)} posteriors for {len(self.probabilities)} probabilities")
        if not all(before < after for before, after in pairwise(self.posteriors)):
            raise ValueError("the posteriors do not rise")
        if not all(before <= after for before, after in pairwise(self.probabilities)):
            raise ValueError("the probabilities fall")
        if not all(0 <= value <= 1 for value in self.posteriors + self.probabilities + self.priors):
            raise ValueError("a value is not in 0..1")
        if not np.isfinite(self.boundary_offset):
            raise ValueError("the boundary offset is not finite")

    def confidence(self, posteriors: np.ndarray) -> np.ndarray:
        """Return the probability of being right for each posterior.

        >>> Calibration((0.0, 1.0), (0.0, 0.5)).confidence(np.array([0.5]))
        array([0.25])
        """
        if not self.posteriors:
            return posteriors
        return np.interp(posteriors, self.posteriors, self.probabilities)

    def of_given(self) -> "Calibration":
        """Return the calibration of phones that are given instead of recognised.

        Recognised phones have no posteriors below the map's first point. Those of given phones can be 0, and a phone of
        posterior 0 was not said.

        >>> Calibration((0.4, 1.0), (0.6, 0.9)).of_given().confidence(np.array([0.0, 0.2]))
        array([0. , 0.3])
        """
        if not self.posteriors or self.posteriors[0] == 0:
            return self
        return replace(self, posteriors=(0.0, *self.posteriors), probabilities=(0.0, *self.probabilities))


def aligned_confidence(confidences: Sequence[float]) -> float:
    """Return the probability that all phones of a given word are said: the product of their calibrated confidences.

    The phones are taken as independent. Their geometric mean, or the least of them, tells how sure the phones are; it
    is far too high for the word.

    >>> round(aligned_confidence([0.9, 0.5]), 3)
    0.45
    """
    return float(np.prod(confidences))


def recognised_confidence(confidences: Sequence[float]) -> float:
    """Return how sure a recognised word is: the geometric mean of the calibrated confidences of its phones.

    Lexicon and language model chose the phones together, so that a word is right more often than their product says.
    The mean is near the probability that the word is right, and the map of a word model brings it nearer.

    >>> round(recognised_confidence([0.9, 0.4]), 3)
    0.6
    """
    return geometric_mean(max(each, FLOOR) for each in confidences)
