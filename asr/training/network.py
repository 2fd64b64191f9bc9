"""Training of networks: a run folder (asr/models/run_folder.py) from a configuration, resumed where it stopped."""

import copy
import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from asr import encoders
from asr.core import config as configuration
from asr.core import files
from asr.core.config import ConditionsConfig, Config
from asr.core.errors import AsrError, ConfigError
from asr.core.terminal import pace, track
from asr.data import batches, labels, splits
from asr.data.batches import Batch, BatchLoader, NoTargets, SpeechDataset
from asr.data.feature_store import Features, LiveFeatures, cache_features
from asr.data.shards import ShardDataset, ShardLoader, Shards
from asr.data.utterances import Utterances
from asr.models import model_folder, run_folder
from asr.models.base import AcousticModel
from asr.models.kinds import Kind, kind_of
from asr.speech import phones
from asr.speech.features import FeatureExtractor
from asr.speech.normaliser import Normaliser
from asr.training import frame_labels, given_weights, layers, processes
from asr.training.callbacks import callbacks_of
from asr.training.criteria import Criterion
from asr.training.dev_score import WER, DevScore, monitor
from asr.training.inputs import prepare
from asr.training.tuning import CRF, HMM, tuned

log = logging.getLogger(__name__)

RBM_UTTERANCES = 200  # the RBMs of train.initialiser=rbm are trained on their frames


def train(config: Config, run: Path) -> Path:
    """Train the network that a configuration describes, from the last checkpoint if there is one.

    Parameters
    ----------
    config
        The resolved configuration; corpora that are not prepared yet are prepared.
    run
        The run folder.

    Returns
    -------
    Path
        The model folder in it.

    Raises
    ------
    AsrError
        A corpus cannot be prepared, the run folder holds another run, or nothing is left to train on.
    """
    last, folder = run / "checkpoints" / "last.ckpt", run / "model"

    def keep_best() -> None:
        model, epoch = module.best()
        with files.replacing_folder(folder) as new:
            model_folder.save(new, model, model_card(model, epoch, module.seconds, origin, has_ended=False))

    def build() -> tuple[RecogniserModule, SpeechData]:
        pl.seed_everything(config.seed, verbose=False)
        module = RecogniserModule(config, run)
        processes.check_network(module.encoder)
        return module, SpeechData(config, module.criterion, int(module.encoder.subsampling))  # type: ignore[arg-type]

    def finish() -> None:
        model, epoch = module.best()
        if kind_of(config) is Kind.HYBRID or model.lm is not None:
            how = HMM if model.lm is None else CRF
            model = tuned(model, speech.dev_cuts, speech.dev_store, run / "tuning.json", how)
        model_folder.save(folder, model, model_card(model, epoch, module.seconds, origin))
        run_folder.end(run)

    with processes.quiet_lightning():
        with ExitStack() as start:
            processes.by_first(lambda: start.enter_context(run_folder.starting(run, config, prepare)))
            config = processes.by_first(lambda: labels.settle(config, run / "labels"))
            module, speech = processes.after_first(build)
            speech.normalise(processes.by_first(speech.fit_normaliser))
            checkpoint = processes.by_first(lambda: last if last.is_file() else None)
            if config.train.initialiser != "default" and checkpoint is None:
                _initialise(module.encoder, config, speech)
            taken = ""
            if config.train.init is not None:
                tokens, phone_set = module.criterion.tokens, config.data.labels
                taken = given_weights.take(module.encoder, tokens, phone_set, config.train.init)
                log.log(logging.INFO if checkpoint is None else logging.DEBUG, taken)  # a checkpoint has later weights
            origin = given_weights.origin(config.train, taken)
            module.normaliser = speech.normaliser
            module.dev_score = DevScore(config, speech.dev_cuts)
            trainer = _trainer(config, run, keep_best)
        try:
            with processes.ending_together():
                trainer.fit(module, speech, ckpt_path=checkpoint, weights_only=True)
        except SystemExit as error:
            if error.code == processes.FAILED_ELSEWHERE:
                raise
            raise KeyboardInterrupt from error  # of which Lightning had made it
    processes.by_first(finish)
    return folder


def _trainer(config: Config, run: Path, keep_best: Callable[[], None]) -> pl.Trainer:
    layout = processes.layout(config.train)
    try:
        return pl.Trainer(
            **layout,
            strategy=processes.strategy(layout),
            max_epochs=config.train.max_epochs,
            precision=config.train.precision,  # type: ignore[arg-type]
            gradient_clip_val=config.train.gradient_clip,
            callbacks=callbacks_of(config.train, run / "checkpoints", keep_best, monitor(config)),
            logger=TensorBoardLogger(run, name="tensorboard", version=""),
            use_distributed_sampler=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            reload_dataloaders_every_n_epochs=1,  # epochs differ in their number of batches
            log_every_n_steps=10,
        )
    except MisconfigurationException as error:
        raise ConfigError(f"train.accelerator, train.devices: {str(error).splitlines()[0]}") from error


def _initialise(encoder: nn.Module, config: Config, speech: "SpeechData") -> None:
    """Initialise the weights as the configuration says: by a rule, or by RBMs that are trained on the features."""
    from asr.encoders.initialisers import initialise  # few systems need it
    from asr.encoders.rbm import pretrain

    if config.train.initialiser != "rbm":
        initialise(encoder, config.train.initialiser)
        return
    heard = list(speech.train_cuts)[:RBM_UTTERANCES]
    pretrain(encoder, [torch.from_numpy(speech.train_set.utterance(cut)[0]) for cut in track(heard, "features")])


class SpeechData(pl.LightningDataModule):
    """Training and dev speech of a configuration's corpora.

    Parameters
    ----------
    config
        The run; its corpora are prepared.
    criterion
        The training criterion, which makes the targets.
    subsampling
        Feature frames in an output frame; utterances with too few frames for their labels are left out.
    """

    def __init__(self, config: Config, criterion: Criterion, subsampling: int):
        super().__init__()
        self.config = config
        manifests, names = config.data.manifests, list(config.data.corpora)
        cache, title = Path(manifests) / "features", "+".join(names)
        self.shards = Shards.find(config)
        if self.shards is None:
            train_cuts = batches.included(splits.load_split(manifests, names, "train"), config.data)
        else:
            train_cuts = self.shards.sample(config.seed)
        dev_cuts = splits.load_split(manifests, names, "dev")
        stores: dict[float, Features] = {}
        for speed in config.data.speeds:
            if config.data.cache_features and self.shards is None:
                stores[speed] = cache_features(train_cuts, config.features, cache, f"{title}-train", speed)
            else:
                stores[speed] = LiveFeatures(train_cuts, FeatureExtractor(config.features), speed)
        self.dev_store = cache_features(dev_cuts, config.features, cache, f"{title}-dev")
        targets = criterion.targets(train_cuts, "train", subsampling)
        self.train_cuts = batches.usable(train_cuts.filter(targets.__contains__), stores, config, subsampling)
        self.dev_cuts = dev_cuts.filter(lambda cut: cut.id in self.dev_store)
        self._stores, self._targets, self._subsampling = stores, targets, subsampling

    def fit_normaliser(self) -> Normaliser:
        """Return a normaliser with the statistics of the training speech, and with those of the speakers."""
        nearest = self._stores[min(self._stores, key=lambda speed: abs(speed - 1))]
        normaliser = Normaliser.fit(self.config.features, self.train_cuts, nearest)
        normaliser.add_speakers(self.train_cuts, nearest)
        normaliser.add_speakers(self.dev_cuts, self.dev_store)
        return normaliser

    def normalise(self, normaliser: Normaliser) -> None:
        """Take a normaliser; before that there are no batches."""
        config, self.normaliser = self.config, normaliser
        conditions = None if config.conditions == ConditionsConfig() else config.conditions
        options = (config.spec_augment, config.seed, conditions, 2 if config.train.consistency > 0 else 1)
        arguments = (self._stores, normaliser, self._targets, *options)
        if self.shards is None:
            self.train_set: SpeechDataset = SpeechDataset(*arguments, self.train_cuts.ids)
        else:
            self.train_set = ShardDataset(FeatureExtractor(config.features), self._subsampling, *arguments)
        self._dev_set = SpeechDataset({1.0: self.dev_store}, normaliser, NoTargets())

    def train_dataloader(self) -> BatchLoader:
        """Return the training batches, in an order that depends on the seed and the epoch."""
        loader = self._train_loader()
        if self.trainer is not None:  # Lightning counts the batches before it tells the loader the epoch
            loader.set_epoch(self.trainer.current_epoch)
        return loader

    def num_first_batches(self) -> int:
        """Return how many batches the first epoch has, which the learning rate takes for that of each epoch.

        Raises
        ------
        ConfigError
            None of them has an utterance for each process.
        """
        drawn, size = self._train_loader().batches, self.config.data.max_frames
        if self.shards is not None:  # each process has batches of its own
            return len(drawn)
        largest, shares = max(map(len, drawn)), 1 if self.trainer is None else self.trainer.world_size
        if largest < shares:
            fault = f"data.max_frames is {size}: no batch has more than {largest} utterances, for {shares} processes"
            raise ConfigError(f"{fault}: raise it, or start fewer", "data.max_frames")
        return len(drawn)

    def _train_loader(self) -> BatchLoader:
        if self.shards is not None:
            return ShardLoader(self.shards, self.train_set, self.config, **self._share())
        options: dict[str, Any] = {
            "shuffle": True,
            "seed": self.config.seed,
            "num_workers": self.config.data.num_workers,
        }
        return self._loader(self.train_cuts, self.train_set, **options)

    def val_dataloader(self) -> BatchLoader:
        """Return the dev utterances in batches of similar length."""
        return self._loader(self.dev_cuts, self._dev_set)

    def _loader(self, cuts: Utterances, dataset: SpeechDataset, **options: Any) -> BatchLoader:
        options |= self._share()
        return BatchLoader(cuts, dataset, self.config.data.max_frames, self.config.data.num_buckets, **options)

    def _share(self) -> dict[str, int]:
        if self.trainer is None:
            return {}
        return {"world_size": self.trainer.world_size, "rank": self.trainer.global_rank}


class RecogniserModule(pl.LightningModule):
    """The encoder, its loss and its dev score, in the form that Lightning asks for.

    Parameters
    ----------
    config
        The configuration of the run.
    run
        The run folder.
    """

    dev_score: DevScore  # set when the dev speech is there

    def __init__(self, config: Config, run: Path):
        super().__init__()
        self.config, self.run = config, run
        self.criterion = frame_labels.build(config)
        num_features = FeatureExtractor(config.features).num_features
        self.encoder = encoders.build(config.model, num_features, self.criterion.num_classes)
        layers.freeze(self.encoder, config.train.freeze)
        self.normaliser = Normaliser(config.features)
        self.history: list[dict[str, float]] = []
        self.seconds = 0.0
        self._losses: list[Tensor] = []
        before = run_folder.training_seconds(Path(config.train.alignments)) if config.train.alignments else None
        self._before = before or 0.0
        self._started = time.monotonic()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed the step's weight noise and dropout by its number, so that a resumed run repeats them."""
        self._seed_step(process=0)
        self.criterion.epoch = self.current_epoch

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        logits, lengths = self._encode(batch)
        with torch.autocast(logits.device.type, enabled=False):
            loss = self.criterion(logits.float(), lengths, batch)
        is_finite = bool(torch.isfinite(loss))
        loss, mean = self._shared(loss, lengths, batch)
        if not torch.isfinite(mean):
            if is_finite:
                raise SystemExit(processes.FAILED_ELSEWHERE)  # the process that has the utterance names it
            self._explain(batch, logits, lengths)
        self.criterion.observe(logits, torch.zeros_like(lengths) if batch.is_spare else lengths)
        self._losses.append(mean)
        self.log("loss", mean, batch_size=len(batch.ids))
        return loss

    def _shared(self, loss: Tensor, lengths: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the share of a loss in the mean over all processes' parts of a batch, and that mean.

        DistributedDataParallel takes the mean of the gradients over the processes, so that the share is multiplied by
        their number.
        """
        num_processes = processes.count()
        if num_processes == 1:
            return loss, loss.detach()
        terms = loss.new_tensor(0 if batch.is_spare else self.criterion.num_terms(lengths, batch))
        total, all_terms = processes.total(torch.stack([loss.detach() * terms, terms]))
        return loss * (terms * num_processes / all_terms), total / all_terms

    def _seed_step(self, process: int) -> None:
        torch.manual_seed((self.config.seed + 7_919 * process) * 1_000_003 + self.global_step)

    def _explain(self, batch: Batch, logits: Tensor, lengths: Tensor) -> NoReturn:
        """Raise an error that names the first utterance of a batch whose loss is infinite or NaN."""
        losses = self.criterion.each(logits.float(), lengths, batch)
        b = int(torch.isfinite(losses).int().argmin())
        raise AsrError(
            f"{batch.ids[b]}: its loss is {losses[b].item()} at update {self.global_step}: "
            "lower train.learning_rate, or look at this recording"
        )

    def _encode(self, batch: Batch) -> tuple[Tensor, Tensor]:
        std, noisy = self.config.train.weight_noise, {}
        if std > 0:
            noisy = {name: value + std * torch.randn_like(value) for name, value in self.encoder.named_parameters()}
        if self.global_rank > 0:  # the noise is the same in all processes, dropout is not
            self._seed_step(self.global_rank)
        return torch.func.functional_call(self.encoder, noisy, (batch.features, batch.feature_lengths))

    def on_validation_epoch_start(self) -> None:
        """Begin to count errors."""
        model = self.criterion.acoustic_model(self.encoder, self.normaliser)
        self.dev_score.begin(model, self.criterion.dev_decoders(model))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count the errors in a dev batch, decoded as the criterion has it."""
        self.dev_score.add(batch)

    def on_validation_epoch_end(self) -> None:
        """Log the dev rates of all processes together."""
        for name, found in self.dev_score.counts.items():
            counts = torch.tensor([found.errors, found.reference_length], device=self.device)
            errors, total = processes.total(counts).tolist()
            # Of equal numbers, Lightning's mean over the processes might be another one.
            self.log(name, 100 * errors / max(total, 1), sync_dist=True, reduce_fx="max")

    def on_train_start(self) -> None:
        """Go on with the learning rate that the schedule has here, but not if `train.patience` had ended the run."""
        stopper, schedule = self.trainer.early_stopping_callback, self.lr_schedulers()
        if stopper is not None and stopper.wait_count >= stopper.patience:
            self.trainer.should_stop = True
            log.info("training has ended: no lower dev score for %d epochs (train.patience)", stopper.patience)
            return
        groups, config = self.optimizers().param_groups, self.config.train  # type: ignore[union-attr]
        before, factor = groups[0]["lr"], schedule.lr_lambdas[0](schedule.last_epoch)  # type: ignore[union-attr]
        for group in groups:
            group["lr"] = group["initial_lr"] * factor
        now = groups[0]["lr"]
        if now != before and self.trainer.is_global_zero:  # train.max_epochs has been raised
            log.info(
                "epochs %d to %d: the learning rate goes on at %.2g, where it was %.2g, and falls to %.2g",
                *(self.current_epoch + 1, config.max_epochs, now, before, config.final_learning_rate),
            )

    def on_train_epoch_end(self) -> None:
        """Update the label priors; add a line to the history and to the log."""
        self.criterion.end_epoch()
        self.seconds += time.monotonic() - self._started
        self._started = time.monotonic()
        entry = {
            "epoch": self.current_epoch + 1,
            "updates": self.global_step,
            "loss": round(float(torch.stack(self._losses).mean()), 4),
            **{name: round(float(self.trainer.callback_metrics[name]), 2) for name in self.dev_score.counts},
            "learning_rate": float(self.optimizers().param_groups[0]["lr"]),  # type: ignore[union-attr]
            "seconds": round(self.seconds, 1),
        }
        self._losses.clear()
        self.history.append(entry)
        if self.trainer.is_global_zero:
            run_folder.write_history(self.run, {"epochs": self.history}, self._before)
            here = self.seconds - (self.history[-2]["seconds"] if len(self.history) > 1 else 0.0)
            times = pace(here, self.seconds, self.config.train.max_epochs - self.current_epoch - 1)
            words = "  dev WER %(dev_wer).2f %%" if WER in entry else ""
            rate = "CER" if phones.is_characters(self.config.data.labels) else "PER"
            line = f"epoch %(epoch)d  loss %(loss).3f  dev {rate} %(dev_per).2f %%{words}  %(times)s"
            log.info(line, entry | {"times": times})

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW with a learning rate that rises linearly to its peak and falls along a cosine."""
        config = self.config.train
        groups = layers.parameter_groups(self, self.encoder, config.learning_rate, config.layer_decay)
        options: dict[str, Any] = {"weight_decay": config.weight_decay, "fused": True}  # in one pass over the weights
        optimizer = torch.optim.AdamW(groups, config.learning_rate, **options)
        # Lightning's own estimate would lay out the batches before it reads the checkpoint, and a run that is resumed
        # within its first epoch would begin that epoch again.
        num_batches = processes.by_first(self.trainer.datamodule.num_first_batches)  # type: ignore[attr-defined]
        total = config.max_epochs * num_batches
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _warmup_cosine(config, total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the norm of the gradient.

        Lightning would refuse it in mixed precision, as a fused optimizer may be given scaled gradients: bfloat16 has
        none.
        """
        torch.nn.utils.clip_grad_norm_(self.parameters(), self.config.train.gradient_clip)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the history, the time spent, and the losses of the present epoch."""
        checkpoint["history"] = self.history
        checkpoint["seconds"] = self.seconds + time.monotonic() - self._started
        checkpoint["losses"] = [float(loss) for loss in self._losses]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the history, the time spent, and the losses of the present epoch."""
        self.history = checkpoint["history"]
        self.seconds = checkpoint["seconds"]
        self._losses = [torch.tensor(loss) for loss in checkpoint["losses"]]
        self._started = time.monotonic()

    def best(self) -> tuple[AcousticModel, dict[str, float]]:
        """Return the acoustic model with the weights of the best epoch, and that epoch's line of the history.

        The history alone does not tell: rounded, the rates of two epochs may be the same.
        """
        best = torch.load(self.run / "checkpoints" / "best.ckpt", map_location="cpu", weights_only=True)
        encoder, criterion = copy.deepcopy(self.encoder).cpu(), copy.deepcopy(self.criterion).cpu()
        nn.ModuleDict({"encoder": encoder, "criterion": criterion}).load_state_dict(best["state_dict"])
        return criterion.acoustic_model(encoder.eval(), self.normaliser), best["history"][-1]


def _warmup_cosine(config: configuration.TrainConfig, total: int) -> Callable[[int], float]:
    warmup, floor = max(1, int(config.warmup * total)), config.final_learning_rate / config.learning_rate

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, total - warmup))
        return floor + (1 - floor) * (1 + float(torch.cos(torch.tensor(torch.pi * progress)))) / 2

    return factor


def model_card(
    model: AcousticModel, epoch: dict[str, float], seconds: float, origin: str, has_ended: bool = True
) -> str:
    """Return the README.md of a model folder before it is scored."""
    config = model.config
    updates, best = f"{epoch['updates']:,.0f}", f"{epoch['epoch']:.0f} of {config.train.max_epochs}"
    lm = config.train.criterion.lm
    frames = config.train.criterion.frames
    beside = "" if frames is None else f", and on the frames of {model_folder.name_of(Path(frames))},"
    methods = {
        Kind.CTC: ("with CTC" if lm is None else f"with CTC-CRF and {Path(lm).name}") + beside,
        Kind.ATTENTION: "phone by phone",
        Kind.HYBRID: f"on the alignments of {Path(config.train.alignments or '').name}",
    }
    how = "without a beam" if lm is None else "with the n-gram"
    words = f"- word error rate on them: {epoch[WER]:.2f} %, by which the epoch was chosen\n" if WER in epoch else ""
    unit = "character" if phones.is_characters(config.data.labels) else "phone"
    so_far = "" if has_ended else "- the best model so far: training has not ended\n"
    return f"""# {config.model["name"]}, {phones.title(config.data.labels)}

{unit.capitalize()} recogniser trained {methods[kind_of(config)]} by `asr train`; `config.yaml` holds every setting.

- data: {", ".join(config.data.corpora)}; seed {config.seed}
- {model.num_parameters:,} weights; {seconds / 60:.0f} minutes of training; kept: epoch {best}, after {updates} updates
- {unit} error rate on the dev speakers {how}: {epoch["dev_per"]:.2f} % ({phones.title(config.data.scoring)})
{words}{origin}{so_far}"""
