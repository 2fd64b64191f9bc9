"""Which processes train together, and what is said where they cannot."""

import logging
import os

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
# What srun of Slurm 22.05 sets for the last process of a part of a job: three of its four machines.
SRUN = {
    "SLURM_JOB_ID": "17",
    "SLURM_JOB_NAME": "train.sh",
    "SLURM_NODELIST": "n[1-4]",
    "SLURM_NTASKS_PER_NODE": "8",
    "SLURM_NNODES": "3",
    "SLURM_NTASKS": "6",
    "SLURM_STEP_NODELIST": "n[2-4]",
    "SLURM_STEP_NUM_NODES": "3",
    "SLURM_STEP_NUM_TASKS": "6",
    "SLURM_STEP_TASKS_PER_NODE": "2(x3)",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "2",
}


@pytest.fixture
def layout(monkeypatch):
    """The layout in an environment, as the number of processes on a machine, of machines, and who starts them."""

    def find(environment, devices=1):
        monkeypatch.setattr(os, "environ", environment.copy())
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
        (SRUN | {"SLURM_STEP_TASKS_PER_NODE": "6", "SLURM_STEP_NUM_NODES": "1"}, 1, (6, 1, SLURMEnvironment)),
        (SRUN | TORCHRUN, 1, (2, 2, TorchElasticEnvironment)),  # srun starts torchrun on each machine
        ({"SLURM_NTASKS": "6", "SLURM_NNODES": "3"}, 1, (1, 1, LightningEnvironment)),  # in sbatch, without srun
    ],
)
def test_processes_are_those_that_were_started(layout, environment, devices, expected):
    assert layout(environment, devices) == expected


def test_srun_in_a_part_of_a_job(layout):
    """Its processes meet on the first machine of the part, not on that of the job."""
    layout({name: value for name, value in SRUN.items() if name != "SLURM_NTASKS_PER_NODE"})  # as of --ntasks
    (found,) = processes.layout(TrainConfig())["plugins"]
    found.validate_settings(2, 3)
    assert (found.main_address, found.main_port) == ("n2", 15017)
    assert (found.world_size(), found.global_rank(), found.local_rank(), found.node_rank()) == (6, 5, 1, 2)


def test_lightning_does_not_advertise_srun(tmp_path, monkeypatch, recwarn):
    (tmp_path / "srun").touch(mode=0o755)
    monkeypatch.setattr(os, "environ", {"PATH": str(tmp_path)})
    with processes.quiet_lightning():
        assert not SLURMEnvironment.detect()
    assert not recwarn.list


@pytest.mark.parametrize(
    ("environment", "devices", "fault"),
    [
        (TORCHRUN, 4, "train.devices must be left out, or be 2 as started, but it is 4"),
        (TORCHRUN | {"LOCAL_WORLD_SIZE": "3"}, 1, "torchrun: 4 processes, 3 on this machine"),
        (
            SRUN | {"SLURM_STEP_TASKS_PER_NODE": "2(x2),1", "SLURM_STEP_NUM_TASKS": "5"},
            1,
            r"srun: 2\(x2\),1 processes on the machines: start as many on each, by --ntasks-per-node",
        ),
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
