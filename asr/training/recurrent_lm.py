"""Training of recurrent language models, for `asr.training.lm`.

Letters: N tokens and edges of a text, V tokens of the vocabulary, S sampled ones, K pieces of a batch, T tokens of the
longest, M tokens of all, E values that the output layer sees.
"""

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from asr.core import files
from asr.core.errors import AsrError, ConfigError
from asr.core.terminal import pace, track
from asr.lm.config import LmConfig, LmTrainConfig, RecurrentConfig
from asr.lm.language_model import perplexity
from asr.lm.recurrent_lm import RecurrentLM
from asr.lm.text import Text
from asr.models.run_folder import MEND

log = logging.getLogger(__name__)

CELLS: dict[str, Any] = {"elman": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


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

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits (K, T, V) after each of the tokens (K, T)."""
        return self.output(self.contexts(tokens))

    def contexts(self, tokens: Tensor) -> Tensor:
        """Return what the output layer sees (K, T, E or H)."""
        outputs, _ = self.rnn(self.dropout(self.embedding(tokens)))
        return self.dropout(self.projection(outputs))

    def lm(self, unit: str, tokens: tuple[str, ...]) -> RecurrentLM:
        """Return a language model with these weights, which it shares; tied ones are included once."""
        tied = {"output.weight"} if self.config.tied else set()
        weights = {key: value.detach().numpy() for key, value in self.state_dict().items() if key not in tied}
        return RecurrentLM(unit, tokens, self.config, weights)


class Training:
    """The training of a recurrent model with teacher forcing; goes on from the last checkpoint of a run folder.

    Parameters
    ----------
    config
        Of the model, and of its optimisation.
    given
        To train on, over the vocabulary.
    trained, dev
        To take perplexities of: a part of what is trained on, and text held out, which may be empty.
    run
        The run folder.

    Raises
    ------
    ConfigError
        The run folder holds a model of another text.
    """

    def __init__(self, config: LmConfig, given: Text, trained: Text, dev: Text, run: Path):
        torch.manual_seed(config.seed)
        self.seed, self.config, self.stream = config.seed, config.train, given.stream
        self.network = Network(config.model, len(given.tokens))  # type: ignore[arg-type]
        self.lm = self.network.lm(config.text.unit, given.tokens)
        self.trained = list(trained.sentences())
        self.held_out = list(dev.sentences()) or self.trained
        self.shares = torch.from_numpy(np.bincount(given.stream, minlength=len(given.tokens)) / len(given.stream))
        text = hashlib.sha256(json.dumps(given.tokens).encode())
        for numbers in (given.stream, dev.stream):
            text.update(numbers.tobytes())
        self.state = _State(self.network, config.train, run, text.hexdigest())

    def run(self, keep_best: Callable[[RecurrentLM, dict[str, Any]], None]) -> tuple[RecurrentLM, list[dict[str, Any]]]:
        """Train until the last epoch.

        Parameters
        ----------
        keep_best
            Is called with the model and the epoch's row when it is the best so far.

        Returns
        -------
        lm : RecurrentLM
            With the weights of the best epoch.
        history : list of dict
            A row for each epoch.

        Raises
        ------
        AsrError
            The loss is not finite.
        """
        network, state, config = self.network, self.state, self.config
        total = config.max_epochs * len(_batches(self.stream, config, self.seed))
        state.note_schedule(total)
        while state.epoch < config.max_epochs:
            torch.manual_seed(self.seed * 1_000_003 + state.epoch)  # so that a resumed run repeats the dropout
            network.train()
            started, losses, count = time.monotonic(), 0.0, 0
            batches = _batches(self.stream, config, self.seed + state.epoch)
            for starts, lengths in track(batches, f"epoch {state.epoch + 1} of {config.max_epochs}"):
                inputs, targets = _tensors(self.stream, starts, lengths)
                with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16-mixed"):
                    loss = self.loss(inputs, targets)
                if not torch.isfinite(loss):
                    raise AsrError(f"the loss is {loss.item()} in epoch {state.epoch + 1}: lower train.learning_rate")
                state.step(loss, total)
                known = int(lengths.sum())
                losses, count = losses + float(loss.detach()) * known, count + known
            network.eval()
            with np.errstate(over="ignore", invalid="ignore"):  # of weights that are not finite any more
                held_out = perplexity(self.lm.score(self.held_out))
            if not math.isfinite(held_out):
                raise AsrError(f"the perplexity is {held_out} after epoch {state.epoch + 1}: lower train.learning_rate")
            trained = math.exp(min(700.0, losses / count))
            if config.sampled_tokens:  # whose loss is not that of the model
                trained = perplexity(self.lm.score(self.trained))
            if state.end_epoch(trained, held_out, time.monotonic() - started):
                keep_best(self.lm, state.history[-1])
            state.save()
        network.load_state_dict(state.best)
        network.eval()
        return self.lm, state.history

    def loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean negative log probability of the targets (K, T), in sampled softmaxes if so configured."""
        num_sampled = self.config.sampled_tokens
        if num_sampled == 0:
            logits = self.network(inputs)
            return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)
        contexts = self.network.contexts(inputs)
        known = targets >= 0
        sampled = torch.multinomial(self.shares, num_sampled, replacement=True)
        log_counts = (num_sampled * self.shares).log().float()
        return sampled_loss(contexts[known], targets[known], self.network.output, sampled, log_counts)


def sampled_loss(contexts: Tensor, targets: Tensor, output: nn.Linear, sampled: Tensor, log_counts: Tensor) -> Tensor:
    """Return the mean loss of targets that are compared with some tokens, in place of the whole vocabulary.

    Each logit is lowered by the log of how often its token is expected among those drawn, so that in the mean over
    many draws the gradient goes where that of the whole softmax does (Y. Bengio and J.-S. Senécal, "Adaptive importance
    sampling to accelerate training of a neural probabilistic language model", 2008; S. Jean et al., "On using very
    large target vocabulary for neural machine translation", ACL 2015). A target's own copies among those drawn do not
    count.

    Parameters
    ----------
    contexts : (M, E)
        What the output layer sees.
    targets : (M,)
        The next tokens.
    output
        The output layer.
    sampled : (S,)
        Tokens that were drawn.
    log_counts : (V,)
        Natural logs of how often each token is expected among them.
    """
    own = (contexts * output.weight[targets]).sum(1) + output.bias[targets] - log_counts[targets]
    others = nn.functional.linear(contexts, output.weight[sampled], output.bias[sampled] - log_counts[sampled])
    others = others.masked_fill(targets[:, None] == sampled, -math.inf)
    return (torch.logsumexp(torch.cat([own[:, None], others], 1), 1) - own).mean()


def _batches(stream: np.ndarray, config: LmTrainConfig, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return where the pieces of each batch start and how long they are, in random order.

    A piece is a sentence with the edge before it, or a window of the text.
    """
    draws = np.random.default_rng(seed)
    if config.window:
        offset = int(draws.integers(min(config.window, max(1, len(stream) - config.window))))
        starts = np.arange(offset, len(stream) - config.window, config.window)
        lengths = np.full(len(starts), config.window)
        if len(starts) == 0:
            starts, lengths = np.array([0]), np.array([len(stream) - 1])
        order = draws.permutation(len(starts))
    else:
        edges = np.flatnonzero(stream == 0)
        starts, lengths = edges[:-1], np.diff(edges)
        order = draws.permutation(len(starts)) if config.epoch_tokens else np.arange(len(starts))
    if config.epoch_tokens:
        order = order[: max(1, np.searchsorted(lengths[order].cumsum(), config.epoch_tokens, side="right"))]
    starts, lengths = starts[order], lengths[order]
    if config.window:
        size = max(1, config.batch_tokens // config.window)
        groups = [np.arange(first, min(first + size, len(starts))) for first in range(0, len(starts), size)]
    else:
        groups = _like_lengths(lengths, config.batch_tokens, draws)
    return [(starts[group], lengths[group]) for group in groups]


def _like_lengths(lengths: np.ndarray, most: int, draws: np.random.Generator) -> list[np.ndarray]:
    """Return groups of sentences of similar length, with at most so many tokens if padded, in random order."""
    order = np.lexsort((draws.random(len(lengths)), lengths))
    groups: list[list[int]] = [[]]
    for i, length in zip(order.tolist(), lengths[order].tolist(), strict=True):
        if groups[-1] and (len(groups[-1]) + 1) * length > most:
            groups.append([])
        groups[-1].append(i)
    return [np.array(groups[g]) for g in draws.permutation(len(groups))]


def _tensors(stream: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return inputs and targets (K, T) of the pieces of a batch; targets are −1 beyond the end of a piece."""
    steps = np.arange(lengths.max())
    places = np.minimum(starts[:, None] + steps, len(stream) - 2)
    is_in = steps < lengths[:, None]
    inputs, targets = np.where(is_in, stream[places], 0), np.where(is_in, stream[places + 1], -1)
    return torch.from_numpy(inputs.astype(np.int64)), torch.from_numpy(targets.astype(np.int64))


class _State:
    """What a resumed run needs: network, optimiser, history and best weights."""

    def __init__(self, network: Network, config: LmTrainConfig, run: Path, text: str):
        self.network, self.config, self.path = network, config, run / "checkpoints" / "last.pt"
        self.text = text
        self.optimizer = torch.optim.AdamW(network.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, torch.Tensor] = {}
        self.updates = 0
        if self.path.is_file():
            kept = torch.load(self.path, weights_only=True)
            if kept.get("text", text) != text:  # checkpoints of older versions do not tell
                raise ConfigError(f"{run} was trained on another text: {MEND}")
            network.load_state_dict(kept["network"])
            self.optimizer.load_state_dict(kept["optimizer"])
            self.history, self.best, self.updates = kept["history"], kept["best"], kept["updates"]

    @property
    def epoch(self) -> int:
        """The number of finished epochs."""
        return len(self.history)

    def note_schedule(self, total: int) -> None:
        """Log where the learning rate goes on if `train.max_epochs` has been raised."""
        before, now = self.optimizer.param_groups[0]["lr"], self._rate(self.updates, total)
        if self.updates and before != self._rate(self.updates - 1, total):
            epochs = (self.epoch + 1, self.config.max_epochs)
            log.info(
                "epochs %d to %d: the learning rate goes on at %.2g, where it was %.2g, and falls to 0",
                *(*epochs, now, before),
            )

    def _rate(self, updates: int, total: int) -> float:
        """Return the learning rate of the next of `total` updates: it falls along a cosine."""
        return self.config.learning_rate * (1 + math.cos(math.pi * min(1.0, updates / total))) / 2

    def step(self, loss: torch.Tensor, total: int) -> None:
        """Make an update."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(self.updates, total)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.gradient_clip)
        self.optimizer.step()
        self.updates += 1

    def end_epoch(self, trained: float, held_out: float, seconds: float) -> bool:
        """Log the epoch, keep its weights if they are the best so far, and tell if they are."""
        before = self.history[-1]["seconds"] if self.history else 0.0
        is_best = held_out < min((line["dev_perplexity"] for line in self.history), default=math.inf)
        if is_best:
            self.best = {key: value.clone() for key, value in self.network.state_dict().items()}
        line = {
            "epoch": self.epoch + 1,
            "train_perplexity": round(trained, 3),
            "dev_perplexity": round(held_out, 4),
            "seconds": round(before + seconds, 2),
        }
        self.history.append(line)
        times = pace(seconds, before + seconds, self.config.max_epochs - self.epoch)
        log.info("epoch %d  perplexity %.2f, held out %.2f  %s", line["epoch"], trained, held_out, times)
        return is_best

    def save(self) -> None:
        """Write a checkpoint."""
        kept = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
            "best": self.best,
            "updates": self.updates,
            "text": self.text,
        }
        with files.replacing(self.path) as temporary, files.as_os_error(RuntimeError):
            torch.save(kept, temporary)
