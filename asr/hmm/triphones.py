"""Triphones from an alignment: statistics of each context, a tree for each state, a Gaussian for each density."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from asr.hmm.alignment import StateAlignment
from asr.hmm.em import GmmHmm, Utterance
from asr.hmm.mixtures import VARIANCE_FLOOR, Mixtures
from asr.hmm.phone_hmms import PhoneHMMs
from asr.hmm.trees import grow, phone_classes
from asr.hmm.tying import ContextStatistics, Tying, sum_by

log = logging.getLogger(__name__)


def triphones(
    hmms: PhoneHMMs, utterances: Sequence[Utterance], alignments: Mapping[str, StateAlignment], num_pdfs: int
) -> GmmHmm:
    """Tie the states of phones in context.

    Parameters
    ----------
    hmms
        The HMMs whose phones and silences are used.
    utterances
        Utterances with the features of the new models.
    alignments
        Alignment of each utterance, by its id.
    num_pdfs
        Maximum number of densities of all states together.

    Returns
    -------
    GmmHmm
        Models with one Gaussian for each density, estimated from the frames aligned with it, and uniform transitions.
    """
    labels, silences = hmms.labels, hmms.silences
    statistics = ContextStatistics(utterances[0].features.shape[1])
    for each in utterances:
        path = alignments[each.id]
        statistics.add(each.features, path.phones, path.states, path.lefts, path.rights)
    contexts, found = statistics.table()
    mean, variance = _gaussians(found.sum(axis=0, keepdims=True))
    floor = VARIANCE_FLOOR * variance[0]
    classes = phone_classes(statistics, len(labels), silences, floor)
    tying = grow(statistics, classes, len(labels), silences, num_pdfs, variance_floor=floor)
    log.info("%d states of phones in context share %d densities", len(contexts), tying.num_pdfs)
    return GmmHmm(PhoneHMMs.of(labels, silences, tying), _mixtures(tying, contexts, found, mean[0], variance[0], floor))


def _mixtures(
    tying: Tying, contexts: np.ndarray, found: np.ndarray, mean: np.ndarray, variance: np.ndarray, floor: np.ndarray
) -> Mixtures:
    """Estimate a Gaussian for each density; a density without frames gets the Gaussian of all frames."""
    mixtures = Mixtures.flat(tying.num_pdfs, mean, variance)
    seen, moments = sum_by(tying.pdfs[tuple(contexts.T)], found)
    mixtures.means_[seen], variances = _gaussians(moments)
    mixtures.covars_[seen] = np.maximum(variances, floor)
    return mixtures


def _gaussians(moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return means and variances (N, D) for rows of count, sums and sums of squares (N, 1 + 2 D)."""
    sums, squares = np.split(moments[:, 1:] / moments[:, :1], 2, axis=1)
    return sums, squares - np.square(sums)
