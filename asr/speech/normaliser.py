"""Mean and variance normalisation of features, in the way that a model was trained with.

Letters: T frames, F values a frame.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

import numpy as np

from asr.speech.features import apply_cmvn, cmvn_statistics

if TYPE_CHECKING:
    from lhotse.cut import Cut


class Features(Protocol):
    """Features (T, F) of many utterances by id, before normalisation."""

    def __getitem__(self, utterance_id: str) -> np.ndarray: ...

    def __contains__(self, utterance_id: str) -> bool: ...


class Normaliser:
    """Normalises features by the statistics of all training data, of a speaker, of an utterance, or not at all.

    Parameters
    ----------
    mode
        A value of `FeatureConfig.cmvn`.
    mean, std : (F,)
        Statistics of the training data, for the mode ``global``.
    """

    def __init__(self, mode: str, mean: np.ndarray | None = None, std: np.ndarray | None = None):
        self.mode = mode
        self.mean, self.std = mean, std
        self._speakers: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    @classmethod
    def fit(cls, mode: str, cuts: "Iterable[Cut]", store: Features) -> "Normaliser":
        """Return a normaliser with the statistics of the training data, where the mode needs them."""
        if mode == "global":
            return cls(mode, *cmvn_statistics(store[cut.id] for cut in cuts if cut.id in store))
        return cls(mode)

    def add_speakers(self, cuts: "Iterable[Cut]", store: Features) -> None:
        """Add the statistics of each speaker over all utterances in `cuts`; other modes than ``speaker`` need none."""
        if self.mode != "speaker":
            return
        utterances = defaultdict(list)
        for cut in cuts:
            if cut.id in store:
                utterances[cut.supervisions[0].speaker].append(store[cut.id])
        self._speakers.update({speaker: cmvn_statistics(features) for speaker, features in utterances.items()})

    def __call__(self, features: np.ndarray, speaker: str | None = None) -> np.ndarray:
        """Normalise features (T, F); those of an unknown speaker by the statistics of this utterance."""
        if self.mode == "none":
            return np.asarray(features, np.float32)
        if self.mode == "global":
            return apply_cmvn(features, self.mean, self.std)
        return apply_cmvn(features, *self._speakers.get(speaker or "", (None, None)))
