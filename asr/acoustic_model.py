"""What every trained system can do, be it CTC or HMM: evidence from features, then phones, times and confidences.

    features ─ evidence ─▶ a row a frame ─ decode ─▶ Hypothesis ─ segments ─▶ phones with times and confidences
                                          └ align (the phones are known) ─▶ the same

What the rows hold is the system's own affair: log posteriors of labels and blank for CTC, log likelihoods of the
states' densities for HMMs. `log_probs` gives of either the posteriors of labels, to look at.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from asr.calibration import Calibration
from asr.config import Config, DecodeConfig, check
from asr.ctc import Hypothesis, beam_search, best_path, forced_align
from asr.ctc import required_frames as frames_for
from asr.errors import ConfigError, InfeasibleError
from asr.features import FRAME_SHIFT
from asr.normaliser import Normaliser
from asr.segments import Segment
from asr.times import phone_segments

if TYPE_CHECKING:
    from torch import nn

BLANK = "<blank>"
GMM = "gmm_hmm"  # the name in a recipe's `model` section
NOTHING = Hypothesis((), (), -math.inf, ())
ATTENTION = "attention_decoder"  # the encoder family whose systems are no CTC models


@dataclass(frozen=True)
class AcousticModel(ABC):
    """A trained system with all that surrounds it.

    Attributes
    ----------
    config
        What it was trained with.
    tokens : (C,)
        The label of each class; class 0 is the blank, which HMMs do not use.
    normaliser
        To apply to its features.
    calibration
        Of confidences and times; changes nothing until it is fitted.
    """

    config: Config
    tokens: tuple[str, ...]
    normaliser: Normaliser
    calibration: Calibration

    @classmethod
    @abstractmethod
    def parts(cls, config: Config, tokens: tuple[str, ...], tensors: dict[str, np.ndarray]) -> dict[str, Any]:
        """Return this kind's own attributes, by name, from what `tensors` returns.

        Raises
        ------
        KeyError, RuntimeError, TypeError, ValueError
            Something is missing, or does not fit the rest.
        """

    @abstractmethod
    def tensors(self) -> dict[str, np.ndarray]:
        """Return what training found, by name, as a model folder keeps it."""

    @property
    @abstractmethod
    def frame_shift(self) -> float:
        """Seconds from one row of evidence to the next."""

    @property
    @abstractmethod
    def num_parameters(self) -> int:
        """Numbers that training found."""

    @abstractmethod
    def decoders(self, beam_size: int) -> dict[str, int]:
        """Return the ways of decoding that are scored, by name, each with its beam; the last is the one to use."""

    @abstractmethod
    def evidence(self, features: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return (T', …) for the normalised features (T, F) of each utterance."""

    def prepare(self) -> None:
        """Read what decoding needs beside the model, so that a fault of it is known before the first recording.

        Raises
        ------
        AsrError
            Something is missing or does not fit; several hypotheses, of a system that has but one.
        """
        check(self.config.decode.nbest == 1, "decode.nbest", "be 1 for this system", self.config.decode.nbest)

    @abstractmethod
    def decode(self, evidence: Sequence[np.ndarray], beam_size: int) -> list[Hypothesis]:
        """Return what was said in each utterance."""

    def hypotheses(self, evidence: Sequence[np.ndarray], beam_size: int, count: int) -> list[list[Hypothesis]]:
        """Return the likeliest of what was said in each utterance, best first: one at least, `count` at most."""
        return [[best] for best in self.decode(evidence, beam_size)]

    def align_states(
        self, labels: Sequence[str], evidence: np.ndarray, word_lengths: Sequence[int] = (), name: str = "the recording"
    ) -> list[Segment]:
        """Return the times of an HMM's states on the path of `align`; of other models, nothing."""
        return []

    def best_tokens(self, evidence: Sequence[np.ndarray]) -> list[list[int]]:
        """Return the tokens of each utterance without a beam, and nothing else: what training is judged by."""
        return [list(hypothesis.tokens) for hypothesis in self.decode(evidence, 1)]

    @abstractmethod
    def log_probs(self, evidence: np.ndarray) -> np.ndarray:
        """Return natural-log posteriors of the classes in each frame, (T', C)."""

    def picture(  # noqa: B027 - most systems have nothing to add
        self,
        hypothesis: Hypothesis,
        waveform: np.ndarray,
        times: Sequence[tuple[str, float, float]],
        path: Path,
        title: str,
    ) -> None:
        """Draw what only this kind of system has to show.

        Parameters
        ----------
        hypothesis
            Of `decode`.
        waveform : (N,)
            At 16 kHz.
        times
            Label, start and end in seconds of each phone said, where they are known.
        path
            The picture to write.
        title
            Printed above it.
        """

    @abstractmethod
    def segments(
        self, hypothesis: Hypothesis, evidence: np.ndarray, waveform: np.ndarray | None = None
    ) -> list[Segment]:
        """Return what `decode` found as phones with times and calibrated confidences.

        Parameters
        ----------
        hypothesis
            Of `decode`.
        evidence : (T', …)
            That it was made of.
        waveform : (N,), optional
            At 16 kHz; with it CTC's boundaries are better, and pauses are left out (see `asr.times`).
        """

    @abstractmethod
    def align(
        self,
        labels: Sequence[str],
        evidence: np.ndarray,
        waveform: np.ndarray | None = None,
        word_lengths: Sequence[int] = (),
        name: str = "the recording",
    ) -> tuple[list[Segment], float]:
        """Return the times of known phones and the natural log probability of their likeliest path.

        Parameters
        ----------
        labels : (L,)
            What is said.
        evidence, waveform
            As for `segments`.
        word_lengths
            Phones of each word, where it is known: between words there may be silence.
        name
            Of the recording, for errors.

        Raises
        ------
        InfeasibleError
            Too few frames for the labels.
        """


@dataclass(frozen=True)
class CTCModel(AcousticModel):
    """A network whose outputs are labels and the blank, trained with CTC.

    Attributes
    ----------
    encoder
        In evaluation mode.
    """

    encoder: "nn.Module"

    @classmethod
    def parts(cls, config: Config, tokens: tuple[str, ...], tensors: dict[str, np.ndarray]) -> dict[str, Any]:
        """Build the network and load its weights."""
        from asr import networks  # torch, which whoever only recognises can do without (asr/onnx_model.py)

        return {"encoder": networks.load_encoder(config, len(tokens), tensors)}

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the network's weights."""
        from asr import networks

        return networks.weights(self.encoder, "encoder.")

    @property
    def frame_shift(self) -> float:
        """Seconds from one output frame to the next."""
        return FRAME_SHIFT * int(self.encoder.subsampling)  # type: ignore[arg-type]

    @property
    def num_parameters(self) -> int:
        """Weights of the network."""
        return sum(parameter.numel() for parameter in self.encoder.parameters())

    def decoders(self, beam_size: int) -> dict[str, int]:
        """Return the best path and the beam search."""
        models = [each for each in (self.config.decode.lm, self.config.decode.rescore_lm) if each is not None]
        name = " + ".join([f"beam {beam_size}", *(Path(each).name for each in models)])
        return {"best path": 1} | ({name: beam_size} if beam_size > 1 else {})

    @cached_property
    def search(self) -> Callable[[np.ndarray, np.ndarray, int, int], list[list[Hypothesis]]]:
        """The search that the configuration asks for, of log posteriors, lengths, beam and number of hypotheses."""
        decode = self.config.decode
        if decode.lm is None and decode.rescore_lm is None:
            return beam_search
        from asr.lm import decoding  # of those alone who have a language model

        return decoding.build(decode, self.tokens)

    def evidence(self, features: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return natural-log posteriors (T', C) float32 of each utterance."""
        from asr import networks

        return networks.outputs(self.encoder, features)

    def decode(self, evidence: Sequence[np.ndarray], beam_size: int) -> list[Hypothesis]:
        """Return the labels of the best path for a beam of 1, else of the beam search."""
        return [nbest[0] for nbest in self.hypotheses(evidence, beam_size, 1)]

    def hypotheses(self, evidence: Sequence[np.ndarray], beam_size: int, count: int) -> list[list[Hypothesis]]:
        """Return the first of the beam."""
        lengths = np.array([len(rows) for rows in evidence])
        log_probs = np.zeros((lengths.max(), len(evidence), evidence[0].shape[1]), np.float32)
        for i, rows in enumerate(evidence):
            log_probs[: len(rows), i] = rows
        if beam_size == 1:
            return [[best] for best in best_path(log_probs, lengths)]
        return [nbest or [NOTHING] for nbest in self.search(log_probs, lengths, beam_size, count)]

    def prepare(self) -> None:
        """Read language models and lexicon."""
        assert self.search is not None

    def log_probs(self, evidence: np.ndarray) -> np.ndarray:
        """Return the evidence itself."""
        return evidence

    def segments(
        self, hypothesis: Hypothesis, evidence: np.ndarray, waveform: np.ndarray | None = None
    ) -> list[Segment]:
        """Align the labels found, then place their boundaries (`asr.times`)."""
        if not hypothesis.tokens:
            return []
        (alignment,) = forced_align(evidence[:, None], np.array([hypothesis.tokens]))
        confidences = np.array(hypothesis.confidences)
        return phone_segments(
            evidence, alignment, self.tokens, self.frame_shift, waveform, confidences, self.calibration
        )

    def align(
        self,
        labels: Sequence[str],
        evidence: np.ndarray,
        waveform: np.ndarray | None = None,
        word_lengths: Sequence[int] = (),
        name: str = "the recording",
    ) -> tuple[list[Segment], float]:
        """Find the likeliest path that spells the labels, then place their boundaries (`asr.times`)."""
        if len(evidence) < frames_for(labels):
            raise InfeasibleError(
                f"{name}: {len(labels)} phones need at least {frames_for(labels)} frames, and there are "
                f"{len(evidence)} of {1000 * self.frame_shift:.0f} ms: check that the text is this recording's"
            )
        tokens = [self.tokens.index(label) for label in labels]
        (alignment,) = forced_align(evidence[:, None], np.array([tokens], dtype=np.int64))
        found = phone_segments(
            evidence, alignment, self.tokens, self.frame_shift, waveform, calibration=self.calibration
        )
        return found, alignment.score


def has_graph(config: Config) -> bool:
    """Tell whether onnxruntime can run a configuration's system (asr/onnx_model.py)."""
    return config.model["name"] == "blstm" and config.train.alignments is None


def with_decoding(model: AcousticModel, decode: DecodeConfig) -> AcousticModel:
    """Return a model that decodes in another way.

    Raises
    ------
    ConfigError
        A language model for a system that is not CTC's, or with a beam of 1.
    """
    if decode.lm or decode.rescore_lm:
        if not isinstance(model, CTCModel):
            raise ConfigError(
                "config: decode.lm and decode.rescore_lm are for systems trained with CTC: leave them out"
            )
        check(decode.beam_size > 1, "decode.beam_size", "be 2 or more with a language model", decode.beam_size)
    return replace(model, config=replace(model.config, decode=decode))
