"""Errors and speed of asr.ctc.ctc_loss and crf_loss on a GPU: beside the processor's, and torch's own losses.

python benchmarks/cuda_loss.py
python benchmarks/cuda_loss.py --kernels

First, both losses of random and awkward batches are held against those of the processor, and against themselves in
another order, with more padding and alone. Then come times of loss and gradient at float32 logits. torch's native loss
has targets and lengths on the GPU, cuDNN's has them on the processor, all frames, and at most 256 labels; log_softmax
is part of their work. The copy is the processor's loss of the same tensors. Wall times are medians of passes that wait
for the GPU at their end; host is the time after which a pass has been handed to it. --kernels adds the time of each
kernel. It needs torch, Triton and this library; the n-grams are drawn.
"""

import argparse
import time
import traceback
from collections.abc import Callable
from functools import cache, partial
from unittest import mock

import numpy as np
import torch
from _bench import describe
from torch import Tensor

from asr import ctc
from asr.ctc import Denominator, TokenModel, crf_loss, ctc_loss, gpu

SHAPES = [
    (500, 5, 40, 150),
    (300, 16, 40, 40),
    (800, 16, 62, 80),
    (800, 64, 62, 80),
    (1500, 16, 32, 200),
    (3000, 4, 62, 300),
    (1500, 64, 40, 400),
    (1500, 8, 5000, 60),
]
CRF_SHAPES = [(500, 5, 40, 150), (800, 16, 40, 80), (1500, 64, 40, 150)]
TOLERANCE = 1e-5
Args = tuple[Tensor, Tensor, Tensor]


def gradient(loss: Callable[..., Tensor], logits: Tensor, *args: object) -> Tensor:
    """Return the gradient (T, B, C) of the loss."""
    leaf = logits.detach().requires_grad_()
    return torch.autograd.grad(loss(leaf, *args), leaf)[0]


def both(loss: Callable[..., Tensor], logits: Tensor, *args: object) -> tuple[Tensor, Tensor]:
    """Return the losses (B,) and the gradient (T, B, C) of their sum, on the processor."""
    leaf = logits.detach().requires_grad_()
    losses = loss(leaf, *args, reduction="none")
    (grads,) = torch.autograd.grad(losses.sum(), leaf)
    return losses.detach().cpu(), grads.cpu()


def difference(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference, relative above 1; infinity where one is NaN or infinite and the other is not."""
    same = (found == expected) | (found.isnan() & expected.isnan())
    error = (found.double() - expected.double()).abs() / expected.double().abs().clamp(min=1)
    return float(error.where(~same, 0.0).nan_to_num(torch.inf).max()) if found.numel() else 0.0


@cache
def denominator(order: int, num_classes: int) -> Denominator:
    """Return a drawn bigram or trigram: contexts of two labels have seen a third of the labels, and else back off."""
    rng, last = np.random.default_rng(order), num_classes - 1
    labels, pairs = np.arange(1, num_classes), np.arange(last * last if order == 3 else 0)
    num_states = 1 + last + len(pairs)  # after nothing, after a label, after two
    rows = rng.dirichlet(np.ones(last), 1 + last)
    ways = np.zeros((num_states, num_classes), int)
    ways[:, 1:] = labels
    if order == 3:
        ways[1:, 1:] += last * np.concatenate([labels, 1 + pairs % last])[:, None]
        seen = rng.gamma(1.0, size=(len(pairs), last)) * (rng.random((len(pairs), last)) < 0.36)
        seen /= np.maximum(seen.sum(1, keepdims=True), 1e-9)
        rows = np.concatenate([rows, 0.3 * rows[1 + pairs % last] + 0.7 * seen])
    backoffs, weights = np.arange(num_states), np.zeros(num_states)
    backoffs[1 + last :], weights[1 + last :] = 1 + pairs % last, np.log(0.3)
    scores = np.pad(np.log(0.9 * rows), ((0, 0), (1, 0)))
    return Denominator.of(TokenModel(scores, ways, np.full(num_states, np.log(0.1))), backoffs, weights)


def batch(rng: np.random.Generator, kind: torch.dtype, scale: float, sizes: tuple[int, int, int, int]) -> tuple:
    """Return logits and arguments of a batch with all that is awkward."""
    num_frames, num, num_classes, num_labels = sizes
    logits = torch.from_numpy(scale * rng.standard_normal((num_frames, num, num_classes))).to(kind)
    targets = torch.from_numpy(rng.integers(1, num_classes, (num, num_labels)))
    targets[1] = 2  # repeats
    frames, labels = rng.integers(num_frames // 2, num_frames + 1, num), rng.integers(0, num_labels + 1, num)
    frames[:8], labels[:8] = [num_frames, num_frames, 1, 1, 0, 0, 3, 2], [num_labels, num_labels, 1, 0, 0, 1, 3, 2]
    if len(frames) > 10:
        logits[5, 8, 1], logits[6, 9, 2], logits[:, 10, 3] = torch.nan, torch.inf, -torch.inf
    return logits, targets, torch.from_numpy(frames), torch.from_numpy(labels)


def check(name: str, loss: Callable[..., Tensor], logits: Tensor, *args: Tensor) -> bool:
    """Print how far the GPU's loss and gradient are from the processor's, and what they depend on."""
    expected = both(loss, logits, *args)
    device = logits.cuda()
    found = both(loss, device, *args)
    errors = [difference(one, other) for one, other in zip(found, expected, strict=True)]
    faults = [] if max(errors) <= TOLERANCE else ["NOT EQUAL"]
    if not same(both(loss, device, *(arg.cuda() for arg in args)), found):
        faults.append("another run, or arguments on the GPU, differ")
    order = torch.randperm(logits.shape[1])
    padded = torch.nn.functional.pad(device[:, order.cuda()], (0, 0, 0, 0, 0, 7), value=1.0)
    targets, frames, labels = args
    moved = both(loss, padded, torch.nn.functional.pad(targets[order], (0, 90)), frames[order], labels[order])
    if not same((moved[0], moved[1][: len(logits)]), (found[0][order], found[1][:, order])):
        faults.append("order and padding change it")
    for b in range(min(logits.shape[1], 8)):
        alone = both(loss, device[:, b : b + 1], targets[b : b + 1, : labels[b]], frames[b : b + 1], labels[b : b + 1])
        if not same((alone[0], alone[1]), (found[0][b : b + 1], found[1][:, b : b + 1])):
            faults.append(f"alone, {b} differs")
    print(f"{name:44} loss {errors[0]:.0e}  gradient {errors[1]:.0e}  {', '.join(faults) or 'ok'}", flush=True)
    return not faults


def same(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> bool:
    """Tell whether losses and gradients are equal to the bit."""
    return all(bool(((a == b) | (a.isnan() & b.isnan())).all()) for a, b in zip(one, other, strict=True))


def checks() -> bool:
    """Print a line for each batch; return whether all are right."""
    rng, fine = np.random.default_rng(1), True
    crf, small = crf_loss_of(denominator(3, 40)), crf_loss_of(denominator(2, 7))
    for scale in (1.0, 10.0):
        for sizes in ((40, 12, 7, 8), (400, 12, 40, 90), (300, 11, 2000, 30)):
            fine &= check(f"ctc scale {scale:g} {sizes}", ctc_loss, *batch(rng, torch.float32, scale, sizes))
        fine &= check(f"crf scale {scale:g} bigram", small, *batch(rng, torch.float32, scale, (40, 12, 7, 8)))
        fine &= check(f"crf scale {scale:g} trigram", crf, *batch(rng, torch.float32, scale, (300, 12, 40, 60)))
    for name, loss in (("ctc", ctc_loss), ("crf", small)):
        fine &= check(f"{name} float64", loss, *batch(rng, torch.float64, 3.0, (40, 12, 7, 8)))
    for kind in (torch.float16, torch.bfloat16):
        fine &= check(f"ctc {kind}", ctc_loss, *batch(rng, kind, 1.0, (40, 8, 7, 8)))
    fine &= check("ctc ±10⁴", ctc_loss, *batch(rng, torch.float32, 1e4, (60, 8, 7, 8)))
    fine &= check("crf ±10⁴", small, *batch(rng, torch.float32, 1e4, (60, 8, 7, 8)))
    fine &= check("ctc, long", ctc_loss, *batch(rng, torch.float32, 3.0, (3000, 8, 40, 700)))
    leaf = torch.randn(7, 3, 5, dtype=torch.float64, device="cuda", requires_grad=True)
    args = torch.tensor([[1, 1], [2, 1], [0, 0]]), torch.tensor([7, 4, 2]), torch.tensor([2, 2, 0])
    for name, loss in (("ctc", ctc_loss), ("crf", crf_loss_of(denominator(2, 5)))):
        print(f"{name}: gradcheck", torch.autograd.gradcheck(lambda x, loss=loss: loss(x, *args), leaf))
    return fine


def crf_loss_of(weights: Denominator) -> Callable[..., Tensor]:
    """Return `crf_loss` with a denominator, called as `ctc_loss` is."""

    def loss(logits: Tensor, targets: Tensor, frames: Tensor, labels: Tensor, reduction: str = "mean") -> Tensor:
        return crf_loss(logits, targets, frames, labels, weights, reduction=reduction)

    return loss


def on_processor(loss: Callable[..., Tensor], *args: object) -> Tensor:
    """Return a loss with the copy to the processor and back."""
    with mock.patch.object(gpu, "serves", return_value=False):
        return loss(*args)


def peer(logits: Tensor, *args: Tensor | list[int]) -> Tensor:
    """Return torch's loss of logits; lengths as lists are what cuDNN's takes."""
    return torch.nn.functional.ctc_loss(logits.log_softmax(2), *args)


def seconds(run: Callable[[], object], limit: float = 0.2) -> str:
    """Return the median wall time, and that after which the work has been handed over, in ms."""
    run()
    torch.cuda.synchronize()
    walls: list[float] = []
    hosts: list[float] = []
    begin = time.perf_counter()
    while len(walls) < 3 or time.perf_counter() - begin < limit:
        start = time.perf_counter()
        run()
        hosts.append(time.perf_counter() - start)
        torch.cuda.synchronize()
        walls.append(time.perf_counter() - start)
    return f"{1e3 * np.median(walls):8.2f} ({1e3 * np.median(hosts):.2f})"


def attempt(run: Callable[[], object]) -> str:
    """Return what a function returns, or the fault that it ends in."""
    try:
        return str(run())
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0][:60]}"


def print_row(title: str, runs: list[Callable[[], object]]) -> None:
    """Print the times of some runs, each as soon as it is known."""
    print(f"{title:24}", end="", flush=True)
    for run in runs:
        print(f" {attempt(partial(seconds, run)):>17}", end="", flush=True)
    print(flush=True)


def times_of_ctc(with_kernels: bool) -> None:
    """Print a row for each shape."""
    titles = " ".join(f"{title:>17}" for title in ("asr", "torch native", "cuDNN", "copy to processor"))
    print(f"\n{'ctc (T, B, C, L)':24} {titles}  ms (host)")
    generator = torch.Generator(device="cuda").manual_seed(1)
    for num_frames, num, num_classes, num_labels in SHAPES:
        logits = torch.randn(num_frames, num, num_classes, device="cuda", generator=generator)
        targets = torch.randint(1, num_classes, (num, num_labels), generator=torch.Generator().manual_seed(1))
        frames, labels = torch.full((num,), num_frames), torch.full((num,), num_labels)
        native = [each.cuda() for each in (targets, frames, labels)]
        dense = [targets.int().reshape(-1), frames.tolist(), labels.tolist()]

        def native_run(logits: Tensor = logits, args: list[Tensor] = native) -> Tensor:
            with torch.backends.cudnn.flags(enabled=False):
                return gradient(peer, logits, *args)

        runs = [
            partial(gradient, ctc_loss, logits, targets, frames, labels),
            native_run,
            partial(gradient, peer, logits, *dense),
            partial(gradient, partial(on_processor, ctc_loss), logits, targets, frames, labels),
        ]
        print_row(str((num_frames, num, num_classes, num_labels)), runs)
        if with_kernels:
            print_kernels(runs[0])


def times_of_crf(with_kernels: bool) -> None:
    """Print a row for each shape and n-gram."""
    print(f"\n{'crf (T, B, C, L)':24} {'n-gram, states, arcs':>24} {'asr':>17} {'copy to processor':>17}  ms (host)")
    for num_frames, num, num_classes, num_labels in CRF_SHAPES:
        for order in (2, 3):
            weights = denominator(order, num_classes)
            loss = crf_loss_of(weights)
            logits = torch.randn(num_frames, num, num_classes, device="cuda")
            args = (
                torch.randint(1, num_classes, (num, num_labels)),
                torch.full((num,), num_frames), torch.full((num,), num_labels),
            )  # fmt: skip
            run = partial(gradient, loss, logits, *args)
            copy = partial(gradient, partial(on_processor, loss), logits, *args)
            size = f"{order}-gram, {weights.num_states}, {weights.num_arcs}"
            shape = str((num_frames, num, num_classes, num_labels))
            print_row(f"{shape:24} {size:>24}", [run, copy] if num < 64 else [run])
            if with_kernels:
                print_kernels(run)


def print_kernels(run: Callable[[], object], repeats: int = 5) -> None:
    """Print the mean time of each kernel of a pass."""
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(repeats):
            run()
        torch.cuda.synchronize()
    events = sorted(profile.key_averages(), key=lambda event: -event.device_time_total)
    print(
        "   "
        + "; ".join(
            f"{event.key[:28]} {event.count // repeats} × {event.device_time_total / event.count:.0f} µs"
            for event in events[:7]
        ),
        flush=True,
    )


def main() -> None:
    """Print machine, versions, checks and times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernels", action="store_true", help="print the time of each kernel too")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device")
    begin = time.perf_counter()
    print(torch.cuda.get_device_name(), describe("torch", "triton", "numba", "numpy"), sep="\n")
    print(
        f"{ctc.get_num_threads()} threads of the processor; Triton works: {gpu.serves(torch.zeros(1, device='cuda'))}"
    )
    for part in (checks, partial(times_of_ctc, arguments.kernels), partial(times_of_crf, arguments.kernels)):
        try:
            found = part()
            if found is not None:
                print("all is right" if found else "SOMETHING IS WRONG")
        except Exception:
            traceback.print_exc()
        print(f"{time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
