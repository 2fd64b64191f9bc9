"""Speed of a BLSTM training step: ours beside torch's packed nn.LSTM, with and without tuned malloc and bfloat16.

python benchmarks/training_step.py
python benchmarks/training_step.py --rounds 5 --hidden-size 250

Each row runs in a process of its own, since malloc's settings hold for a whole process; the rows take turns.
"""

import argparse
import subprocess
import sys
import time

import numpy as np
import torch
from _bench import describe
from torch import Tensor, nn

from asr.ctc import ctc_loss
from asr.encoders.blstm import EncoderConfig
from asr.training.memory import tune_malloc

FEATURES, CLASSES, LABELS, STACK = 80, 40, 40, 3
ROWS = {
    "torch nn.LSTM, packed": {"peer"},
    "asr BLSTM": set(),
    "asr BLSTM, malloc tuned": {"malloc"},
    "asr BLSTM, malloc tuned, bfloat16": {"malloc", "bfloat16"},
}


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


def measure(options: set[str], arguments: argparse.Namespace) -> None:
    """Time training steps and print the median in seconds."""
    if "malloc" in options:
        tune_malloc()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    lengths = torch.linspace(0.7 * arguments.frames, arguments.frames, arguments.batch).long() // STACK * STACK
    lengths[-1] = arguments.frames // STACK * STACK
    features = torch.randn(arguments.batch, int(lengths.max()), FEATURES)
    targets = torch.randint(1, CLASSES, (arguments.batch, LABELS))
    label_lengths = torch.full((arguments.batch,), LABELS)
    ours = EncoderConfig(num_layers=3, hidden_size=arguments.hidden_size, stack=STACK)
    network = Packed(arguments.hidden_size) if "peer" in options else ours.build(FEATURES, CLASSES)
    times = []
    for _ in range(arguments.steps + 2):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled="bfloat16" in options):
            logits, frames = network(features, lengths)
        ctc_loss(logits.float(), targets, frames, label_lengths).backward()
        times.append(time.perf_counter() - start)
    print(np.median(times[2:]))


def main() -> None:
    """Print machine, versions and a row for each way of doing the step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="processes a row (default 3)")
    parser.add_argument("--steps", type=int, default=8, help="steps a process (default 8)")
    parser.add_argument("--hidden-size", type=int, default=256, help="cells a direction (default 256)")
    parser.add_argument("--batch", type=int, default=16, help="utterances (default 16)")
    parser.add_argument("--frames", type=int, default=450, help="10 ms frames of the longest (default 450)")
    parser.add_argument("--threads", type=int, default=2, help="torch's threads (default 2)")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        measure(ROWS[arguments.row], arguments)
        return
    print(describe("torch", "numba"))
    shape = f"{arguments.batch} utterances of up to {arguments.frames} frames"
    print(f"3 x {arguments.hidden_size} cells a direction, {shape}")
    times: dict[str, list[float]] = {row: [] for row in ROWS}
    for _ in range(arguments.rounds):
        for row in ROWS:
            command = [sys.executable, *sys.argv, "--row", row]
            times[row].append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    medians = {row: np.median(values) for row, values in times.items()}
    first = next(iter(ROWS))
    for row, values in times.items():
        spread = f"[{1e3 * min(values):.0f} - {1e3 * max(values):.0f}]"
        print(f"{row:36} {1e3 * medians[row]:7.0f} ms {spread:16} {medians[first] / medians[row]:5.2f} x the first row")


if __name__ == "__main__":
    main()
