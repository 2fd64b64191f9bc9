"""Speed of an iteration of Baum-Welch beside hmmlearn's GMMHMM: one HMM, the same frames and the same start.

python benchmarks/hmm.py

An iteration is an E step over all sequences and an M step; states may follow each other in any order. hmmlearn also
computes each iteration's likelihood in its E step, as ours does.
"""

import argparse
import warnings
from functools import partial

import numpy as np
from _bench import describe, in_turns, spread
from hmmlearn.hmm import GMMHMM

from asr.hmm.graph import Graph
from asr.hmm.inference import forward_backward
from asr.hmm.mixtures import Mixtures, Statistics, estimate

SHAPES = [(20_000, 10, 4, 13), (20_000, 3, 16, 39)]  # frames, states, Gaussians a state, values a frame
LENGTH = 500  # frames of a sequence


def iteration(frames: np.ndarray, graph: Graph, mixtures: Mixtures) -> Mixtures:
    """Return our densities after an iteration; transitions are counted too."""
    statistics, arcs = Statistics.empty(mixtures), np.zeros(len(graph.sources))
    for sequence in np.split(frames, len(frames) // LENGTH):
        gaussians = mixtures.gaussians(sequence)
        scores = mixtures.scores(gaussians)
        found = forward_backward(scores, graph)
        statistics.add(sequence, gaussians, scores, mixtures, found.states)
        arcs += found.arcs
    return estimate(mixtures, statistics, np.full(frames.shape[1], 1e-3))


def peer(frames: np.ndarray, states: int, mixtures: Mixtures) -> GMMHMM:
    """Return hmmlearn's model after an iteration."""
    shape = (states, -1, frames.shape[1])
    model = GMMHMM(states, len(mixtures.weights_) // states, covariance_type="diag", init_params="", n_iter=1)
    model.startprob_, model.transmat_ = np.full(states, 1 / states), np.full((states, states), 1 / states)
    model.weights_ = mixtures.weights_.reshape(states, -1)
    model.means_, model.covars_ = mixtures.means_.reshape(shape), mixtures.covars_.reshape(shape)
    return model.fit(frames, [LENGTH] * (len(frames) // LENGTH))


def main() -> None:
    """Print machine, versions, and both sides' times for each shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="iterations a round (default 5)")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    print(describe("numba", "numpy", "hmmlearn"))
    print(f"one iteration; median [10 % - 90 %] of {3 * arguments.repeats}")
    rng = np.random.default_rng(1)
    for num_frames, states, size, width in SHAPES:
        frames = rng.standard_normal((num_frames, width))
        count = states * size
        means, variances = rng.standard_normal((count, width)), rng.uniform(0.5, 2, (count, width))
        mixtures = Mixtures(np.arange(0, count + 1, size), np.full(count, 1 / size), means, variances)
        weight = -float(np.log(states))
        arcs = [(i, j, weight) for i in range(states) for j in range(states)]
        graph = Graph.of(range(states), arcs, dict.fromkeys(range(states), weight), dict.fromkeys(range(states), 0.0))
        runs = {"hmmlearn": partial(peer, frames, states, mixtures), "asr": partial(iteration, frames, graph, mixtures)}
        times = in_turns(runs, arguments.repeats)
        shape = f"{num_frames:,} frames, {states} states, {size} Gaussians, {width} values"
        for name, seconds in times.items():
            print(f"{shape:54} {name:9} {spread(seconds)}")
        print(f"{shape:54} ratio     {np.median(times['hmmlearn']) / np.median(times['asr']):9.1f}", flush=True)


if __name__ == "__main__":
    main()
