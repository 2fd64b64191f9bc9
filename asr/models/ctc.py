"""Networks trained with CTC or CTC-CRF: their outputs are labels and the blank.

The emissions are the network's log softmax. For CTC these are log posteriors. With CTC-CRF they say what the sound adds
to what an n-gram of labels says already (docs/theory/criteria.md): posteriors are made of both, and the search takes
the n-gram, too, unless another language model takes its place. All paths of given labels have the same n-gram weight,
so alignments and times do without it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from asr.core.config import Config
from asr.core.errors import InfeasibleError
from asr.ctc import Hypothesis, beam_search, best_path, forced_align
from asr.ctc import required_frames as frames_for
from asr.models.base import AcousticModel, Placement, Spellings
from asr.models.times import phone_segments
from asr.speech.features import FRAME_SHIFT
from asr.speech.segments import Segment

if TYPE_CHECKING:
    from torch import nn

    from asr.ctc.denominator import Denominator


@dataclass(frozen=True)
class CTCModel(AcousticModel):
    """A network whose outputs are labels and the blank, trained with CTC.

    Attributes
    ----------
    encoder
        The network, in evaluation mode.
    """

    has_nbest: ClassVar[bool] = True
    takes_lm: ClassVar[bool] = True

    encoder: "nn.Module"

    @classmethod
    def parts(cls, config: Config, tokens: tuple[str, ...], tensors: dict[str, np.ndarray]) -> dict[str, Any]:
        """Build the network and load its weights."""
        from asr.models import networks  # needs torch, which onnxruntime can replace (asr/models/onnx.py)

        return {"encoder": networks.load_encoder(config, len(tokens), tensors)}

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the network's weights."""
        from asr.models import networks

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
        decode = self.config.decode
        own = None if self.lm is None else self.config.train.criterion.lm
        models = [each for each in (decode.lm or own, decode.rescore_lm) if each is not None]
        name = " + ".join([f"beam {beam_size}", *(Path(each).name for each in models)])
        return {"best path": 1} | ({name: beam_size} if beam_size > 1 else {})

    @cached_property
    def search(self) -> Callable[[np.ndarray, np.ndarray, int, int], list[list[Hypothesis]]]:
        """The configured search: log posteriors, lengths, beam size and number of hypotheses to hypotheses."""
        decode = self.config.decode
        if decode.lm is None and decode.rescore_lm is None and decode.label_prior_scale == 0 and self.lm is None:
            return beam_search
        from asr.lm import search  # imported only where it is needed

        return search.build(decode, self.tokens, self.calibration.priors, self.lm)

    @cached_property
    def finds_words(self) -> bool:
        """Whether the configured search has a language model over words."""
        if self.config.decode.lm is None:
            return False
        from asr.lm.search import language_model

        return language_model(self.config.decode.lm, self.tokens).unit == "words"

    @cached_property
    def denominator(self) -> "Denominator":
        """The n-gram of CTC-CRF as an automaton."""
        from asr.lm import fusion

        assert self.lm is not None
        return fusion.denominator(self.lm, self.tokens)

    def emissions(self, features: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the natural log of the network's softmax (T', C), float32, for each utterance."""
        from asr.models import networks

        return networks.outputs(self.encoder, features)

    def decode(self, emissions: Sequence[np.ndarray], beam_size: int) -> list[Hypothesis]:
        """Return the best path for a beam of 1, else the best hypothesis of the beam search."""
        return [nbest[0] for nbest in self.hypotheses(emissions, beam_size, 1)]

    def hypotheses(self, emissions: Sequence[np.ndarray], beam_size: int, count: int) -> list[list[Hypothesis]]:
        """Return the first hypotheses of the beam."""
        lengths = np.array([len(rows) for rows in emissions])
        log_probs = np.zeros((lengths.max(), len(emissions), emissions[0].shape[1]), np.float32)
        for i, rows in enumerate(emissions):
            log_probs[: len(rows), i] = rows
        posteriors = log_probs if self.lm is None else self.denominator.log_posteriors(log_probs, lengths)
        if beam_size == 1:
            return [[best] for best in best_path(posteriors, lengths)]
        found = self.search(log_probs, lengths, beam_size, count)
        if self.lm is not None:
            found = [[each.sure_by(posteriors[:, b]) for each in nbest] for b, nbest in enumerate(found)]
        return [nbest or [NOTHING] for nbest in found]

    def prepare(self) -> None:
        """Read language models and lexicon."""
        _ = self.search  # reads them, and keeps them; tables of a phone n-gram are made when something is decoded

    def log_probs(self, emissions: np.ndarray) -> np.ndarray:
        """Return the emissions themselves, or with CTC-CRF the posteriors over all label sequences."""
        return emissions if self.lm is None else self.denominator.log_posteriors(emissions[:, None])[:, 0]

    def goodness(self, labels: Sequence[str], emissions: np.ndarray) -> np.ndarray:
        """Return the goodness of pronunciation (L,) of phones that the emissions of `align` (T', C) hold."""
        from asr.ctc.goodness import goodness

        tokens = np.array([self.tokens.index(label) for label in labels])
        return goodness(
            emissions, tokens, log_weights=None if self.lm is None else self.denominator.substitutions(tokens)
        )

    def segments(
        self, hypothesis: Hypothesis, emissions: np.ndarray, waveform: np.ndarray | None = None
    ) -> list[Segment]:
        """Align the hypothesis, then place its boundaries (`asr.models.times`)."""
        if not hypothesis.tokens:
            return []
        (alignment,) = forced_align(emissions[:, None], np.array([hypothesis.tokens]))
        confidences = np.array(hypothesis.confidences)
        return phone_segments(
            emissions, alignment, self.tokens, self.frame_shift, waveform, confidences, self.calibration
        )

    def align(
        self, text: Spellings, emissions: np.ndarray, waveform: np.ndarray | None = None, name: str = "the recording"
    ) -> Placement:
        """Find the likeliest path of the text (`asr.models.text_graph`), then place its boundaries (`…times`)."""
        from asr.models import text_graph  # recognition does without its kernels

        log_posteriors = self.log_probs(emissions)
        index = {label: i for i, label in enumerate(self.tokens)}
        # Where every word is said, badly perhaps, a cheap filler would take in the phones that are wrong.
        costs = text_graph.OF_CTC if self.lm is None or text.all_said else text_graph.OF_CRF
        graph = text_graph.build(text, index, self.frame_shift, costs)
        least = sum(min(map(frames_for, word)) for word in text.words)
        placed = None
        if (text.has_words and not text.all_said) or len(emissions) >= least:
            placed = text_graph.place(emissions, graph, log_posteriors)
        if placed is None or len(placed.words) == 0:  # nothing of the text is found: it is laid out over the recording
            labels, _ = text.first()
            if len(emissions) < least:
                raise InfeasibleError(
                    f"{name}: {len(labels)} phones need at least {least} frames, and there are "
                    f"{len(emissions)} of {1000 * self.frame_shift:.0f} ms: check that the text is this recording's"
                )
            graph = text_graph.build(text, index, self.frame_shift, costs, is_whole=True)
            placed = text_graph.place(emissions, graph, log_posteriors)
        heard = emissions
        if len(placed.unspoken) > 0:
            heard = emissions.copy()
            for start, end in placed.unspoken:
                heard[start:end], heard[start:end, 0] = -np.inf, 0.0
        phones = phone_segments(
            heard, placed.alignment, self.tokens, self.frame_shift, waveform, calibration=self.calibration.of_given()
        )
        lengths = np.bincount(placed.words, minlength=len(text.words)).tolist() if text.has_words else []
        return Placement(phones, lengths, placed.alignment.score, heard, placed.unspoken * self.frame_shift)


NOTHING = Hypothesis((), (), -math.inf, ())
