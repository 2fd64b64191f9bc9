"""Runs that stop: a model from the first epoch on, more epochs for a finished run, nothing left of a failed start."""

import gc
import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from safetensors.numpy import load_file

from asr.core import config as configuration
from asr.core.config import FeatureConfig
from asr.core.errors import ConfigError, CorpusError
from asr.data import splits
from asr.data.feature_store import cache_features
from asr.lm import config as lm_configuration
from asr.lm.folder import load as load_lm
from asr.lm.language_model import perplexity
from asr.models.run_folder import goes_on, read_history
from asr.speech import audio
from asr.training import network, recurrent_lm, train
from asr.training.lm import train as train_lm

LIGHTNING = ("ignore::FutureWarning", "ignore::UserWarning")  # PyTorch Lightning's


@pytest.fixture
def config(mini_tree, tmp_path):
    """A network that learns a little in an epoch, with averaged weights."""
    data = {"corpora": {"mini": str(mini_tree)}, "labels": "timit61", "scoring": "timit39", "max_frames": 1000}
    return configuration.from_dict(
        {
            "data": data | {"manifests": str(tmp_path / "data"), "num_buckets": 3},
            "model": {"name": "blstm", "num_layers": 1, "hidden_size": 16, "stack": 2},
            "train": {"max_epochs": 3, "learning_rate": 0.02, "average": 0.5},
        }
    )


def lasting(config, epochs):
    return replace(config, train=replace(config.train, max_epochs=epochs))


def stop_in_epoch(number, monkeypatch):
    """Let Ctrl-C come in the fourth update of an epoch, counted from 0."""
    step = network.RecogniserModule.training_step

    def stop(self, batch, batch_idx):
        if self.current_epoch == number and batch_idx == 3:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    monkeypatch.setattr(network.RecogniserModule, "training_step", stop)


def weights(run):
    return load_file(run / "model" / "model.safetensors")


def epochs(run):
    return [line | {"seconds": 0} for line in read_history(run)["epochs"]]


@pytest.mark.filterwarnings(*LIGHTNING)
def test_a_stopped_run_has_the_model_of_its_best_epoch(config, cli, mini_tree, tmp_path, monkeypatch):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_in_epoch(2, patch)
        with pytest.raises(KeyboardInterrupt):
            train(config, run)
    assert len(epochs(run)) == 2
    assert goes_on(run)
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] == int(np.argmin([line["dev_per"] for line in epochs(run)]))
    for name, value in weights(run).items():
        np.testing.assert_array_equal(value, best["state_dict"][name], err_msg=name)
    card = (run / "model" / "README.md").read_text()
    assert f"kept: epoch {best['epoch'] + 1} of 3" in card
    assert "training has not ended" in card
    code, out, err = cli("transcribe", next(mini_tree.glob("TEST/*/*/*.WAV")), "--model", run)
    assert (code, err) == (0, "")
    assert out.strip()
    scores = tmp_path / "some" / "scores"
    code, _, err = cli("evaluate", run, "decode.beam_size=1", "--split", "dev", "--output", scores)
    assert (code, err.splitlines()[0]) == (0, f"WARNING  {run}: training has not ended: this is its best model so far")
    (row,) = json.loads((scores / "metrics.json").read_text())["results"]
    assert row["per"] == pytest.approx(min(line["dev_per"] for line in epochs(run)), abs=0.011)
    train(config, run)
    assert not goes_on(run)
    assert "training has not ended" not in (run / "model" / "README.md").read_text()


@pytest.mark.filterwarnings(*LIGHTNING)
def test_a_finished_run_goes_on_for_more_epochs(config, tmp_path, monkeypatch, caplog):
    """From its last epoch on, with the learning rates of a run that had that many epochs from the start."""
    run, killed, whole = tmp_path / "run", tmp_path / "killed", tmp_path / "whole"
    for each in (run, killed):
        train(lasting(config, 2), each)
        (each / "model" / "calibration.json").write_text("{}")
    train(config, whole)
    with caplog.at_level("INFO"):
        train(config, run)
    assert [line["epoch"] for line in epochs(run)] == [1, 2, 3]
    assert epochs(run)[:2] == epochs(killed)
    assert epochs(run)[2]["updates"] == epochs(whole)[2]["updates"]
    assert epochs(run)[2]["learning_rate"] == epochs(whole)[2]["learning_rate"] == pytest.approx(1e-5)
    (line,) = [record.getMessage() for record in caplog.records if "learning rate" in record.getMessage()]
    rate = epochs(whole)[1]["learning_rate"]
    assert line == f"epochs 3 to 3: the learning rate goes on at {rate:.2g}, where it was 1e-05, and falls to 1e-05"
    is_better = min(epochs(run), key=lambda line: line["dev_per"])["epoch"] == 3
    assert (run / "model" / "calibration.json").exists() is not is_better  # that of other weights is none of these
    with monkeypatch.context() as patch:
        stop_in_epoch(2, patch)
        with pytest.raises(KeyboardInterrupt):
            train(config, killed)
    train(config, killed)
    assert epochs(killed) == epochs(run)
    for name, value in weights(run).items():
        np.testing.assert_array_equal(weights(killed)[name], value, err_msg=name)
    with pytest.raises(ConfigError, match=r"of 3 epochs: train.max_epochs can be raised, but 2 are fewer"):
        train(lasting(config, 2), run)


@pytest.mark.filterwarnings(*LIGHTNING)
def test_more_epochs_do_not_wake_a_run_that_stopped_early(config, tmp_path, caplog):
    train_config = replace(config.train, patience=1, learning_rate=1e-9, final_learning_rate=0.0, average=0.0)
    config = replace(config, train=train_config)
    train(lasting(config, 5), tmp_path / "run")
    before = epochs(tmp_path / "run")
    with caplog.at_level("INFO"):
        train(lasting(config, 9), tmp_path / "run")
    assert epochs(tmp_path / "run") == before
    assert "training has ended: no lower dev score for 1 epochs (train.patience)" in caplog.text


SENTENCES = ["the cat sat", "the dog sat", "a cat ran", "a dog ran"]


@pytest.fixture
def lm_config(tmp_path):
    for name, lines in (("text", SENTENCES * 5), ("dev", ["the cat ran", "a dog sat"])):
        (tmp_path / f"{name}.txt").write_text("\n".join(lines) + "\n")
    text = {"text": str(tmp_path / "text.txt"), "dev_text": str(tmp_path / "dev.txt"), "unit": "words"}
    model = {"name": "recurrent", "embedding_size": 8, "hidden_size": 16}
    values = {"text": text, "model": model, "train": {"max_epochs": 6, "learning_rate": 0.01, "batch_tokens": 20}}
    return lm_configuration.from_dict(values)


def test_a_stopped_language_model_has_a_model_folder_and_can_have_more_epochs(lm_config, tmp_path, monkeypatch, caplog):
    run, whole = tmp_path / "run", tmp_path / "whole"
    save = recurrent_lm._State.save

    def stop(state):
        save(state)
        if state.epoch == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(recurrent_lm._State, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            train_lm(lm_config, run)
    kept = torch.load(run / "checkpoints" / "last.pt", weights_only=True)["history"]
    dev = [line.split() for line in (tmp_path / "dev.txt").read_text().splitlines()]
    best = min(line["dev_perplexity"] for line in kept)
    assert perplexity(load_lm(run).score(dev)) == pytest.approx(best, abs=1e-4)
    assert "training has not ended" in (run / "model" / "README.md").read_text()
    train_lm(lm_config, run)
    assert "training has not ended" not in (run / "model" / "README.md").read_text()
    longer = replace(lm_config, train=replace(lm_config.train, max_epochs=8))
    with caplog.at_level("INFO"):
        train_lm(longer, run)
    assert "epochs 7 to 8: the learning rate goes on at 0.0015, where it was" in caplog.text  # cos² (3/4 · π/2) · 0.01
    assert [line["epoch"] for line in json.loads((run / "history.json").read_text())["epochs"]] == [*range(1, 9)]
    caplog.clear()
    with caplog.at_level("INFO"):
        train_lm(longer, run)
        train_lm(longer, whole)
    assert "learning rate" not in caplog.text
    with pytest.raises(ConfigError, match=r"of 8 epochs: train.max_epochs can be raised, but 6 are fewer"):
        train_lm(lm_config, run)


@pytest.mark.parametrize(
    ("recipe", "setting"),
    [
        ("mini/blstm_ctc", "model.foo=2"),
        ("mini/blstm_ctc", "data.scoring=arpabet99"),
        ("timit/blstm_ctc", "data.corpora.timit=nowhere"),
        ("timit/gmm_hmm", "model.foo=2"),
        ("timit/hmm_mono", "model.foo=2"),
        ("timit/hmm_mono", "data.corpora.timit=nowhere"),
        ("mini/lm/phone_trigram", "text.corpora={timit: nowhere}"),
        ("mini/lm/phone_trigram", "text.text=nowhere.txt"),
    ],
)
def test_a_failed_start_leaves_nothing(cli, mini_tree, tmp_path, recipe, setting):
    verb = ("lm", "train") if "/lm/" in recipe else ("train",)
    section = "text" if "/lm/" in recipe else "data"
    places = [f"{section}.manifests={tmp_path / 'data'}", f"{section}.corpora.{recipe.partition('/')[0]}={mini_tree}"]
    run = tmp_path / "runs" / "some" / "run"
    code, _, err = cli(*verb, f"recipes/{recipe}.yaml", *places, setting, "--run", run)
    assert code == 2, err
    assert not (tmp_path / "runs").exists()


def test_a_start_that_fails_leaves_what_was_there(cli, mini_tree, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "notes.txt").write_text("mine")
    code, _, _ = cli("train", "recipes/mini/blstm_ctc.yaml", "model.foo=2", "--run", run)
    assert code == 2
    assert [path.name for path in run.iterdir()] == ["notes.txt"]


def test_a_recording_that_cannot_be_read_holds_no_resampler_in_memory(tmp_path, rng):
    """It was held by a circle through the thread's result; at the end of `asr train` a list of leaks was printed."""
    soundfile.write(tmp_path / "whole.wav", 0.1 * rng.standard_normal(8000), 8000, "PCM_16")
    (tmp_path / "cut.wav").write_bytes((tmp_path / "whole.wav").read_bytes()[:9000])
    (tmp_path / "utterances.tsv").write_text(
        "path\tspeaker\tsplit\twords\ncut.wav\ta\ttrain\tone\nwhole.wav\tb\tdev\ttwo\n"
    )
    splits.prepare({"table": str(tmp_path)}, tmp_path / "data")
    cuts = splits.load_split(tmp_path / "data", ["table"], "train")
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(CorpusError, match=r"cut\.wav: cut short"):
            cache_features(cuts, FeatureConfig(), tmp_path / "features", "train")
        left = [each for each in gc.get_objects() if type(each) is audio.Converter]
    finally:
        gc.enable()
    assert left == []
