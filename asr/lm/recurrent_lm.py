"""The recurrent language model: a network that predicts the next token from all previous ones.

T. Mikolov, M. Karafiát, L. Burget, J. Černocký and S. Khudanpur, "Recurrent neural network based language model",
Interspeech 2010. Tied embeddings: O. Press and L. Wolf, "Using the output embedding to improve language models", EACL
2017.

Letters: V tokens, K contexts, T tokens of a piece of text, L tokens of a sentence, E values of an embedding, H units,
N layers.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from asr.lm.config import RecurrentConfig
from asr.lm.language_model import LanguageModel

CELLS: dict[str, Any] = {"elman": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
MOST_LOGITS = 20_000_000  # in a batch of sentences that are scored together


class Network(nn.Module):
    """Network that maps tokens to logits of the next token."""

    def __init__(self, config: RecurrentConfig, num_tokens: int):
        super().__init__()
        self.config = config
        between = config.dropout if config.num_layers > 1 else 0.0
        self.embedding = nn.Embedding(num_tokens, config.embedding_size)
        self.rnn = CELLS[config.cell](
            config.embedding_size, config.hidden_size, config.num_layers, batch_first=True, dropout=between
        )
        self.dropout = nn.Dropout(config.dropout)
        size = config.embedding_size if config.tied else config.hidden_size
        self.projection = nn.Linear(config.hidden_size, size) if size != config.hidden_size else nn.Identity()
        self.output = nn.Linear(size, num_tokens)
        nn.init.normal_(self.embedding.weight, std=config.embedding_size**-0.5)
        if config.tied:
            self.output.weight = self.embedding.weight

    def forward(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Return logits (K, T, V) after each of the tokens (K, T), and the state after the last."""
        outputs, state = self.contexts(tokens, state)
        return self.output(outputs), state

    def contexts(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Return what the output layer sees (K, T, E or H), and the state after the last token."""
        outputs, state = self.rnn(self.dropout(self.embedding(tokens)), state)
        return self.dropout(self.projection(outputs)), state


@dataclass(frozen=True)
class RecurrentState:
    """The network's state after K contexts.

    Attributes
    ----------
    hidden
        Tensors (N, K, H): one, or two for an LSTM.
    log_probs : (K, V)
        Natural log probabilities of the next token.
    """

    hidden: tuple[Tensor, ...]
    log_probs: np.ndarray


@dataclass(frozen=True)
class RecurrentLM(LanguageModel[RecurrentState]):
    """A trained network.

    Attributes
    ----------
    network
        The network, in evaluation mode.
    """

    unit: str
    tokens: tuple[str, ...]
    network: Network = field(repr=False)

    @property
    def num_parameters(self) -> int:
        """Number of weights; tied ones count once."""
        return sum(weights.numel() for weights in self.network.parameters())

    def start(self, count: int = 1) -> RecurrentState:
        """Return the state after the edge, `count` times."""
        return self._run(torch.zeros(count, 1, dtype=torch.long), None)

    def advance(self, states: RecurrentState, tokens: np.ndarray) -> RecurrentState:
        """Return the states after one more token for each, tokens (K,)."""
        return self._run(torch.as_tensor(np.asarray(tokens, np.int64))[:, None], states.hidden)

    def select(self, states: RecurrentState, indices: np.ndarray) -> RecurrentState:
        """Return some of the states."""
        rows = torch.as_tensor(np.asarray(indices, np.int64))
        return RecurrentState(tuple(each[:, rows] for each in states.hidden), states.log_probs[indices])

    def concat(self, states: Sequence[RecurrentState]) -> RecurrentState:
        """Concatenate batches of states."""
        hidden = tuple(torch.cat(parts, dim=1) for parts in zip(*(each.hidden for each in states), strict=True))
        return RecurrentState(hidden, np.concatenate([each.log_probs for each in states]))

    def log_probs(self, states: RecurrentState) -> np.ndarray:
        """Return natural log probabilities of the next token (K, V)."""
        return states.log_probs

    def score(self, sentences: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """Return the natural log probability of each token, and of the end, of each sentence (L + 1,)."""
        rows = [self.indices(sentence) for sentence in sentences]
        found = [np.empty(0)] * len(rows)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        while order:
            longest = len(rows[order[-1]]) + 1
            size = max(1, MOST_LOGITS // (longest * len(self.tokens)))
            chosen, order = order[-size:], order[:-size]
            inputs, targets = batch([rows[i] for i in chosen])
            with torch.inference_mode():
                logits, _ = self.network(inputs)
                losses = nn.functional.cross_entropy(logits.transpose(1, 2), targets.clamp(min=0), reduction="none")
            for i, values in zip(chosen, losses.double().numpy(), strict=True):
                found[i] = -values[: len(rows[i]) + 1]
        return found

    def _run(self, tokens: Tensor, hidden: tuple[Tensor, ...] | None) -> RecurrentState:
        """Return the states after tokens (K, 1)."""
        state = hidden if hidden is None or len(hidden) > 1 else hidden[0]
        with torch.inference_mode():
            logits, after = self.network(tokens, state)
        log_probs = logits[:, 0].double().log_softmax(1).numpy()
        return RecurrentState(after if isinstance(after, tuple) else (after,), log_probs)

    def options(self) -> dict[str, Any]:
        """Return the network's configuration."""
        return asdict(self.network.config)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the network's weights; tied ones are included once."""
        tied = {"output.weight"} if self.network.config.tied else set()
        return {key: value.cpu().numpy() for key, value in self.network.state_dict().items() if key not in tied}

    @classmethod
    def restore(
        cls, unit: str, tokens: tuple[str, ...], options: dict[str, Any], arrays: dict[str, np.ndarray]
    ) -> "RecurrentLM":
        """Build the network and load its weights."""
        network = Network(RecurrentConfig(**options), len(tokens))
        weights = {key: torch.from_numpy(value) for key, value in arrays.items()}
        if network.config.tied:
            weights["output.weight"] = weights["embedding.weight"]
        network.load_state_dict(weights)
        return cls(unit, tokens, network.eval())


def batch(rows: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Return padded inputs and targets (K, L + 1) of sentences.

    Inputs begin with the edge, targets end with it; targets are −1 beyond the end of a sentence.
    """
    inputs = np.zeros((len(rows), 1 + max(map(len, rows))), np.int64)
    targets = np.full_like(inputs, -1)
    for k, row in enumerate(rows):
        inputs[k, 1 : 1 + len(row)], targets[k, : len(row)] = row, row
        targets[k, len(row)] = 0
    return torch.from_numpy(inputs), torch.from_numpy(targets)
