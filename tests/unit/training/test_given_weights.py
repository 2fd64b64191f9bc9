"""Training from given weights: layers that fit are taken; in the output layer, each label takes the row of its name."""

import pytest
import torch

from asr import encoders
from asr.core.config import from_dict
from asr.core.errors import AsrError
from asr.models import model_folder
from asr.models.base import BLANK
from asr.models.calibration import Calibration
from asr.models.ctc import CTCModel
from asr.speech.features import FeatureExtractor
from asr.speech.normaliser import Normaliser
from asr.training import given_weights

SIZES = {"name": "blstm", "num_layers": 2, "hidden_size": 8, "stack": 2}
FEATURES = {"num_mel_bins": 13, "delta_order": 0, "cmvn": "none"}


def network(tokens, seed, **sizes):
    config = from_dict({"data": {"corpora": {"mini": None}}, "features": FEATURES, "model": SIZES | sizes})
    torch.manual_seed(seed)
    return config, encoders.build(config.model, FeatureExtractor(config.features).num_features, len(tokens)).eval()


@pytest.fixture
def given(tmp_path):
    tokens = (BLANK, "AA", "B", "T")
    config, encoder = network(tokens, 1)
    model_folder.save(
        tmp_path / "given", CTCModel(config, tokens, Normaliser(config.features), Calibration(), encoder), "card"
    )
    return tmp_path / "given", encoder.state_dict()


def test_equal_labels_take_everything(given):
    folder, theirs = given
    _, encoder = network((BLANK, "AA", "B", "T"), 2)
    said = given_weights.take(encoder, (BLANK, "AA", "B", "T"), str(folder))
    assert all(weights.equal(theirs[name]) for name, weights in encoder.state_dict().items())
    assert said == f"{len(theirs)} of {len(theirs)} tensors are those of {folder}"


def test_other_labels_take_their_rows_and_new_ones_start_anew(given):
    folder, theirs = given
    tokens = (BLANK, "T", "ZH", "AA")
    _, encoder = network(tokens, 2)
    before = {name: weights.clone() for name, weights in encoder.state_dict().items()}
    said = given_weights.take(encoder, tokens, str(folder))
    for name, weights in encoder.state_dict().items():
        if not name.startswith("output."):
            assert weights.equal(theirs[name])
            continue
        assert weights[[0, 1, 3]].equal(theirs[name][[0, 3, 1]])
        assert weights[2].equal(before[name][2])
    assert said.endswith("it has no ZH")


def test_a_deeper_network_takes_the_layers_that_fit(given):
    folder, theirs = given
    tokens = (BLANK, "AA", "B", "T")
    _, encoder = network(tokens, 2, num_layers=3)
    said = given_weights.take(encoder, tokens, str(folder))
    own = encoder.state_dict()
    assert all(own[name].equal(weights) for name, weights in theirs.items())
    assert "new are forward_layers.2." in said


def test_classes_that_are_no_labels_keep_their_output_layer(given):
    folder, theirs = given
    _, encoder = network(range(7), 2)
    before = encoder.output.weight.detach().clone()
    given_weights.take(encoder, (), str(folder))
    assert encoder.output.weight.equal(before)
    assert encoder.state_dict()["forward_layers.1.weight_hh_l0"].equal(theirs["forward_layers.1.weight_hh_l0"])


def test_what_does_not_fit_is_one_line(given, tmp_path):
    folder, _ = given
    _, encoder = network((BLANK, "AA"), 2, hidden_size=12)
    with pytest.raises(AsrError, match=r"no layer of .* has the shape"):
        given_weights.take(encoder, (BLANK, "AA"), str(folder))
    with pytest.raises(AsrError, match="no model folder at"):
        given_weights.take(encoder, (BLANK, "AA"), str(tmp_path / "nowhere"))
