"""Processes that train one network together: who starts them, and how they wait for each other.

torchrun starts them, or Slurm's srun, on any number of machines; or Lightning does, as many as `train.devices` says on
this one. All run the same command. Lightning's DistributedDataParallel connects them. What is done once, as preparing
a corpus and writing a run folder, the first process does while the others wait.
"""

import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import Tensor, distributed, nn

from asr.core import workers
from asr.core.config import TrainConfig
from asr.core.errors import ConfigError
from asr.core.settings import check

log = logging.getLogger(__name__)
T = TypeVar("T")
FAILED_ELSEWHERE = 2  # exit code of a process when another one has said why
# Otherwise processes that start again find the addresses of those before them, and wait for these.
RESTARTS = "--max-restarts needs TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1, and --standalone or --rdzv-backend c10d"
LONGEST_WAIT = timedelta(days=30)  # for the first process, which may compute the features of a large corpus


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Hide what Lightning says of devices, of other products, and of its own use of PyTorch."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for words in ("does not have many workers", "logging interval", "LeafSpec.*is deprecated", "`srun` command"):
            warnings.filterwarnings("ignore", f".*{words}")
        yield


def layout(config: TrainConfig) -> dict[str, Any]:
    """Return what Lightning must know of the processes: on how many machines how many are, and who starts them.

    Raises
    ------
    ConfigError
        The machines have different numbers of processes, or `train.devices` says another number.
    """
    environment, devices, machines = _environment(config)
    check(config.devices in (1, devices), "train.devices", f"be left out, or be {devices} as started", config.devices)
    return {"accelerator": config.accelerator, "devices": devices, "num_nodes": machines, "plugins": [environment]}


def _environment(config: TrainConfig) -> tuple[ClusterEnvironment, int, int]:
    """Return who starts the processes, how many there are on a machine, and how many machines."""
    numbers = os.environ.get
    if TorchElasticEnvironment.detect():
        if numbers("TORCHELASTIC_MAX_RESTARTS", "0") != "0" and numbers("TORCHELASTIC_USE_AGENT_STORE") == "True":
            raise ConfigError(f"torchrun: {RESTARTS}")
        devices, processes = int(numbers("LOCAL_WORLD_SIZE", "1")), int(numbers("WORLD_SIZE", "1"))
        if processes % devices:
            raise ConfigError(f"torchrun: {processes} processes, {devices} on this machine: start as many on each")
        return TorchElasticEnvironment(), devices, processes // devices
    if int(numbers("SLURM_STEP_NUM_TASKS", "1")) > 1:  # which srun alone sets, not sbatch and not salloc
        on_each = os.environ["SLURM_STEP_TASKS_PER_NODE"]  # such as 4(x3)
        found = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", on_each)
        if found is None:
            raise ConfigError(f"srun: {on_each} processes on the machines: start as many on each, by --ntasks-per-node")
        # Lightning reads these two, which are those of the whole job, or missing.
        os.environ |= {"SLURM_NTASKS_PER_NODE": found[1], "SLURM_NODELIST": os.environ["SLURM_STEP_NODELIST"]}
        return SLURMEnvironment(auto_requeue=False), int(found[1]), int(found[2] or 1)  # it would save in its own way
    return LightningEnvironment(), config.devices, 1


def strategy(options: dict[str, Any]) -> Any:
    """Return Lightning's strategy for a layout; buffers are the same in all processes by themselves."""
    return DDPStrategy(broadcast_buffers=False) if options["devices"] * options["num_nodes"] > 1 else "auto"


def join(config: TrainConfig) -> None:
    """Connect the processes, and start the others where Lightning is to; a process that trains alone goes on.

    Raises
    ------
    ConfigError
        There are not as many devices as processes, or see `layout`.
    """
    options = layout(config)
    if options["devices"] * options["num_nodes"] == 1 or distributed.is_initialized():
        return
    with quiet_lightning():
        try:
            fabric = Fabric(**options, strategy="ddp")
        except (MisconfigurationException, RuntimeError) as error:
            raise ConfigError(f"train.accelerator, train.devices: {str(error).splitlines()[0]}") from error
        fabric.launch()
    _patient_group()
    shares_machine = not isinstance(options["plugins"][0], SLURMEnvironment)  # which gives processors to each process
    if shares_machine and "NUMBA_NUM_THREADS" not in os.environ:
        workers.set_num_threads(max(1, workers.get_num_threads() // options["devices"]))
    if not is_first():
        _set_levels(logging.WARNING)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the process ends


def is_first() -> bool:
    """Tell whether this process is the first one, or alone."""
    return not distributed.is_initialized() or distributed.get_rank() == 0


def count() -> int:
    """Return the number of processes that train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def check_network(network: nn.Module) -> None:
    """Raise ConfigError if a network cannot be trained in several processes."""
    if distributed.is_initialized() and any(isinstance(each, nn.BatchNorm1d) for each in network.modules()):
        raise ConfigError("model.norm=batch needs whole batches: train in one process, or with layer", "model.norm")


def by_first(work: Callable[[], T]) -> T:
    """Return what a function returns in the first process, while the others wait; they end if it fails there.

    Examples
    --------
    >>> by_first(lambda: 3)
    3
    """
    if not distributed.is_initialized():
        return work()
    said: list[Any] = [False, None]
    try:
        if is_first():
            said = [True, work()]
    finally:
        with ending_together():
            distributed.broadcast_object_list(said, src=0, group=_patient_group())
    if not said[0]:
        raise SystemExit(FAILED_ELSEWHERE)
    return said[1]


def after_first(build: Callable[[], T]) -> T:
    """Return what a function returns in each process; the first one calls it before the others.

    The others find the files that it wrote, and do not log what it has logged.
    """
    made: list[T] = []
    by_first(lambda: made.append(build()))
    if not made:
        _set_levels(logging.ERROR)
        made.append(build())
        _set_levels(logging.WARNING)
    return made[0]


def total(values: Tensor) -> Tensor:
    """Return the sum of a tensor over the processes, in its memory.

    Examples
    --------
    >>> total(Tensor([1, 2])).tolist()
    [1.0, 2.0]
    """
    if distributed.is_initialized():
        distributed.all_reduce(values)
    return values


@contextmanager
def ending_together() -> Iterator[None]:
    """End this process in one line where another one that it waits for has ended."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, distributed.DistError) and "gloo" not in str(error):
            raise
        log.warning("process %d ends, since another one has: %s", distributed.get_rank(), str(error).splitlines()[0])
        raise SystemExit(FAILED_ELSEWHERE) from error


def _set_levels(level: int) -> None:
    for name in ("asr", "data_prep"):
        logging.getLogger(name).setLevel(level)


@cache
def _patient_group() -> distributed.ProcessGroup:
    """Return the group in which the others wait for the first; the usual one gives up after half an hour."""
    return distributed.new_group(backend="gloo", timeout=LONGEST_WAIT)
