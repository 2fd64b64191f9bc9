"""Speed of Baum-Welch: an iteration beside hmmlearn's GMMHMM, then one over hours of speech.

python benchmarks/hmm.py

The first part is one HMM, the same frames and the same start for both sides; an iteration is an E step over all
sequences and an M step, and states may follow each other in any order. hmmlearn also computes each iteration's
likelihood in its E step, as ours does. The second part is an iteration of training as `asr train` does it: monophones
of 16 Gaussians a state over utterances of phones, of which each has its own graph. Its frames are noise: the time that
they take is that of speech.
"""

import argparse
import time
import warnings
from functools import partial

import numpy as np
from _bench import describe, in_turns, spread
from hmmlearn.hmm import GMMHMM

from asr.core.workers import get_num_threads
from asr.hmm.em import SEARCHES, GmmHmm, Utterance, e_step, m_step
from asr.hmm.graph import Graph
from asr.hmm.inference import forward_backward
from asr.hmm.mixtures import Mixtures, Statistics, estimate
from asr.hmm.phone_hmms import SILENCE, PhoneHMMs

SHAPES = [(20_000, 10, 4, 13), (20_000, 3, 16, 39)]  # frames, states, Gaussians a state, values a frame
LENGTH = 500  # frames of a sequence
NUM_PHONES, NUM_GAUSSIANS, NUM_VALUES = 40, 16, 39  # silence among the phones; Gaussians a state; values a frame
UTTERANCE_SECONDS, UTTERANCE_PHONES, WORD_PHONES = 4.0, 35, 3.5  # means
FRAME_SHIFT = 0.01


def iteration(frames: np.ndarray, graph: Graph, mixtures: Mixtures) -> Mixtures:
    """Return our densities after an iteration; transitions are counted too."""
    statistics, arcs = Statistics.empty(mixtures), np.zeros(len(graph.sources))
    index = np.arange(len(mixtures.weights_))
    for sequence in np.split(frames, len(frames) // LENGTH):
        gaussians = mixtures.gaussians(sequence)
        scores = mixtures.scores(gaussians)
        found = forward_backward(scores, graph)
        statistics.add(sequence, gaussians, scores, mixtures.offsets, index, found.states, graph.pdfs)
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


def random_mixtures(rng: np.random.Generator, num_pdfs: int, size: int, width: int) -> Mixtures:
    """Return densities of `size` Gaussians each."""
    count = num_pdfs * size
    means, variances = rng.standard_normal((count, width)), rng.uniform(0.5, 2, (count, width))
    return Mixtures(np.arange(0, count + 1, size), np.full(count, 1 / size), means, variances)


def beside_hmmlearn(rng: np.random.Generator, repeats: int) -> None:
    """Print both sides' times for each shape."""
    print(f"one iteration; median [10 % - 90 %] of {3 * repeats}")
    for num_frames, states, size, width in SHAPES:
        frames = rng.standard_normal((num_frames, width))
        mixtures = random_mixtures(rng, states, size, width)
        weight = -float(np.log(states))
        arcs = [(i, j, weight) for i in range(states) for j in range(states)]
        graph = Graph.of(range(states), arcs, dict.fromkeys(range(states), weight), dict.fromkeys(range(states), 0.0))
        runs = {"hmmlearn": partial(peer, frames, states, mixtures), "asr": partial(iteration, frames, graph, mixtures)}
        times = in_turns(runs, repeats)
        shape = f"{num_frames:,} frames, {states} states, {size} Gaussians, {width} values"
        for name, seconds in times.items():
            print(f"{shape:54} {name:9} {spread(seconds)}")
        print(f"{shape:54} ratio     {np.median(times['hmmlearn']) / np.median(times['asr']):9.1f}", flush=True)


def random_utterance(rng: np.random.Generator, hmms: PhoneHMMs, name: str) -> Utterance:
    """Return frames of noise, with phones in words."""
    num_phones = max(1, rng.poisson(UTTERANCE_PHONES))
    num_frames = int(num_phones * UTTERANCE_SECONDS / UTTERANCE_PHONES / FRAME_SHIFT * rng.uniform(0.8, 1.2))
    ends = np.flatnonzero(rng.random(num_phones - 1) < 1 / WORD_PHONES) + 1
    words = np.diff([0, *ends.tolist(), num_phones]).tolist()
    labels = [hmms.labels[i] for i in rng.integers(0, NUM_PHONES - 1, num_phones)]
    frames = rng.standard_normal((num_frames, NUM_VALUES), np.float32)
    return Utterance(name, frames, hmms.transcript(labels, words))


def whole_pass(rng: np.random.Generator, hours: float) -> None:
    """Print how long an E and an M step over so much speech take with either algorithm."""
    hmms = PhoneHMMs.monophones([*(f"p{i}" for i in range(NUM_PHONES - 1)), SILENCE], [NUM_PHONES - 1])
    model = GmmHmm(hmms, random_mixtures(rng, hmms.tying.num_pdfs, NUM_GAUSSIANS, NUM_VALUES))
    utterances: list[Utterance] = []
    num_frames = 0
    while num_frames * FRAME_SHIFT < 3600 * hours:
        utterances.append(random_utterance(rng, hmms, f"u{len(utterances)}"))
        num_frames += len(utterances[-1].features)
    floor = np.full(NUM_VALUES, 1e-3)
    print(
        f"an iteration over {hours:g} h: {num_frames:,} frames, {len(utterances):,} utterances, "
        f"{len(model.mixtures.weights_):,} Gaussians, {get_num_threads()} threads"
    )
    for algorithm in SEARCHES:
        m_step(model, e_step(model, utterances[:4], algorithm), floor)  # loads the kernels
        start = time.perf_counter()
        m_step(model, e_step(model, utterances, algorithm), floor)
        seconds = time.perf_counter() - start
        print(f"{algorithm:12} {seconds:7.1f} s  {num_frames * FRAME_SHIFT / seconds:7.0f} times real time", flush=True)


def main() -> None:
    """Print machine, versions, and the times of both parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="iterations a round, of the first part (default 5)")
    parser.add_argument("--hours", type=float, default=2.9, help="of speech, of the second part (default 2.9)")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    print(describe("numba", "numpy", "hmmlearn"))
    rng = np.random.default_rng(1)
    if arguments.repeats:
        beside_hmmlearn(rng, arguments.repeats)
    whole_pass(rng, arguments.hours)


if __name__ == "__main__":
    main()
