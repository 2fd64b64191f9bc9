"""Each network in recipes/mini, narrowed: trained twice by one seed, saved, loaded, and given a recording."""

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


@pytest.fixture(scope="module")
def manifests(tmp_path_factory):
    return tmp_path_factory.mktemp("systems")


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")  # PyTorch Lightning's
@pytest.mark.parametrize("path", NETWORKS, ids=lambda path: path.stem)
def test_a_seed_gives_a_model_and_the_model_phones(path, mini_tree, manifests, tmp_path, cli):
    settings = ["data.max_frames=3000", "data.num_buckets=2", "train.max_epochs=1", *overrides(path)]
    recording = next(mini_tree.glob("TEST/*/*/*.WAV"))
    weights, transcripts = [], []
    for run in (tmp_path / "first", tmp_path / "again"):
        arguments = (path, f"data.manifests={manifests}", *settings, "--data", mini_tree, "--run", run)
        code, _, errors = cli("train", *arguments)
        assert code == 0, errors
        code, transcript, errors = cli("transcribe", recording, "--model", run / "model", "--format", "json")
        assert code == 0, errors
        weights.append(load_file(run / "model" / "model.safetensors"))
        transcripts.append(transcript)
    first, again = weights
    assert first.keys() == again.keys()
    assert all(value.equal(again[name]) for name, value in first.items())
    assert json.loads(transcripts[0])["phones"]
    assert transcripts[0] == transcripts[1]
