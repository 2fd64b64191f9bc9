"""The weight of a language model, the penalty of a phone or word and the scale of priors, chosen on dev speakers.

The search goes along one setting at a time, first coarsely, then finely: the weight, the penalty, the scale of the
priors, the penalty again, since priors bring out more phones, and weights near the best one. A model to rescore with
takes a share of the weight, which is found last, for the three best settings.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from lhotse.cut import Cut

from asr.core import files
from asr.core.config import DataConfig
from asr.core.errors import ConfigError
from asr.core.terminal import track
from asr.ctc import Hypothesis
from asr.data import splits
from asr.data.batches import BatchLoader, NoTargets, SpeechDataset
from asr.data.feature_store import Features
from asr.evaluation import figures, reliability
from asr.evaluation.inputs import cuts_with_features, prepare_corpora
from asr.evaluation.metrics import ErrorCounts, align, count_errors
from asr.lm.folder import locate
from asr.lm.search import PRETRAINED, find, language_model, num_rescored, rescoring
from asr.models import model_folder
from asr.models.base import AcousticModel
from asr.models.calibration import Calibration, recognised_confidence
from asr.models.ctc import CTCModel
from asr.models.word_model import WordModel
from asr.speech import phones

log = logging.getLogger(__name__)

Model = TypeVar("Model", bound=AcousticModel)
Batches = Callable[[], Iterable[tuple[Sequence[Cut], list[np.ndarray]]]]  # batches of utterances with their emissions
ASIDE = (-0.5, -0.25, 0.25, 0.5)  # times the weight: steps from the best penalty, tried after priors
SHARES = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0)  # of the weight, for a model to rescore with
NEARER = (0.7, 0.85, 1.2, 1.4)  # multiples of the best weight, tried last
RESCORED = 3  # settings whose hypotheses are rescored: the best before may not be the best behind


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
    prior_scales
        Tried with the best weight and penalty, in this order, until the best one is neither of the last two.
    """

    weights: tuple[float, ...]
    penalty: float
    penalties: tuple[float, ...]
    prior_scales: tuple[float, ...] = ()


HMM = Grid((1.0, 2.0, 4.0, 6.0, 8.0, 11.0, 15.0, 20.0, 27.0, 36.0), 0.0, (-2.0, -1.5, -1.0, -0.5, 0.5, 1.0))
PRIOR_SCALES = (0.15, 0.3, 0.4, 0.5, 0.6, 0.75, 1.0)
# A phone costs about 2.5 nats in a language model. Without a bonus in return, any weight only favours deletions.
PHONES = Grid(
    (0.0, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0, 1.3, 1.7, 2.2), -1.5, (-3.0, -2.25, -0.75, 0.0, 0.75), PRIOR_SCALES
)
# A network trained with CTC-CRF expects its n-gram with a weight of 1 and no penalty; a better one may count less.
CRF = Grid((0.35, 0.5, 0.7, 0.85, 1.0, 1.2, 1.4, 1.7), 0.0, (-1.0, -0.5, -0.25, 0.25, 0.5))
# Words of several phones hardly need a bonus, and with a weight near 0 the search is slow, and finds nothing of use.
WORDS = Grid((0.4, 0.6, 0.8, 1.0, 1.3, 1.7, 2.2), 0.0, (-1.0, -0.5, 0.5, 1.0), PRIOR_SCALES)


@dataclass(frozen=True)
class Setting:
    """A weight and a penalty, rounded to hundredths, and a scale of the priors."""

    weight: float
    penalty: float
    prior_scale: float = 0.0

    @classmethod
    def of(cls, weight: float, ratio: float, prior_scale: float = 0.0) -> "Setting":
        """Return the setting whose penalty is `ratio` times the weight.

        >>> Setting.of(0.45, -1.5)
        Setting(weight=0.45, penalty=-0.68, prior_scale=0.0)
        """
        return cls(round(weight, 2), round(ratio * weight, 2) + 0.0, prior_scale)  # no -0.0

    def __str__(self) -> str:
        """Return the setting as overrides of a configuration."""
        return " ".join(f"decode.{name}={value:g}" for name, value in self.decode.items())

    @property
    def decode(self) -> dict[str, float]:
        """The setting by the names of `asr.core.config.DecodeConfig`."""
        values = (self.weight, self.penalty, self.prior_scale)
        return dict(zip(("lm_weight", "insertion_penalty", "label_prior_scale"), values, strict=True))

    def applied_to(self, model: Model) -> Model:
        """Return a model with this setting in its configuration."""
        decode = replace(model.config.decode, **self.decode)  # type: ignore[arg-type]
        return replace(model, config=replace(model.config, decode=decode))


@dataclass(frozen=True)
class Trial:
    """A setting that was tried, and its error rate on dev utterances in percent."""

    setting: Setting
    dev_rate: float


def tuned(model: Model, cuts: Sequence[Cut], store: Features, path: Path, grid: Grid = HMM) -> Model:
    """Return a system with the weight and the penalty of its own n-gram that make the fewest errors on dev utterances.

    Parameters
    ----------
    model
        The system.
    cuts, store
        The dev utterances and their features.
    path
        Receives each setting that was tried with its error rate, as JSON.
    grid
        The settings to try.
    """
    batches = partial(_emissions, model, cuts, store, "LM weights")  # each time anew: they are too big to be kept
    return _best(_try_settings(model, batches, path, grid)).setting.applied_to(model)


def _try_settings(model: AcousticModel, batches: Batches, path: Path, grid: Grid) -> list[Trial]:
    """Search for the best setting, write what was tried, and log the result.

    Parameters
    ----------
    model, path, grid
        As for `tuned`; the model may be a CTC system with a language model.
    batches
        Returns the dev utterances with their emissions.
    """
    trials = search(partial(_dev_rates, model, batches), grid)
    files.write_json(path, {"tried": _rows(trials)})
    best = _best(trials)
    log.info("%s: dev error rate %.2f %%", best.setting, best.dev_rate)
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
        for prior_scale in grid.prior_scales:
            best = add([replace(best, prior_scale=prior_scale)])
            if best not in [trial.setting for trial in trials[-2:]]:
                break
        if best.prior_scale > 0:
            ratio = best.penalty / best.weight
            best = add([Setting.of(best.weight, ratio + step, best.prior_scale) for step in ASIDE])
        add([Setting.of(best.weight * factor, best.penalty / best.weight, best.prior_scale) for factor in NEARER])
    return trials


def _best(trials: Sequence[Trial]) -> Trial:
    """Return the trial with the fewest errors; among equals the smallest scale, then penalty, then weight."""
    return min(trials, key=_order)


def _order(trial: Trial) -> tuple[float, ...]:
    return trial.dev_rate, trial.setting.prior_scale, abs(trial.setting.penalty), trial.setting.weight


def _rows(trials: Sequence[Trial]) -> list[dict[str, float]]:
    """Return each trial as it is written; without a scale of priors where none was tried."""
    unused = set() if any(trial.setting.prior_scale for trial in trials) else {"label_prior_scale"}
    return [
        {name: value for name, value in trial.setting.decode.items() if name not in unused}
        | {"dev_rate": round(trial.dev_rate, 4)}
        for trial in trials
    ]


def _dev_rates(model: AcousticModel, batches: Batches, settings: Sequence[Setting]) -> list[float]:
    """Return the error rate of each setting in percent."""
    models = [setting.applied_to(model) for setting in settings]
    errors = [ErrorCounts() for _ in models]
    for members, emissions in batches():
        errors = [total + _errors(each, members, emissions) for total, each in zip(errors, models, strict=True)]
    return [100 * counts.rate for counts in errors]


def _emissions(
    model: AcousticModel, cuts: Sequence[Cut], store: Features, title: str
) -> Iterator[tuple[Sequence[Cut], list[np.ndarray]]]:
    """Yield batches of utterances with their emissions."""
    config = model.config.data
    dataset = SpeechDataset({1.0: store}, model.normaliser, NoTargets())
    loader = BatchLoader(cuts, dataset, config.max_frames, config.num_buckets)
    for members in track(loader.batches, title):
        yield members, model.emissions(dataset[members].rows())


def _errors(model: AcousticModel, cuts: Sequence[Cut], emissions: Sequence[np.ndarray]) -> ErrorCounts:
    """Count the errors in a batch: in words where the model searches for words, else in phones."""
    pairs = zip(cuts, _recognised(model, emissions), strict=True)
    counts = (count_errors(*_compared(cut, *found, model.config.data)) for cut, found in pairs)
    return sum(counts, ErrorCounts())


def _recognised(model: AcousticModel, emissions: Sequence[np.ndarray]) -> list[tuple[Sequence[str], bool]]:
    """Return what a model recognises in each utterance, and whether it is words instead of phones."""
    if not isinstance(model, CTCModel):
        return [([model.tokens[token] for token in tokens], False) for tokens in model.best_tokens(emissions)]
    return [_said(model, each) for each in model.decode(emissions, model.config.decode.beam_size)]


def _said(model: CTCModel, hypothesis: Hypothesis) -> tuple[Sequence[str], bool]:
    """Return the words of a hypothesis, or else its phones, and whether they are words."""
    if hypothesis.words is not None:
        return hypothesis.words, True
    return [model.tokens[token] for token in hypothesis.tokens], False


def _compared(
    cut: Cut, labels: Sequence[str], are_words: bool, config: DataConfig
) -> tuple[Sequence[str], Sequence[str]]:
    """Return reference and hypothesis as they are scored."""
    if are_words:
        return splits.words(cut), [word.lower() for word in labels]
    reference = splits.reference(cut, config.labels)
    return phones.fold(reference, config.labels, config.scoring), phones.fold(labels, config.labels, config.scoring)


def tune(model: CTCModel, output: Path, folder: Path | None = None) -> str:
    """Find the weight and the penalty of a CTC system's language model on the dev speakers of its corpora.

    Where the model has priors (`asr.models.calibration.Calibration.priors`), their scale is found, too.

    Parameters
    ----------
    model
        Its configuration names the language model, and may name one to rescore with.
    output
        Receives ``tuning-NAME.json`` and its picture.
    folder
        The model folder. What was found is stored, with a language model over phones there, beside a copy of it; with
        one over words in its own folder under the model's name, beside a map of the words' confidences
        (`asr.models.word_model`). None stores nothing.

    Returns
    -------
    str
        What was found, as settings for `asr evaluate`, and the error rates with it and at the start of the search:
        without the language model where it is over phones.

    Raises
    ------
    AsrError
        The configuration names no language model, a corpus is missing, or what was found cannot be stored.
    """
    config = model.config
    if config.decode.lm is None:
        raise ConfigError("nothing to tune: name a language model with decode.lm=FOLDER")
    cuts, store = cuts_with_features(model, prepare_corpora(config, "dev"), "dev")
    output.mkdir(parents=True, exist_ok=True)
    name = Path(config.decode.lm).name
    path = output / f"tuning-{name}.json"
    are_words = language_model(config.decode.lm, model.tokens).unit == "words"
    if folder is not None and not find(config.decode.lm).is_dir():
        raise ConfigError(f"{config.decode.lm} cannot store settings: asr lm import makes a folder of it")
    kept = list(_emissions(model, cuts, store, "listening"))
    grid = WORDS if are_words else PHONES if model.lm is None else CRF
    if not model.calibration.priors:
        log.info("without priors, whose scale could be tuned: asr calibrate finds them")
        grid = replace(grid, prior_scales=())
    plain = model.with_decoding(replace(config.decode, rescore_lm=None))
    trials = _try_settings(plain, lambda: track(kept, "LM weights"), path, grid)
    rows, best = _rows(trials), _best(trials)
    found, more, tuned = str(best.setting), "", best.setting.applied_to(model)
    if config.decode.rescore_lm is not None:
        few = sorted(trials, key=_order)[:RESCORED]
        each = {trial: _rescored(trial.setting.applied_to(model), kept) for trial in few}
        rescored = [trial.setting.decode | row for trial, (_, shares) in each.items() for row in shares]
        files.write_json(path, {"tried": rows, "rescored": rescored})
        best = min(each, key=lambda trial: min(row["dev_rate"] for row in each[trial][1]))
        tuned, shares = each[best]
        least = min(shares, key=lambda row: row["dev_rate"])
        found = " ".join([str(best.setting), *(f"decode.{key}={least[key]:g}" for key in least if key != "dev_rate")])
        more = f", {least['dev_rate']:.2f} % rescored"
    if folder is not None and are_words:
        _store(tuned, kept, model_folder.name_of(folder))
    elif folder is not None:
        if config.decode.rescore_lm is not None:
            log.info("a model folder keeps its n-gram over phones, and no model to rescore with: name that each time")
        model_folder.store_decoding(folder, _best(trials).setting.applied_to(model).config.decode)
    figures.tuning(rows, rows[trials.index(best)], path.with_suffix(".png"), name)
    rates = f"{best.dev_rate:.2f} % errors, {trials[0].dev_rate:.2f} % with weight {trials[0].setting.weight:g}"
    return f"{found}\n{len(rows)} settings on dev: {rates}{more} ({path})"


def _rescored(
    model: CTCModel, batches: Iterable[tuple[Sequence[Cut], list[np.ndarray]]]
) -> tuple[CTCModel, list[dict[str, float]]]:
    """Return a model with the share of the weight for `decode.rescore_lm` that makes the fewest errors; and each tried.

    With a share of 0 it is not rescored.
    The hypotheses are searched for once, and sorted with each share.
    """
    decode = model.config.decode
    plain = model.with_decoding(replace(decode, rescore_lm=None))
    count = num_rescored(decode, model.tokens, decode.beam_size, 1)
    lists = [
        (cuts, plain.hypotheses(emissions, decode.beam_size, count))
        for cuts, emissions in track([*batches], "hypotheses to rescore")
    ]
    rows, best = list[dict[str, float]](), model
    for share in track(SHARES, "rescoring"):
        weights = {"rescore_weight": share * decode.lm_weight, "rescored_lm_weight": (1 - share) * decode.lm_weight}
        weights = {key: round(value, 3) for key, value in weights.items()}
        tried = model.with_decoding(replace(decode, **weights))  # type: ignore[arg-type]
        reorder, errors = rescoring(tried.config.decode, model.tokens, model.lm), ErrorCounts()
        for cuts, found in lists:
            said = [_said(model, hypotheses[0]) for hypotheses in reorder(found)]
            errors += sum(
                (count_errors(*_compared(cut, *each, model.config.data)) for cut, each in zip(cuts, said, strict=True)),
                ErrorCounts(),
            )
        if not rows or round(100 * errors.rate, 4) < min(row["dev_rate"] for row in rows):
            best = tried if share else plain
        rows.append({**weights, "dev_rate": round(100 * errors.rate, 4)})
    return best, rows


def _store(model: CTCModel, batches: Iterable[tuple[Sequence[Cut], list[np.ndarray]]], name: str) -> None:
    """Write a model's settings, and the map of confidences fitted with them, into its word model's folder."""
    decode, confidences, correct = model.config.decode, list[float](), list[bool]()
    for cuts, emissions in track(batches, "confidences"):
        for cut, found in zip(cuts, model.decode(emissions, decode.beam_size), strict=True):
            words = [word.lower() for word in found.words or ()]
            correct += reliability.correctness(align(splits.words(cut), words))
            phones_sure = iter(model.calibration.confidence(np.array(found.confidences)).round(3).tolist())
            confidences += [recognised_confidence(list(islice(phones_sure, n))) for n in found.word_lengths]
    tuned = {key: getattr(decode, key) for key in ("beam_size", *Setting(0, 0).decode)}
    if decode.rescore_lm is not None:
        place = find(decode.rescore_lm)
        tuned["rescore_lm"] = place.name if place.parent == PRETRAINED else str(place.absolute())
        tuned |= {key: getattr(decode, key) for key in ("rescore_weight", "rescored_lm_weight")}
    points = reliability.fit(np.array(confidences), np.array(correct))
    WordModel(tuned, Calibration(*points)).store(locate(find(str(decode.lm))), name)
