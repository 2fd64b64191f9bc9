"""Systems of HMMs, whose states Gaussian mixtures or a network score in each frame.

Emissions are ln p(frame | density) (T, P), up to a constant that depends on the frame alone.
Letters: T frames, P densities, L phones.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from threadpoolctl import threadpool_limits
from torch import nn

from asr.core import workers
from asr.core.config import Config
from asr.ctc import Hypothesis
from asr.hmm.decoding import decode
from asr.hmm.inference import viterbi
from asr.hmm.mixtures import Mixtures
from asr.hmm.phone_hmms import SILENCE, PhoneHMMs, silences_of
from asr.hmm.phone_loop import PhoneLoop
from asr.hmm.phone_posteriors import phone_posteriors
from asr.hmm.transforms import Transform
from asr.hmm.tying import NUM_STATES, Tying
from asr.models import networks
from asr.models.base import AcousticModel, Placement, Spellings
from asr.speech.features import FRAME_LENGTH, FRAME_SHIFT, FeatureExtractor
from asr.speech.segments import Segment

# Seconds from the start of a frame's window to the boundary before the frame, which lies half-way between the middles
# of this window and the one before.
FRAME_MIDDLE = FRAME_LENGTH / 2 - FRAME_SHIFT / 2


@dataclass(frozen=True)
class TimedHypothesis(Hypothesis):
    """What a Viterbi search finds: also the frame where each phone starts, and the frame after its last."""

    starts: tuple[int, ...]
    ends: tuple[int, ...]


@dataclass(frozen=True)
class HMMModel(AcousticModel):
    """HMMs of phones, with a bigram of phones.

    Attributes
    ----------
    hmms : PhoneHMMs
        States, their ties, and transitions; phone i is token i + 1.
    log_bigram : (L + 1, L + 1)
        From `asr.hmm.phone_loop.bigram`.
    """

    has_beam: ClassVar[bool] = False
    has_nbest: ClassVar[bool] = True

    hmms: PhoneHMMs
    log_bigram: np.ndarray

    def tensors(self) -> dict[str, np.ndarray]:
        """Return ties, transitions and bigram."""
        return {
            "hmm.pdfs": self.hmms.tying.pdfs.astype(np.int32),
            "hmm.log_transitions": self.hmms.log_transitions,
            "hmm.log_bigram": self.log_bigram,
        }

    @property
    def frame_shift(self) -> float:
        """10 ms, also where a network has longer steps."""
        return FRAME_SHIFT

    @property
    @abstractmethod
    def num_parameters(self) -> int:
        """The number of trained parameters, without those of the bigram."""

    def decoders(self, beam_size: int) -> dict[str, int]:
        """Return the Viterbi search, whose beam is in nats (decode.beam) and not in hypotheses."""
        return {"Viterbi": 1}

    @cached_property
    def unlabelled(self) -> tuple[int, ...]:
        """The index of the silence phone, where the HMMs have one that is no label of the phone set."""
        return (self.hmms.labels.index(SILENCE),) if SILENCE in self.hmms.labels else ()

    @cached_property
    def loop(self) -> PhoneLoop:
        """The loop in which each phone may follow each, with the weights of the configuration."""
        options = self.config.decode
        arguments = (self.hmms.tying, self.hmms.log_transitions, self.log_bigram, self.unlabelled)
        return PhoneLoop.of(*arguments, options.lm_weight, options.insertion_penalty)

    @property
    def beam(self) -> float:
        """The search's beam in nats."""
        return self.config.decode.beam * max(self.config.decode.lm_weight, 1.0)

    def decode(self, emissions: Sequence[np.ndarray], beam_size: int = 1) -> list[Hypothesis]:
        """Return the likeliest phones of each utterance; several utterances are decoded at a time."""
        return [nbest[0] for nbest in workers.map_in_order(self.nbest, emissions)]

    def hypotheses(self, emissions: Sequence[np.ndarray], beam_size: int, count: int) -> list[list[Hypothesis]]:
        """Return the first hypotheses of the Viterbi search."""
        return [[*self.nbest(each, count)] for each in emissions]

    def best_tokens(self, emissions: Sequence[np.ndarray]) -> list[list[int]]:
        """Return the tokens that `decode` finds, without the posteriors that it needs for confidences."""

        def best(scores: np.ndarray) -> list[int]:
            (path,) = decode(scores, self.loop, self.beam)
            return [phone + 1 for phone in path.phones if phone not in self.unlabelled]

        return list(workers.map_in_order(best, emissions))

    def nbest(self, scores: np.ndarray, count: int = 1) -> list[TimedHypothesis]:
        """Return the likeliest label sequences of an utterance (T, P), best first."""
        paths = decode(scores, self.loop, self.beam, count)
        posteriors = np.exp(self.log_probs(scores))
        found = []
        for path in paths:
            edges = zip(path.phones, path.starts, (*path.starts[1:], len(scores)), strict=True)
            spans = [(phone + 1, start, end) for phone, start, end in edges if phone not in self.unlabelled]
            peaks = [start + int(posteriors[start:end, token].argmax()) for token, start, end in spans]
            confidences = tuple(float(posteriors[start:end, token].mean()) for token, start, end in spans)
            tokens, starts, ends = zip(*spans, strict=True) if spans else ((), (), ())
            found.append(TimedHypothesis(tokens, tuple(peaks), path.score, confidences, starts, ends))
        return found

    def log_probs(self, emissions: np.ndarray) -> np.ndarray:
        """Return ln of the posteriors of the phones (T, L + 1) float32; the blank's column is −inf."""
        weight = max(self.config.decode.lm_weight, 1.0)  # scales the frames down, which are not independent
        arguments = (self.hmms.tying, self.hmms.log_transitions, self.log_bigram)
        found = phone_posteriors(emissions, *arguments, weight)
        padded = np.zeros((len(found), found.shape[1] + 1), np.float32)
        padded[:, 1:] = found
        return np.log(padded, where=padded > 0, out=np.full(padded.shape, -np.inf, np.float32))

    def segments(
        self, hypothesis: Hypothesis, emissions: np.ndarray, waveform: np.ndarray | None = None
    ) -> list[Segment]:
        """Turn the search's frames into seconds."""
        assert isinstance(hypothesis, TimedHypothesis)
        return self._segments(hypothesis.tokens, hypothesis.starts, hypothesis.ends, hypothesis.confidences, emissions)

    def align(
        self, text: Spellings, emissions: np.ndarray, waveform: np.ndarray | None = None, name: str = "the recording"
    ) -> Placement:
        """Find the likeliest path through the phones' states; silence may stand at the ends and between words."""
        labels, word_lengths = text.first()
        transcript = self.hmms.transcript(labels, word_lengths)
        score, path = viterbi(emissions, transcript.graph(self.hmms), name)
        numbers, starts = transcript.segments(path)
        ends = np.append(starts[1:], len(emissions))
        said = ~np.isin(numbers, self.unlabelled)
        tokens, starts, ends = numbers[said] + 1, starts[said], ends[said]
        posteriors = np.exp(self.log_probs(emissions))
        confidences = [posteriors[s:e, token].mean() for token, s, e in zip(tokens, starts, ends, strict=True)]
        phones = self._segments(tokens, starts, ends, confidences, emissions)
        return Placement(phones, word_lengths, score, emissions)

    def align_states(
        self,
        labels: Sequence[str],
        emissions: np.ndarray,
        word_lengths: Sequence[int] = (),
        name: str = "the recording",
    ) -> list[Segment]:
        """Return the times of the states on the path of `align`, with silences; AH.2 is the second state of AH."""
        transcript = self.hmms.transcript(labels, word_lengths)
        _, path = viterbi(emissions, transcript.graph(self.hmms), name)
        starts = np.flatnonzero(np.diff(path, prepend=-1))
        edges = self._seconds(np.array([starts, np.append(starts[1:], len(path))]), len(emissions))
        states = zip(transcript.phones[path[starts]], transcript.states[path[starts]], *edges, strict=True)
        return [Segment(f"{self.hmms.labels[p]}.{s + 1}", float(start), float(end)) for p, s, start, end in states]

    def _segments(
        self,
        tokens: Sequence[int] | np.ndarray,
        starts: Sequence[int] | np.ndarray,
        ends: Sequence[int] | np.ndarray,
        confidences: Sequence[float],
        emissions: np.ndarray,
    ) -> list[Segment]:
        seconds = self._seconds(np.array([starts, ends]).reshape(2, -1), len(emissions))
        calibrated = self.calibration.confidence(np.array(confidences, np.float64))
        return [
            Segment(self.tokens[token], float(start), float(end), round(float(confidence), 3))
            for token, start, end, confidence in zip(tokens, *seconds, calibrated, strict=True)
        ]

    def _seconds(self, edges: np.ndarray, num_frames: int) -> np.ndarray:
        """Turn boundaries, as the frames after them, into seconds; the recording's own edges stay."""
        duration = (num_frames - 1) * FRAME_SHIFT + FRAME_LENGTH
        inner = (edges > 0) & (edges < num_frames)
        seconds = edges * FRAME_SHIFT + FRAME_MIDDLE + self.calibration.boundary_offset
        return np.where(inner, seconds.clip(0, duration), np.where(edges > 0, duration, 0.0)).round(3)


@dataclass(frozen=True)
class GMMModel(HMMModel):
    """HMMs whose states Gaussian mixtures score, on transformed features.

    Attributes
    ----------
    mixtures : Mixtures
        The mixtures of all densities.
    transform : Transform or None
        LDA and MLLT, where the system has them.
    """

    mixtures: Mixtures
    transform: Transform | None

    @classmethod
    def parts(cls, config: Config, tokens: tuple[str, ...], tensors: dict[str, np.ndarray]) -> dict[str, Any]:
        """Read HMMs, bigram, mixtures and transform."""
        parts = {name: value.astype(np.float64) for name, value in tensors.items()}
        if any(np.isnan(part).any() for part in parts.values()):
            raise ValueError("NaN among the numbers")
        hmms, log_bigram = _hmms(config, tokens, parts)
        weights = [parts[f"gmm.{name}"] for name in ("weights", "means", "covars")]
        mixtures = Mixtures(parts["gmm.offsets"].astype(np.int64), *weights)
        if mixtures.num_pdfs != hmms.tying.num_pdfs or len({mixtures.offsets[-1], *map(len, weights)}) != 1:
            raise ValueError(f"{mixtures.num_pdfs} mixtures of {len(weights[0])} Gaussians for the states")
        transform = None
        if "transform.matrix" in parts:
            splice, num_statics = parts["transform.splice"].astype(int).tolist()
            transform = Transform(splice, num_statics, parts["transform.matrix"], parts["transform.offset"])
        _check(config, mixtures, transform)
        return {"hmms": hmms, "log_bigram": log_bigram, "mixtures": mixtures, "transform": transform}

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the tensors of HMMs, mixtures and transform."""
        mixtures, found = self.mixtures, super().tensors()
        found["gmm.offsets"] = mixtures.offsets.astype(np.int32)
        for name in ("weights", "means", "covars"):
            found[f"gmm.{name}"] = getattr(mixtures, f"{name}_")
        if self.transform is not None:
            found["transform.splice"] = np.array([self.transform.context, self.transform.num_statics])
            found["transform.matrix"] = self.transform.matrix
            found["transform.offset"] = self.transform.offset
        return found

    @property
    def num_parameters(self) -> int:
        """Weights, means, variances, the transform, and the free transitions."""
        sizes = self.mixtures.weights_.size + self.mixtures.means_.size + self.mixtures.covars_.size
        return sizes + int(self.hmms.ways().sum()) + (self.transform.matrix.size if self.transform else 0)

    def emissions(self, features: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the log likelihoods of the densities (T, P) in each utterance."""
        with threadpool_limits(1, "blas"):
            return list(workers.map_in_order(self.scores, features))

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Return the log likelihoods of the densities (T, P) for normalised features (T, F)."""
        return self.mixtures.log_likelihoods(self.transform(features) if self.transform else features)


@dataclass(frozen=True)
class HybridModel(HMMModel):
    """HMMs whose states a network scores: its posteriors of the densities, divided by their priors.

    Source: H. Bourlard and N. Morgan, "Connectionist Speech Recognition: A Hybrid Approach", Kluwer 1994, chapter 7.

    Attributes
    ----------
    encoder
        The network, in evaluation mode; its classes are the densities.
    log_priors : (P,)
        ln of each density's share of the training frames.
    """

    encoder: nn.Module
    log_priors: np.ndarray

    @classmethod
    def parts(cls, config: Config, tokens: tuple[str, ...], tensors: dict[str, np.ndarray]) -> dict[str, Any]:
        """Read HMMs, bigram, priors and network."""
        parts = {name: value.astype(np.float64) for name, value in tensors.items() if name.startswith("hmm.")}
        hmms, log_bigram = _hmms(config, tokens, parts)
        log_priors = parts["hmm.log_priors"].astype(np.float32)
        encoder = networks.load_encoder(config, len(log_priors), tensors)
        if hmms.tying.num_pdfs != len(log_priors):
            raise ValueError(f"{len(log_priors)} outputs for {hmms.tying.num_pdfs} densities")
        return {"hmms": hmms, "log_bigram": log_bigram, "encoder": encoder, "log_priors": log_priors}

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the HMMs', the priors and the network's weights."""
        network = networks.weights(self.encoder, "encoder.")
        return super().tensors() | {"hmm.log_priors": self.log_priors} | network

    @property
    def num_parameters(self) -> int:
        """Weights of the network, and the free transitions."""
        return sum(parameter.numel() for parameter in self.encoder.parameters()) + int(self.hmms.ways().sum())

    def emissions(self, features: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return ln (posterior / prior) of the densities (T, P); an output frame is repeated for each frame in it."""
        subsampling = int(self.encoder.subsampling)  # type: ignore[arg-type]
        return [
            np.repeat(log_probs - self.log_priors, subsampling, axis=0)[: len(each)]
            for log_probs, each in zip(networks.outputs(self.encoder, features), features, strict=True)
        ]


def _check(config: Config, mixtures: Mixtures, transform: Transform | None) -> None:
    """Raise ValueError where densities, transform and features do not fit each other."""
    width = FeatureExtractor(config.features).num_features
    if transform is not None:
        spliced = (2 * transform.context + 1) * transform.num_statics
        width, shape = len(transform.matrix), (len(transform.matrix), spliced)
        if transform.matrix.shape != shape or transform.offset.shape != shape[:1]:
            raise ValueError(f"a transform {transform.matrix.shape} of {spliced} values")
    shapes = (mixtures.weights_.ndim, mixtures.means_.shape, mixtures.covars_.shape)
    if shapes != (1, *[(len(mixtures.weights_), width)] * 2):
        raise ValueError(f"Gaussians {mixtures.means_.shape} for {width} features")
    if (np.diff(mixtures.offsets) < 1).any() or not ((mixtures.covars_ > 0).all() and (mixtures.weights_ > 0).all()):
        raise ValueError("offsets that do not rise, or weights or variances that are not positive")


def _hmms(config: Config, tokens: tuple[str, ...], parts: dict[str, np.ndarray]) -> tuple[PhoneHMMs, np.ndarray]:
    labels, silences = silences_of(config.data.labels)
    pdfs, log_transitions = parts["hmm.pdfs"].astype(np.int64), parts["hmm.log_transitions"]
    hmms = PhoneHMMs(labels, silences, Tying(pdfs), log_transitions)
    count = len(labels)
    shapes = (tokens[1:], len(pdfs), log_transitions.shape, parts["hmm.log_bigram"].shape)
    if shapes != (labels, count, (hmms.tying.num_pdfs, NUM_STATES + 1), (count + 1, count + 1)):
        raise ValueError(f"the HMMs are not those of the labels {config.data.labels}")
    return hmms, parts["hmm.log_bigram"]
