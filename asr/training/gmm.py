"""A run that trains GMM-HMMs: monophones from a flat start, triphones from their alignments, then LDA and MLLT.

A run is one stage, which starts from the run that `train.alignments` names. After each iteration everything is written
to checkpoints/last.safetensors, and a run that was stopped goes on from there.
"""

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from lhotse.cut import Cut
from threadpoolctl import threadpool_limits

from asr.core import files
from asr.core.config import Config
from asr.core.errors import ConfigError
from asr.core.settings import check, model_options, one_of
from asr.core.terminal import pace
from asr.data import labels, splits
from asr.data.batches import included, is_short_enough
from asr.data.feature_store import Features, cache_features
from asr.evaluation import figures
from asr.hmm.alignment import StateAlignment, align_all
from asr.hmm.em import SEARCHES, GmmHmm, Utterance, flat_start, gaussians_at, iterate, moments
from asr.hmm.mixtures import VARIANCE_FLOOR
from asr.hmm.phone_hmms import SILENCE, PhoneHMMs, silences_of
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
from asr.models import model_folder, run_folder
from asr.models.base import BLANK
from asr.models.calibration import Calibration
from asr.models.hmm import GMMModel
from asr.speech import phones
from asr.speech.normaliser import Normaliser
from asr.training.gmm_data import load_utterances
from asr.training.inputs import prepare
from asr.training.tuning import tuned

log = logging.getLogger(__name__)

MLLT_ITERATIONS = (2, 4, 6, 12)  # Kaldi's
MLLT_STEP = 4  # MLLT is estimated on every fourth frame, which is enough
CHECKPOINT = Path("checkpoints") / "last.safetensors"
LAST_SPLIT = 0.7  # share of the iterations after which no Gaussian is split


@dataclass(frozen=True)
class GMMConfig:
    """The `model` section of a GMM-HMM.

    Attributes
    ----------
    num_gaussians
        Gaussians of all densities together, at the end.
    num_pdfs
        Tied states of triphones, each with a density of its own; 0 trains monophones.
    transform
        ``none``, or ``lda_mllt``: linear discriminant analysis of spliced frames, then maximum likelihood linear
        transforms.
    splice
        Frames to each side that LDA takes in.
    num_values
        Values a frame that LDA leaves.
    algorithm
        ``viterbi`` trains on the likeliest path of each utterance, ``baum_welch`` on all paths.
    num_iterations
        E and M steps.
    """

    num_gaussians: int = 1000
    num_pdfs: int = 0
    transform: str = "none"
    splice: int = 4
    num_values: int = 40
    algorithm: str = "viterbi"
    num_iterations: int = 30

    def __post_init__(self) -> None:
        for name in ("num_gaussians", "splice", "num_values", "num_iterations"):
            check(getattr(self, name) > 0, f"model.{name}", "be positive", getattr(self, name))
        check(self.num_pdfs >= 0, "model.num_pdfs", "be 0 or more", self.num_pdfs)
        one_of("model.transform", self.transform, ("none", "lda_mllt"))
        one_of("model.algorithm", self.algorithm, tuple(SEARCHES))
        check(self.transform == "none" or self.num_pdfs > 0, "model.num_pdfs", "be set for LDA", self.num_pdfs)


def options_of(config: Config) -> GMMConfig:
    """Return the `model` section of a configuration.

    Raises
    ------
    ConfigError
        A key is unknown, a value is wrong, or the section does not fit `train.alignments`.
    """
    options = model_options(config.model, GMMConfig)
    if bool(options.num_pdfs) != bool(config.train.alignments):
        raise ConfigError(
            "triphones (model.num_pdfs) start from the alignments of another system, monophones from none: "
            "set train.alignments, or model.num_pdfs=0"
        )
    return options


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
        A corpus cannot be prepared, the run folder holds another run, the stage before is missing or does not fit, or
        nothing is left to train on.
    """
    options = options_of(config)
    with threadpool_limits(1, "blas"):  # with more threads its sums, and so the models, differ in their last bits
        with run_folder.starting(run, config, prepare):
            config = labels.settle(config, run / "labels")
            stage = _prepared(config, options, run)
        while stage.number < options.num_iterations:
            stage.step()
        dev = _Speech.load(config, "dev")
        stage.normaliser.add_speakers(dev.cuts, dev.store)
        model = tuned(stage.acoustic_model(), dev.cuts, dev.store, run / "tuning.json")
    figures.likelihood_curve(stage.history, run / "likelihood.png")
    model_folder.save(run / "model", model, _card(model, stage.history, has_ended=True))
    run_folder.end(run)
    return run / "model"


def _prepared(config: Config, options: GMMConfig, run: Path) -> "_Stage":
    """Return the iterations of a run where they begin or go on."""
    speech = _Speech.load(config, "train")
    normaliser = Normaliser.fit(config.features, speech.cuts, speech.store)
    normaliser.add_speakers(speech.cuts, speech.store)
    checkpoint = run / CHECKPOINT
    if checkpoint.is_file():
        start = _resumed(config, checkpoint)
    elif config.train.alignments is None:
        start = _monophones(speech, normaliser)
    else:
        start = _triphones(config, options, speech, normaliser)
    return _Stage(config, options, run, normaliser, speech.utterances(normaliser, start.model.hmms), start)


@dataclass(frozen=True)
class _Speech:
    """The utterances of a split that can be read and are not too long, and their features."""

    cuts: Sequence[Cut]
    store: Features
    labels: str

    @classmethod
    def load(cls, config: Config, split: str) -> "_Speech":
        """Read a split of a configuration's prepared corpora; of train, what is trained on."""
        manifests, names = config.data.manifests, list(config.data.corpora)
        cuts = splits.load_split(manifests, names, split)
        cuts = included(cuts, config.data) if split == "train" else cuts
        store = cache_features(cuts, config.features, Path(manifests) / "features", f"{'+'.join(names)}-{split}")
        kept = [cut for cut in cuts if cut.id in store and is_short_enough(cut, config.data.max_duration)]
        return cls(kept, store, config.data.labels)

    def utterances(self, normaliser: Normaliser, hmms: PhoneHMMs) -> list[Utterance]:
        """Return normalised features, and the states of the transcripts in HMMs."""
        return load_utterances(self.cuts, self.store, normaliser, hmms, self.labels)


@dataclass(frozen=True)
class _Start:
    """Where a run's iterations begin: its models, the transform of the features, and the iterations done before."""

    model: GmmHmm
    transform: Transform | None = None
    history: Sequence[dict[str, Any]] = ()


def _resumed(config: Config, checkpoint: Path) -> _Start:
    """Go on from a checkpoint."""
    tensors, notes = files.read_tensors(checkpoint)
    tokens = (BLANK, *silences_of(config.data.labels)[0])
    kept = GMMModel.parts(config, tokens, tensors)
    return _Start(GmmHmm(kept["hmms"], kept["mixtures"]), kept["transform"], json.loads(notes["history"]))


def _monophones(speech: _Speech, normaliser: Normaliser) -> _Start:
    """Begin with monophones that know no more than the mean and the variance of all frames."""
    hmms = PhoneHMMs.monophones(*silences_of(speech.labels))
    return _Start(flat_start(hmms, speech.utterances(normaliser, hmms)))


def _triphones(config: Config, options: GMMConfig, speech: _Speech, normaliser: Normaliser) -> _Start:
    """Tie triphones by the alignments of the stage before, after LDA where it is asked for."""
    before = model_folder.load(str(config.train.alignments))
    if not isinstance(before, GMMModel) or before.config.features != config.features:
        raise ConfigError(
            f"{config.train.alignments} (train.alignments) is no GMM-HMM of the same features: name another"
        )
    hmms, transform = before.hmms, None
    utterances = speech.utterances(normaliser, hmms)
    alignments = align_all(hmms, before.mixtures, utterances, before.transform)
    utterances = [each for each in utterances if each.id in alignments]
    if options.transform == "lda_mllt":
        num_statics = utterances[0].features.shape[1] // (config.features.delta_order + 1)
        transform = _lda(options, num_statics, hmms, utterances, alignments)
        utterances = _transformed(utterances, transform)
    return _Start(triphones(hmms, utterances, alignments, options.num_pdfs), transform)


def _transformed(utterances: Sequence[Utterance], transform: Transform) -> list[Utterance]:
    return [replace(each, features=transform(each.features)) for each in utterances]


class _Stage:
    """The iterations of a run.

    Parameters
    ----------
    config, options
        The run, and its `model` section.
    run
        Its folder.
    normaliser
        Of the utterances' features.
    utterances
        Normalised, and not transformed.
    start
        Where the iterations begin.
    """

    def __init__(
        self,
        config: Config,
        options: GMMConfig,
        run: Path,
        normaliser: Normaliser,
        utterances: list[Utterance],
        start: _Start,
    ):
        self.config, self.options, self.run, self.normaliser = config, options, run, normaliser
        self.model, self.transform, self.history = start.model, start.transform, list(start.history)
        self._originals = utterances
        self._first = self.model.hmms.tying.num_pdfs  # Gaussians before the first split
        self._seconds = self.history[-1]["seconds"] if self.history else 0.0
        self._bigram = self._bigram_of_transcripts()
        self._observe()
        self._started = time.monotonic()

    def _observe(self) -> None:
        """Transform the features as they were at first, and not again: to the last bit as a resumed run does."""
        originals, transform = self._originals, self.transform
        self.utterances = originals if transform is None else _transformed(originals, transform)
        self._floor = VARIANCE_FLOOR * moments(each.features for each in self.utterances)[1]

    @property
    def number(self) -> int:
        """Iterations done."""
        return len(self.history)

    def step(self) -> None:
        """Do an iteration, after MLLT where it is time for it, and keep all."""
        options, number = self.options, self.number + 1
        turned = self.transform is not None and number in MLLT_ITERATIONS
        if self.transform is not None and turned:
            self._turn(self.transform)
        last_split = max(1, int(LAST_SPLIT * options.num_iterations))
        target = gaussians_at(number, self._first, options.num_gaussians, last_split)
        arguments = (number, target, options.algorithm, self._floor)
        done, self.model = iterate(self.model, self.utterances, *arguments)
        before = self.history[-1]["seconds"] if self.history else 0.0
        seconds = round(self._seconds + time.monotonic() - self._started, 1)
        self.history.append(asdict(done) | {"turned": turned, "seconds": seconds})
        line = "iteration %(number)d  %(log_likelihood).3f nats a frame  %(num_gaussians)d Gaussians  %(times)s"
        log.info(line, asdict(done) | {"times": pace(seconds - before, seconds, options.num_iterations - number)})
        self._save()

    def _turn(self, transform: Transform) -> None:
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
        self.transform = transform.then(matrix)
        self.model = replace(self.model, mixtures=transform_means(mixtures, matrix))
        self._observe()

    def acoustic_model(self) -> GMMModel:
        """Return what has been trained, with the bigram of the training utterances as it aligns them."""
        hmms, mixtures = self.model.hmms, self.model.mixtures
        alignments = align_all(hmms, mixtures, self.utterances)
        labels = hmms.labels
        return self._with(bigram(labels, [[labels[i] for i in each.sequence] for each in alignments.values()]))

    def _with(self, log_bigram: np.ndarray) -> GMMModel:
        hmms = self.model.hmms
        common = (self.config, (BLANK, *hmms.labels), self.normaliser, Calibration())
        return GMMModel(*common, hmms, log_bigram, self.model.mixtures, self.transform)

    def _bigram_of_transcripts(self) -> np.ndarray:
        """Return the bigram of the transcripts, for models before the end: nothing needs to be aligned.

        Where silence is no label, each utterance begins and ends with it.
        """
        labels = self.model.hmms.labels
        edge = [SILENCE] if SILENCE in labels else []
        said = ([labels[i] for i in each.transcript.said()] for each in self._originals)
        return bigram(labels, ([*edge, *each, *edge] for each in said))

    def _save(self) -> None:
        """Write the model so far, the checkpoint and the history."""
        model = self._with(self._bigram)
        with files.replacing_folder(self.run / "model") as folder:
            model_folder.save(folder, model, _card(model, self.history, has_ended=False))
        files.write_tensors(self.run / CHECKPOINT, model.tensors(), {"history": json.dumps(self.history)})
        alignments = self.config.train.alignments
        before = run_folder.training_seconds(Path(alignments)) if alignments else None
        run_folder.write_history(self.run, {"iterations": self.history}, before or 0.0)


def _lda(
    options: GMMConfig,
    num_statics: int,
    hmms: PhoneHMMs,
    utterances: Sequence[Utterance],
    alignments: dict[str, StateAlignment],
) -> Transform:
    """Estimate LDA with the densities as classes, without those of silences, which would dominate it."""
    num_classes = hmms.tying.num_pdfs
    statistics = LdaStatistics.empty(num_classes, (2 * options.splice + 1) * num_statics)
    for each in utterances:
        alignment = alignments[each.id]
        spoken = ~np.isin(alignment.phones, hmms.silences)
        spliced = splice(each.features[:, :num_statics], options.splice)
        statistics.add(spliced[spoken], alignment.pdfs(hmms.tying)[spoken])
    return Transform(options.splice, num_statics, *lda(statistics, options.num_values))


def _card(model: GMMModel, history: list[dict[str, Any]], has_ended: bool) -> str:
    """Return the README.md of a model folder before it is scored."""
    config, mixtures = model.config, model.mixtures
    kind = "triphones" if model.hmms.tying.has_context else "monophones"
    start = f"the alignments of {Path(config.train.alignments).name}" if config.train.alignments else "a flat start"
    weights = f"LM weight {config.decode.lm_weight:g}, penalty {config.decode.insertion_penalty:g}"
    state = f"chosen on the dev speakers: {weights}" if has_ended else "the model so far: training has not ended"
    return f"""# GMM-HMM, {kind}, {phones.title(config.data.labels)}

Phone recogniser trained by `asr train`; `config.yaml` holds every setting.

- data: {", ".join(config.data.corpora)}
- {model.hmms.tying.num_pdfs:,} densities, {len(mixtures.weights_):,} Gaussians, {model.num_parameters:,} parameters
- {len(history)} iterations from {start}, {history[-1]["seconds"] / 60:.0f} minutes
- {state}
"""
