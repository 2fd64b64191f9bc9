"""Alignment of a corpus: the state of a phone that each frame belongs to, by the HMMs of a trained system.

Letters: T frames, M phones of an utterance including silences, L phones of the set.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from asr.core import workers
from asr.core.errors import AsrError, CorpusError
from asr.core.terminal import track
from asr.hmm.em import Utterance
from asr.hmm.inference import viterbi
from asr.hmm.mixtures import Mixtures
from asr.hmm.phone_hmms import PhoneHMMs, Transcript
from asr.hmm.transforms import Transform
from asr.hmm.tying import Tying

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class StateAlignment:
    """The most probable path through an utterance.

    Attributes
    ----------
    phones, states, lefts, rights : (T,)
        Phone of each frame, the phone's state, and its neighbours; L stands for the utterance's edge.
    sequence : (M,)
        The phones in order.
    """

    phones: np.ndarray
    states: np.ndarray
    lefts: np.ndarray
    rights: np.ndarray
    sequence: np.ndarray

    @classmethod
    def of(cls, path: np.ndarray, transcript: Transcript, edge: int) -> "StateAlignment":
        """Make an alignment of a path of a transcript's states (T,); `edge` is L."""
        sequence, firsts = transcript.segments(path)
        lengths = np.diff(firsts, append=len(path))
        around = np.concatenate(([edge], sequence, [edge]))
        lefts, rights = (np.repeat(side, lengths) for side in (around[:-2], around[2:]))
        return cls(transcript.phones[path], transcript.states[path], lefts, rights, sequence)

    def pdfs(self, tying: Tying) -> np.ndarray:
        """Return the density of each frame (T,) for a tying."""
        return tying.pdfs[self.phones, self.states, self.lefts, self.rights]


def align_all(
    hmms: PhoneHMMs, mixtures: Mixtures, utterances: Sequence[Utterance], transform: Transform | None = None
) -> dict[str, StateAlignment]:
    """Find the most probable path of each utterance. Utterances without a path are logged and left out.

    Parameters
    ----------
    hmms, mixtures
        Parts of a trained system.
    utterances
        With the system's features, or with those that its transform takes.
    transform
        The system's transform, if the utterances' features are not transformed yet.

    Raises
    ------
    CorpusError
        No utterance has a path.
    """

    def align(utterance: Utterance) -> StateAlignment | str:
        graph = utterance.transcript.graph(hmms)
        used, pdfs = np.unique(graph.pdfs, return_inverse=True)
        features = utterance.features if transform is None else transform(utterance.features)
        scores = mixtures.select(used)[0].log_likelihoods(features)
        try:
            _, path = viterbi(scores, graph._replace(pdfs=pdfs), utterance.id)
        except AsrError as error:
            return str(error)
        return StateAlignment.of(path, utterance.transcript, len(hmms.labels))

    found: dict[str, StateAlignment] = {}
    with threadpool_limits(1, "blas"):
        aligned = zip(utterances, workers.map_in_order(align, utterances), strict=True)
        for utterance, alignment in track(aligned, "alignment", total=len(utterances)):
            if isinstance(alignment, str):
                log.warning("skipped %s", alignment)
            else:
                found[utterance.id] = alignment
    if not found:
        raise CorpusError("no utterance could be aligned; the warnings above say why")
    return found
