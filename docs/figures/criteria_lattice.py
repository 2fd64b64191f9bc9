"""Draw criteria_lattice.png: what CTC-CRF divides by what, the paths that spell ab by those of all label sequences.

python docs/figures/criteria_lattice.py
python docs/figures/criteria_lattice.py elsewhere.png

Each row is a place of a path: the blank before the first label, a label, or the blank after one.
"""

import argparse
from itertools import groupby, product
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np

from asr.lm.estimation import estimate
from asr.lm.ngram import NGram

CLASSES = "-ab"
TARGET = "ab"
PLACES = ["-", "a", "a -", "b", "b -"]  # the second is the blank after a
NUM_FRAMES = 6
FULL = 420  # points² of a circle for a posterior of 1


def bigram() -> NGram:
    """Return a bigram that likes ab."""
    return estimate([list("ab")] * 3 + [list("ba"), list("a")], "phones", order=2, smoothing="witten_bell")


def made_up_log_probs() -> np.ndarray:
    """Return log-probabilities (T, C) of outputs that hear a, and then hardly anything."""
    probs = np.full((NUM_FRAMES, 3), 1 / 3)
    probs[1] = 0.2, 0.7, 0.1
    probs[4] = 0.3, 0.3, 0.4
    return np.log(probs)


def place_posteriors(log_probs: np.ndarray, only_target: bool) -> tuple[float, np.ndarray]:
    """Return the sum over paths, each weighted by the bigram, and the posterior of each place in each frame (T, 5)."""
    lm, posteriors = bigram(), np.zeros((NUM_FRAMES, len(PLACES)))
    for path in product(range(3), repeat=NUM_FRAMES):
        labels = [CLASSES[c] for c, _ in groupby(path) if c != 0]
        if only_target and "".join(labels) != TARGET:
            continue
        weight = np.exp(log_probs[np.arange(NUM_FRAMES), path].sum() + lm.totals([labels])[0])
        place = 0
        for t, c in enumerate(path):
            place = 2 * c - 1 if c != 0 else place + place % 2
            posteriors[t, place] += weight
    return posteriors[0].sum(), posteriors / posteriors[0].sum()


def transitions(only_target: bool) -> list[tuple[int, int]]:
    """List the pairs of places that may follow each other, on the way through ab or anywhere."""
    stay = [(place, place) for place in range(len(PLACES))]
    if only_target:
        return [*stay, (0, 1), (1, 2), (1, 3), (2, 3), (3, 4)]
    return [*stay, (0, 1), (0, 3), (1, 2), (3, 4), (1, 3), (3, 1), (2, 1), (2, 3), (4, 1), (4, 3)]


def draw(path: Path) -> None:
    """Draw both panels."""
    figure, panels = plt.subplots(1, 2, figsize=(10.5, 3.6), layout="constrained")
    log_probs = made_up_log_probs()
    for axes, only_target in zip(panels, (True, False), strict=True):
        total, posteriors = place_posteriors(log_probs, only_target)
        for t in range(1, NUM_FRAMES):
            for before, after in transitions(only_target):
                if posteriors[t - 1, before] > 0 and posteriors[t, after] > 0:
                    axes.plot((t, t + 1), (before, after), color="0.75", lw=0.7, zorder=0)
        frames = np.arange(NUM_FRAMES) + 1
        for place in range(len(PLACES)):
            values = posteriors[:, place]
            colours = plt.get_cmap("Blues" if place % 2 else "Greys")(0.15 + 0.8 * values)
            axes.scatter(frames, np.full(NUM_FRAMES, place), s=FULL * values, c=colours, edgecolors="0.3", lw=0.6)
        axes.set_yticks(range(len(PLACES)), PLACES, fontsize=11, family="monospace")
        axes.tick_params(length=0)
        axes.set(xlabel="frame", xlim=(0.5, NUM_FRAMES + 0.5), ylim=(len(PLACES) - 0.4, -0.6), xticks=frames)
        axes.spines[:].set_visible(False)
        name = "numerator: the paths that spell ab" if only_target else "denominator: the paths of all labels"
        axes.set_title(f"{name}, Σ p(l) Π y = {total:.4f}\narea and shade: posterior of the place", fontsize=11)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).with_suffix(".png")
    parser.add_argument("path", type=Path, nargs="?", default=default, help="the picture (default: beside this file)")
    draw(parser.parse_args().path)


if __name__ == "__main__":
    main()
