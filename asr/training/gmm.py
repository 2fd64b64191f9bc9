"""A run that trains GMM-HMMs: monophones from a flat start, triphones from their alignments, then LDA and MLLT.

One stage a run: what a stage starts from is the run that `train.alignments` names. After each iteration all is kept in
checkpoints/last.safetensors, and a run that was stopped goes on there.
"""

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from lhotse import CutSet
from threadpoolctl import threadpool_limits

from asr.core import files
from asr.core.config import Config, check, model_options, one_of
from asr.core.errors import ConfigError
from asr.data import splits
from asr.data.feature_store import Features, cache_features
from asr.evaluation import figures
from asr.hmm.alignment import StateAlignment, align_all
from asr.hmm.em import SEARCHES, GmmHmm, Utterance, flat_start, gaussians_at, iterate, moments
from asr.hmm.mixtures import VARIANCE_FLOOR
from asr.hmm.phone_hmms import PhoneHMMs, silences_of
from asr.hmm.phone_loop import bigram
from asr.hmm.transforms import (
    LdaStatistics,
    MlltStatistics,
    Transform,
    lda,
    mllt,
    mllt_objective,
    most_likely,
    splice,
    transform_means,
)
from asr.hmm.triphones import triphones
from asr.models import model_folder
from asr.models.base import BLANK
from asr.models.calibration import Calibration
from asr.models.hmm import GMMModel
from asr.models.run_folder import HISTORY, claim, training_seconds
from asr.speech.normaliser import Normaliser
from asr.training.gmm_data import load_utterances
from asr.training.tuning import tuned

log = logging.getLogger(__name__)

MLLT_ITERATIONS = (2, 4, 6, 12)  # Kaldi's
MLLT_STEP = 4  # of so many frames one is enough to estimate MLLT on
LAST_SPLIT = 0.7  # of all iterations: after it no Gaussian is split any more


@dataclass(frozen=True)
class GMMConfig:
    """The `model` section of a GMM-HMM."""

    num_gaussians: int = 1000  # of all densities together
    num_pdfs: int = 0  # tied states of triphones; 0: monophones
    transform: str = "none"  # none | lda_mllt
    splice: int = 4  # frames to each side that LDA sees
    num_values: int = 40  # that LDA leaves
    algorithm: str = "viterbi"  # viterbi | baum_welch
    num_iterations: int = 30

    def __post_init__(self) -> None:
        for name in ("num_gaussians", "splice", "num_values", "num_iterations"):
            check(getattr(self, name) > 0, f"model.{name}", "be positive", getattr(self, name))
        check(self.num_pdfs >= 0, "model.num_pdfs", "be 0 or more", self.num_pdfs)
        one_of("model.transform", self.transform, ("none", "lda_mllt"))
        one_of("model.algorithm", self.algorithm, tuple(SEARCHES))
        check(self.transform == "none" or self.num_pdfs > 0, "model.num_pdfs", "be set for LDA", self.num_pdfs)


def train(config: Config, run: Path) -> Path:
    """Train the stage that a configuration describes, from its last checkpoint if there is one.

    Parameters
    ----------
    config
        The resolved configuration; corpora that are not prepared yet are prepared. `train.alignments` is the run folder
        of the stage before.
    run
        The run folder.

    Returns
    -------
    Path
        The model folder in it.

    Raises
    ------
    AsrError
        A corpus cannot be prepared, the run folder holds another configuration, or nothing is left to train on.
    """
    options = model_options(config.model, GMMConfig)
    if bool(options.num_pdfs) != bool(config.train.alignments):
        raise ConfigError(
            "config: triphones (model.num_pdfs) start from the alignments of another system, monophones from none: "
            "set train.alignments, or model.num_pdfs=0"
        )
    claim(run, config)
    with threadpool_limits(1, "blas"):  # with more threads its sums, and so the models, differ in their last bits
        return _train(config, options, run)


def _train(config: Config, options: GMMConfig, run: Path) -> Path:
    cuts, store = _features(config, "train")
    normaliser = Normaliser.fit(config.features.cmvn, cuts, store)
    normaliser.add_speakers(cuts, store)
    stage = _Stage(config, options, run, cuts, store, normaliser)
    while stage.number < options.num_iterations:
        stage.step()
    dev_cuts, dev_store = _features(config, "dev")
    normaliser.add_speakers(dev_cuts, dev_store)
    model = tuned(stage.recogniser(), dev_cuts, dev_store, run / "tuning.json")
    figures.likelihood_curve(stage.history, run / "likelihood.png")
    model_folder.save(run / "model", model, _card(model, stage.history))
    return run / "model"


def _features(config: Config, split: str) -> tuple[CutSet, Features]:
    """Prepare a split, and keep the utterances that can be read and are not too long."""
    manifests, names = config.data.manifests, list(config.data.corpora)
    splits.prepare(config.data.corpora, manifests)
    cuts = splits.load_split(manifests, names, split)
    store = cache_features(cuts, config.features, Path(manifests) / "features", f"{'+'.join(names)}-{split}")
    kept = []
    for cut in cuts:
        if cut.id not in store:
            continue
        if cut.duration > config.data.max_duration:
            log.warning("skipped %s: %.1f s is longer than data.max_duration", cut.id, cut.duration)
        else:
            kept.append(cut)
    return CutSet.from_cuts(kept), store


class _Stage:
    """The state of a run: models, transform, transformed utterances, history."""

    def __init__(
        self, config: Config, options: GMMConfig, run: Path, cuts: CutSet, store: Features, normaliser: Normaliser
    ):
        self.config, self.options, self.normaliser = config, options, normaliser
        before = training_seconds(Path(config.train.alignments)) if config.train.alignments else None
        self.seconds_before = before or 0.0
        self.checkpoint = run / "checkpoints" / "last.safetensors"
        self.history: list[dict[str, Any]] = []
        self.transform: Transform | None = None
        hmms = PhoneHMMs.monophones(*silences_of(config.data.labels))
        utterances = load_utterances(cuts, store, normaliser, hmms, config.data.labels)
        if self.checkpoint.is_file():
            self.model = self._resume()
        elif config.train.alignments is None:
            self.model = flat_start(hmms, utterances)
        else:
            self.model = self._begin(cuts, store, utterances)
        if self.model.hmms.tying.has_context:
            utterances = load_utterances(cuts, store, normaliser, self.model.hmms, config.data.labels)
        self.originals = self.utterances = utterances
        if self.transform is not None:
            self._transform()
        self.floor = VARIANCE_FLOOR * moments(each.features for each in self.utterances)[1]
        self.first = self.model.hmms.tying.num_pdfs  # Gaussians, before the first split
        self._seconds = self.history[-1]["seconds"] if self.history else 0.0
        self._started = time.monotonic()

    @property
    def number(self) -> int:
        """Iterations done."""
        return len(self.history)

    def step(self) -> None:
        """Do an iteration, after MLLT where it is time for it, and keep all."""
        options, number = self.options, self.number + 1
        turned = options.transform == "lda_mllt" and number in MLLT_ITERATIONS
        if turned:
            self._turn()
        last_split = max(1, int(LAST_SPLIT * options.num_iterations))
        target = gaussians_at(number, self.first, options.num_gaussians, last_split)
        arguments = (number, target, options.algorithm, self.floor)
        done, self.model = iterate(self.model, self.utterances, *arguments)
        seconds = round(self._seconds + time.monotonic() - self._started, 1)
        self.history.append(asdict(done) | {"turned": turned, "seconds": seconds})
        log.info("iteration %(number)d  %(log_likelihood).3f nats a frame  %(num_gaussians)d Gaussians", asdict(done))
        self._keep()

    def _turn(self) -> None:
        """Estimate MLLT on the present alignment, and turn features, means and floor with it."""
        hmms, mixtures = self.model.hmms, self.model.mixtures
        statistics = MlltStatistics.empty(mixtures.means_.shape[1])
        alignments = align_all(hmms, mixtures, self.utterances)
        for each in self.utterances:
            if each.id in alignments:
                frames, pdfs = each.features[::MLLT_STEP], alignments[each.id].pdfs(hmms.tying)[::MLLT_STEP]
                statistics.add(frames, most_likely(mixtures, frames, pdfs), mixtures)
        matrix = mllt(statistics)
        gain = mllt_objective(matrix, statistics) - mllt_objective(np.eye(len(matrix)), statistics)
        log.info("MLLT: %.3f nats a frame", gain / statistics.num_frames)
        assert self.transform is not None
        self.transform = self.transform.then(matrix)
        self.model = replace(self.model, mixtures=transform_means(mixtures, matrix))
        self._transform()
        self.floor = VARIANCE_FLOOR * moments(each.features for each in self.utterances)[1]

    def _transform(self) -> None:
        """Transform the features as they were at first, to the last bit as a resumed run does."""
        change = self.transform
        assert change is not None
        self.utterances = [replace(each, features=change(each.features)) for each in self.originals]

    def recogniser(self) -> GMMModel:
        """Return what has been trained, with the bigram of the training utterances as it aligns them."""
        hmms, mixtures = self.model.hmms, self.model.mixtures
        alignments = align_all(hmms, mixtures, self.utterances)
        labels = hmms.labels
        log_bigram = bigram(labels, [[labels[i] for i in each.sequence] for each in alignments.values()])
        return self._model(log_bigram)

    def _model(self, log_bigram: np.ndarray) -> GMMModel:
        hmms = self.model.hmms
        tokens = (BLANK, *hmms.labels)
        common = (self.config, tokens, self.normaliser, Calibration())
        return GMMModel(*common, hmms, log_bigram, self.model.mixtures, self.transform)

    def _keep(self) -> None:
        count = len(self.model.hmms.labels) + 1
        tensors = self._model(np.zeros((count, count))).tensors()
        files.write_tensors(self.checkpoint, tensors, {"history": json.dumps(self.history)})
        lines = {"iterations": self.history, "seconds_before": self.seconds_before}
        files.write_json(self.checkpoint.parent.parent / HISTORY, lines)

    def _resume(self) -> GmmHmm:
        tensors, notes = files.read_tensors(self.checkpoint)
        self.history = json.loads(notes["history"])
        tokens = (BLANK, *silences_of(self.config.data.labels)[0])
        kept = GMMModel.parts(self.config, tokens, tensors)
        self.transform = kept["transform"]
        return GmmHmm(kept["hmms"], kept["mixtures"])

    def _begin(self, cuts: CutSet, store: Features, utterances: Sequence[Utterance]) -> GmmHmm:
        """Tie triphones by the alignments of the stage before, after LDA where it is asked for."""
        config, options = self.config, self.options
        before = model_folder.load(str(config.train.alignments))
        if not isinstance(before, GMMModel) or before.config.features != config.features:
            raise ConfigError(
                f"config: {config.train.alignments} (train.alignments) is no GMM-HMM of the same features: name another"
            )
        hmms = before.hmms
        if hmms.tying.has_context:
            utterances = load_utterances(cuts, store, self.normaliser, hmms, config.data.labels)
        alignments = align_all(hmms, before.mixtures, utterances, before.transform)
        utterances = [each for each in utterances if each.id in alignments]
        if options.transform == "lda_mllt":
            num_statics = utterances[0].features.shape[1] // (config.features.delta_order + 1)
            self.transform = _lda(options, num_statics, hmms, utterances, alignments)
            change = self.transform
            utterances = [replace(each, features=change(each.features)) for each in utterances]
        return triphones(hmms, utterances, alignments, options.num_pdfs)


def _lda(
    options: GMMConfig,
    num_statics: int,
    hmms: PhoneHMMs,
    utterances: Sequence[Utterance],
    alignments: dict[str, StateAlignment],
) -> Transform:
    """Estimate LDA with the densities as classes, but for those of silences, which would take all the room."""
    num_classes = hmms.tying.num_pdfs
    statistics = LdaStatistics.empty(num_classes, (2 * options.splice + 1) * num_statics)
    for each in utterances:
        alignment = alignments[each.id]
        spoken = ~np.isin(alignment.phones, hmms.silences)
        spliced = splice(each.features[:, :num_statics], options.splice)
        statistics.add(spliced[spoken], alignment.pdfs(hmms.tying)[spoken])
    return Transform(options.splice, num_statics, *lda(statistics, options.num_values))


def _card(model: GMMModel, history: list[dict[str, Any]]) -> str:
    """Return the README.md of a model folder before it is scored."""
    config, mixtures = model.config, model.mixtures
    kind = "triphones" if model.hmms.tying.has_context else "monophones"
    start = f"the alignments of {Path(config.train.alignments).name}" if config.train.alignments else "a flat start"
    return f"""# GMM-HMM, {kind}, {config.data.labels}

Phone recogniser trained by `asr train`; `config.yaml` holds every setting.

- data: {", ".join(config.data.corpora)}
- {model.hmms.tying.num_pdfs:,} densities, {len(mixtures.weights_):,} Gaussians, {model.num_parameters:,} parameters
- {len(history)} iterations from {start}, {history[-1]["seconds"] / 60:.0f} minutes
- chosen on the dev speakers: LM weight {config.decode.lm_weight:g}, penalty {config.decode.insertion_penalty:g}
"""
