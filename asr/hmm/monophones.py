"""Monophone HMMs: one left-to-right model a phone, trained from nothing but phone sequences.

Flat start: every density is the Gaussian of all frames. Embedded Baum-Welch over each utterance's chain of phones finds
where they are (Rabiner 1989, sections III.C and V.B); Gaussians are split by a schedule.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from asr.ctc import get_num_threads
from asr.errors import AsrError, InfeasibleError
from asr.hmm.graph import Graph, chain
from asr.hmm.inference import forward_backward, viterbi
from asr.hmm.mixtures import VARIANCE_FLOOR, Mixtures, Statistics, estimate, split

NUM_STATES = 3  # of each phone
START_LOOP = 0.6  # probability of staying in a state, before training
LEAST_LOOP, MOST_LOOP = 0.05, 0.99


@dataclass(frozen=True, eq=False)
class Utterance:
    """What training is done on: an id, features (T, D), and the labels that are said."""

    id: str
    features: np.ndarray
    labels: list[str]


@dataclass(frozen=True, eq=False)
class Monophones:
    """HMMs of all phones.

    Attributes
    ----------
    labels
        The phones. Phone i has the densities 3 i, 3 i + 1 and 3 i + 2, one a state.
    loops : (P,)
        Probability of staying in each state.
    mixtures : Mixtures
        What each state emits.
    """

    labels: tuple[str, ...]
    loops: np.ndarray
    mixtures: Mixtures

    @classmethod
    def flat_start(cls, labels: Sequence[str], utterances: Sequence[Utterance]) -> "Monophones":
        """Return models that know nothing but the mean and variance of all frames.

        Raises
        ------
        AsrError
            There are no utterances, or a feature is the same in all frames.
        """
        if not utterances:
            raise AsrError("no utterance to train HMMs on: check the corpus")
        mean, variance = moments(utterances)
        if not (variance > 0).all():
            raise AsrError(f"feature {variance.argmin()} is the same in all frames, or NaN: check features and audio")
        count = NUM_STATES * len(labels)
        return cls(tuple(labels), np.full(count, START_LOOP), Mixtures.flat(count, mean, variance))

    def graph(self, labels: Sequence[str]) -> Graph:
        """Return the chain of states that the phones of an utterance make.

        Raises
        ------
        AsrError
            There are no labels, or one has no model.
        """
        if not labels:
            raise AsrError("an utterance without phones has no path: check its transcript")
        number = {label: i for i, label in enumerate(self.labels)}
        unknown = [label for label in labels if label not in number]
        if unknown:
            raise AsrError(f"label {unknown[0]!r} has no HMM: the labels are {' '.join(self.labels)}")
        pdfs = [NUM_STATES * number[label] + state for label in labels for state in range(NUM_STATES)]
        return chain(pdfs, self.loops[pdfs].tolist())

    def align(self, features: np.ndarray, labels: Sequence[str], name: str = "the utterance") -> np.ndarray:
        """Return the first frame of each phone on the likeliest path (L,).

        Raises
        ------
        InfeasibleError
            Fewer frames than the phones have states.
        AsrError
            As `graph`.
        """
        scores = self.mixtures.scores(self.mixtures.gaussians(features))
        _, states = viterbi(scores, self.graph(labels), name)
        return np.searchsorted(states // NUM_STATES, np.arange(len(labels)))


def moments(utterances: Iterable[Utterance]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance (D,) of all frames."""
    frames = np.concatenate([utterance.features for utterance in utterances])
    return frames.mean(axis=0, dtype=np.float64), frames.var(axis=0, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class EStep:
    """What one pass over the utterances gives.

    Attributes
    ----------
    log_likelihood : float
        Of all frames together.
    num_frames : int
        That were heard.
    statistics : Statistics
        For the Gaussians.
    stays, visits : (P,)
        Expected number of times that each state is stayed in, and that it emits.
    skipped : list of str
        Reasons why utterances were left out: too short for their phones.
    """

    log_likelihood: float
    num_frames: int
    statistics: Statistics
    stays: np.ndarray
    visits: np.ndarray
    skipped: list[str]


def e_step(models: Monophones, utterances: Sequence[Utterance]) -> EStep:
    """Run the forward-backward recursions over all utterances, some in each thread."""
    shares = [utterances[i :: get_num_threads()] for i in range(get_num_threads())]
    with ThreadPoolExecutor(len(shares)) as pool:
        found = list(pool.map(lambda share: _e_step(models, share), shares))
    statistics = found[0].statistics
    for other in found[1:]:
        statistics += other.statistics
    return EStep(
        sum(each.log_likelihood for each in found),
        sum(each.num_frames for each in found),
        statistics,
        np.sum([each.stays for each in found], axis=0),
        np.sum([each.visits for each in found], axis=0),
        [reason for each in found for reason in each.skipped],
    )


def _e_step(models: Monophones, utterances: Sequence[Utterance]) -> EStep:
    mixtures, total, num_frames, skipped = models.mixtures, 0.0, 0, []
    statistics = Statistics.empty(mixtures)
    stays, visits = np.zeros(mixtures.num_pdfs), np.zeros(mixtures.num_pdfs)
    for utterance in utterances:
        graph = models.graph(utterance.labels)
        gaussians = mixtures.gaussians(utterance.features)
        scores = mixtures.scores(gaussians)
        try:
            found = forward_backward(scores, graph, utterance.id)
        except InfeasibleError as error:
            skipped.append(str(error))
            continue
        total += found.log_likelihood
        num_frames += len(utterance.features)
        posteriors = np.zeros((len(utterance.features), mixtures.num_pdfs))
        np.add.at(posteriors.T, graph.pdfs, found.states.T)
        statistics.add(utterance.features, gaussians, scores, mixtures, posteriors)
        targets = np.repeat(np.arange(len(graph.pdfs)), np.diff(graph.offsets))
        loops = targets == graph.sources
        np.add.at(stays, graph.pdfs[targets[loops]], found.arcs[loops])
        visits += posteriors.sum(axis=0)
    return EStep(total, num_frames, statistics, stays, visits, skipped)


def m_step(models: Monophones, found: EStep, floor: np.ndarray) -> Monophones:
    """Estimate transitions and densities anew; a state that was never visited stays as it is."""
    seen = found.visits > 1
    loops = np.where(seen, found.stays / np.maximum(found.visits, 1), models.loops).clip(LEAST_LOOP, MOST_LOOP)
    return Monophones(models.labels, loops, estimate(models.mixtures, found.statistics, floor))


@dataclass(frozen=True)
class Iteration:
    """A line of the training's history: nats a frame before the step, and Gaussians."""

    number: int
    log_likelihood: float
    num_gaussians: int


def train(
    models: Monophones, utterances: Sequence[Utterance], num_iterations: int, num_gaussians: int, last_split: int
) -> Iterator[tuple[Iteration, Monophones]]:
    """Train by embedded Baum-Welch; the Gaussians grow evenly to their number until the iteration `last_split`.

    Parameters
    ----------
    models
        From `Monophones.flat_start`.
    utterances
        With features of equal width.
    num_iterations
        E and M steps.
    num_gaussians
        Of all densities together, in the end.
    last_split
        The iteration after which nothing is split any more, from 1; before it the likelihood may fall at a split.

    Yields
    ------
    iteration, models
        Of each step, the models after it.

    Raises
    ------
    AsrError
        No utterance is long enough for its phones.
    """
    _, variance = moments(utterances)
    first = len(models.mixtures.weights_)
    for number in range(1, num_iterations + 1):
        found = e_step(models, utterances)
        if found.num_frames == 0:
            raise AsrError(f"no utterance to train HMMs on; the first: {found.skipped[0]}")
        models = m_step(models, found, VARIANCE_FLOOR * variance)
        done = Iteration(number, found.log_likelihood / found.num_frames, len(models.mixtures.weights_))
        if number <= last_split:
            target = first + (num_gaussians - first) * number // last_split
            models = replace(models, mixtures=split(models.mixtures, _occupancies(models, found), target))
        yield done, models


def _occupancies(models: Monophones, found: EStep) -> Statistics:
    """Return the frames of each Gaussian after an M step, which may have dropped some."""
    occupancy = models.mixtures.weights_ * np.repeat(found.visits, np.diff(models.mixtures.offsets))
    return replace(Statistics.empty(models.mixtures), occupancy=occupancy)
