"""Draw docs/figures/hmm_trellis.png: one utterance of two phones as an HMM sees it, and as CTC does.

python docs/figures/hmm_trellis.py
python docs/figures/hmm_trellis.py elsewhere.png

Left, the six states of the phones a and b; right, CTC's five: blank, a, blank, b, blank. Scores are made up.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np

from asr.hmm.graph import Graph
from asr.hmm.inference import forward_backward, viterbi
from asr.hmm.phone_hmms import PhoneHMMs

PHONES = "ab"
STATES = "00111122334455"  # the HMM's state that each frame's made-up scores lean to
SPIKES = "--a-----b-----"  # the class that each frame's made-up outputs of a network lean to
FULL = 190  # points² of a circle for a posterior of 1


def hmm() -> tuple[np.ndarray, Graph]:
    """Return ln p(frame | state) (T, 6), made up, and the states of the two phones."""
    hmms = PhoneHMMs.monophones(list(PHONES))
    scores = np.random.default_rng(3).standard_normal((len(STATES), hmms.tying.num_pdfs))
    scores[np.arange(len(STATES)), [int(state) for state in STATES]] += 1.5
    return scores, hmms.transcript(list(PHONES)).graph(hmms)


def ctc() -> tuple[np.ndarray, Graph]:
    """Return ln y(frame, class) (T, 3), made up, and CTC's states as a graph whose arcs all weigh 1."""
    classes = "-" + PHONES
    logits = np.random.default_rng(3).standard_normal((len(SPIKES), len(classes)))
    logits[np.arange(len(SPIKES)), [classes.index(label) for label in SPIKES]] += 4
    arcs = [(i, j, 0.0) for j in range(5) for i in (j - 1, j) if i >= 0] + [(1, 3, 0.0)]
    graph = Graph.of([0, 1, 0, 2, 0], arcs, {0: 0.0, 1: 0.0}, {3: 0.0, 4: 0.0})
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), graph


def draw(path: Path) -> None:
    """Draw both panels."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 3.4), layout="constrained")
    _draw_trellis(
        left, *hmm(), [f"{phone}.{state}" for phone in PHONES for state in (1, 2, 3)], ["C0"] * 3 + ["C1"] * 3
    )
    left.set_title("HMM: three states a phone, all of the time belongs to phones", fontsize=11)
    _draw_trellis(right, *ctc(), ["-", "a", "-", "b", "-"], ["0.35", "C0", "0.35", "C1", "0.35"])
    right.set_title("CTC: one state a phone, and blanks for the rest of the time", fontsize=11)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_trellis(axes: plt.Axes, scores: np.ndarray, graph: Graph, names: list[str], colours: list[str]) -> None:
    """Draw arcs, a circle for each state and frame whose area is its posterior, and the likeliest path."""
    posteriors = forward_backward(scores, graph).states
    _, best = viterbi(scores, graph)
    num_frames, num_states = posteriors.shape
    targets = np.repeat(np.arange(num_states), np.diff(graph.offsets))
    frames = np.arange(1, num_frames + 1)
    for t in range(1, num_frames):
        for source, target in zip(graph.sources, targets, strict=True):
            if posteriors[t - 1, source] > 0 and posteriors[t, target] > 0:
                axes.plot((t, t + 1), (source, target), color="0.8", lw=0.7, zorder=0)
    for state, colour in enumerate(colours):
        where = np.full(num_frames, state)
        axes.scatter(frames, where, s=FULL * posteriors[:, state], c=colour, edgecolors="0.3", lw=0.5, zorder=2)
    axes.plot(frames, best, color="C3", lw=1.6, zorder=1)
    axes.set_yticks(range(num_states), names, family="monospace")
    axes.set_xticks(frames)
    axes.tick_params(length=0)
    axes.set(xlabel="frame", xlim=(0.5, num_frames + 0.5), ylim=(num_states - 0.5, -0.5))
    axes.spines[:].set_visible(False)


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).with_suffix(".png")
    parser.add_argument("path", type=Path, nargs="?", default=default, help="the picture (default: beside this file)")
    draw(parser.parse_args().path)


if __name__ == "__main__":
    main()
