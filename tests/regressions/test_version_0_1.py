"""Model folders and run folders of version 0.1 (tests/golden/make_version_0_1.py) are read as they stand."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from asr import Recogniser
from asr.core import config as configuration
from asr.models import model_folder
from asr.models.run_folder import read_history
from asr.training import train

GOLDEN = Path(__file__).parents[1] / "golden"
WRITTEN = GOLDEN / "version_0_1"


@pytest.fixture(scope="module")
def sound():
    spec = importlib.util.spec_from_file_location("make_version_0_1", GOLDEN / "make_version_0_1.py")
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    return maker.sound()


@pytest.mark.parametrize("light", [False, True])
def test_a_model_folder_gives_the_same_posteriors(sound, light):
    recogniser = Recogniser(model_folder.load(WRITTEN / "model", light))
    np.testing.assert_allclose(recogniser.emissions(sound), np.load(WRITTEN / "emissions.npy"), atol=1e-4)
    assert len(recogniser.model.calibration.posteriors) > 2
    assert recogniser.model.calibration.boundary_offset != 0


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")  # PyTorch Lightning's
def test_a_run_that_was_killed_within_an_epoch_goes_on(mini_tree, tmp_path, monkeypatch):
    """It ends as version 0.1 would have ended, but for rounding, which differs from processor to processor."""
    run = shutil.copytree(WRITTEN / "run", tmp_path / "run")
    monkeypatch.chdir(tmp_path)  # the configuration says data.manifests: data
    config = configuration.load(run / "config.yaml", [f"data.corpora.timit={mini_tree}"])
    train(config, run)
    ours, theirs = (read_history(folder)["epochs"] for folder in (run, WRITTEN))
    assert [line["updates"] for line in ours] == [line["updates"] for line in theirs]
    assert ours[:10] == read_history(WRITTEN / "run")["epochs"]
    assert [line["loss"] for line in ours] == pytest.approx([line["loss"] for line in theirs], rel=1e-3)
    assert [line["dev_per"] for line in ours] == pytest.approx([line["dev_per"] for line in theirs], abs=1)
    expected = load_file(WRITTEN / "model" / "model.safetensors")
    found = load_file(run / "model" / "model.safetensors")
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-3, err_msg=name)
