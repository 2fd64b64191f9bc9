"""Posteriors of phones in each frame by HMMs, for the confidences of a Viterbi path and for figures.

Letters: T frames, L phones, S states a phone, P densities.
"""

import numpy as np

from asr.core.errors import InfeasibleError
from asr.core.jit import helper, njit
from asr.hmm.decoding import check_scores
from asr.hmm.phone_loop import check_shapes
from asr.hmm.tying import Tying

MOST_NATS = 50.0  # a density's score counts as at most this far below the best of its frame


def phone_posteriors(
    scores: np.ndarray,
    tying: Tying,
    log_transitions: np.ndarray,
    log_bigram: np.ndarray,
    lm_weight: float = 1.0,
    name: str = "the utterance",
) -> np.ndarray:
    """Compute the posterior of each phone, silences included, in each frame.

    The loop consists of monophones: each state of a phone has the score of its best density in the frame, and the mean
    of its transitions over all contexts. Decoding weights the bigram because neighbouring frames are correlated, so
    that their scores overstate the evidence; here the scores are divided by that weight instead (G. Evermann and P. C.
    Woodland, "Large vocabulary decoding and confidence estimation using word posterior probabilities", ICASSP 2000).
    Sums over paths: Rabiner 1989, section III.A. To avoid underflow, scores count as at most 50 nats below the best of
    their frame.

    Parameters
    ----------
    scores : (T, P)
        Natural log likelihoods of the frames under each density.
    tying, log_transitions, log_bigram
        As in `PhoneLoop.of`.
    lm_weight
        Weight of the bigram in decoding, above 0.
    name
        Name of the utterance, for error messages.

    Returns
    -------
    (T, L)
        Each row sums to 1.

    Raises
    ------
    InfeasibleError
        No path reaches the end of the utterance, which has too few frames for a phone.
    ValueError
        Shapes do not fit, a number is NaN or +inf, or the weight is not above 0.

    Examples
    --------
    >>> from asr.hmm.phone_loop import bigram
    >>> steps = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]] * 2) / 2
    >>> likely = np.kron(np.eye(6), np.ones((2, 1)))  # two frames of each state of a, then of b
    >>> with np.errstate(divide="ignore"):
    ...     found = phone_posteriors(9 * likely, Tying.monophones(2), np.log(steps), bigram("ab", ["ab"]))
    >>> found.argmax(axis=1).tolist()
    [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]
    """
    log_transitions, log_bigram = np.asarray(log_transitions, np.float64), np.asarray(log_bigram, np.float64)
    check_shapes(tying, log_transitions, log_bigram)
    scores = check_scores(scores, tying.num_pdfs, name)
    if not 0 < lm_weight < np.inf:
        raise ValueError(f"to divide scores by the bigram's weight, it must be above 0: {lm_weight}")
    count, num_states = tying.pdfs.shape[:2]
    emissions, owners = np.empty((len(scores), count * num_states)), tying.owners() @ [num_states, 1]
    _phone_emissions(scores, owners, 1 / lm_weight, emissions)
    steps = np.zeros((count * num_states, num_states + 1))
    np.add.at(steps, owners, np.exp(log_transitions) * np.bincount(tying.pdfs.ravel())[:, None])
    steps = steps.reshape(count, num_states, num_states + 1) / (count + 1) ** 2
    inner, leave = steps[:, :, :num_states].copy(), steps[:, :, num_states].copy()
    pairs, posteriors = np.exp(log_bigram), np.empty((len(scores), count))
    edges = pairs[count, :count].copy(), pairs[:count, count].copy()
    inside = pairs[:count, :count].copy()
    if not (len(scores) and _phone_forward_backward(emissions, inner, leave, inside, *edges, posteriors)):
        raise InfeasibleError(f"{name} has {len(scores)} frames, and no phone can end in the last: leave it out")
    return posteriors


@njit(cache=True, nogil=True)
def _phone_emissions(scores, owners, scale, emissions):
    """Write the likelihood of each state of each phone, that of its best density, to emissions (T, L S).

    Likelihoods are relative to the best of each frame, raised to the power `scale`, and at least e^−MOST_NATS. As every
    state can be reached from every other in a few frames, none underflows relative to another. `owners` (P,) is the
    state of each density.
    """
    for t in range(len(scores)):
        emissions[t] = -np.inf
        peak = -np.inf
        for p in range(len(owners)):
            emissions[t, owners[p]] = max(emissions[t, owners[p]], scores[t, p])
            peak = max(peak, scores[t, p])
        for j in range(emissions.shape[1]):
            below = (emissions[t, j] - peak) * scale if peak > -np.inf else 0.0
            emissions[t, j] = np.exp(max(below, -MOST_NATS))


@helper()
def _multiply(vector, matrix, result):
    """Write vector · matrix to result, reading the matrix row by row, as it lies in memory."""
    result[:] = 0.0
    for i in range(len(vector)):
        if vector[i] != 0:
            for j in range(len(result)):
                result[j] += vector[i] * matrix[i, j]


@njit(cache=True, nogil=True)
def _phone_forward_backward(emissions, inner, leave, pairs, starts, finals, posteriors):
    """Sum over all paths through a loop of context-free phones: Rabiner 1989, eq. 19–27, scaled in each frame.

    `inner` (L, S, S) and `leave` (L, S) are the probabilities of transitions inside a phone and out of it; `pairs`
    (L, L), `starts` and `finals` (L,) are those of the bigram. Writes to posteriors (T, L), and uses emissions as
    working memory. Returns whether there is a path.
    """
    num_frames, (num_phones, num_states) = len(emissions), leave.shape
    alpha = np.zeros((num_frames, num_phones, num_states))
    gone, come = np.zeros(num_phones), starts.copy()
    for t in range(num_frames):
        norm = 0.0
        for c in range(num_phones):
            for s in range(num_states):
                total = come[c] if s == 0 else 0.0
                if t > 0:
                    for q in range(num_states):
                        total += alpha[t - 1, c, q] * inner[c, q, s]
                alpha[t, c, s] = total * emissions[t, num_states * c + s]
                norm += alpha[t, c, s]
        if not norm > 0:
            return False
        for c in range(num_phones):
            gone[c] = 0.0
            for s in range(num_states):
                alpha[t, c, s] /= norm
                gone[c] += alpha[t, c, s] * leave[c, s]
        _multiply(gone, pairs, come)
    ahead, beta = finals.copy(), np.zeros((num_phones, num_states))
    entered, turned = np.zeros(num_phones), pairs.T.copy()
    for t in range(num_frames - 1, -1, -1):
        mass, highest = 0.0, 0.0
        for c in range(num_phones):  # beta holds those of the next frame times its emissions
            posteriors[t, c] = 0.0
            for s in range(num_states):
                total = leave[c, s] * ahead[c]
                for q in range(num_states):
                    total += inner[c, s, q] * beta[c, q]
                emissions[t, num_states * c + s] *= total
                highest = max(highest, emissions[t, num_states * c + s])
                posteriors[t, c] += alpha[t, c, s] * total
            mass += posteriors[t, c]
        if not mass > 0:
            return False
        for c in range(num_phones):
            posteriors[t, c] /= mass
            for s in range(num_states):
                beta[c, s] = emissions[t, num_states * c + s] / highest
            entered[c] = beta[c, 0]
        _multiply(entered, turned, ahead)
    return True
