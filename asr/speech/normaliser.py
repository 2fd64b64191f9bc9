"""Mean and variance normalisation of features, in the way that a model was trained with.

Letters: T frames, F values a frame.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

import numpy as np

from asr.core.config import FeatureConfig
from asr.speech import running
from asr.speech.features import apply_cmvn, cmvn_statistics, frame_levels, quietest, speech_frames

if TYPE_CHECKING:
    from lhotse.cut import Cut


class Features(Protocol):
    """Features (T, F) of many utterances by id, before normalisation."""

    def __getitem__(self, utterance_id: str) -> np.ndarray: ...

    def __contains__(self, utterance_id: str) -> bool: ...


class Normaliser:
    """Normalises features by statistics of all training data, a speaker, an utterance or its speech so far, or not.

    Parameters
    ----------
    config
        Configuration of the features; its `cmvn` says which statistics.
    mean, std : (F,)
        Statistics of the training data, for the modes ``global`` and ``running`` (there of `asr.speech.running.fit`).
    """

    def __init__(self, config: FeatureConfig, mean: np.ndarray | None = None, std: np.ndarray | None = None):
        self.config = config
        self.mean, self.std = mean, std
        self._speakers: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    @classmethod
    def fit(cls, config: FeatureConfig, cuts: "Iterable[Cut]", store: Features) -> "Normaliser":
        """Return a normaliser with the statistics of the training data, where the mode needs them."""
        if config.cmvn == "global":
            return cls(config, *cmvn_statistics(store[cut.id] for cut in cuts if cut.id in store))
        if config.cmvn == "running":
            return cls(config, *running.fit(lambda: (store[cut.id] for cut in cuts if cut.id in store), config))
        return cls(config)

    def add_speakers(self, cuts: "Iterable[Cut]", store: Features) -> None:
        """Add the statistics of each speaker over all utterances in `cuts`; other modes than ``speaker`` need none."""
        if self.config.cmvn != "speaker":
            return
        utterances = defaultdict(list)
        for cut in cuts:
            if cut.id in store:
                utterances[cut.supervisions[0].speaker].append(store[cut.id])
        self._speakers.update({speaker: cmvn_statistics(features) for speaker, features in utterances.items()})

    def __call__(self, features: np.ndarray, speaker: str | None = None) -> np.ndarray:
        """Normalise features (T, F); those of an unknown speaker by the statistics of this utterance."""
        mode = self.config.cmvn
        if mode == "none":
            return np.asarray(features, np.float32)
        if mode == "global":
            return apply_cmvn(features, self.mean, self.std)
        if mode == "running":
            return self.follow(features, running.Place.start(features.shape[1]))
        if mode == "speech":
            is_speech = speech_frames(*frame_levels(features, self.config))
            features = np.maximum(features, quietest(self.config))
            return apply_cmvn(features, *cmvn_statistics([features[is_speech]]))
        return apply_cmvn(features, *self._speakers.get(speaker or "", (None, None)))

    def follow(self, features: np.ndarray, place: running.Place) -> np.ndarray:
        """Normalise the next features (T, F) of a stream, with the mode ``running``, and move its place on."""
        assert self.mean is not None
        assert self.std is not None
        return running.subtract_running_mean(features, self.config, self.mean, place) / self.std
