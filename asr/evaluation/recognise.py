"""A model runs over one split of a prepared corpus: what it recognises in each utterance, and how fast.

Letters: T' output frames, C classes.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from lhotse.cut import Cut

from asr.core.errors import InfeasibleError
from asr.core.terminal import track
from asr.ctc import Hypothesis
from asr.data import splits
from asr.data.batches import Batch, BatchLoader, NoTargets, SpeechDataset
from asr.evaluation.inputs import cuts_with_features
from asr.models.base import AcousticModel, Spellings
from asr.speech import audio
from asr.speech.segments import Segment

T = TypeVar("T")


@dataclass(frozen=True)
class Recognised:
    """What a model makes of one utterance.

    Attributes
    ----------
    cut
        The utterance as the corpus has it.
    log_probs : (T', C)
        Natural-log posteriors of the classes.
    hypotheses
        One for each decoder, by its name. The last decoder is the one to use.
    segments
        The phones of the last hypothesis with times and uncalibrated confidences.
    alignment
        The times that the model gives to the phones said. None where the corpus has no times of the model's own phones,
        or the utterance has fewer frames than phones.
    """

    cut: Cut
    log_probs: np.ndarray
    hypotheses: Mapping[str, Hypothesis]
    segments: list[Segment]
    alignment: list[Segment] | None


@dataclass(frozen=True)
class RecognisedSplit:
    """What a model makes of one split of a corpus.

    Attributes
    ----------
    corpus
        Its name.
    utterances
        Those that could be read, in the order of the corpus.
    seconds
        How long each decoder took for all of them, by its name; the time from features to emissions is included.
    """

    corpus: str
    utterances: tuple[Recognised, ...]
    seconds: Mapping[str, float]


def recognise(model: AcousticModel, corpus: str, split: str, with_sound: bool = True) -> RecognisedSplit:
    """Run a model over one split of a prepared corpus, with each of its decoders. Confidences stay uncalibrated.

    Parameters
    ----------
    model
        Its configuration names the manifests and the beam.
    corpus, split
        What to run it on.
    with_sound
        Whether the waveform helps to place boundaries.

    Raises
    ------
    AsrError
        The split's manifests are missing, or none of its recordings can be read.
    """
    cuts, store = cuts_with_features(model, [corpus], split)
    dataset = SpeechDataset({1.0: store}, model.normaliser, NoTargets())
    loader = BatchLoader(cuts, dataset, model.config.data.max_frames, model.config.data.num_buckets)
    raw = replace(model, calibration=replace(model.calibration, posteriors=(), probabilities=()))
    once = raw.emissions(dataset[loader.batches[0]].rows()[:1])
    for beam_size in _decoders(raw).values():  # what is made once, such as tables of a language model, is not timed
        raw.decode(once, beam_size)
    found: dict[str, Recognised] = {}
    seconds = dict.fromkeys(_decoders(model), 0.0)
    for members in track(loader.batches, f"{corpus} {split}"):
        utterances, spent = _recognise_batch(raw, dataset[members], {cut.id: cut for cut in members}, with_sound)
        found |= {each.cut.id: each for each in utterances}
        seconds = {decoder: total + spent[decoder] for decoder, total in seconds.items()}
    return RecognisedSplit(corpus, tuple(found[cut.id] for cut in cuts if cut.id in found), seconds)


def _decoders(model: AcousticModel) -> dict[str, int]:
    """Return the beam of each decoder, by its name."""
    return model.decoders(model.config.decode.beam_size)


def _recognise_batch(
    model: AcousticModel, batch: Batch, cuts: Mapping[str, Cut], with_sound: bool
) -> tuple[list[Recognised], dict[str, float]]:
    """Return what is recognised in each utterance of a batch, and the seconds that each decoder took."""
    emissions, before = _timed(model.emissions, batch.rows())
    hypotheses: dict[str, list[Hypothesis]] = {}
    seconds: dict[str, float] = {}
    for decoder, beam_size in _decoders(model).items():
        hypotheses[decoder], spent = _timed(model.decode, emissions, beam_size)
        seconds[decoder] = before + spent
    utterances = []
    for i, utterance_id in enumerate(batch.ids):
        of_utterance = {decoder: each[i] for decoder, each in hypotheses.items()}
        utterances.append(_recognised(model, cuts[utterance_id], emissions[i], of_utterance, with_sound))
    return utterances, seconds


def _timed(function: Callable[..., T], *arguments: Any) -> tuple[T, float]:
    """Call a function, and return its result and the seconds that it took."""
    start = time.monotonic()
    result = function(*arguments)
    return result, time.monotonic() - start


def _recognised(
    model: AcousticModel, cut: Cut, emissions: np.ndarray, hypotheses: dict[str, Hypothesis], with_sound: bool
) -> Recognised:
    waveform = audio.load(cut.recording.sources[0].source) if with_sound else None
    *_, last = hypotheses.values()
    segments = model.segments(last, emissions, waveform)
    alignment = _alignment(model, cut, emissions, waveform)
    return Recognised(cut, model.log_probs(emissions), hypotheses, segments, alignment)


def _alignment(
    model: AcousticModel, cut: Cut, emissions: np.ndarray, waveform: np.ndarray | None
) -> list[Segment] | None:
    """Align the phones said, where the corpus has times to compare the result with."""
    labels = [segment.label for segment in splits.timed_phones(cut, model.config.data.labels)]
    if not labels:
        return None
    try:
        found = model.align(Spellings.of_phones(labels), emissions, waveform)
    except InfeasibleError:  # fewer frames than phones
        return None
    return (found if waveform is None else model.refine(found, waveform)).phones
