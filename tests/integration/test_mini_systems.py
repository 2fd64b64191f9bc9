"""Each network in recipes/mini, narrowed: trained, saved, loaded, and given a recording; one of each kind twice."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from asr.core import config as configuration

ROOT = Path(__file__).parents[2]
WIDTHS = ("hidden_size", "feedforward_size", "reservoir_size", "state_size", "decoder_size", "attention_size")


def overrides(path):
    """Return settings that narrow a recipe's network: what is to be trained is small, what is written is all there."""
    model = configuration.load(path).model
    narrow = {name: 32 for name in WIDTHS if name in model} | ({"density": 0.2} if "density" in model else {})
    return [f"model.{name}={value}" for name, value in narrow.items()]


NETWORKS = [
    path
    for path in sorted((ROOT / "recipes" / "mini").glob("*.yaml"))
    if configuration.load(path).model["name"] != "gmm_hmm" and configuration.load(path).train.alignments is None
]


def randomness(path):
    """Return what decides where a network's random numbers come from; cells and directions of one encoder share it."""
    config = configuration.load(path)
    return config.model["name"], config.train.initialiser


TWICE = list({randomness(path): path for path in NETWORKS}.values())


@pytest.fixture(scope="module")
def manifests(tmp_path_factory):
    return tmp_path_factory.mktemp("systems")


@pytest.fixture
def train(cli, mini_tree, manifests):
    """Train a network; return its weights and what it says of a recording."""

    def run(path, folder):
        settings = ["data.max_frames=3000", "data.num_buckets=2", "train.max_epochs=1", *overrides(path)]
        arguments = (path, f"data.manifests={manifests}", *settings, "--data", mini_tree, "--run", folder)
        code, _, errors = cli("train", *arguments)
        assert code == 0, errors
        recording = next(mini_tree.glob("TEST/*/*/*.WAV"))
        code, transcript, errors = cli("transcribe", recording, "--model", folder / "model", "--format", "json")
        assert code == 0, errors
        return load_file(folder / "model" / "model.safetensors"), transcript

    return run


@pytest.mark.parametrize("path", NETWORKS, ids=lambda path: path.stem)
def test_a_recipe_gives_a_model_and_the_model_phones(path, train, tmp_path):
    weights, transcript = train(path, tmp_path / "first")
    assert json.loads(transcript)["phones"]
    if path in TWICE:
        again, same = train(path, tmp_path / "again")
        assert weights.keys() == again.keys()
        assert all(value.equal(again[name]) for name, value in weights.items())
        assert transcript == same
