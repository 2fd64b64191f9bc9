"""Faults that the pipeline once had, each by the smallest thing that shows it."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from pytorch_lightning.callbacks import Checkpoint

from asr.cli import app as command_line
from asr.core import config as configuration
from asr.core.errors import ConfigError
from asr.models.run_folder import read_history, starting
from asr.training import train
from asr.training.callbacks import Checkpoints
from asr.training.network import RecogniserModule, SpeechData


@pytest.fixture
def config():
    return configuration.from_dict({"data": {"corpora": {"mini": None}}, "model": {"name": "blstm", "hidden_size": 8}})


def keep_best():
    """Stand for what writes the model folder."""


@pytest.mark.parametrize("is_last_batch", [False, True])
def test_no_checkpoint_between_the_last_batch_of_an_epoch_and_its_score(tmp_path, is_last_batch):
    """A run killed there and resumed went on with the next epoch: the dev score and the history lacked one."""
    callback = Checkpoints(tmp_path, 1e-9, keep_best, "dev_per")
    callback.on_train_batch_end(process(is_last_batch=is_last_batch), None)
    assert (tmp_path / "last.ckpt").exists() is not is_last_batch


def process(rank=0, is_last_batch=False, decision=None):
    """Stand for a trainer in one of several processes, the first of which writes and decides."""

    def save_checkpoint(path, weights_only):
        if rank == 0:
            path.write_bytes(b"whole")

    strategy = SimpleNamespace(broadcast=lambda own: own if decision is None else decision)
    values = {"is_last_batch": is_last_batch, "is_global_zero": rank == 0, "callback_metrics": {"dev_per": 3.0}}
    return SimpleNamespace(save_checkpoint=save_checkpoint, strategy=strategy, **values)


def test_only_the_first_process_writes_checkpoints(tmp_path):
    """Each renamed its own temporary file: that of the second, which is empty, took the place of the checkpoint."""
    for rank in (0, 1):
        Checkpoints(tmp_path, 5, keep_best, "dev_per").on_train_epoch_end(process(rank), None)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == dict.fromkeys(
        ("best.ckpt", "last.ckpt"), b"whole"
    )


@pytest.mark.parametrize("decision", [False, True])
def test_all_processes_save_when_the_first_one_does(tmp_path, decision):
    """Each went by its own clock: one that saved alone waited for the others for ever."""
    for minutes in (5, 1e-9):
        Checkpoints(tmp_path, minutes, keep_best, "dev_per").on_train_batch_end(process(decision=decision), None)
        assert (tmp_path / "last.ckpt").exists() is decision


def test_checkpoints_are_written_when_the_epoch_is_in_the_history(tmp_path):
    """Lightning calls its own kind of callback last; ours came first, and a resumed run lacked the epoch's line."""
    assert isinstance(Checkpoints(tmp_path, 5, keep_best, "dev_per"), Checkpoint)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")  # PyTorch Lightning's
def test_a_run_that_stopped_early_does_not_go_on(mini_tree, tmp_path):
    """Started again before its model was written, it trained another epoch."""
    values = {
        "data": {"corpora": {"mini": str(mini_tree)}, "manifests": str(tmp_path / "data")},
        "model": {"name": "blstm", "num_layers": 1, "hidden_size": 4, "stack": 4},
        "train": {"max_epochs": 9, "patience": 1, "learning_rate": 1e-9, "final_learning_rate": 0.0},
    }
    values["data"] |= {"labels": "timit61", "scoring": "timit39"}
    for _ in range(2):
        train(configuration.from_dict(values), tmp_path / "run")
        assert len(read_history(tmp_path / "run")["epochs"]) == 2


def begin(run, config):
    with starting(run, config, lambda _: {}):
        pass


def test_a_run_that_failed_before_its_first_checkpoint_claims_no_folder(tmp_path, config):
    """After a typing error the right command was refused: the folder held 'another' configuration."""
    begin(tmp_path, configuration.from_dict({"data": {"corpora": {"mini": None}}, "model": {"name": "typo"}}))
    begin(tmp_path, config)
    assert configuration.load(tmp_path / "config.yaml") == config
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    other = configuration.from_dict({"data": {"corpora": {"mini": None}}, "seed": 2})
    with pytest.raises(ConfigError, match="hidden_size=8 and not the default, seed=1 and not 2: delete it"):
        begin(tmp_path, other)
    begin(tmp_path, config)


def test_a_phone_set_to_score_in_that_is_none_is_known_before_training(tmp_path):
    """It was found out at the first dev score, after an epoch."""
    values = {"data": {"corpora": {"mini": None}, "labels": "timit39", "scoring": "timit61"}}
    with pytest.raises(Exception, match="no folding leads from the phone set 'timit39' to 'timit61'"):
        RecogniserModule(configuration.from_dict(values), tmp_path)


def test_ctrl_c_says_that_the_run_can_go_on(monkeypatch, capsys):
    """Typer turns Ctrl-C into an exit before `main` sees it."""

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(configuration, "load", interrupted)
    monkeypatch.setattr(sys, "argv", ["asr", "train", "recipes/mini/blstm_ctc.yaml"])
    with pytest.raises(SystemExit) as stop:
        command_line.main()
    assert stop.value.code == 130
    assert capsys.readouterr().err.strip() == "asr: stopped; the same command goes on from the last checkpoint"


def test_few_mel_bins_do_not_clash_with_cepstra_that_are_not_asked_for():
    """`features.num_mel_bins=8` was refused for the 13 cepstra of the other kind of features."""
    assert configuration.FeatureConfig(num_mel_bins=8).num_mel_bins == 8
    with pytest.raises(ConfigError, match="num_ceps"):
        configuration.FeatureConfig(kind="mfcc", num_mel_bins=8)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")  # PyTorch Lightning's
def test_each_epoch_sees_all_its_batches_and_is_scored(mini_tree, tmp_path, monkeypatch):
    """Lightning counted the first epoch's: one with more lost its last, and one with fewer was never scored."""
    scored, counts = [], []
    start, loader_of = RecogniserModule.on_validation_epoch_start, SpeechData.train_dataloader

    def note_score(module):
        scored.append(module.current_epoch)
        start(module)

    def note_count(speech):
        twin = loader_of(speech)
        twin.set_epoch(speech.trainer.current_epoch)
        counts.append(len(twin))
        return loader_of(speech)

    monkeypatch.setattr(RecogniserModule, "on_validation_epoch_start", note_score)
    monkeypatch.setattr(SpeechData, "train_dataloader", note_count)
    values = {
        "data": {"corpora": {"mini": str(mini_tree)}, "manifests": str(tmp_path / "data"), "max_frames": 1000},
        "model": {"name": "blstm", "num_layers": 1, "hidden_size": 8, "stack": 4},
        "train": {"max_epochs": 5},
    }
    values["data"] |= {"labels": "timit61", "scoring": "timit39", "num_buckets": 3}
    train(configuration.from_dict(values), tmp_path / "run")
    updates = [line["updates"] for line in read_history(tmp_path / "run")["epochs"]]
    assert len(set(counts)) > 1  # else nothing is tested
    assert updates == np.cumsum(counts).tolist()
    assert scored == [0, 1, 2, 3, 4]
