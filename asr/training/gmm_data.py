"""The utterances that Gaussian mixtures are trained on: features, and the states of their transcripts."""

import logging
from collections.abc import Sequence

from lhotse.cut import Cut

from asr.core.errors import AsrError, CorpusError
from asr.core.terminal import track
from asr.data import splits
from asr.data.feature_store import Features
from asr.hmm.em import Utterance
from asr.hmm.phone_hmms import PhoneHMMs
from asr.speech.normaliser import Normaliser

log = logging.getLogger(__name__)


def load_utterances(
    cuts: Sequence[Cut], store: Features, normaliser: Normaliser, hmms: PhoneHMMs, label_set: str
) -> list[Utterance]:
    """Return normalised features and the states of the phones of utterances; a warning names one that cannot be read.

    Raises
    ------
    CorpusError
        Nothing is left.
    """
    utterances = []
    for cut in track(cuts, "states of transcripts"):
        try:
            features = normaliser(store[cut.id], cut.supervisions[0].speaker)
            labels = splits.reference(cut, label_set)
            transcript = hmms.transcript(labels, splits.word_lengths(cut, label_set))
        except AsrError as error:
            log.warning("skipped %s: %s", cut.id, error)
            continue
        utterances.append(Utterance(cut.id, features, transcript))
    if not utterances:
        raise CorpusError("no utterance is left to train on; the warnings above say why")
    return utterances
