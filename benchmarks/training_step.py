"""Speed of BLSTM training steps over real lengths: our kernels beside torch's nn.LSTM, with and without bfloat16.

python benchmarks/training_step.py
python benchmarks/training_step.py --rounds 5 --hidden-size 250
python benchmarks/training_step.py --shape 16x450

The batches are those of a small epoch of recipes/mini_librispeech: utterances of such lengths, of similar length in a
batch of 8,000 frames. A step is what training does with a batch: network, loss, gradients, clipping, AdamW. Each row
runs in a process of its own, since the settings of malloc and OpenMP that `asr train` makes hold for a whole process;
the rows take turns.
"""

import argparse
import os
import subprocess
import sys
import time

import numpy as np
import torch
from _bench import describe
from torch import Tensor, nn

from asr.ctc import ctc_loss
from asr.encoders import lstm
from asr.encoders.blstm import EncoderConfig
from asr.training.memory import tune_malloc
from asr.training.waits import shorten_waits

FEATURES, CLASSES, STACK, FRAMES_PER_LABEL, MAX_FRAMES = 80, 40, 3, 9, 8000
ROWS = {
    "torch nn.LSTM, packed": {"packed"},
    "torch nn.LSTM, one direction, then the other": {"malloc", "torch"},
    "the same, bfloat16": {"malloc", "torch", "bfloat16"},
    "asr BLSTM": {"malloc", "waits"},
    "asr BLSTM, bfloat16": {"malloc", "waits", "bfloat16"},
    "asr BLSTM, bfloat16, as the system comes": {"bfloat16"},
}
# of the 1,370 training utterances of recipes/mini_librispeech, in feature frames: every twentieth part of them
LENGTHS = [185, 381, 578, 798, 962, 1102, 1206, 1257, 1308, 1345, 1382]
LENGTHS += [1411, 1437, 1464, 1488, 1511, 1531, 1548, 1573, 1601, 1708]


class Packed(nn.Module):
    """The same network as the manuals build it: nn.LSTM over a packed batch."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.lstm = nn.LSTM(FEATURES * STACK, hidden_size, 3, bidirectional=True)
        self.output = nn.Linear(2 * hidden_size, CLASSES)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map features (B, T, F) to logits (T / 3, B, C)."""
        stacked = features.reshape(len(features), -1, FEATURES * STACK)
        lengths = lengths // STACK
        packed = nn.utils.rnn.pack_padded_sequence(stacked, lengths, batch_first=True, enforce_sorted=False)
        hidden, _ = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0])
        return self.output(hidden), lengths


def make_batches(arguments: argparse.Namespace) -> list[list[int]]:
    """Return the lengths of the utterances of each batch, in frames, multiples of `STACK`."""
    if arguments.shape:
        count, frames = map(int, arguments.shape.split("x"))
        return [[frames // STACK * STACK] * count]
    places = (np.arange(arguments.utterances) + 0.5) / arguments.utterances
    lengths = np.interp(places, np.linspace(0, 1, len(LENGTHS)), LENGTHS).astype(int) // STACK * STACK
    batches: list[list[int]] = [[]]
    for length in lengths.tolist():
        if (len(batches[-1]) + 1) * length > MAX_FRAMES:
            batches.append([])
        batches[-1].append(length)
    return batches


def measure(options: set[str], arguments: argparse.Namespace) -> None:
    """Time passes over the batches and print the median in seconds."""
    if "malloc" in options:
        tune_malloc()
    if "torch" in options:
        lstm.can_run = lambda *_: False
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    config = EncoderConfig(num_layers=3, hidden_size=arguments.hidden_size, stack=STACK)
    network = Packed(arguments.hidden_size) if "packed" in options else config.build(FEATURES, CLASSES)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    batches = []
    for lengths in make_batches(arguments):
        labels = torch.tensor([length // FRAMES_PER_LABEL for length in lengths])
        targets = torch.randint(1, CLASSES, (len(lengths), int(labels.max())))
        batches.append((torch.randn(len(lengths), max(lengths), FEATURES), torch.tensor(lengths), targets, labels))
    times = []
    for _ in range(arguments.passes + 1):
        start = time.perf_counter()
        for features, lengths, targets, labels in batches:
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled="bfloat16" in options):
                logits, frames = network(features, lengths)
            ctc_loss(logits.float(), targets, frames, labels).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
        times.append(time.perf_counter() - start)
    print(np.median(times[1:]))


def main() -> None:
    """Print machine, versions and a row for each way of doing the step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="processes a row (default 3)")
    parser.add_argument("--passes", type=int, default=3, help="passes over the batches in a process (default 3)")
    parser.add_argument("--hidden-size", type=int, default=256, help="cells a direction (default 256)")
    parser.add_argument("--utterances", type=int, default=60, help="of real lengths (default 60)")
    parser.add_argument("--shape", help="one batch of equal lengths instead, utterances and frames, such as 32x450")
    parser.add_argument("--threads", type=int, default=2, help="torch's threads (default 2)")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        measure(ROWS[arguments.row], arguments)
        return
    print(describe("torch", "numba"))
    batches = make_batches(arguments)
    seconds = sum(map(sum, batches)) / 100
    print(f"3 x {arguments.hidden_size} cells a direction, {len(batches)} batches, {seconds:.0f} s of speech")
    times: dict[str, list[float]] = {row: [] for row in ROWS}
    for _ in range(arguments.rounds):
        for row in ROWS:
            command, environment = [sys.executable, *sys.argv, "--row", row], dict(os.environ)
            if "waits" in ROWS[row]:
                shorten_waits(environment)
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            times[row].append(float(done.stdout))
    medians = {row: np.median(values) / len(batches) for row, values in times.items()}
    first = next(iter(ROWS))
    for row, values in times.items():
        spread = "[{:.0f} - {:.0f}]".format(*(1e3 * each / len(batches) for each in (min(values), max(values))))
        pace = seconds / len(batches) / medians[row]
        ratio = medians[first] / medians[row]
        print(f"{row:45} {1e3 * medians[row]:6.0f} ms a step {spread:16} {pace:5.0f} x real time {ratio:6.2f} x row 1")


if __name__ == "__main__":
    main()
