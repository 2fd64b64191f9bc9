"""Mean and variance normalisation of features, as a model was trained with.

Letters: T frames, F values a frame.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from asr.speech.features import apply_cmvn, cmvn_statistics

if TYPE_CHECKING:
    from lhotse.cut import Cut

    from asr.data.feature_store import Features


class Normaliser:
    """Mean and variance normalisation, global, per speaker, per utterance or none.

    Parameters
    ----------
    mode
        As FeatureConfig.cmvn.
    mean, std : (F,)
        Of the training data; for ``global`` only.
    """

    def __init__(self, mode: str, mean: np.ndarray | None = None, std: np.ndarray | None = None):
        self.mode = mode
        self.mean, self.std = mean, std
        self._speakers: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    @classmethod
    def fit(cls, mode: str, cuts: "Iterable[Cut]", store: "Features") -> "Normaliser":
        """Take the statistics that the mode keeps from training data."""
        if mode == "global":
            return cls(mode, *cmvn_statistics(store[cut.id] for cut in cuts if cut.id in store))
        return cls(mode)

    def add_speakers(self, cuts: "Iterable[Cut]", store: "Features") -> None:
        """Take each speaker's statistics over all that he or she says in `cuts`; nothing to do in the other modes."""
        if self.mode != "speaker":
            return
        utterances = defaultdict(list)
        for cut in cuts:
            if cut.id in store:
                utterances[cut.supervisions[0].speaker].append(store[cut.id])
        self._speakers.update({speaker: cmvn_statistics(features) for speaker, features in utterances.items()})

    def __call__(self, features: np.ndarray, speaker: str | None = None) -> np.ndarray:
        """Normalise features (T, F); a speaker without statistics is normalised by this utterance alone."""
        if self.mode == "none":
            return np.asarray(features, np.float32)
        if self.mode == "global":
            return apply_cmvn(features, self.mean, self.std)
        return apply_cmvn(features, *self._speakers.get(speaker or "", (None, None)))
