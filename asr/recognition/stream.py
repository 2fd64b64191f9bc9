"""Phones as the speech comes: a network in one direction, fed step by step, its states kept between.

    samples ─ frames that are whole ─ normalised ─ steps of n frames ─ LSTM with states ─ best path ─▶ phones

What is found is what the whole recording would give: features, normalisation by the training data's statistics and the
network see nothing later, and the best path needs no later frame. A phone is told when its spike has begun; where it
ends nobody knows yet, so there are no times but those of the spikes.

Letters: N samples, T feature frames, F values a frame, n frames a step, C classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.core.errors import ConfigError
from asr.models import model_folder
from asr.models.kinds import has_graph
from asr.models.onnx import OnnxModel, graph_of
from asr.speech import audio
from asr.speech.features import FRAME_LENGTH, FRAME_SHIFT, HOP_LENGTH, WINDOW_LENGTH, FeatureExtractor


@dataclass(frozen=True)
class Spike:
    """A phone that has just been heard.

    Attributes
    ----------
    label
        Of the model's phone set.
    time
        Seconds from the beginning to the start of the step in which its spike began.
    """

    label: str
    time: float


class Stream:
    """One recording, heard as it comes.

    Parameters
    ----------
    model
        A run or model folder, or a shipped model's name: a `blstm` with ``bidirectional: false`` and no convolutions,
        whose features have no deltas and are normalised globally or not at all.

    Raises
    ------
    ModelError
        There is no such model.
    ConfigError
        It has to hear the future.
    """

    def __init__(self, model: str | Path):
        found = model_folder.load(model, light=True)
        config = found.config
        causal = (
            has_graph(config)
            and not config.model.get("bidirectional", True)
            and not config.model.get("channels", 0)
            and config.features.cmvn in ("global", "none")
            and config.features.delta_order == 0
        )
        if not causal or not isinstance(found, OnnxModel):
            raise ConfigError(
                f"{model} has to hear a recording's end before it can say how it begins: train a blstm with "
                "model.bidirectional=false, features.cmvn=global and features.delta_order=0 (streaming.yaml)"
            )
        self.model = found
        self._extractor = FeatureExtractor(config.features)
        self._steps = found.encoder.subsampling
        graph, _ = graph_of(config, len(found.tokens), found.weights, stateful=True)
        self._session = graph.session()
        states = self._session.get_inputs()[2:]
        self._states = {each.name: np.zeros((1, 1, each.shape[2]), np.float32) for each in states}
        self._samples = np.zeros(0, np.float32)
        self._features = np.zeros((0, self._extractor.num_features), np.float32)
        self._last, self._num_steps = 0, 0

    @property
    def latency(self) -> float:
        """Seconds from a sound to the end of the samples that the step which holds it needs, at most."""
        return self._steps * FRAME_SHIFT + FRAME_LENGTH - FRAME_SHIFT

    def accept(self, samples: np.ndarray) -> list[Spike]:
        """Take in the next samples (N,), mono at 16 kHz in [-1, 1], and return the phones that begin in them."""
        self._samples = np.concatenate([self._samples, np.asarray(samples, np.float32)])
        if len(self._samples) >= WINDOW_LENGTH:
            fresh = self.model.normaliser(self._extractor(self._samples))
            self._samples = self._samples[len(fresh) * HOP_LENGTH :]
            self._features = np.concatenate([self._features, fresh])
        whole = len(self._features) // self._steps * self._steps
        return self._hear(whole)

    def finish(self) -> list[Spike]:
        """Return the phones in what is left at the end, a step that is not whole."""
        return self._hear(len(self._features))

    def _hear(self, num_frames: int) -> list[Spike]:
        if num_frames == 0:
            return []
        features, self._features = self._features[None, :num_frames], self._features[num_frames:]
        inputs = {"features": features, "lengths": np.array([num_frames])} | self._states
        log_probs, _, *after = self._session.run(None, inputs)
        self._states = dict(zip(self._states, after, strict=True))
        found = []
        for token in log_probs[:, 0].argmax(axis=1).tolist():
            if token not in (0, self._last):
                time = round(self._num_steps * self._steps * FRAME_SHIFT, 3)
                found.append(Spike(self.model.tokens[token], time))
            self._last = token
            self._num_steps += 1
        return found


def chunks(waveform: np.ndarray, seconds: float = 0.1) -> Iterator[np.ndarray]:
    """Yield a waveform (N,) at 16 kHz piece by piece, as a microphone would.

    >>> [len(chunk) for chunk in chunks(np.zeros(4000), 0.1)]
    [1600, 1600, 800]
    """
    size = round(seconds * audio.SAMPLE_RATE)
    for start in range(0, len(waveform), size):
        yield waveform[start : start + size]
