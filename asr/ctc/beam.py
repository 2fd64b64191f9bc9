"""Prefix beam search over CTC posteriors."""

import numpy as np

from asr.ctc.beam_kernels import search_batch
from asr.ctc.hypothesis import Hypothesis, check_log_probs
from asr.ctc.lock import KERNEL_LOCK


def beam_search(
    log_probs: np.ndarray,
    input_lengths: np.ndarray | None = None,
    beam_size: int = 16,
    nbest: int = 1,
    blank: int = 0,
) -> list[list[Hypothesis]]:
    """Find the likeliest labellings, summing over the paths of each (Hannun et al. 2014, algorithm 1, without an LM).

    Parameters
    ----------
    log_probs : (T, B, C)
        Natural logs.
    input_lengths : (B,), optional
        Frames of each utterance; T without them.
    beam_size
        Prefixes kept after each frame. With more prefixes than labellings exist nothing is pruned and scores are exact.
    nbest
        Labellings to return for each utterance, at most `beam_size`; fewer where fewer are possible.
    blank
        Index of the blank.

    Returns
    -------
    list of list of Hypothesis
        For each utterance its labellings, likeliest first, no two alike. Timesteps come from the best single path of
        the labelling.

    Raises
    ------
    ValueError
        Shapes, lengths, blank or sizes do not fit, or a NaN or +inf.

    Examples
    --------
    >>> probs = np.array([[[0.6, 0.4]], [[0.6, 0.4]]])  # the likeliest path is all blank; three others spell (1,)
    >>> best = beam_search(np.log(probs))[0][0]
    >>> best.tokens, round(float(np.exp(best.score)), 2)
    ((1,), 0.64)
    """
    values, lengths = check_log_probs(log_probs, input_lengths, blank)
    if not 1 <= nbest <= beam_size:
        raise ValueError(f"nbest must lie in 1..beam_size, but they are {nbest} and {beam_size}")
    num_frames, batch, _ = values.shape
    # (B, T, C); writeable, because a read-only array is another type to Numba and compiles the kernel again
    values = np.require(values.transpose(1, 0, 2), requirements=["C", "W"])
    tokens = np.full((batch, nbest, num_frames), -1, np.int64)
    timesteps = np.zeros((batch, nbest, num_frames), np.int64)
    scores = np.full((batch, nbest), -np.inf)
    with KERNEL_LOCK:
        search_batch(values, lengths, beam_size, blank, tokens, timesteps, scores)
    return [
        [_hypothesis(tokens[b, n], timesteps[b, n], scores[b, n]) for n in range(nbest) if scores[b, n] > -np.inf]
        for b in range(batch)
    ]


def _hypothesis(tokens: np.ndarray, timesteps: np.ndarray, score: float) -> Hypothesis:
    length = int((tokens >= 0).sum())
    return Hypothesis(tuple(tokens[:length].tolist()), tuple(timesteps[:length].tolist()), float(score))
