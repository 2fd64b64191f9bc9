"""Training of GMM-HMMs on transcripts: flat start, embedded Baum-Welch or Viterbi training, growing mixtures.

Both algorithms are the same loop. The E step computes the posteriors of the states in each utterance's graph: over all
paths (Baum-Welch: Rabiner 1989, sections III.C and V.B), or on the most probable path alone (Viterbi training, the
segmental k-means of B.-H. Juang and L. R. Rabiner, IEEE Trans. ASSP 38(9), 1990). The M step estimates densities and
transitions from them. Between splits the objective never falls: the likelihood, or that of the best paths.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from asr.core import workers
from asr.core.errors import AsrError, InfeasibleError
from asr.hmm.inference import best_path, forward_backward
from asr.hmm.mixtures import VARIANCE_FLOOR, Mixtures, Statistics, estimate, split
from asr.hmm.phone_hmms import PhoneHMMs, Transcript
from asr.hmm.tying import NUM_STATES

SEARCHES = {"baum_welch": forward_backward, "viterbi": best_path}
ELSEWHERE = 300.0  # nats for a frame in another phone than the known one; phones shorter than their states need some
EDGE_FRAMES = 10  # at an utterance's beginning and end, which the flat start assumes to be silence


@dataclass(frozen=True, eq=False)
class Utterance:
    """An utterance to train on.

    Attributes
    ----------
    id
        Its name.
    features : (T, D)
        Of its frames.
    transcript
        The states of its phones.
    known : (T,), optional
        The number of the phone in each frame, where times are known: paths keep to them.
    """

    id: str
    features: np.ndarray
    transcript: Transcript
    known: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class GmmHmm:
    """HMMs whose states emit by Gaussian mixtures."""

    hmms: PhoneHMMs
    mixtures: Mixtures


def flat_start(hmms: PhoneHMMs, utterances: Sequence[Utterance]) -> GmmHmm:
    """Return models with the mean and variance of all frames, and for silences those of the utterances' edges.

    Raises
    ------
    AsrError
        There are no utterances, or a feature is the same in all frames.
    """
    if not utterances:
        raise AsrError("no utterance to train HMMs on: check the corpus")
    mean, variance = moments(each.features for each in utterances)
    if not (variance > 0).all():
        raise AsrError(f"feature {variance.argmin()} is the same in all frames, or NaN: check features and audio")
    mixtures = Mixtures.flat(hmms.tying.num_pdfs, mean, variance)
    edges = (np.concatenate((each.features[:EDGE_FRAMES], each.features[-EDGE_FRAMES:])) for each in utterances)
    quiet = np.isin(hmms.tying.owners()[:, 0], hmms.silences)
    mean, edge_variance = moments(edges)
    mixtures.means_[quiet], mixtures.covars_[quiet] = mean, np.maximum(edge_variance, VARIANCE_FLOOR * variance)
    return GmmHmm(hmms, mixtures)


def moments(features: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance (D,) of all frames of many utterances' features (T, D)."""
    count, total, squares = 0, np.zeros(1), np.zeros(1)
    for frames in features:
        count += len(frames)
        total = total + frames.sum(axis=0, dtype=np.float64)
        squares = squares + np.square(frames, dtype=np.float64).sum(axis=0)
    mean = total / count
    return mean, squares / count - np.square(mean)


@dataclass(frozen=True, eq=False)
class EStep:
    """Result of one pass over the utterances.

    Attributes
    ----------
    log_likelihood : float
        Of all frames together, over all paths or the best ones.
    num_frames : int
        Number of frames that were used.
    statistics : Statistics
        Statistics for the Gaussians.
    transitions : (P, S + 1)
        Expected number of times that each transition is taken.
    skipped : list of str
        Error messages of utterances that were left out, being too short for their phones.
    """

    log_likelihood: float
    num_frames: int
    statistics: Statistics
    transitions: np.ndarray
    skipped: list[str]


def e_step(model: GmmHmm, utterances: Sequence[Utterance], algorithm: str = "baum_welch") -> EStep:
    """Compute the E step over all utterances, a share of them in each thread.

    Parameters
    ----------
    model, utterances
        The models, and the utterances to train on.
    algorithm
        ``baum_welch`` or ``viterbi``.
    """
    from threadpoolctl import threadpool_limits  # the light install, which runs these models, lacks it

    shares = [utterances[i :: workers.get_num_threads()] for i in range(workers.get_num_threads())]
    with threadpool_limits(1, "blas"):
        found = list(workers.map_in_order(lambda share: _e_step(model, share, algorithm), shares))
    statistics = found[0].statistics
    for other in found[1:]:
        statistics += other.statistics
    return EStep(
        sum(each.log_likelihood for each in found),
        sum(each.num_frames for each in found),
        statistics,
        np.sum([each.transitions for each in found], axis=0),
        [reason for each in found for reason in each.skipped],
    )


def _e_step(model: GmmHmm, utterances: Sequence[Utterance], algorithm: str) -> EStep:
    hmms, total, num_frames, skipped = model.hmms, 0.0, 0, []
    owners = hmms.tying.owners()[:, 0]
    statistics = Statistics.empty(model.mixtures)
    transitions = np.zeros((hmms.tying.num_pdfs, NUM_STATES + 1))
    for utterance in utterances:
        features, transcript = utterance.features, utterance.transcript
        graph = transcript.graph(hmms)
        used, pdfs = np.unique(graph.pdfs, return_inverse=True)
        mixtures, index = model.mixtures.select(used)
        gaussians = mixtures.gaussians(features)
        scores = searched = mixtures.scores(gaussians)
        if utterance.known is not None:
            searched = scores - ELSEWHERE * (owners[used] != utterance.known[:, None])
        try:
            found = SEARCHES[algorithm](searched, graph._replace(pdfs=pdfs), utterance.id)
        except InfeasibleError as error:
            skipped.append(str(error))
            continue
        total += found.log_likelihood
        num_frames += len(features)
        statistics.add(features, gaussians, scores, mixtures.offsets, index, found.states, pdfs)
        np.add.at(transitions, (graph.pdfs[transcript.sources], transcript.columns), found.arcs)
        ends = transcript.finals > -np.inf
        np.add.at(transitions[:, NUM_STATES], graph.pdfs[ends], found.states[-1, ends])
    return EStep(total, num_frames, statistics, transitions, skipped)


def m_step(model: GmmHmm, found: EStep, floor: np.ndarray) -> GmmHmm:
    """Estimate transitions and densities; a state that was never visited stays as it is."""
    return GmmHmm(model.hmms.estimate(found.transitions), estimate(model.mixtures, found.statistics, floor))


@dataclass(frozen=True)
class Iteration:
    """A line of the training's history.

    Attributes
    ----------
    number : int
        From 1.
    log_likelihood : float
        Nats for each frame, of the models before this iteration.
    num_gaussians : int
        Number of Gaussians after the step and the split.
    """

    number: int
    log_likelihood: float
    num_gaussians: int


def iterate(
    model: GmmHmm, utterances: Sequence[Utterance], number: int, target: int, algorithm: str, floor: np.ndarray
) -> tuple[Iteration, GmmHmm]:
    """Perform one E and one M step, and split Gaussians until there are `target`.

    Parameters
    ----------
    model, utterances
        The models, and utterances with features of the models' width.
    number
        Number of this iteration, for its record.
    target
        Number of Gaussians of all densities together after it.
    algorithm
        ``baum_welch`` or ``viterbi``.
    floor : (D,)
        Least variances.

    Raises
    ------
    AsrError
        No utterance is long enough for its phones.
    """
    found = e_step(model, utterances, algorithm)
    if found.num_frames == 0:
        raise AsrError(f"no utterance to train HMMs on; the first: {found.skipped[0]}")
    model = m_step(model, found, floor)
    if target > len(model.mixtures.weights_):
        visits = found.transitions.sum(axis=1)
        occupancy = model.mixtures.weights_ * np.repeat(visits, np.diff(model.mixtures.offsets))
        statistics = replace(Statistics.empty(model.mixtures), occupancy=occupancy)
        model = replace(model, mixtures=split(model.mixtures, statistics, target))
    done = Iteration(number, found.log_likelihood / found.num_frames, len(model.mixtures.weights_))
    return done, model


def gaussians_at(number: int, first: int, last: int, last_split: int) -> int:
    """Return the target number of Gaussians of an iteration: it grows evenly until `last_split`, and is 0 after it.

    >>> [gaussians_at(number, 10, 50, 4) for number in (1, 2, 4, 9)]
    [20, 30, 50, 0]
    """
    return first + (last - first) * number // last_split if number <= last_split else 0
