"""What every trained system can do, whatever its kind: emissions from features, then phones, times and confidences.

    features ─ emissions ─▶ a row a frame ─ decode ─▶ Hypothesis ─ segments ─▶ phones with times and confidences
                                          └ align (the phones are known) ─▶ the same

What a row holds depends on the kind: log posteriors of labels and blank for CTC, an encoder's state for attention, log
likelihoods of the states' densities for HMMs. `log_probs` turns each of them into posteriors of labels.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, runtime_checkable

import numpy as np

from asr.core.config import Config, DecodeConfig
from asr.core.errors import ConfigError
from asr.core.settings import check
from asr.ctc import Hypothesis
from asr.models.calibration import Calibration
from asr.speech.normaliser import Normaliser
from asr.speech.segments import Segment

if TYPE_CHECKING:
    from asr.lm.ngram import NGram
    from asr.models.boundaries import PhoneBoundaries

BLANK = "<blank>"
Storage = Literal["float32", "float16", "int8"]  # of a network's weights in a file


@dataclass(frozen=True)
class Spellings:
    """A text as phones: words, each with its pronunciations, or phones whose words are not known.

    Attributes
    ----------
    words
        The pronunciations of each word, the usual one first. Phones without words are one word with one of them.
    has_words
        Whether the words are known. Pauses may stand between words; without them, between any two phones.
    all_said
        Whether all words are looked for, also those that the recording seems to lack.

    Examples
    --------
    >>> Spellings.of_phones(["HH", "AY"]).first()
    (['HH', 'AY'], [])
    >>> Spellings([[("DH", "AH"), ("DH", "IY")], [("K", "AE", "T")]]).first()
    (['DH', 'AH', 'K', 'AE', 'T'], [2, 3])
    """

    words: Sequence[Sequence[Sequence[str]]]
    has_words: bool = True
    all_said: bool = False

    @classmethod
    def of_phones(cls, labels: Sequence[str]) -> "Spellings":
        """Return a text of phones alone."""
        return cls([[labels]], has_words=False)

    def first(self) -> tuple[list[str], list[int]]:
        """Return the phones of the first pronunciations, and their number in each word; none without words."""
        chosen = [word[0] for word in self.words]
        return list(itertools.chain.from_iterable(chosen)), [len(each) for each in chosen] if self.has_words else []


@dataclass(frozen=True, eq=False)
class Placement:
    """Where a text is said.

    Attributes
    ----------
    phones
        With times and confidences.
    word_lengths
        The number of phones in each word, 0 for one that is not said; empty where no words are known.
    score
        Natural log probability of the likeliest path that spells the text.
    emissions : (T', …)
        The emissions, in which there is silence where the text lacks what is said.
    unspoken
        Stretches of speech that the text lacks, (M, 2), starts and ends in seconds.
    """

    phones: list[Segment]
    word_lengths: list[int]
    score: float
    emissions: np.ndarray
    unspoken: np.ndarray = field(default_factory=lambda: np.empty((0, 2)))


@dataclass(frozen=True)
class AcousticModel(ABC):
    """A trained system, with everything that it needs to recognise speech.

    Attributes
    ----------
    config
        The configuration that it was trained with.
    tokens : (C,)
        The label of each class; class 0 is the blank, which HMMs do not use.
    normaliser
        The normalisation of its features.
    calibration
        The calibration of its confidences and times; one that was not fitted changes nothing.
    lm
        The n-gram over labels that it was trained with; None but for CTC-CRF.
    boundaries
        What places the boundaries of known phones better than the system itself; None where the folder has nothing.
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
    lm: "NGram | None" = field(default=None, kw_only=True)
    boundaries: "PhoneBoundaries | None" = field(default=None, kw_only=True)

    @classmethod
    @abstractmethod
    def parts(cls, config: Config, tokens: tuple[str, ...], tensors: dict[str, np.ndarray]) -> dict[str, Any]:
        """Return the attributes of this kind alone, by name, from what `tensors` returns.

        Raises
        ------
        KeyError, RuntimeError, TypeError, ValueError
            A tensor is missing, or does not fit the others or the configuration.
        """

    @abstractmethod
    def tensors(self) -> dict[str, np.ndarray]:
        """Return the trained parameters by name, as a model folder keeps them."""

    @property
    @abstractmethod
    def frame_shift(self) -> float:
        """Seconds from one row of emissions to the next."""

    @property
    @abstractmethod
    def num_parameters(self) -> int:
        """The number of trained parameters."""

    @abstractmethod
    def decoders(self, beam_size: int) -> dict[str, int]:
        """Return the beam size of each way of decoding that is scored, by its name; the last one is the best."""

    @abstractmethod
    def emissions(self, features: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the emissions (T', …) of each utterance from its normalised features (T, F)."""

    def with_decoding(self, decode: DecodeConfig) -> Self:
        """Return a model with other settings of decoding.

        Raises
        ------
        ConfigError
            This kind of system cannot decode so: with a language model, without priors, or to several hypotheses; or a
            language model comes with a beam of 1.
        """
        if decode.lm or decode.rescore_lm:
            if not self.takes_lm:
                raise ConfigError("decode.lm and decode.rescore_lm are for systems trained with CTC: leave them out")
            check(decode.beam_size > 1, "decode.beam_size", "be 2 or more with a language model", decode.beam_size)
        fits = decode.label_prior_scale == 0 or self.takes_lm
        check(fits, "decode.label_prior_scale", "be 0 for systems not trained with CTC", decode.label_prior_scale)
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
        """Return the best hypothesis of each utterance."""

    def hypotheses(self, emissions: Sequence[np.ndarray], beam_size: int, count: int) -> list[list[Hypothesis]]:
        """Return the best hypotheses of each utterance, best first: at least one, at most `count`."""
        return [[best] for best in self.decode(emissions, beam_size)]

    def best_tokens(self, emissions: Sequence[np.ndarray]) -> list[list[int]]:
        """Return the tokens of each utterance, decoded without a beam: the dev score of training needs no more."""
        return [list(hypothesis.tokens) for hypothesis in self.decode(emissions, 1)]

    @abstractmethod
    def log_probs(self, emissions: np.ndarray) -> np.ndarray:
        """Return natural-log posteriors of the classes in each frame, (T', C)."""

    @abstractmethod
    def segments(
        self, hypothesis: Hypothesis, emissions: np.ndarray, waveform: np.ndarray | None = None
    ) -> list[Segment]:
        """Return the phones of a hypothesis with times and calibrated confidences.

        Parameters
        ----------
        hypothesis
            From `decode`.
        emissions : (T', …)
            The emissions that were decoded.
        waveform : (N,), optional
            The sound at 16 kHz. With it the boundaries of CTC are better, and pauses are left out (see
            `asr.models.times`).
        """

    @abstractmethod
    def align(
        self, text: Spellings, emissions: np.ndarray, waveform: np.ndarray | None = None, name: str = "the recording"
    ) -> Placement:
        """Find where a known text is said.

        A network trained with CTC chooses the pronunciations that fit best. It leaves out speech that the text lacks
        and words that are not said, if it finds any that are. Other kinds take the first pronunciation of each word,
        and lay the text out over the whole recording.

        Parameters
        ----------
        text
            What is said.
        emissions, waveform
            As for `segments`.
        name
            The recording's name, for errors.

        Raises
        ------
        InfeasibleError
            There are too few frames for the labels.
        """

    def refine(self, found: Placement, waveform: np.ndarray) -> Placement:
        """Place the boundaries of a placement by the sound (N,) at 16 kHz, where the model folder has what it takes."""
        if self.boundaries is None:
            return found
        return replace(found, phones=self.boundaries.place(found.phones, found.word_lengths, waveform, found.unspoken))


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
        """Return the times of the states on the path of `AcousticModel.align` for these phones.

        Parameters
        ----------
        labels : (L,)
            The phones.
        emissions, name
            As for `AcousticModel.align`.
        word_lengths
            The number of phones in each word, where it is known: silence may stand between words.
        """
