"""Which processes train together, and what is said where they cannot."""

import logging

import pytest
from lightning_fabric.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment
from torch import nn

from asr.cli.options import LOGGERS
from asr.core.config import TrainConfig
from asr.core.errors import ConfigError
from asr.training import processes

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "RANK": "3",
    "GROUP_RANK": "1",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "WORLD_SIZE": "4",
}
SRUN = {
    "SLURM_JOB_ID": "17",
    "SLURM_STEP_NUM_TASKS": "6",
    "SLURM_NTASKS": "6",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_NNODES": "3",
    "SLURM_PROCID": "0",
}


@pytest.fixture
def layout(monkeypatch):
    """The layout in an environment, as the number of processes on a machine, of machines, and who starts them."""

    def find(environment, devices=1):
        for name in (*TORCHRUN, *SRUN):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        found = processes.layout(TrainConfig(devices=devices))
        return found["devices"], found["num_nodes"], type(found["plugins"][0])

    return find


@pytest.mark.parametrize(
    ("environment", "devices", "expected"),
    [
        ({}, 1, (1, 1, LightningEnvironment)),
        ({}, 3, (3, 1, LightningEnvironment)),
        (TORCHRUN, 1, (2, 2, TorchElasticEnvironment)),
        (TORCHRUN, 2, (2, 2, TorchElasticEnvironment)),
        (TORCHRUN | {"LOCAL_WORLD_SIZE": "4"}, 1, (4, 1, TorchElasticEnvironment)),
        (SRUN, 1, (2, 3, SLURMEnvironment)),
        (SRUN | TORCHRUN, 1, (2, 2, TorchElasticEnvironment)),  # srun starts torchrun on each machine
        ({"SLURM_NTASKS": "6", "SLURM_NNODES": "3"}, 1, (1, 1, LightningEnvironment)),  # in sbatch, without srun
    ],
)
def test_processes_are_those_that_were_started(layout, environment, devices, expected):
    assert layout(environment, devices) == expected


@pytest.mark.parametrize(
    ("environment", "devices", "fault"),
    [
        (TORCHRUN, 4, "train.devices must be left out, or be 2 as started, but it is 4"),
        (TORCHRUN | {"LOCAL_WORLD_SIZE": "3"}, 1, "torchrun: 4 processes, 3 on this machine"),
        (SRUN | {"SLURM_NTASKS": "5"}, 1, "srun: give --nodes and --ntasks-per-node"),
        (SRUN | {"SLURM_NTASKS_PER_NODE": "0"}, 1, "srun: give --nodes and --ntasks-per-node"),
        (
            TORCHRUN | {"TORCHELASTIC_MAX_RESTARTS": "1", "TORCHELASTIC_USE_AGENT_STORE": "True"},
            1,
            "torchrun: --max-restarts needs TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1",
        ),
    ],
)
def test_a_start_that_cannot_work_is_named(layout, environment, devices, fault):
    with pytest.raises(ConfigError, match=fault):
        layout(environment, devices)


def test_statistics_of_whole_batches_need_one_process(monkeypatch):
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    processes.check_network(network)
    monkeypatch.setattr(processes.distributed, "is_initialized", lambda: True)
    processes.check_network(network[0])
    with pytest.raises(ConfigError, match=r"model\.norm=batch needs whole batches"):
        processes.check_network(network)


@pytest.fixture
def second(monkeypatch):
    """Stand for the second of two processes; what the first one sends is added."""
    said = []

    def receive(objects, src, group):
        objects[:] = said.pop(0)

    monkeypatch.setattr(processes.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(processes.distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(processes.distributed, "broadcast_object_list", receive)
    monkeypatch.setattr(processes, "_patient_group", lambda: None)
    return said


def test_the_second_process_takes_what_the_first_one_made(second):
    second.append([True, "made"])
    assert processes.by_first(lambda: pytest.fail("it waits")) == "made"


def test_the_second_process_ends_without_a_word_where_the_first_one_fails(second):
    second.append([False, None])
    with pytest.raises(SystemExit) as stop:
        processes.by_first(lambda: pytest.fail("it waits"))
    assert stop.value.code == processes.FAILED_ELSEWHERE


@pytest.fixture
def levels():
    """Leave the loggers as they were."""
    before = {name: logging.getLogger(name).level for name in LOGGERS}
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


@pytest.mark.usefixtures("levels")
def test_the_second_process_does_not_repeat_what_the_first_one_logged(second, caplog):
    second.append([True, None])
    logger = logging.getLogger("asr.data.batches")

    def build():
        logger.warning("skipped u7")
        return "built"

    assert processes.after_first(build) == "built"
    assert not caplog.records
    logger.warning("skipped u8")
    assert [each.message for each in caplog.records] == ["skipped u8"]
