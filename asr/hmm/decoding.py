"""Phone recognition by HMMs: Viterbi beam search over a loop of all phones, exact if its beam prunes nothing.

Letters: T frames, P densities.
"""

from dataclasses import dataclass

import numpy as np

from asr.core.errors import InfeasibleError
from asr.hmm import decoding_kernels as kernels
from asr.hmm.phone_loop import PhoneLoop

WIDER = (1, 2, 4, 8, np.inf)  # factors of the beam, tried in turn while pruning loses every path to the utterance's end


@dataclass(frozen=True)
class Path:
    """A path through a phone loop.

    Attributes
    ----------
    phones : tuple of int
        Including silences.
    starts : tuple of int
        The first frame of each phone.
    score : float
        Sum of the log probabilities of frames, transitions and weighted bigram, and of penalties; nats.
    """

    phones: tuple[int, ...]
    starts: tuple[int, ...]
    score: float


def decode(
    scores: np.ndarray, loop: PhoneLoop, beam: float = np.inf, nbest: int = 1, name: str = "the utterance"
) -> list[Path]:
    """Find the most probable phone sequences.

    If pruning loses every path to the utterance's end, the search is repeated with a wider beam.

    Parameters
    ----------
    scores : (T, P)
        Natural log likelihoods of the frames under each density.
    loop
        The loop of phones.
    beam
        Nats; states further below the best state of their frame are dropped.
    nbest
        Number of paths to find, each the best one for its phones without silences.
    name
        Name of the utterance, for error messages.

    Returns
    -------
    list of Path
        Best first; fewer than `nbest` where the beam holds no more.

    Raises
    ------
    InfeasibleError
        No path reaches the end of the utterance, which has too few frames for a phone.
    ValueError
        Shapes do not fit, scores are NaN or +inf, or the beam or the number of paths is not above 0.

    Examples
    --------
    >>> from asr.hmm.phone_loop import bigram
    >>> from asr.hmm.tying import Tying
    >>> steps = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]] * 2) / 2
    >>> with np.errstate(divide="ignore"):
    ...     loop = PhoneLoop.of(Tying.monophones(2), np.log(steps), bigram("ab", ["ab"]))
    >>> likely = np.kron(np.eye(6), np.ones((2, 1)))  # two frames of each state of a, then of b
    >>> [(path.phones, path.starts) for path in decode(9 * likely, loop, beam=30)]
    [((0, 1), (0, 6))]
    """
    scores = check_scores(scores, loop.num_pdfs, name)
    if not (beam > 0 and nbest > 0):
        raise ValueError(f"the beam and the number of paths must be above 0, not {beam} and {nbest}")
    for wider in dict.fromkeys(beam * factor for factor in WIDER):
        found = _search(scores, loop, wider, nbest)
        if found:
            return found
    raise InfeasibleError(f"{name} has {len(scores)} frames, and no phone or phones can end in the last: leave it out")


def check_scores(scores: np.ndarray, num_pdfs: int, name: str) -> np.ndarray:
    """Return scores (T, P) as contiguous float64; raise ValueError for a wrong shape, NaN or +inf."""
    scores = np.ascontiguousarray(scores, np.float64)
    if scores.ndim != 2 or scores.shape[1] != num_pdfs:
        raise ValueError(f"{name}: scores {scores.shape} do not have a column for each of {num_pdfs} densities")
    if not (scores < np.inf).all():
        raise ValueError(f"{name}: NaN or +inf among the scores")
    return scores


def _search(scores: np.ndarray, loop: PhoneLoop, beam: float, nbest: int) -> list[Path]:
    active = np.empty(len(scores), np.int64)
    totals, lasts, records = kernels.search_paths(scores, loop.network, float(beam), nbest, active)
    return [
        Path(*_trace(records, record), total)
        for total, record in zip(totals.tolist(), lasts.tolist(), strict=True)
        if total > -np.inf
    ]


def _trace(records: np.ndarray, record: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the phones up to a record, and the first frame of each."""
    phones, ends = [], []
    while record >= 0:
        record, phone, end = records[record].tolist()
        phones.append(phone)
        ends.append(end)
    return tuple(phones[::-1]), (0, *(end + 1 for end in ends[:0:-1]))
