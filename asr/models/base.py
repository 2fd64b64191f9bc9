"""What every trained system can do, be it CTC or HMM: emissions from features, then phones, times and confidences.

    features ─ emissions ─▶ a row a frame ─ decode ─▶ Hypothesis ─ segments ─▶ phones with times and confidences
                                          └ align (the phones are known) ─▶ the same

What the rows hold is the system's own affair: log posteriors of labels and blank for CTC, log likelihoods of the
states' densities for HMMs. `log_probs` gives of either the posteriors of labels, to look at.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from asr.core.config import Config, check
from asr.ctc import Hypothesis
from asr.models.calibration import Calibration
from asr.speech.normaliser import Normaliser
from asr.speech.segments import Segment

BLANK = "<blank>"
GMM = "gmm_hmm"  # the name in a recipe's `model` section
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
        """Seconds from one row of emissions to the next."""

    @property
    @abstractmethod
    def num_parameters(self) -> int:
        """Numbers that training found."""

    @abstractmethod
    def decoders(self, beam_size: int) -> dict[str, int]:
        """Return the ways of decoding that are scored, by name, each with its beam; the last is the one to use."""

    @abstractmethod
    def emissions(self, features: Sequence[np.ndarray]) -> list[np.ndarray]:
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
    def decode(self, emissions: Sequence[np.ndarray], beam_size: int) -> list[Hypothesis]:
        """Return what was said in each utterance."""

    def hypotheses(self, emissions: Sequence[np.ndarray], beam_size: int, count: int) -> list[list[Hypothesis]]:
        """Return the likeliest of what was said in each utterance, best first: one at least, `count` at most."""
        return [[best] for best in self.decode(emissions, beam_size)]

    def align_states(
        self,
        labels: Sequence[str],
        emissions: np.ndarray,
        word_lengths: Sequence[int] = (),
        name: str = "the recording",
    ) -> list[Segment]:
        """Return the times of an HMM's states on the path of `align`; of other models, nothing."""
        return []

    def best_tokens(self, emissions: Sequence[np.ndarray]) -> list[list[int]]:
        """Return the tokens of each utterance without a beam, and nothing else: what training is judged by."""
        return [list(hypothesis.tokens) for hypothesis in self.decode(emissions, 1)]

    @abstractmethod
    def log_probs(self, emissions: np.ndarray) -> np.ndarray:
        """Return natural-log posteriors of the classes in each frame, (T', C)."""

    @abstractmethod
    def segments(
        self, hypothesis: Hypothesis, emissions: np.ndarray, waveform: np.ndarray | None = None
    ) -> list[Segment]:
        """Return what `decode` found as phones with times and calibrated confidences.

        Parameters
        ----------
        hypothesis
            Of `decode`.
        emissions : (T', …)
            That it was made of.
        waveform : (N,), optional
            At 16 kHz; with it CTC's boundaries are better, and pauses are left out (see `asr.models.times`).
        """

    @abstractmethod
    def align(
        self,
        labels: Sequence[str],
        emissions: np.ndarray,
        waveform: np.ndarray | None = None,
        word_lengths: Sequence[int] = (),
        name: str = "the recording",
    ) -> tuple[list[Segment], float]:
        """Return the times of known phones and the natural log probability of their likeliest path.

        Parameters
        ----------
        labels : (L,)
            What is said.
        emissions, waveform
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


def has_graph(config: Config) -> bool:
    """Tell whether onnxruntime can run a configuration's system (asr/models/onnx.py)."""
    return config.model["name"] == "blstm" and config.train.alignments is None
