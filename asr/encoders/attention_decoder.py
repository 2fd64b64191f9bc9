"""Attention encoder-decoder: a BLSTM encodes the utterance, and an LSTM writes its phones, one at each step.

At each step the decoder sees a weighted mean of the encoder's states. The weights α say where the next phone lies, and
depend on the previous step's weights (location-aware attention):

    s_i = LSTM([embedding of y_{i−1}; g_{i−1}], s_{i−1})
    e_{it} = w · tanh(W s_i + V h_t + U f_{it} + b),  f_i = Q * α_{i−1}
    α_i = softmax(e_i),  g_i = Σ_t α_{it} h_t
    p(y_i | y_1 … y_{i−1}, utterance) = softmax(W_y [s_i; g_i] + b_y)

Sources: D. Bahdanau, K. Cho and Y. Bengio, "Neural machine translation by jointly learning to align and translate",
ICLR 2015; J. Chorowski, D. Bahdanau, D. Serdyuk, K. Cho and Y. Bengio, "Attention-based models for speech recognition",
NIPS 2015, equations 1-9, in which the index of s is lower by one.

Letters: B utterances, T' encoder frames, E values of an encoder's state, S labels of the longest target, C classes, of
which class 0 begins and ends every sentence, A units of the comparison, K filters over α.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from asr.core.settings import check
from asr.encoders import blstm

END = 0  # the class that begins and ends a sentence: the blank's, which the decoder does not need otherwise


@dataclass(frozen=True)
class EncoderConfig(blstm.EncoderConfig):
    """The `model` section of an encoder-decoder's recipe: the keys of a BLSTM, and those of the decoder.

    Attributes
    ----------
    state_size
        E, the size of an encoder state. A linear layer makes it from the outputs of both directions.
    decoder_size
        Cells of the decoder's LSTM.
    attention_size
        A, the size of the space in which attention compares decoder and encoder states.
    num_filters
        K, filters over the attention weights of the step before.
    filter_width
        Width of such a filter in encoder frames; an odd number.
    ctc_weight
        Share of the CTC loss on the encoder states in the whole loss, from 0 to below 1. CTC guides the alignment.
    """

    num_layers: int = 2
    hidden_size: int = 96
    stack: int = 2
    state_size: int = 128
    decoder_size: int = 128
    attention_size: int = 96
    num_filters: int = 8
    filter_width: int = 31
    ctc_weight: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("state_size", "decoder_size", "attention_size", "num_filters"):
            check(getattr(self, name) >= 1, f"model.{name}", "be 1 or more", getattr(self, name))
        odd = self.filter_width >= 1 and self.filter_width % 2 == 1
        check(odd, "model.filter_width", "be odd and positive", self.filter_width)
        check(0 <= self.ctc_weight < 1, "model.ctc_weight", "lie in 0..1", self.ctc_weight)


class Memory(NamedTuple):
    """What the decoder attends to: states (B, T', E), keys V h + b (B, T', A), and which frames are valid (B, T')."""

    states: Tensor
    keys: Tensor
    valid: Tensor


class State(NamedTuple):
    """The decoder's state: its LSTM's output and cells (B, ·), the last glimpse g (B, E) and its weights α (B, T')."""

    hidden: Tensor
    cells: Tensor
    glimpse: Tensor
    weights: Tensor


class Decoder(nn.Module):
    """LSTM that predicts labels from encoder states by attention.

    Parameters
    ----------
    config
        Sizes of the layers.
    num_classes
        C, including the end.

    Examples
    --------
    >>> decoder = Decoder(EncoderConfig(state_size=6), num_classes=4)
    >>> log_probs, weights = decoder(torch.zeros(2, 9, 6), torch.tensor([9, 5]), torch.tensor([[1, 2, 3], [2, 1, 0]]))
    >>> tuple(log_probs.shape), tuple(weights.shape), weights[1, :, 5:].any().item()
    ((2, 4, 4), (2, 4, 9), False)
    """

    def __init__(self, config: EncoderConfig, num_classes: int):
        super().__init__()
        size, decoder_size, width = config.state_size, config.decoder_size, config.filter_width
        self.embedding = nn.Embedding(num_classes, decoder_size)
        self.cell = nn.LSTMCell(decoder_size + size, decoder_size)
        self.query = nn.Linear(decoder_size, config.attention_size, bias=False)  # W
        self.key = nn.Linear(size, config.attention_size)  # V, b
        self.filters = nn.Conv1d(1, config.num_filters, width, padding=width // 2, bias=False)  # Q
        self.place = nn.Linear(config.num_filters, config.attention_size, bias=False)  # U
        self.energy = nn.Linear(config.attention_size, 1, bias=False)  # w
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(decoder_size + size, num_classes)

    def start(self, states: Tensor, lengths: Tensor) -> tuple[Memory, State]:
        """Return the memory of states (B, T', E), and the decoder's initial state, which attends to the first frame."""
        valid = torch.arange(states.shape[1], device=states.device) < lengths.to(states.device)[:, None]
        nothing = states.new_zeros(len(states), self.cell.hidden_size)
        weights = states.new_zeros(valid.shape)
        weights[:, 0] = 1
        return Memory(states, self.key(states), valid), State(nothing, nothing, torch.zeros_like(states[:, 0]), weights)

    def step(self, memory: Memory, state: State, labels: Tensor) -> tuple[Tensor, State]:
        """Return ln p of the next label (B, C) and the new state, given the previous labels (B,)."""
        inputs = torch.cat((self.embedding(labels), state.glimpse), dim=1)
        hidden, cells = self.cell(inputs, (state.hidden, state.cells))
        places = self.place(self.filters(state.weights[:, None]).transpose(1, 2))  # (B, T', A)
        sums = torch.tanh(self.query(hidden)[:, None] + memory.keys + places)
        energies = self.energy(sums).squeeze(2).masked_fill(~memory.valid, -torch.inf)  # (B, T')
        weights = energies.softmax(dim=1)
        glimpse = torch.bmm(weights[:, None], memory.states).squeeze(1)
        logits = self.output(self.dropout(torch.cat((hidden, glimpse), dim=1)))
        return logits.log_softmax(dim=1), State(hidden, cells, glimpse, weights)

    def forward(self, states: Tensor, lengths: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Predict each label given the correct previous labels (teacher forcing).

        Parameters
        ----------
        states : (B, T', E)
            States of the encoder.
        lengths : (B,)
            Number of their frames.
        targets : (B, S)
            Labels; shorter targets are padded.

        Returns
        -------
        log_probs : (B, S + 1, C)
            ln p of the label at each position, given the previous labels; the last position is the end's.
        weights : (B, S + 1, T')
            α of each step.
        """
        memory, state = self.start(states, lengths)
        before = nn.functional.pad(targets, (1, 0), value=END)
        log_probs, weights = [], []
        for labels in before.unbind(dim=1):
            found, state = self.step(memory, state, labels)
            log_probs.append(found)
            weights.append(state.weights)
        return torch.stack(log_probs, dim=1), torch.stack(weights, dim=1)
