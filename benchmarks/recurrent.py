"""Speed of asr.encoders's layers beside torch's and a loop over frames in torch: one layer forward and backward.

python benchmarks/recurrent.py
python benchmarks/recurrent.py --repeats 3 --threads 1

float32 on the CPU. The loops are what one writes who needs a cell that torch lacks: the inputs' products for all frames
at once, then a step a frame, its gradient by autograd. torch has no Jordan network and no peepholes: our Jordan network
with as many outputs as hidden units has two products a frame, our LSTM what its peepholes take more.
"""

import argparse
from collections.abc import Callable

import numpy as np
import torch
from _bench import describe, in_turns, spread
from torch import Tensor, nn

from asr.encoders.cells import Elman, Jordan, PeepholeLSTM

SHAPES = [(300, 16, 128), (300, 16, 256), (800, 16, 128), (800, 16, 256)]


def elman_loop(layer: Elman, x: Tensor) -> Tensor:
    """Return h (T, B, H), a frame at a time."""
    inputs = nn.functional.linear(x, layer.input_weights, layer.bias)
    state, outputs = x.new_zeros(x.shape[1], layer.output_size), []
    for now in inputs:
        state = torch.tanh(now + state @ layer.recurrent_weights.T)
        outputs.append(state)
    return torch.stack(outputs)


def jordan_loop(layer: Jordan, x: Tensor) -> Tensor:
    """Return y (T, B, O), a frame at a time."""
    inputs = nn.functional.linear(x, layer.input_weights, layer.bias)
    state, outputs = x.new_zeros(x.shape[1], layer.output_size), []
    for now in inputs:
        hidden = torch.tanh(now + state @ layer.recurrent_weights.T)
        state = nn.functional.linear(hidden, layer.output_weights, layer.output_bias).softmax(1)
        outputs.append(state)
    return torch.stack(outputs)


def lstm_loop(layer: PeepholeLSTM, x: Tensor) -> Tensor:
    """Return z (T, B, H), a frame at a time."""
    inputs, peepholes = nn.functional.linear(x, layer.input_weights, layer.bias), layer.peepholes.chunk(3)
    state = cell = x.new_zeros(x.shape[1], layer.output_size)
    outputs = []
    for now in inputs:
        gate, forget, net, output = (now + state @ layer.recurrent_weights.T).chunk(4, 1)
        gate = torch.sigmoid(gate + peepholes[0] * cell)
        forget = torch.sigmoid(forget + peepholes[1] * cell)
        cell = forget * cell + gate * torch.tanh(net)
        state = torch.sigmoid(output + peepholes[2] * cell) * torch.tanh(cell)
        outputs.append(state)
    return torch.stack(outputs)


def step(layer: nn.Module, x: Tensor, run: Callable[[], Tensor]) -> Callable[[], object]:
    """Return a pass forward and backward, to the layer's weights and its inputs."""
    leaves = [x, *layer.parameters()]
    grads = torch.randn_like(run())
    return lambda: torch.autograd.grad(run(), leaves, grads)


def sides(size: int, x: Tensor) -> dict[str, dict[str, Callable[[], object]]]:
    """Return the runs of each cell, ours first."""
    elman, jordan, lstm = Elman(size, size), Jordan(size, size, size), PeepholeLSTM(size, size)
    rnn, peer = nn.RNN(size, size), nn.LSTM(size, size)
    return {
        "Elman": {
            "asr": step(elman, x, lambda: elman(x)[0]),
            "nn.RNN": step(rnn, x, lambda: rnn(x)[0]),
            "loop": step(elman, x, lambda: elman_loop(elman, x)),
        },
        "Jordan": {
            "asr": step(jordan, x, lambda: jordan(x)[0]),
            "loop": step(jordan, x, lambda: jordan_loop(jordan, x)),
        },
        "LSTM": {
            "asr": step(lstm, x, lambda: lstm(x)[0]),
            "nn.LSTM": step(peer, x, lambda: peer(x)[0]),
            "loop": step(lstm, x, lambda: lstm_loop(lstm, x)),
        },
    }


def main() -> None:
    """Print machine, versions, and for each shape and cell the sides' times, and theirs in multiples of ours."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="passes a round, of which there are three (default 5)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of all sides (default: all)")
    parser.add_argument("--shapes", type=int, default=len(SHAPES), help="the first so many of them (default: all)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(1)
    print(describe("numba", "torch"))
    print(f"{arguments.threads} threads; forward and backward of one layer; median [10 % - 90 %] in turns")
    for num_frames, batch, size in SHAPES[: arguments.shapes]:
        x = torch.randn(num_frames, batch, size, requires_grad=True)
        for cell, runs in sides(size, x).items():
            times = in_turns(runs, arguments.repeats)
            for name, seconds in times.items():
                ratio = np.median(seconds) / np.median(times["asr"])
                shape = f"(T, B, H) = {(num_frames, batch, size)!s:16}"
                print(f"{shape} {cell:7} {name:8} {spread(seconds):34} {ratio:6.2f} x ours", flush=True)


if __name__ == "__main__":
    main()
