"""Draw ctc_lattice.png: the paths of eight frames that spell cbab, and how probable each state is in each frame.

python docs/figures/ctc_lattice.py
python docs/figures/ctc_lattice.py elsewhere.png

States are numbered from the top, as in figure 3 of Graves et al. (2006): 0, 2, 4, 6, 8 are blanks, 1, 3, 5, 7 labels.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np

from asr.ctc import forced_align, sum_kernels

CLASSES = "-abc"
LABELS = "cbab"
SAID = "c-b--aab"  # the path that the made-up outputs lean to
TARGET = [CLASSES.index(label) for label in LABELS]
NUM_FRAMES, NUM_STATES = len(SAID), 2 * len(LABELS) + 1
FULL = 320  # points² of a circle for a posterior of 1


def made_up_log_probs() -> np.ndarray:
    """Return normal logits, 1.5 more for the class that SAID has, as log-probabilities (T, C)."""
    logits = np.random.default_rng(2).standard_normal((NUM_FRAMES, len(CLASSES)))
    logits[np.arange(NUM_FRAMES), [CLASSES.index(label) for label in SAID]] += 1.5
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def transitions() -> list[tuple[int, int]]:
    """List the pairs of states that may follow each other: stay, step, or skip the blank between labels that differ."""
    pairs = [(s, s + move) for s in range(NUM_STATES) for move in (0, 1) if s + move < NUM_STATES]
    return pairs + [(s - 2, s) for s in range(3, NUM_STATES, 2) if LABELS[s // 2] != LABELS[s // 2 - 1]]


def path_counts() -> np.ndarray:
    """Count the paths that run through each state in each frame (T, 2L + 1), by adding up from both ends."""
    step = np.zeros((NUM_STATES, NUM_STATES), np.int64)
    step[tuple(zip(*transitions(), strict=True))] = 1
    begun, ended = np.zeros((2, NUM_FRAMES, NUM_STATES), np.int64)
    begun[0, :2] = ended[-1, -2:] = 1
    for t in range(1, NUM_FRAMES):
        begun[t] = begun[t - 1] @ step
        ended[-1 - t] = step @ ended[-t]
    return begun * ended


def state_posteriors(log_probs: np.ndarray) -> tuple[float, np.ndarray]:
    """Return ln p(LABELS) and the posterior of each state in each frame (T, 2L + 1), both from the engine."""
    symbols = np.array([0, *TARGET])
    work = np.empty(sum_kernels.memory_size(NUM_FRAMES, len(symbols) + 1))
    score, found = sum_kernels.state_posteriors(log_probs[:, symbols], symbols, work)
    states = np.empty((NUM_FRAMES, NUM_STATES))
    states[:, ::2], states[:, 1::2] = found[:, 0, :-1], found[:, 1, 1:-1]
    return score, states


def forced_states(log_probs: np.ndarray) -> np.ndarray:
    """Return the state of the likeliest path in each frame (T,)."""
    (alignment,) = forced_align(log_probs[:, None], np.array([TARGET]))
    states = np.zeros(NUM_FRAMES, np.int64)
    for s, (start, end) in enumerate(zip(alignment.starts, alignment.ends, strict=True)):
        states[start:end], states[end:] = 2 * s + 1, 2 * s + 2
    return states


def draw(path: Path) -> None:
    """Draw both panels."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.6), layout="constrained")
    log_probs, counts = made_up_log_probs(), path_counts()
    num_paths = counts[0].sum()
    score, posteriors = state_posteriors(log_probs)
    states = forced_states(log_probs)
    _draw_lattice(left, counts > 0)
    _draw_circles(left, posteriors, FULL * posteriors)
    left.plot(np.arange(NUM_FRAMES) + 1, states, color="C3", lw=2.6, zorder=1, label="likeliest path (forced_align)")
    left.legend(loc="upper right", frameon=False)
    spelled = ["-" if s % 2 == 0 else LABELS[s // 2] for s in states]
    left.set_xticks(range(1, NUM_FRAMES + 1), [f"{t}\n{label}" for t, label in enumerate(spelled, 1)])
    left.set(xlabel="frame, and the class of the likeliest path in it")
    title = f"made-up outputs: p({LABELS} | x) = {np.exp(score):.3f}\narea and shade: posterior of the state"
    left.set_title(title, fontsize=11)
    _, uniform = state_posteriors(np.full(log_probs.shape, -np.log(len(CLASSES))))
    _draw_lattice(right, counts > 0)
    _draw_circles(right, uniform, np.where(counts > 0, FULL, 0))
    for (t, s), count in np.ndenumerate(np.rint(uniform * num_paths).astype(int)):
        if counts[t, s]:
            colour = "white" if uniform[t, s] > 0.6 else "black"
            right.text(t + 1, s, str(count), ha="center", va="center", fontsize=7.5, color=colour)
    right.set(xlabel="frame", xticks=range(1, NUM_FRAMES + 1))
    total = len(CLASSES) ** NUM_FRAMES
    right.set_title(
        f"equal outputs: p({LABELS} | x) = {num_paths} of {total:,} paths\nnumber: how many run through the state",
        fontsize=11,
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_lattice(axes: plt.Axes, used: np.ndarray) -> None:
    """Draw the transitions between states that some path uses (T, 2L + 1), and name the states."""
    for t in range(1, NUM_FRAMES):
        for before, after in transitions():
            if used[t - 1, before] and used[t, after]:
                axes.plot((t, t + 1), (before, after), color="0.75", lw=0.7, zorder=0)
    names = ["-" if s % 2 == 0 else LABELS[s // 2] for s in range(NUM_STATES)]
    axes.set_yticks(range(NUM_STATES), names, fontsize=12, family="monospace")
    axes.tick_params(length=0)
    axes.set(ylabel="state", xlim=(0.5, NUM_FRAMES + 0.5), ylim=(NUM_STATES - 0.4, -0.6))
    axes.spines[:].set_visible(False)


def _draw_circles(axes: plt.Axes, posteriors: np.ndarray, areas: np.ndarray) -> None:
    """Draw the states as circles of these areas (T, 2L + 1), darker where more probable: blanks grey, labels blue."""
    frames = np.arange(NUM_FRAMES) + 1
    for s in range(NUM_STATES):
        colours = plt.get_cmap("Blues" if s % 2 else "Greys")(0.15 + 0.8 * posteriors[:, s])
        axes.scatter(frames, np.full(NUM_FRAMES, s), s=areas[:, s], c=colours, edgecolors="0.3", lw=0.6, zorder=2)


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).with_suffix(".png")
    parser.add_argument("path", type=Path, nargs="?", default=default, help="the picture (default: beside this file)")
    draw(parser.parse_args().path)


if __name__ == "__main__":
    main()
