"""Attention encoder-decoders: how they emit phones, and where each phone lies.

    features ─ encoder ─▶ states ─ Decoder (asr/encoders/attention_decoder.py) ─▶ a phone a step, with its weights α

Unlike CTC, the network decides when the sentence ends, and its attention need not move forward; `rising_peaks` makes
times of its attention weights. Letters: B utterances, T' encoder frames, E values of a state, L phones, C classes, K
hypotheses in a beam.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from asr.core.config import Config
from asr.core.errors import InfeasibleError
from asr.core.settings import model_options
from asr.ctc import Hypothesis
from asr.encoders.attention_decoder import END, Decoder, EncoderConfig, State
from asr.models import networks
from asr.models.base import AcousticModel, Placement, Spellings
from asr.speech.audio import SAMPLE_RATE
from asr.speech.features import FRAME_SHIFT
from asr.speech.segments import Segment


@dataclass(frozen=True)
class AttentionHypothesis(Hypothesis):
    """The phones that a decoder emitted; the timesteps are the peaks of its attention, in rising order.

    Attributes
    ----------
    weights : (L, T')
        The attention weights α of each phone; a row sums to 1.
    """

    weights: np.ndarray = field(compare=False)


@dataclass(frozen=True)
class AttentionModel(AcousticModel):
    """An encoder, and a decoder that emits one phone a step; the emissions are the encoder's states (T', E).

    Attributes
    ----------
    encoder, decoder
        The networks, in evaluation mode.
    """

    encoder: nn.Module
    decoder: Decoder

    @classmethod
    def parts(cls, config: Config, tokens: tuple[str, ...], tensors: dict[str, np.ndarray]) -> dict[str, Any]:
        """Build encoder and decoder, and load their weights."""
        sizes = model_options(config.model, EncoderConfig)
        encoder, decoder = networks.load_encoder(config, sizes.state_size, tensors), Decoder(sizes, len(tokens))
        networks.load_weights(decoder, "decoder.", tensors)
        return {"encoder": encoder, "decoder": decoder.eval()}

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the weights of encoder and decoder."""
        return networks.weights(self.encoder, "encoder.") | networks.weights(self.decoder, "decoder.")

    @property
    def frame_shift(self) -> float:
        """Seconds from one of the encoder's frames to the next."""
        return FRAME_SHIFT * int(self.encoder.subsampling)  # type: ignore[arg-type]

    @property
    def num_parameters(self) -> int:
        """Weights of encoder and decoder."""
        return sum(each.numel() for part in (self.encoder, self.decoder) for each in part.parameters())

    def decoders(self, beam_size: int) -> dict[str, int]:
        """Return greedy decoding and the beam search."""
        return {"greedy": 1} | ({f"beam {beam_size}": beam_size} if beam_size > 1 else {})

    def emissions(self, features: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the encoder's states (T', E) float32 of each utterance."""
        states, lengths = networks.run(self.encoder, features)
        rows = states.float().cpu().numpy()
        return [np.ascontiguousarray(rows[:length, i]) for i, length in enumerate(lengths.tolist())]

    def decode(self, emissions: Sequence[np.ndarray], beam_size: int) -> list[Hypothesis]:
        """Return the best hypothesis of a beam search in which each phone costs `decode.insertion_penalty` nats."""
        states, lengths = self._pad(emissions)
        return list(beam_search(self.decoder, states, lengths, beam_size, self.config.decode.insertion_penalty))

    def log_probs(self, emissions: np.ndarray) -> np.ndarray:
        """Spread the probability of each phone of the best hypothesis over the frames that the decoder attended to.

        A phone has its probability at the peak of its weights, and the blank has what the phones leave. They are made
        for pictures: this kind of system has no posteriors of frames.
        """
        (found,) = self.decode([emissions], self.config.decode.beam_size)
        assert isinstance(found, AttentionHypothesis)
        probs = np.zeros((len(emissions), len(self.tokens)), np.float32)
        for token, weights, confidence in zip(found.tokens, found.weights, found.confidences, strict=True):
            probs[:, token] += confidence * weights / weights.max()
        probs /= np.maximum(probs.sum(axis=1, keepdims=True), 1)
        probs[:, 0] = 1 - probs.sum(axis=1)
        return np.log(probs.clip(1e-10))

    def segments(
        self, hypothesis: Hypothesis, emissions: np.ndarray, waveform: np.ndarray | None = None
    ) -> list[Segment]:
        """Put boundaries half-way between the attention peaks of neighbours."""
        return self._segments(hypothesis.tokens, hypothesis.timesteps, hypothesis.confidences, emissions, waveform)

    def align(
        self, text: Spellings, emissions: np.ndarray, waveform: np.ndarray | None = None, name: str = "the recording"
    ) -> Placement:
        """Feed the labels to the decoder, then put boundaries as `segments` does; the score is the sentence's."""
        labels, word_lengths = text.first()
        if len(emissions) < len(labels):
            raise InfeasibleError(
                f"{name}: {len(labels)} phones need at least as many frames, and there are {len(emissions)} of "
                f"{1000 * self.frame_shift:.0f} ms: check that the text is this recording's"
            )
        tokens = [self.tokens.index(label) for label in labels]
        states, lengths = self._pad([emissions])
        with torch.inference_mode():
            found, weights = self.decoder(states, lengths, torch.tensor([tokens], dtype=torch.long).to(states.device))
        chosen = found[0].gather(1, torch.tensor([*tokens, END]).to(states.device)[:, None])[:, 0].cpu().double()
        peaks = rising_peaks(weights[0, :-1].cpu().numpy())
        phones = self._segments(tokens, peaks, chosen[:-1].exp().tolist(), emissions, waveform)
        return Placement(phones, word_lengths, float(chosen.sum()), emissions)

    def _pad(self, emissions: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        device = self.decoder.output.weight.device
        rows = nn.utils.rnn.pad_sequence([torch.from_numpy(each) for each in emissions], batch_first=True)
        return rows.to(device), torch.tensor([len(each) for each in emissions], device=device)

    def _segments(
        self,
        tokens: Sequence[int],
        peaks: Sequence[int],
        confidences: Sequence[float],
        emissions: np.ndarray,
        waveform: np.ndarray | None,
    ) -> list[Segment]:
        if not tokens:
            return []
        duration = len(emissions) * self.frame_shift if waveform is None else len(waveform) / SAMPLE_RATE
        middles = (np.array(peaks) + 0.5) * self.frame_shift
        inner = (middles[:-1] + middles[1:]) / 2 + self.calibration.boundary_offset
        edges = np.concatenate(([0.0], inner.clip(0, duration).round(3), [duration]))
        calibrated = self.calibration.confidence(np.array(confidences, np.float64))
        return [
            Segment(self.tokens[token], float(edges[i]), float(edges[i + 1]), round(float(calibrated[i]), 3))
            for i, token in enumerate(tokens)
        ]


@torch.inference_mode()
def beam_search(
    decoder: Decoder, states: Tensor, lengths: Tensor, beam_size: int, penalty: float = 0.0
) -> list[AttentionHypothesis]:
    """Return the likeliest sentence of each utterance.

    A beam holds the best K sentences so far, ended ones among them; with K = 1 each phone is the likeliest after those
    before it. A sentence has at most as many phones as frames. The search ends when no open sentence can overtake the
    best ended one.

    Parameters
    ----------
    decoder
        The decoder, in evaluation mode.
    states : (B, T', E)
        The encoder's states, padded.
    lengths : (B,)
        Frames of each utterance.
    beam_size
        K.
    penalty
        Nats that each phone costs beside its probability: above 0 for shorter sentences, below 0 for longer ones. The
        hypotheses' scores do not contain it.
    """
    batch, beam = len(states), beam_size
    rows = torch.arange(batch, device=states.device)[:, None]
    ended = torch.zeros(batch, beam, dtype=torch.bool, device=states.device)
    scores = torch.full((batch, beam), -torch.inf, dtype=torch.float64, device=states.device)
    scores[:, 0] = 0.0
    steps: list[tuple[Tensor, ...]] = []
    with torch.autocast(states.device.type, enabled=False):
        memory, state = decoder.start(states.repeat_interleave(beam, 0), lengths.repeat_interleave(beam))
        labels = torch.full((batch, beam), END, device=states.device)
        for length in range(int(lengths.max()) + 1):
            log_probs, state = decoder.step(memory, state, labels.flatten())
            found = log_probs.double().unflatten(0, (batch, beam))  # (B, K, C)
            gains = found - penalty
            gains[:, :, END] = found[:, :, END].masked_fill(ended, 0.0)
            closed = ended | (lengths[:, None] == length)  # nothing but the end may follow
            gains[:, :, END + 1 :].masked_fill_(closed[:, :, None], -torch.inf)
            scores, best = (scores[:, :, None] + gains).flatten(1).topk(beam)
            parents, labels = best // found.shape[2], best % found.shape[2]
            steps.append((parents, labels, found[rows, parents, labels], state.weights))
            state = State(*(each[(rows * beam + parents).flatten()] for each in state))
            ended = (labels == END) | scores.isneginf()
            bound = scores + max(0.0, -penalty) * (lengths[:, None] - length - 1)
            finished = scores.masked_fill(~ended, -torch.inf).max(dim=1, keepdim=True).values
            if not (~ended & (bound > finished)).any():
                break
    winners = scores.masked_fill(~ended, -torch.inf).argmax(dim=1)
    history = [tuple(each.cpu().numpy() for each in step) for step in steps]
    return [_trace(history, b, int(winners[b]), beam, int(lengths[b])) for b in range(batch)]


def _trace(history: list[tuple[Any, ...]], b: int, k: int, beam: int, num_frames: int) -> AttentionHypothesis:
    """Go back from the end of sentence k of utterance b, through each step's parents."""
    tokens, log_probs, weights = [], [], []
    score = 0.0
    for parents, labels, found, looked in reversed(history):
        parent, label = int(parents[b, k]), int(labels[b, k])
        if label != END:
            tokens.append(label)
            log_probs.append(found[b, k])
            weights.append(looked[b * beam + parent, :num_frames])
        elif not tokens:
            score = float(found[b, k])  # of the earliest end; what follows it costs nothing
        k = parent
    matrix = np.array(weights[::-1], np.float32).reshape(-1, num_frames)
    confidences = tuple(np.exp(log_probs[::-1]).tolist())
    peaks = tuple(rising_peaks(matrix))
    return AttentionHypothesis(tuple(tokens[::-1]), peaks, score + float(sum(log_probs)), confidences, matrix)


def rising_peaks(weights: np.ndarray) -> list[int]:
    """Return a frame for each phone, in rising order, so that the product of the weights is greatest.

    Parameters
    ----------
    weights : (L, T')
        The attention weights α of each phone; L ≤ T'.

    Examples
    --------
    >>> rising_peaks(np.array([[0.1, 0.2, 0.7, 0.0], [0.6, 0.1, 0.1, 0.2], [0.0, 0.0, 0.1, 0.9]]))
    [1, 2, 3]
    >>> rising_peaks(np.array([[0.1, 0.8, 0.1], [0.2, 0.7, 0.1]]))
    [1, 2]
    """
    count, num_frames = weights.shape
    logs = np.log(weights.astype(np.float64).clip(1e-30))
    before = np.zeros(num_frames)  # best sum of the phones so far, the last of them before each frame
    back = np.zeros((count, num_frames), np.int64)
    for i, row in enumerate(logs):
        here = before + row
        here[:i] = -np.inf  # the phones before need frames of their own
        best = np.maximum.accumulate(here)
        back[i] = np.maximum.accumulate(np.where(here == best, np.arange(num_frames), 0))
        before = np.concatenate(([-np.inf], best[:-1]))
    peaks, last = [], num_frames - 1
    for i in reversed(range(count)):
        peaks.append(int(back[i, last]))
        last = peaks[-1] - 1
    return peaks[::-1]
