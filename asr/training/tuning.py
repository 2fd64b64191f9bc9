"""The weight of a language model and the penalty of a phone or word, chosen on dev speakers: coarse, then fine."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from lhotse import CutSet
from lhotse.cut import Cut

from asr.core import files
from asr.core.config import DataConfig
from asr.core.errors import ConfigError
from asr.core.terminal import track
from asr.data import splits
from asr.data.batches import BatchLoader, NoTargets, SpeechDataset
from asr.data.feature_store import Features
from asr.evaluation import figures
from asr.evaluation.inputs import cuts_with_features, prepare_corpora
from asr.evaluation.metrics import ErrorCounts, count_errors
from asr.models.base import AcousticModel
from asr.models.ctc import CTCModel
from asr.speech import phones

log = logging.getLogger(__name__)

Model = TypeVar("Model", bound=AcousticModel)
NEARER = (0.7, 0.85, 1.2, 1.4)  # multiples of the best weight, tried last


@dataclass(frozen=True)
class Grid:
    """The settings to try. Penalties are multiples of the weight.

    Attributes
    ----------
    weights
        Tried in this order, until the best weight is neither of the last two: a greater weight makes an HMM's search
        slower.
    penalty
        Tried with the weights.
    penalties
        Tried with the best weight.
    """

    weights: tuple[float, ...]
    penalty: float
    penalties: tuple[float, ...]


HMM = Grid((1.0, 2.0, 4.0, 6.0, 8.0, 11.0, 15.0, 20.0, 27.0, 36.0), 0.0, (-2.0, -1.5, -1.0, -0.5, 0.5, 1.0))
# A phone costs about 2.5 nats in a language model. Without a bonus in return, any weight only favours deletions.
CTC = Grid((0.0, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0, 1.3, 1.7, 2.2), -1.5, (-3.0, -2.25, -0.75, 0.0, 0.75))


@dataclass(frozen=True)
class Setting:
    """A weight and a penalty, rounded to hundredths."""

    weight: float
    penalty: float

    @classmethod
    def of(cls, weight: float, ratio: float) -> "Setting":
        """Return the setting whose penalty is `ratio` times the weight.

        >>> Setting.of(0.45, -1.5)
        Setting(weight=0.45, penalty=-0.68)
        """
        return cls(round(weight, 2), round(ratio * weight, 2) + 0.0)  # no -0.0

    def applied_to(self, model: Model) -> Model:
        """Return a model with this weight and this penalty in its configuration."""
        decode = replace(model.config.decode, lm_weight=self.weight, insertion_penalty=self.penalty)
        return replace(model, config=replace(model.config, decode=decode))


@dataclass(frozen=True)
class Trial:
    """A setting that was tried, and its error rate on dev utterances in percent."""

    setting: Setting
    dev_rate: float


def tuned(model: Model, cuts: CutSet, store: Features, path: Path, grid: Grid = HMM) -> Model:
    """Return a model with the weight and the penalty that make the fewest errors on dev utterances.

    Parameters
    ----------
    model
        An HMM system, or a CTC system with a language model.
    cuts, store
        The dev utterances and their features.
    path
        Receives each setting that was tried with its error rate, as JSON.
    grid
        The settings to try.
    """
    return _best(_try_settings(model, cuts, store, path, grid)).setting.applied_to(model)


def _try_settings(model: AcousticModel, cuts: CutSet, store: Features, path: Path, grid: Grid) -> list[Trial]:
    """Search for the best setting, write what was tried, and log the result. Parameters are those of `tuned`."""
    trials = search(partial(_dev_rates, model, cuts, store), grid)
    files.write_json(path, {"tried": _rows(trials)})
    best = _best(trials)
    weight, penalty = best.setting.weight, best.setting.penalty
    log.info("LM weight %g, penalty %g: dev error rate %.2f %%", weight, penalty, best.dev_rate)
    return trials


def search(dev_rates: Callable[[Sequence[Setting]], Sequence[float]], grid: Grid) -> list[Trial]:
    """Try the settings of a grid, then settings near the best one.

    Parameters
    ----------
    dev_rates
        Returns the error rate of each setting.
    grid
        The settings to try.

    Returns
    -------
    list of Trial
        In the order in which they were tried; no setting is tried twice.

    Examples
    --------
    >>> grid = Grid(weights=(1, 2, 3, 4, 5), penalty=0, penalties=(1,))
    >>> trials = search(lambda settings: [abs(each.weight - 2) for each in settings], grid)
    >>> [trial.setting.weight for trial in trials]  # 5 is left out: 2 was better than 3 and 4
    [1, 2, 3, 4, 2, 1.4, 1.7, 2.4, 2.8]
    """
    trials: list[Trial] = []

    def add(settings: Sequence[Setting]) -> Setting:
        """Try those settings that are new, and return the best of all."""
        tried = {trial.setting for trial in trials}
        new = [setting for setting in dict.fromkeys(settings) if setting not in tried]
        trials.extend(Trial(*each) for each in zip(new, dev_rates(new), strict=True))
        return _best(trials).setting

    for weight in grid.weights:
        best = add([Setting.of(weight, grid.penalty)])
        if best not in [trial.setting for trial in trials[-2:]]:
            break
    if best.weight > 0:
        best = add([Setting.of(best.weight, ratio) for ratio in grid.penalties])
        add([Setting.of(best.weight * factor, best.penalty / best.weight) for factor in NEARER])
    return trials


def _best(trials: Sequence[Trial]) -> Trial:
    """Return the trial with the fewest errors; among equals the one with the smaller penalty, then weight."""
    return min(trials, key=lambda trial: (trial.dev_rate, abs(trial.setting.penalty), trial.setting.weight))


def _rows(trials: Sequence[Trial]) -> list[dict[str, float]]:
    return [
        {
            "lm_weight": trial.setting.weight,
            "insertion_penalty": trial.setting.penalty,
            "dev_rate": round(trial.dev_rate, 4),
        }
        for trial in trials
    ]


def _dev_rates(model: AcousticModel, cuts: CutSet, store: Features, settings: Sequence[Setting]) -> list[float]:
    """Return the error rate of each setting in percent; the emissions of a batch are computed once for all of them."""
    models = [setting.applied_to(model) for setting in settings]
    errors = [ErrorCounts() for _ in models]
    for members, emissions in _emissions(model, cuts, store):
        errors = [total + _errors(each, members, emissions) for total, each in zip(errors, models, strict=True)]
    return [100 * counts.rate for counts in errors]


def _emissions(model: AcousticModel, cuts: CutSet, store: Features) -> Iterator[tuple[CutSet, list[np.ndarray]]]:
    """Yield batches of utterances with their emissions."""
    config = model.config.data
    dataset = SpeechDataset({1.0: store}, model.normaliser, NoTargets())
    loader = BatchLoader(cuts, dataset, config.max_frames, config.num_buckets)
    for members in track(loader.batches, "LM weights"):
        yield members, model.emissions(dataset[members].rows())


def _errors(model: AcousticModel, cuts: CutSet, emissions: Sequence[np.ndarray]) -> ErrorCounts:
    """Count the errors in a batch: in words where the model searches for words, else in phones."""
    pairs = zip(cuts, _recognised(model, emissions), strict=True)
    counts = (count_errors(*_compared(cut, *found, model.config.data)) for cut, found in pairs)
    return sum(counts, ErrorCounts())


def _recognised(model: AcousticModel, emissions: Sequence[np.ndarray]) -> list[tuple[Sequence[str], bool]]:
    """Return what a model recognises in each utterance, and whether it is words instead of phones."""
    if not isinstance(model, CTCModel):
        return [([model.tokens[token] for token in tokens], False) for tokens in model.best_tokens(emissions)]
    found = model.decode(emissions, model.config.decode.beam_size)
    return [
        ([model.tokens[token] for token in each.tokens], False) if each.words is None else (each.words, True)
        for each in found
    ]


def _compared(
    cut: Cut, labels: Sequence[str], are_words: bool, config: DataConfig
) -> tuple[Sequence[str], Sequence[str]]:
    """Return reference and hypothesis as they are scored."""
    if are_words:
        return splits.words(cut), [word.lower() for word in labels]
    reference = splits.reference(cut, config.labels)
    return phones.fold(reference, config.labels, config.scoring), phones.fold(labels, config.labels, config.scoring)


def tune(model: AcousticModel, output: Path) -> str:
    """Find the weight and the penalty of a CTC system's language model on the dev speakers of its corpora.

    Parameters
    ----------
    model
        Its configuration names the language model.
    output
        Receives ``tuning-NAME.json`` and its picture.

    Returns
    -------
    str
        The two as settings for `asr evaluate`, and the error rates with and without them.

    Raises
    ------
    AsrError
        The configuration names no language model, or a corpus is missing.
    """
    config = model.config
    if config.decode.lm is None:
        raise ConfigError("nothing to tune: name a language model with decode.lm=FOLDER")
    cuts, store = cuts_with_features(model, prepare_corpora(config, "dev"), "dev")
    output.mkdir(parents=True, exist_ok=True)
    name = Path(config.decode.lm).name
    path = output / f"tuning-{name}.json"
    trials = _try_settings(model, cuts, store, path, CTC)
    rows, best = _rows(trials), _best(trials).setting
    figures.tuning(rows, path.with_suffix(".png"), name)
    rates = f"{min(row['dev_rate'] for row in rows):.2f} % errors, {rows[0]['dev_rate']:.2f} % with weight 0"
    settings = f"decode.lm_weight={best.weight:g} decode.insertion_penalty={best.penalty:g}"
    return f"{settings}\n{len(rows)} settings on dev: {rates} ({path})"
