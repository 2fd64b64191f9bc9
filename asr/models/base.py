"""What every trained system can do, be it CTC or HMM: emissions from features, then phones, times and confidences.

    features ─ emissions ─▶ a row a frame ─ decode ─▶ Hypothesis ─ segments ─▶ phones with times and confidences
                                          └ align (the phones are known) ─▶ the same

What the rows hold is the system's own affair: log posteriors of labels and blank for CTC, log likelihoods of the
states' densities for HMMs. `log_probs` gives of either the posteriors of labels, to look at.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np

from asr.core.config import Config, DecodeConfig, check
from asr.core.errors import ConfigError
from asr.ctc import Hypothesis
from asr.models.calibration import Calibration
from asr.speech.normaliser import Normaliser
from asr.speech.segments import Segment

BLANK = "<blank>"


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
    has_beam
        Whether decoding can keep a beam of several hypotheses.
    has_nbest
        Whether decoding can return several hypotheses.
    takes_lm
        Whether a language model from outside can take part in decoding.
    """

    has_beam: ClassVar[bool] = True
    has_nbest: ClassVar[bool] = False
    takes_lm: ClassVar[bool] = False

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

    def with_decoding(self, decode: DecodeConfig) -> Self:
        """Return a model with other settings of decoding.

        Raises
        ------
        ConfigError
            This kind of system cannot decode so: with a language model, or to several hypotheses; or a language model
            comes with a beam of 1.
        """
        if decode.lm or decode.rescore_lm:
            if not self.takes_lm:
                raise ConfigError(
                    "config: decode.lm and decode.rescore_lm are for systems trained with CTC: leave them out"
                )
            check(decode.beam_size > 1, "decode.beam_size", "be 2 or more with a language model", decode.beam_size)
        check(decode.nbest == 1 or self.has_nbest, "decode.nbest", "be 1 for this system", decode.nbest)
        return replace(self, config=replace(self.config, decode=decode))

    def prepare(self) -> None:  # noqa: B027 - most need nothing
        """Read what decoding needs beside the model, so that its faults are known before the first recording.

        Raises
        ------
        AsrError
            Something is missing or does not fit.
        """

    @abstractmethod
    def decode(self, emissions: Sequence[np.ndarray], beam_size: int) -> list[Hypothesis]:
        """Return what was said in each utterance."""

    def hypotheses(self, emissions: Sequence[np.ndarray], beam_size: int, count: int) -> list[list[Hypothesis]]:
        """Return the likeliest of what was said in each utterance, best first: one at least, `count` at most."""
        return [[best] for best in self.decode(emissions, beam_size)]

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


@runtime_checkable
class StateAligner(Protocol):
    """An acoustic model that has states with times of their own, as HMMs have."""

    def align_states(
        self,
        labels: Sequence[str],
        emissions: np.ndarray,
        word_lengths: Sequence[int] = (),
        name: str = "the recording",
    ) -> list[Segment]:
        """Return the times of the states on the path of `AcousticModel.align`, whose arguments it takes."""
