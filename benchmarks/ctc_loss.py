"""Speed and error of asr.ctc.ctc_loss beside torch.nn.functional.ctc_loss: loss and gradient at the logits, on the CPU.

python benchmarks/ctc_loss.py
python benchmarks/ctc_loss.py --repeats 5 --threads 1 --audio a.flac b.wav

Both take float32 logits; torch's log_softmax and its backward pass are part of its work, as the softmax is of ours.
Times are the least of all passes, which other programs on the machine disturb least. The errors are the largest of any
element of the gradient of Σ losses, against a float64 recursion in logarithms.

Logits are normal, of several scales, and labels random: the greater the scale, the less probable are the labels. Then
come outputs of the model en-us-phones for recordings (by default, what espeak-ng speaks), joined to some 15 s each:
with the labels that it recognises, with those of the utterance before, and, as early in training, with the frames'
differences from their mean divided by ten. Last come recursions that torch lacks: posteriors of CTC, and of an HMM.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from _bench import describe, in_turns
from torch import Tensor

from asr import ctc
from asr.hmm.inference import forward_backward
from asr.hmm.phone_hmms import PhoneHMMs
from asr.recognition.recogniser import Recogniser
from asr.speech import audio, espeak
from data_prep import mini

SHAPES = [
    (300, 16, 40, 40),
    (800, 16, 62, 80),
    (800, 64, 62, 80),
    (1500, 16, 32, 200),
    (3000, 4, 62, 300),
    (1500, 8, 5000, 60),
]
SCALES = (1.0, 3.0, 6.0, 10.0)
FRAMES, UTTERANCES = 500, 16  # of a joined recording, at the least; of joined recordings, at the most
PHONES = 40
Batch = tuple[Tensor, Tensor, Tensor, Tensor]  # logits (T, B, C), targets (B, S), input and target lengths (B,)


def gradient(loss_function: Callable, logits: Tensor, *args: Tensor, reduction: str = "mean") -> Tensor:
    """Return the gradient of the loss (T, B, C)."""
    leaf = logits.detach().requires_grad_()
    return torch.autograd.grad(loss_function(leaf, *args, reduction=reduction), leaf)[0]


def peer(logits: Tensor, *args: Tensor, reduction: str) -> Tensor:
    """Return torch's loss of logits."""
    return torch.nn.functional.ctc_loss(logits.log_softmax(2), *args, reduction=reduction)


def compare(name: str, batch: Batch, repeats: int) -> float:
    """Print both sides' times and errors; return the ratio of the times."""
    sides = {"torch": peer, "asr": ctc.ctc_loss}
    times = in_turns({side: partial(gradient, loss, *batch) for side, loss in sides.items()}, repeats)
    few = [batch[0][:, :4], *(arg[:4] for arg in batch[1:])]
    truth = gradient(peer, few[0].double(), *few[1:], reduction="sum")  # torch's float64 works in logarithms
    errors = {side: (gradient(loss, *few, reduction="sum") - truth).abs().max().item() for side, loss in sides.items()}
    ratio = times["torch"].min() / times["asr"].min()
    figures = "  ".join(f"{side} {1e3 * times[side].min():8.2f} ms, error {errors[side]:.0e}" for side in sides)
    print(f"{name:44} {figures}  ratio {ratio:5.1f}", flush=True)
    return ratio


def random(shape: tuple[int, int, int, int], scale: float) -> Batch:
    """Return normal logits and random labels."""
    num_frames, batch, num_classes, num_labels = shape
    generator = torch.Generator().manual_seed(1)
    logits = scale * torch.randn(num_frames, batch, num_classes, generator=generator)
    targets = torch.randint(1, num_classes, (batch, num_labels), generator=generator)
    return logits, targets, torch.full((batch,), num_frames), torch.full((batch,), num_labels)


def waveforms(files: list[Path]) -> Iterator[np.ndarray]:
    """Yield recordings, or sentences spoken on the spot without end."""
    for path in files:
        yield audio.load(path)
    for i, sentence in enumerate(() if files else mini.sentences(np.random.default_rng(1))):
        said = espeak.synthesise(sentence, pitch=30 + i % 50)
        yield audio.from_array(said.samples, said.sample_rate)


def outputs(files: list[Path]) -> list[Tensor]:
    """Return the model's log posteriors (T, C) of recordings, joined."""
    recogniser = Recogniser.from_pretrained()
    joined: list[Tensor] = []
    parts: list[np.ndarray] = []
    for waveform in waveforms(files):
        parts.append(recogniser.emissions(waveform))
        if sum(map(len, parts)) >= FRAMES:
            joined.append(torch.from_numpy(np.concatenate(parts)).float())
            parts = []
        if len(joined) == UTTERANCES:
            break
    if not joined:
        raise SystemExit(f"the files hold {sum(map(len, parts))} frames, and {FRAMES} are needed: name more of them")
    return joined


def trained(rows: list[Tensor]) -> dict[str, Batch]:
    """Return batches of the same outputs with likely and with unlikely labels, and of outputs that hardly differ."""
    logits, frames = torch.nn.utils.rnn.pad_sequence(rows), torch.tensor([len(each) for each in rows])
    heard = [torch.tensor(found.tokens) for found in ctc.best_path(logits.numpy(), frames.numpy())]
    mean = torch.cat(rows).mean(0)

    def batch(values: Tensor, labels: list[Tensor]) -> Batch:
        lengths = torch.tensor([len(each) for each in labels])
        return values, torch.nn.utils.rnn.pad_sequence(labels, batch_first=True), frames, lengths

    return {
        "its own labels": batch(logits, heard),
        "another utterance's labels": batch(logits, heard[-1:] + heard[:-1]),
        "as early in training": batch(mean + 0.1 * (logits - mean), heard),
    }


def print_alone(repeats: int) -> None:
    """Print times of the posteriors of CTC, one utterance of (T, C, L) = (1500, 32, 200), and of an HMM."""
    hmms = PhoneHMMs.monophones([f"p{i}" for i in range(PHONES)])
    rng = np.random.default_rng(1)
    graph = hmms.transcript([hmms.labels[i] for i in rng.integers(0, PHONES, 100)]).graph(hmms)
    for scale in SCALES:
        logits, targets, *_ = random((1500, 1, 32, 200), scale)
        scores = scale * rng.standard_normal((1500, hmms.tying.num_pdfs))
        runs = {
            "ctc_posteriors": partial(ctc.ctc_posteriors, logits.log_softmax(2).numpy(), targets.numpy()),
            f"an HMM of {PHONES} phones": partial(forward_backward, scores, graph),
        }
        for name, seconds in in_turns(runs, repeats).items():
            print(f"{name:24} 1500 frames, scale {scale:<4g} {1e3 * seconds.min():8.2f} ms", flush=True)


def main() -> None:
    """Print machine, versions, and times and errors of both sides."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", nargs="*", type=Path, default=[], help="recordings (default: espeak-ng speaks)")
    parser.add_argument("--repeats", type=int, default=3, help="passes of each side a round (default 3)")
    parser.add_argument("--threads", type=int, default=2, help="of both sides (default 2)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    ctc.set_num_threads(arguments.threads)
    print(describe("numba", "torch"))
    print(f"{arguments.threads} threads each; the least time of {3 * arguments.repeats} passes, in three rounds")
    ratios = [
        compare(f"(T, B, C, L) = {shape!s:20} scale {scale:g}", random(shape, scale), arguments.repeats)
        for shape in SHAPES
        for scale in SCALES
    ]
    batches = trained(outputs(arguments.audio))
    ratios += [compare(f"en-us-phones, {name}", batch, arguments.repeats) for name, batch in batches.items()]
    print(f"the least ratio {min(ratios):.1f}")
    print_alone(arguments.repeats)


if __name__ == "__main__":
    main()
