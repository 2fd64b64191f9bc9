"""The weight of the bigram and the penalty of a phone, chosen on dev speakers: in turn, coarse, then fine."""

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from lhotse import CutSet

from asr import data, model_folder, phones
from asr.data import BatchLoader, NoTargets, SpeechDataset
from asr.feature_store import Features
from asr.hmm.model import HMMModel
from asr.metrics import ErrorCounts, count_errors
from asr.progress import track

log = logging.getLogger(__name__)

WEIGHTS = (1.0, 2.0, 4.0, 6.0, 8.0, 11.0, 15.0, 20.0, 27.0, 36.0)
PENALTIES = (-2.0, -1.5, -1.0, -0.5, 0.5, 1.0)  # a phone, times the weight
NEARER = (0.7, 0.85, 1.2, 1.4)  # times the best weight
Model = TypeVar("Model", bound=HMMModel)


def tuned(model: Model, cuts: CutSet, store: Features, run: Path) -> Model:
    """Return a model with the weight and the penalty that make least errors on dev utterances.

    Parameters
    ----------
    model
        Any HMM system.
    cuts, store
        The dev utterances and their features.
    run
        Receives ``tuning.json``: every setting tried, with its PER.
    """
    tried: dict[tuple[float, float], float] = {}
    for weight in WEIGHTS:  # the greater, the slower the search: no further than where errors have risen twice
        tried |= _rates(model, cuts, store, [(weight, 0.0)])
        if list(tried).index(_best(tried)) < len(tried) - 2:
            break
    weight, _ = _best(tried)
    tried |= _rates(model, cuts, store, [(weight, share * weight) for share in PENALTIES])
    weight, penalty = _best(tried)
    nearer = [(round(weight * factor, 2), round(penalty * factor, 2)) for factor in NEARER]
    tried |= _rates(model, cuts, store, nearer)
    weight, penalty = _best(tried)
    rows = [{"lm_weight": w, "insertion_penalty": p, "dev_per": round(per, 2)} for (w, p), per in tried.items()]
    model_folder.write_json(run / "tuning.json", {"tried": rows})
    log.info("LM weight %g, penalty %g: dev PER %.2f %%", weight, penalty, tried[weight, penalty])
    return weighted(model, weight, penalty)


def _best(tried: dict[tuple[float, float], float]) -> tuple[float, float]:
    return min(tried, key=lambda each: (tried[each], each))


def weighted(model: Model, weight: float, penalty: float) -> Model:
    """Return a model with another weight and penalty in its configuration."""
    decode = replace(model.config.decode, lm_weight=weight, insertion_penalty=penalty)
    return replace(model, config=replace(model.config, decode=decode))


def _rates(
    model: HMMModel, cuts: CutSet, store: Features, settings: Iterable[tuple[float, float]]
) -> dict[tuple[float, float], float]:
    """Return the PER of each setting, in percent."""
    config = model.config.data
    dataset = SpeechDataset({1.0: store}, model.normaliser, NoTargets())
    loader = BatchLoader(cuts, dataset, config.max_frames, config.num_buckets)
    models = {setting: weighted(model, *setting) for setting in settings}
    errors = dict.fromkeys(models, ErrorCounts(0, 0, 0, 0))
    for members in track(loader.batches, "LM weights"):
        batch = dataset[members]
        references = {cut.id: data.reference(cut, config.labels) for cut in members}
        evidence = model.evidence(batch)
        for setting, each in models.items():
            for utterance_id, tokens in zip(batch.ids, each.best_tokens(evidence), strict=True):
                texts = (references[utterance_id], [model.tokens[token] for token in tokens])
                errors[setting] += count_errors(*(phones.fold(text, config.labels, config.scoring) for text in texts))
    return {setting: 100 * counts.rate for setting, counts in errors.items()}
