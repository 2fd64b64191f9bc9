"""The utterances of a test set that are shown: some with sound and pictures on the page, and one as a figure."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asr.core.terminal import track
from asr.evaluation import figures, media
from asr.evaluation.breakdown import ScoredUtterance
from asr.evaluation.recognise import Recognised
from asr.models.attention import AttentionHypothesis
from asr.models.base import AcousticModel
from asr.speech import audio

NUM_SHOWN = 24  # utterances with sound and pictures
DURATION = 3.0  # seconds; the labels of an utterance of about this length can be read in a figure


def with_media(
    model: AcousticModel, utterances: Sequence[Recognised], rows: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the rows of utterances, some of them with sound and pictures: from the best to the worst, at equal steps.

    Parameters
    ----------
    model
        The model that recognised the utterances.
    utterances
        The test set.
    rows
        The row of each utterance in its evaluation.
    """
    ranked = sorted(rows, key=lambda row: (row["per"] or 0, row["id"]))
    steps = np.linspace(0, len(ranked) - 1, min(NUM_SHOWN, len(ranked))).round().astype(int)
    shown = {ranked[i]["id"] for i in steps}
    media_of = {
        each.cut.id: media.utterance_media(_waveform(each), each.log_probs, model.tokens, model.frame_shift)
        for each in track([each for each in utterances if each.cut.id in shown], "sound and pictures")
    }
    return [row | media_of.get(row["id"], {}) for row in rows]


def draw_example(
    model: AcousticModel, utterances: Sequence[Recognised], scored: Sequence[ScoredUtterance], path: Path
) -> None:
    """Draw the posteriors of the utterance whose duration is nearest to 3 s.

    The attention weights of an attention model go into a second figure, ``model-NAME`` beside the first.

    Parameters
    ----------
    model
        The model that recognised the utterances.
    utterances, scored
        The test set; both have the same utterances in the same order.
    path
        The figure; its suffix tells the format.
    """
    recognised, example = min(
        zip(utterances, scored, strict=True), key=lambda pair: (abs(pair[1].duration - DURATION), pair[1].id)
    )
    waveform = _waveform(recognised)
    labels = {"reference": example.reference, "recognised": example.labels}
    times = [(segment.label, segment.start, segment.end) for segment in example.times]
    title = f"{example.id}: {example.text}"
    figures.posteriors(waveform, recognised.log_probs, model.tokens, model.frame_shift, labels, times, path, title)
    *_, hypothesis = recognised.hypotheses.values()
    if isinstance(hypothesis, AttentionHypothesis):
        tokens = [model.tokens[token] for token in hypothesis.tokens]
        beside = path.with_name(f"model-{path.name}")
        figures.attention_weights(waveform, hypothesis.weights, tokens, model.frame_shift, times, beside, title)


def _waveform(utterance: Recognised) -> np.ndarray:
    return audio.load(utterance.cut.recording.sources[0].source)
