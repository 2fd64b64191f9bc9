"""Speed of asr.ctc.forced_align beside torchaudio.functional.forced_align, utterance by utterance, one thread each.

python benchmarks/ctc_align.py
"""

import argparse
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from _bench import describe, in_turns, spread
from torchaudio.functional import forced_align

from asr import ctc

SHAPES = [(300, 40, 40), (800, 62, 80), (3000, 62, 300), (1500, 5000, 60)]


def main() -> None:
    """Print machine, versions, and for each shape both sides' times and path scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=25, help="passes (default 25)")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", "torchaudio.functional._alignment", UserWarning)
    torch.set_num_threads(1)
    ctc.set_num_threads(1)
    print(describe("numba", "torchaudio"))
    print(f"one thread; random posteriors; median [10 % - 90 %] of {arguments.repeats} passes in turns")
    generator = torch.Generator().manual_seed(1)
    for num_frames, num_classes, num_labels in SHAPES:
        log_probs = torch.randn(1, num_frames, num_classes, generator=generator).log_softmax(2)
        targets = torch.randint(1, num_classes, (1, num_labels), generator=generator, dtype=torch.int32)
        runs: dict[str, Callable] = {
            "torchaudio": partial(forced_align, log_probs, targets),
            "asr": partial(ctc.forced_align, log_probs.transpose(0, 1).numpy(), targets.numpy()),
        }
        times = in_turns(runs, arguments.repeats)
        scores = runs["torchaudio"]()[1].double().sum().item(), runs["asr"]()[0].score
        shape = f"(T, C, L) = {(num_frames, num_classes, num_labels)}"
        for (name, seconds), score in zip(times.items(), scores, strict=True):
            print(f"{shape:31} {name:11} {spread(seconds):30} path score {score:.4f}")
        print(f"{'':31} ratio       {np.median(times['torchaudio']) / np.median(times['asr']):9.1f}", flush=True)


if __name__ == "__main__":
    main()
