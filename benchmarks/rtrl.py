"""Memory and time of real-time recurrent learning beside backpropagation through time, for the Elman network.

python benchmarks/rtrl.py
python benchmarks/rtrl.py --repeats 1 --output elsewhere.png

BPTT is asr.encoders.cells.Elman; RTRL is the kernel asr.encoders.rtrl.run, given the errors of all frames as if they
came one by one; both in float32. Memory is what either has stored at most beside inputs, errors and weights: NumPy's
arrays by tracemalloc, and what autograd saves by its own hooks. BPTT's states count, and RTRL has none but the last.
Under CTC that does not hold: RtrlElman's outputs are such states, needed by the layer above, and are not counted here.
Time is the processor's for one utterance, so that other programs do not count.
"""

import argparse
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from _bench import describe
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from asr.encoders import rtrl
from asr.encoders.cells import Elman

NUM_INPUTS = 40
FRAMES, SIZE = (50, 200, 800, 3200), 32  # on the left: up to 32 s at 10 ms
SIZES, LENGTH = (8, 16, 32, 64), 200  # on the right

Run = Callable[[], list[Tensor]]


def sides(num_frames: int, size: int) -> dict[str, Run]:
    """Return what makes the gradients of one utterance at input weights, recurrent weights and bias, for each side."""
    layer = Elman(NUM_INPUTS, size)
    weights = [layer.input_weights, layer.recurrent_weights, layer.bias]
    x, errors = torch.randn(num_frames, 1, NUM_INPUTS), torch.randn(num_frames, 1, size)
    rows = torch.cat((layer.input_weights, layer.recurrent_weights, layer.bias[:, None]), dim=1).detach().numpy()
    given = x[:, 0].numpy(), errors[:, 0].numpy(), np.zeros(size, np.float32), rows, False

    def forward_in_time() -> list[Tensor]:
        gradient = np.zeros(rows.size, np.float32)
        rtrl.run(*given, np.empty((2, size, rows.size), np.float32), gradient)
        whole = torch.from_numpy(gradient).reshape(rows.shape)
        return [whole[:, :NUM_INPUTS], whole[:, NUM_INPUTS:-1], whole[:, -1]]

    return {"BPTT": lambda: list(torch.autograd.grad(layer(x)[0], weights, errors)), "RTRL": forward_in_time}


def stored(run: Run, num_frames: int, size: int) -> int:
    """Return how many bytes a run has stored at most, inputs, their errors and the weights apart."""
    saved: dict[int, int] = {}

    def save(value: Tensor) -> Tensor:
        saved[value.data_ptr()] = value.numel() * value.element_size()
        return value

    tracemalloc.start()
    with saved_tensors_hooks(save, lambda value: value):
        run()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    width = NUM_INPUTS + size + 1
    given = 4 * (num_frames * NUM_INPUTS + size * width)
    return peak + max(0, sum(saved.values()) - given)


def measure(num_frames: int, size: int, repeats: int) -> dict[str, tuple[int, float]]:
    """Return each side's bytes and median seconds, after a look whether they agree."""
    runs = sides(num_frames, size)
    for ours, truth in zip(runs["RTRL"](), runs["BPTT"](), strict=True):  # and compile the kernels
        torch.testing.assert_close(ours, truth, rtol=1e-3, atol=1e-3 * float(truth.abs().max()))
    found = {}
    for name, run in runs.items():
        seconds = []
        for _ in range(repeats):
            start = time.process_time()
            run()
            seconds.append(time.process_time() - start)
        found[name] = stored(run, num_frames, size), float(np.median(seconds))
        kilobytes, milliseconds = found[name][0] / 1e3, 1e3 * found[name][1]
        shape = f"{num_frames:6} frames {size:4} units"
        print(f"{shape}  {name}  {kilobytes:10,.0f} kB {milliseconds:10.2f} ms", flush=True)
    return found


def draw(rows: dict[tuple[int, int], dict[str, tuple[int, float]]], path: Path) -> None:
    """Draw memory and time over length and over size, all logarithmic."""
    figure, panels = plt.subplots(2, 2, figsize=(9, 6), sharex="col", layout="constrained")
    over_length = FRAMES, [(frames, SIZE) for frames in FRAMES], f"frames, at {SIZE} units"
    over_size = SIZES, [(LENGTH, size) for size in SIZES], f"units, at {LENGTH} frames"
    for column, (values, keys, label) in zip(panels.T, (over_length, over_size), strict=True):
        for what, (axes, factor) in enumerate(zip(column, (1e-3, 1e3), strict=True)):
            for name, colour in (("BPTT", "C0"), ("RTRL", "C3")):
                points = [factor * rows[key][name][what] for key in keys]
                axes.plot(values, points, color=colour, marker="o", label=name)
            axes.set(xscale="log", yscale="log")
            axes.grid(alpha=0.3)
        column[1].set_xlabel(label)
        column[1].set_xticks(values, [str(value) for value in values])
        column[1].tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
    panels[0, 0].set_ylabel("kB stored at most")
    panels[1, 0].set_ylabel("ms of processor an utterance")
    panels[0, 0].legend(frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Print machine, versions and a table, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="passes, of which the median counts (default 3)")
    default = Path(__file__).parents[1] / "docs" / "figures" / "rtrl.png"
    parser.add_argument("--output", type=Path, default=default, help="the picture (default docs/figures/rtrl.png)")
    arguments = parser.parse_args()
    torch.manual_seed(1)
    torch.set_num_threads(1)
    print(describe("numba", "torch"))
    pairs = dict.fromkeys([(frames, SIZE) for frames in FRAMES] + [(LENGTH, size) for size in SIZES])
    draw({pair: measure(*pair, arguments.repeats) for pair in pairs}, arguments.output)


if __name__ == "__main__":
    main()
