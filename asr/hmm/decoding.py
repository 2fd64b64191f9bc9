"""Phone recognition by HMMs: Viterbi over a loop of all phones, weighted by a bigram of phones.

Letters: L phones, P densities.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from asr.errors import AsrError
from asr.hmm.graph import Graph
from asr.hmm.inference import viterbi
from asr.hmm.monophones import NUM_STATES, Monophones


def bigram(labels: Sequence[str], transcripts: Iterable[Sequence[str]]) -> np.ndarray:
    """Estimate which phone follows which, smoothed with the phones' own frequencies by Witten and Bell's method.

    Source: I. H. Witten and T. C. Bell, "The zero-frequency problem", IEEE Trans. Information Theory 37(4), 1991,
    method C: of n successors of a phone, of which t are different, new ones have the share t / (n + t).

    Parameters
    ----------
    labels : (L,)
        The phones.
    transcripts
        Of the training utterances.

    Returns
    -------
    (L + 1, L + 1)
        Natural log probabilities of each phone, and of the utterance's end in the last column, after each phone, and
        after its start in the last row. No utterance is empty.

    Raises
    ------
    AsrError
        There are no transcripts.

    Examples
    --------
    >>> probabilities = np.exp(bigram(["a", "b"], [["a", "b"], ["a", "a", "b"]]))
    >>> probabilities.sum(axis=1).round(6).tolist(), probabilities[0, 1] > probabilities[0, 0]
    ([1.0, 1.0, 1.0], np.True_)
    """
    number = {label: i for i, label in enumerate(labels)}
    edge = len(labels)
    counts = np.zeros((edge + 1, edge + 1))
    for transcript in transcripts:
        for pair, count in Counter(pairwise([edge, *(number[label] for label in transcript), edge])).items():
            counts[pair] += count
    if not counts.any():
        raise AsrError("no transcripts to estimate a bigram from: check the corpus")
    single = counts.sum(axis=0) + 1
    single /= single.sum()
    total, different = counts.sum(axis=1, keepdims=True), (counts > 0).sum(axis=1, keepdims=True)
    unseen = total == 0
    smooth = np.where(unseen, single, (counts + different * single) / np.where(unseen, 1, total + different))
    smooth[edge, edge] = 0
    return np.log(smooth / smooth.sum(axis=1, keepdims=True), where=smooth > 0, out=np.full(smooth.shape, -np.inf))


def loop_graph(models: Monophones, log_bigram: np.ndarray, lm_weight: float = 1.0, penalty: float = 0.0) -> Graph:
    """Join all phones end to start.

    Parameters
    ----------
    models
        The phones' HMMs.
    log_bigram : (L + 1, L + 1)
        From `bigram`.
    lm_weight
        Of the bigram beside the acoustic scores.
    penalty
        Nats that each phone costs beside, 0 or more.

    Examples
    --------
    >>> from asr.hmm.mixtures import Mixtures
    >>> models = Monophones(("a", "b"), np.full(6, 0.5), Mixtures.flat(6, np.zeros(1), np.ones(1)))
    >>> len(loop_graph(models, bigram("ab", ["ab"])).weights)  # 6 to themselves, 4 onwards, 4 between phones
    14
    """
    stay, leave = np.log(models.loops), np.log1p(-models.loops)
    count = len(models.labels)
    arcs = [(state, state, float(stay[state])) for state in range(len(stay))]
    arcs += [(state, state + 1, float(leave[state])) for state in range(len(stay)) if (state + 1) % NUM_STATES]
    lasts = [NUM_STATES * phone + NUM_STATES - 1 for phone in range(count)]
    weighted = lm_weight * log_bigram
    arcs += [
        (lasts[i], NUM_STATES * j, float(leave[lasts[i]] + weighted[i, j] - penalty))
        for i in range(count)
        for j in range(count)
    ]
    starts = {NUM_STATES * j: float(weighted[count, j] - penalty) for j in range(count)}
    finals = {lasts[i]: float(leave[lasts[i]] + weighted[i, count]) for i in range(count)}
    return Graph.of(range(len(stay)), arcs, starts, finals)


def recognise(models: Monophones, graph: Graph, features: np.ndarray, name: str = "the utterance") -> list[str]:
    """Return the phones of the likeliest path through a graph of `loop_graph`, for features (T, D).

    Raises
    ------
    InfeasibleError
        Fewer frames than a phone has states.
    """
    scores = models.mixtures.scores(models.mixtures.gaussians(features))
    _, states = viterbi(scores, graph, name)
    # A phone begins where its first state is entered, from another state or from its own last.
    entered = (states % NUM_STATES == 0) & (np.concatenate(([-1], states[:-1])) != states)
    return [models.labels[state // NUM_STATES] for state in states[entered]]
