"""What Lightning calls while it trains a network: progress, checkpoints, early stopping, averaged weights."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, Checkpoint, EarlyStopping, WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn

from asr.core import files
from asr.core.config import TrainConfig
from asr.core.terminal import Progress
from asr.data.batches import Batch


def callbacks_of(config: TrainConfig, folder: Path, keep_best: Callable[[], None], monitor: str) -> list[Callback]:
    """Return the callbacks of a configuration, with checkpoints in a folder.

    `keep_best` is called after a best one: that with the lowest score so far, whose name is `monitor`.
    """
    callbacks: list[Callback] = [EpochProgress()]
    if config.average > 0:
        # Lightning's EMAWeightAveraging averages tensor by tensor, which takes five times as long
        callbacks.append(WeightAveraging(multi_avg_fn=get_ema_multi_avg_fn(config.average)))
    if config.patience > 0:
        callbacks.append(EarlyStopping(monitor, patience=config.patience))
    return [*callbacks, Checkpoints(folder, config.checkpoint_minutes, keep_best, monitor)]


class EpochProgress(Callback):
    """Show how far the training of an epoch has come, in the first process."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._progress: Progress | None = None
        self._note = ""

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Count the batch; the loss is read now and then, since reading it waits for the device."""
        if not trainer.is_global_zero:
            return
        if self._progress is None:  # not in on_train_epoch_start, which Lightning leaves out when it resumes an epoch
            title = f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}"
            self._progress = self._open.enter_context(Progress(title, int(trainer.num_training_batches)))
        if batch_idx % 10 == 0:
            self._note = f"loss {float(trainer.callback_metrics['loss']):.3f}"
        self._progress.update(batch_idx + 1, self._note)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Show no more of this epoch."""
        self._open.close()
        self._progress = None

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        """Show no more."""
        self._open.close()


class Checkpoints(Checkpoint):
    """Write ``last.ckpt`` after each epoch and every few minutes, and ``best.ckpt`` when the dev score falls.

    Each file is written under a temporary name first: a run that is killed at any moment leaves whole ones. All
    processes take part in saving, and the first one decides and writes.

    Parameters
    ----------
    folder
        Of the checkpoints.
    minutes
        Between two checkpoints within an epoch.
    keep_best
        Is called in the first process when ``best.ckpt`` has been written.
    monitor
        Name of the dev score.
    """

    # Lightning's ModelCheckpoint does not resume exactly: it saves after the last batch of an epoch too, from where a
    # resumed run goes on without the epoch's dev score. And it moves files from the system's temporary folder, which is
    # a copy where that is another file system, so that a kill can leave half a file. The base class Checkpoint makes
    # Lightning call this callback last, when the epoch's history, label priors and early stopping are up to date.

    def __init__(self, folder: Path, minutes: float, keep_best: Callable[[], None], monitor: str):
        self.folder, self.interval, self._keep_best, self._monitor = folder, 60 * minutes, keep_best, monitor
        self.best = float("inf")
        self._saved = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Return the best dev score so far."""
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the best dev score so far."""
        self.best = state["best"]

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        """Save within the epoch when it is time, but not after its last batch: the epoch would not be scored then."""
        due = time.monotonic() - self._saved > self.interval
        if not trainer.is_last_batch and trainer.strategy.broadcast(due):  # all processes save, or none
            self._save(trainer, "last.ckpt")

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Save the epoch, and also as the best one if it is."""
        score = float(trainer.callback_metrics[self._monitor])
        if score < self.best:
            self.best = score
            self._save(trainer, "best.ckpt")
            if trainer.is_global_zero:
                self._keep_best()
        self._save(trainer, "last.ckpt")

    def _save(self, trainer: pl.Trainer, name: str) -> None:
        path = self.folder / name
        if trainer.is_global_zero:
            with files.replacing(path) as temporary, files.as_os_error(RuntimeError):
                trainer.save_checkpoint(temporary, weights_only=False)
        else:
            trainer.save_checkpoint(path, weights_only=False)  # waits for the first process, and writes nothing
        self._saved = time.monotonic()
