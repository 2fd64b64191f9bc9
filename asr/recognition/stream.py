"""Phones while the speech is heard: a network that looks hardly ahead takes it step by step and keeps its states.

    samples ─ 16 kHz ─ whole frames ─ normalise ─ steps of n frames ─ LSTM with states ─ search ─▶ phones

The features and their normalisation look at earlier samples only; so does a network in one direction, while one with
chunks (`asr.encoders.chunks`) waits for the end of its look-ahead. What the network says is what it says of the whole
recording. Without an n-gram, phones are those of the best path, each as soon as its spike begins. With one, the beam
search goes along (`asr.ctc.LiveSearch`), and a phone is told when the search is sure of it, at the latest after a lag.
The end of a phone is not known yet, so the only time it has is that of its spike.

Letters: N samples, n samples of a block.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from asr.core.errors import AudioError, ConfigError
from asr.core.settings import check, model_options
from asr.ctc.beam import LiveSearch
from asr.encoders.blstm_sizes import BLSTMSizes
from asr.lm.search import token_model
from asr.models import model_folder
from asr.models.kinds import has_graph
from asr.models.onnx import OnnxModel, graph_of
from asr.speech import audio, running
from asr.speech.features import FRAME_LENGTH, FRAME_SHIFT, HOP_LENGTH, WINDOW_LENGTH, FeatureExtractor

LAG = 0.3  # seconds; dev speakers have as few errors as with the whole recording, and more with less
LOUDEST = 2.0  # decoders overshoot 1 a little; what is above this is not in [-1, 1] at all


@dataclass(frozen=True)
class Spike:
    """A phone that a stream has just recognised.

    Attributes
    ----------
    label
        A phone of the model's phone set.
    time
        Seconds from the start of the recording to the start of the step in which its spike began, or with an n-gram
        was highest.
    """

    label: str
    time: float


class Stream:
    """Recognises phones while a recording is still going on.

    Parameters
    ----------
    model
        A run or model folder, or a shipped model's name. It must be a `blstm` with a `chunk`, or with ``bidirectional:
        false`` and no convolutions, and its features must have no deltas and be normalised by a running mean, globally
        or not at all.
    sample_rate
        Samples a second, in Hz.
    channel
        Which channel of the samples to use, counted from 0; None uses their mean.
    lag
        Seconds after its spike in which a phone is told at the latest, where the model decodes with an n-gram (and no
        priors). Without one it is told at once.

    Raises
    ------
    ModelError
        There is no such model.
    ConfigError
        The model needs the whole recording, or the lag is negative or infinite.
    AudioError
        The sample rate is not between 1 kHz and 1 MHz, or the channel is not a whole number from 0.

    Attributes
    ----------
    emissions : (T', C) float32
        What the model gave for the steps that the last `accept` or `finish` has computed, for a search of one's own.
    """

    def __init__(self, model: str | Path, sample_rate: float, channel: int | None = None, lag: float = LAG):
        check(0 <= lag < np.inf, "lag", "be 0 or more, and finite", lag)
        found = model_folder.load(model, light=True)
        config = found.config
        sizes = model_options(config.model, BLSTMSizes) if has_graph(config) else BLSTMSizes()
        causal = (
            (sizes.chunk > 0 or (not sizes.bidirectional and not sizes.channels))
            and config.features.cmvn in ("running", "global", "none")
            and config.features.delta_order == 0
        )
        if not causal or not isinstance(found, OnnxModel):
            raise ConfigError(
                f"{model} has to hear a recording's end before it can say how it begins: take en-us-phones-stream, or "
                "train a blstm with model.chunk=5, features.cmvn=running and features.delta_order=0"
            )
        self.model = found
        self._extractor = FeatureExtractor(config.features)
        self._steps = sizes.stack  # these are in feature frames
        self._chunk, self._lookahead = sizes.chunk * sizes.stack, sizes.lookahead * sizes.stack
        self._before, self._after = (self._steps, 1) if sizes.channels else (0, 0)  # frames that convolutions see
        graph, _ = graph_of(config, len(found.tokens), found.weights, stateful=True)
        self._session = graph.session()
        self._sample_rate, self._channel = sample_rate, channel
        self._weights, decode = None, config.decode
        if decode.beam_size > 1 and decode.label_prior_scale == 0:
            self._weights = token_model(decode, found.tokens, found.lm)
        self._lag = round(lag / found.frame_shift) if self._weights is not None else 0
        self._begin()

    def _begin(self) -> None:
        """Forget everything that was heard."""
        states = self._session.get_inputs()[2:]
        self._states = {each.name: np.zeros((1, 1, each.shape[2]), np.float32) for each in states}
        self._samples = np.zeros(0, np.float32)
        self._features = np.zeros((self._before, self._extractor.num_features), np.float32)
        self._heard = running.Place.start(self._extractor.num_features)
        self._last, self._num_steps = 0, 0
        self._place = None if self.model.lm is None else self.model.denominator.begin()
        self._search: LiveSearch | None = None
        if self._weights is not None:
            size, beam_size = len(self.model.tokens), self.model.config.decode.beam_size
            self._search = LiveSearch(size, self._lag, beam_size, self._weights)
        self._converter = audio.Converter(self._sample_rate, self._channel)

    @property
    def latency(self) -> float:
        """Seconds of sound, at most, that must follow a sound before its phone is told."""
        frames = (self._chunk or self._steps) + self._lookahead + self._after + self._lag * self._steps
        return frames * FRAME_SHIFT + FRAME_LENGTH - FRAME_SHIFT

    @property
    def known(self) -> float:
        """Seconds of the recording whose phones are told."""
        return max(0, self._num_steps - self._lag) * self.model.frame_shift

    def accept(self, samples: ArrayLike) -> list[Spike]:
        """Hear the next samples (n,) or (n, channels), and return the phones of which one is sure now.

        Parameters
        ----------
        samples
            An array, a list or a tensor of floats in [-1, 1], or of integers of 8, 16 or 32 bits, which are scaled by
            the range of their type.

        Raises
        ------
        AudioError
            The samples have another shape or type, are not finite, leave [-1, 1] by far, or have no such channel.
        """
        return self._hear(self._converter(samples))

    def finish(self) -> list[Spike]:
        """Return the phones in the last frames, and get ready for another recording."""
        found = self._hear(self._converter.finish(), has_ended=True)
        if self._search is not None:
            found += self._named(self._search.finish())
        self._begin()
        return found

    def _take(self, waveform: np.ndarray) -> None:
        """Compute the features of all whole frames so far."""
        peak = np.abs(waveform).max(initial=0)
        if peak > LOUDEST:
            raise AudioError(f"the samples reach {peak:g}: give floats in [-1, 1], or integers such as int16")
        self._samples = np.concatenate([self._samples, waveform])
        if len(self._samples) >= WINDOW_LENGTH:
            fresh = self._normalise(self._extractor(self._samples))
            self._samples = self._samples[len(fresh) * HOP_LENGTH :]
            self._features = np.concatenate([self._features, fresh])

    def _normalise(self, features: np.ndarray) -> np.ndarray:
        normaliser = self.model.normaliser
        return normaliser.follow(features, self._heard) if normaliser.config.cmvn == "running" else normaliser(features)

    def _hear(self, waveform: np.ndarray, has_ended: bool = False) -> list[Spike]:
        """Return the phones in the frames that can be computed now, and forget these; at the end these are all."""
        self._take(waveform)
        heard, found = [np.zeros((0, len(self.model.tokens)), np.float32)], list[Spike]()
        while count := self._due(has_ended):
            heard.append(self._compute(self._features[: self._before + count + self._lookahead + self._after]))
            self._features = self._features[count:]
            found += self._spikes(heard[-1])
        self.emissions = np.concatenate(heard)
        return found

    def _due(self, has_ended: bool) -> int:
        """Return how many frames can be computed next."""
        known = len(self._features) - self._before
        if not self._chunk:
            return known if has_ended else known // self._steps * self._steps
        return min(self._chunk, known) if has_ended or known >= self._chunk + self._lookahead + self._after else 0

    def _compute(self, features: np.ndarray) -> np.ndarray:
        """Return the emissions (T', C) of frames (T, F), of which the first and last may only be seen."""
        inputs = {"features": features[None], "lengths": np.array([len(features)])} | self._states
        log_probs, _, *after = self._session.run(None, inputs)
        self._states = dict(zip(self._states, after, strict=True))
        return log_probs[:, 0]

    def _spikes(self, scores: np.ndarray) -> list[Spike]:
        """Return the phones that begin in emissions (T', C), or that the search is sure of after them."""
        if self._search is not None:
            self._num_steps += len(scores)
            return self._named(self._search.accept(scores))
        found = list[Spike]()
        if self._place is not None:
            scores = self.model.denominator.follow(scores, self._place)
        for token in scores.argmax(axis=1).tolist():
            if token not in (0, self._last):
                found += self._named([(token, self._num_steps)])
            self._last = token
            self._num_steps += 1
        return found

    def _named(self, found: Sequence[tuple[int, int]]) -> list[Spike]:
        """Return the spikes of tokens and their steps."""
        shift = self._steps * FRAME_SHIFT
        return [Spike(self.model.tokens[token], round(step * shift, 3)) for token, step in found]


def chunks(waveform: np.ndarray, seconds: float = 0.1) -> Iterator[np.ndarray]:
    """Yield a waveform (N,) at 16 kHz in pieces of equal length, as a microphone would.

    >>> [len(chunk) for chunk in chunks(np.zeros(4000), 0.1)]
    [1600, 1600, 800]
    """
    size = round(seconds * audio.SAMPLE_RATE)
    for start in range(0, len(waveform), size):
        yield waveform[start : start + size]
