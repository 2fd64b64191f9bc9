"""Speed and error of asr.ctc.ctc_loss beside torch.nn.functional.ctc_loss: loss and gradient at the logits, on the CPU.

python benchmarks/ctc_loss.py
python benchmarks/ctc_loss.py --repeats 5 --threads 1

Both take float32 logits; torch's log_softmax and its backward pass are part of its work, as the softmax is of ours. The
errors are the largest of any element of the gradient of Σ losses, against a float64 recursion in logarithms.
"""

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from _bench import describe, in_turns, spread
from torch import Tensor

from asr import ctc

SHAPES = [
    (300, 16, 40, 40),
    (800, 16, 62, 80),
    (800, 64, 62, 80),
    (1500, 16, 32, 200),
    (3000, 4, 62, 300),
    (1500, 8, 5000, 60),
]


def gradient(loss_function: Callable, logits: Tensor, *args: Tensor, reduction: str = "mean") -> Tensor:
    """Return the gradient of the loss (T, B, C)."""
    leaf = logits.detach().requires_grad_()
    return torch.autograd.grad(loss_function(leaf, *args, reduction=reduction), leaf)[0]


def peer(logits: Tensor, *args: Tensor, reduction: str) -> Tensor:
    """Return torch's loss of logits."""
    return torch.nn.functional.ctc_loss(logits.log_softmax(2), *args, reduction=reduction)


def main() -> None:
    """Print machine, versions, and for each shape both sides' times and errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15, help="passes (default 15)")
    parser.add_argument("--threads", type=int, default=2, help="of both sides (default 2)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    ctc.set_num_threads(arguments.threads)
    print(describe("numba", "torch"))
    print(
        f"{arguments.threads} threads each; normal logits; median [10 % - 90 %] of {arguments.repeats} passes in turns"
    )
    generator = torch.Generator().manual_seed(1)
    for shape in SHAPES:
        num_frames, batch, num_classes, num_labels = shape
        logits = torch.randn(num_frames, batch, num_classes, generator=generator)
        targets = torch.randint(1, num_classes, (batch, num_labels), generator=generator)
        args = targets, torch.full((batch,), num_frames), torch.full((batch,), num_labels)
        sides = {"torch": peer, "asr": ctc.ctc_loss}
        runs = {name: partial(gradient, side, logits, *args) for name, side in sides.items()}
        times = in_turns(runs, arguments.repeats)
        few = [logits[:, :4], *(arg[:4] for arg in args)]
        truth = gradient(peer, few[0].double(), *few[1:], reduction="sum")  # torch's float64 works in logarithms
        for name, side in sides.items():
            error = (gradient(side, *few, reduction="sum") - truth).abs().max().item()
            print(f"(T, B, C, L) = {shape!s:20} {name:6} {spread(times[name]):32} largest error {error:.1e}")
        print(f"{'':35} ratio  {np.median(times['torch']) / np.median(times['asr']):9.1f}", flush=True)


if __name__ == "__main__":
    main()
