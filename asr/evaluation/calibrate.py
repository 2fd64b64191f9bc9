"""Calibration of a trained model: its confidences, the lag of its times and its priors, fitted on its dev speakers."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from asr.data import splits
from asr.evaluation import boundaries, breakdown, corpus_scores, reliability
from asr.evaluation.inputs import load_configured, prepare_corpora
from asr.evaluation.recognise import Recognised, recognise
from asr.models import calibration, model_folder
from asr.models.base import AcousticModel
from asr.models.calibration import Calibration
from asr.models.ctc import CTCModel
from asr.speech import phones


def calibrate(
    name: str,
    overrides: Sequence[str] = (),
    corpora: Path | None = None,
    output: Path | None = None,
) -> str:
    """Fit a model's confidences, the priors of its classes, and the lag of its times.

    Where the corpora have no times, the lag stays as it is.

    ``calibration.json`` is written into the model folder, or into a copy of it.

    Parameters
    ----------
    name, overrides, corpora
        As for `asr.evaluation.inputs.load_configured`.
    output
        The model folder to write: a copy with the new calibration. By default the model itself is changed.

    Returns
    -------
    str
        A line that says what was fitted.

    Raises
    ------
    AsrError
        The model or a corpus is missing, or the model is a shipped one and `output` is not given.
    """
    folder, model = load_configured(name, overrides, corpora)
    target = folder if output is None else output
    model_folder.check_output(target)
    decode = replace(model.config.decode, label_prior_scale=0.0)  # there may be no priors yet
    lag = model.calibration.boundary_offset
    model = replace(model.with_decoding(decode), calibration=Calibration())
    names = prepare_corpora(model.config, "dev")
    utterances = [each for name in names for each in recognise(model, name, "dev", with_sound=False).utterances]
    posteriors, correct = _confidences(model, utterances)
    true_starts, found_starts = _starts(utterances)
    points = reliability.fit(posteriors, correct)
    lag = boundaries.fit_boundary_offset(true_starts, found_starts) if true_starts else lag
    fitted = Calibration(*points, lag, _priors(model, utterances))
    if output is not None:
        model_folder.copy(folder, output)
    fitted.save(target)
    offset = f"; times move by {1e3 * fitted.boundary_offset:+.0f} ms" if true_starts else ""
    labels = "characters" if phones.is_characters(model.config.data.labels) else "phones"
    what = "calibrated" if fitted.posteriors else "priors counted"
    return f"{what} on {len(posteriors):,} {labels} of dev speakers{offset}: {target / calibration.FILE}"


def _confidences(model: AcousticModel, utterances: Sequence[Recognised]) -> tuple[np.ndarray, np.ndarray]:
    """Return the posterior of each recognised phone (N,) and whether the phone is right (N,)."""
    data = model.config.data
    scored = corpus_scores.scored_utterances(model, utterances)
    pairs = [breakdown.align(each, data.labels, data.scoring) for each in scored]
    return breakdown.scored_confidences(scored, pairs, data.labels, data.scoring)


def _priors(model: AcousticModel, utterances: Sequence[Recognised]) -> tuple[float, ...]:
    """Return the mean posteriors of the classes of a CTC system over all frames; a search with CTC-CRF needs none."""
    if not isinstance(model, CTCModel) or model.lm is not None:
        return ()
    sums = sum(np.exp(each.log_probs, dtype=np.float64).sum(axis=0) for each in utterances)
    return tuple((sums / sum(len(each.log_probs) for each in utterances)).round(6).tolist())


def _starts(utterances: Sequence[Recognised]) -> tuple[list[float], list[float]]:
    """Return the true and the found start of each phone but the first of its utterance, in seconds."""
    aligned = [(splits.true_times(each.cut), each.alignment) for each in utterances if each.alignment is not None]
    true_starts = [segment.start for truth, _ in aligned for segment in truth[1:]]
    return true_starts, [segment.start for _, alignment in aligned for segment in alignment[1:]]
