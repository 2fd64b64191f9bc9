"""The weight of a language model and the penalty of a phone or word, chosen on dev speakers: coarse, then fine."""

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
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
from asr.data.feature_store import Features, cache_features
from asr.evaluation import figures
from asr.evaluation.metrics import ErrorCounts, count_errors
from asr.models.base import AcousticModel
from asr.models.ctc import CTCModel
from asr.speech import phones

log = logging.getLogger(__name__)

Model = TypeVar("Model", bound=AcousticModel)
NEARER = (0.7, 0.85, 1.2, 1.4)  # times the best weight


@dataclass(frozen=True)
class Grid:
    """What is tried.

    Attributes
    ----------
    weights
        Until errors have risen twice: for HMMs a greater one makes the search slower.
    penalty
        With the weights; like all of them in multiples of the weight.
    penalties
        With the best weight.
    """

    weights: tuple[float, ...]
    penalty: float
    penalties: tuple[float, ...]


HMM = Grid((1.0, 2.0, 4.0, 6.0, 8.0, 11.0, 15.0, 20.0, 27.0, 36.0), 0.0, (-2.0, -1.5, -1.0, -0.5, 0.5, 1.0))
# A phone costs a language model some 2.5 nats: without a bonus in return, every weight is a way to leave phones out.
CTC = Grid((0.0, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0, 1.3, 1.7, 2.2), -1.5, (-3.0, -2.25, -0.75, 0.0, 0.75))


def tuned(model: Model, cuts: CutSet, store: Features, path: Path, grid: Grid = HMM) -> Model:
    """Return a model with the weight and the penalty that make least errors on dev utterances.

    Parameters
    ----------
    model
        An HMM system, or a CTC system with a language model.
    cuts, store
        The dev utterances and their features.
    path
        Receives every setting tried with its error rate, as JSON.
    grid
        What to try.
    """
    tried: dict[tuple[float, float], float] = {}
    for weight in grid.weights:
        tried |= _rates(model, cuts, store, [_setting(weight, grid.penalty)])
        if list(tried).index(_best(tried)) < len(tried) - 2:
            break
    weight, _ = _best(tried)
    if weight > 0:
        tried |= _rates(model, cuts, store, [_setting(weight, ratio) for ratio in grid.penalties])
        weight, penalty = _best(tried)
        tried |= _rates(model, cuts, store, [_setting(weight * factor, penalty / weight) for factor in NEARER])
    weight, penalty = _best(tried)
    rows = [{"lm_weight": w, "insertion_penalty": p, "dev_rate": round(rate, 4)} for (w, p), rate in tried.items()]
    files.write_json(path, {"tried": rows})
    log.info("LM weight %g, penalty %g: dev error rate %.2f %%", weight, penalty, tried[weight, penalty])
    return weighted(model, weight, penalty)


def _setting(weight: float, ratio: float) -> tuple[float, float]:
    return round(weight, 2), round(ratio * weight, 2) + 0.0


def _best(tried: dict[tuple[float, float], float]) -> tuple[float, float]:
    return min(tried, key=lambda each: (tried[each], abs(each[1]), each[0]))


def weighted(model: Model, weight: float, penalty: float) -> Model:
    """Return a model with another weight and penalty in its configuration."""
    decode = replace(model.config.decode, lm_weight=weight, insertion_penalty=penalty)
    return replace(model, config=replace(model.config, decode=decode))


def _rates(
    model: AcousticModel, cuts: CutSet, store: Features, settings: Iterable[tuple[float, float]]
) -> dict[tuple[float, float], float]:
    """Return the error rate of each setting, in percent: of words where the search is for words, else of phones."""
    config = model.config.data
    dataset = SpeechDataset({1.0: store}, model.normaliser, NoTargets())
    loader = BatchLoader(cuts, dataset, config.max_frames, config.num_buckets)
    models = {setting: weighted(model, *setting) for setting in settings}
    errors = dict.fromkeys(models, ErrorCounts(0, 0, 0, 0))
    for members in track(loader.batches, "LM weights"):
        emissions = model.emissions(dataset[members].rows())
        for setting, each in models.items():
            for cut, said in zip(members, _said(each, emissions), strict=True):
                errors[setting] += count_errors(*_compared(cut, said, config))
    return {setting: 100 * counts.rate for setting, counts in errors.items()}


def _said(model: AcousticModel, emissions: Sequence[np.ndarray]) -> list[tuple[Sequence[str], bool]]:
    """Return what a model finds in each utterance, and whether it is words."""
    if not isinstance(model, CTCModel):
        return [([model.tokens[token] for token in tokens], False) for tokens in model.best_tokens(emissions)]
    found = model.decode(emissions, model.config.decode.beam_size)
    return [
        ([model.tokens[token] for token in each.tokens], False) if each.words is None else (each.words, True)
        for each in found
    ]


def _compared(cut: Cut, said: tuple[Sequence[str], bool], config: DataConfig) -> tuple[Sequence[str], Sequence[str]]:
    """Return reference and hypothesis as they are scored."""
    labels, are_words = said
    if are_words:
        return splits.words(cut), [word.lower() for word in labels]
    reference, hypothesis = (
        phones.fold(each, config.labels, config.scoring) for each in (splits.reference(cut, config.labels), labels)
    )
    return reference, hypothesis


def tune(model: AcousticModel, output: Path) -> str:
    """Find the weight and the penalty of a CTC system's language model on its corpora's dev speakers.

    Parameters
    ----------
    model
        Its configuration names the language model.
    output
        Folder of ``tuning-NAME.json`` and its picture.

    Returns
    -------
    str
        The two as settings for `asr evaluate`, and what they bring.

    Raises
    ------
    AsrError
        The configuration names no language model, or a corpus is missing.
    """
    config = model.config
    if config.decode.lm is None:
        raise ConfigError("nothing to tune: name a language model with decode.lm=FOLDER")
    manifests, names = config.data.manifests, list(config.data.corpora)
    splits.prepare(config.data.corpora, manifests)
    cuts = splits.load_split(manifests, names, "dev")
    store = cache_features(cuts, config.features, Path(manifests) / "features", f"{'+'.join(names)}-dev")
    cuts = cuts.filter(lambda cut: cut.id in store).to_eager()
    model.normaliser.add_speakers(cuts, store)
    path = output / f"tuning-{Path(config.decode.lm).name}.json"
    output.mkdir(parents=True, exist_ok=True)
    found = tuned(model, cuts, store, path, CTC).config.decode
    rows = json.loads(path.read_text(encoding="utf8"))["tried"]
    figures.tuning(rows, path.with_suffix(".png"), Path(config.decode.lm).name)
    best, without = min(row["dev_rate"] for row in rows), rows[0]["dev_rate"]
    settings = f"decode.lm_weight={found.lm_weight:g} decode.insertion_penalty={found.insertion_penalty:g}"
    return f"{settings}\n{len(rows)} settings on dev: {best:.2f} % errors, {without:.2f} % with weight 0 ({path})"
