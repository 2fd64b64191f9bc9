"""Training from given weights: layers that fit are taken; each label takes the row of itself, or of what is like it."""

import pytest
import torch

from asr import encoders
from asr.core.config import TrainConfig, from_dict
from asr.core.errors import AsrError
from asr.models import model_folder
from asr.models.base import BLANK
from asr.models.calibration import Calibration
from asr.models.ctc import CTCModel
from asr.speech import phones
from asr.speech.features import FeatureExtractor
from asr.speech.normaliser import Normaliser
from asr.training import given_weights

SIZES = {"name": "blstm", "num_layers": 2, "hidden_size": 8, "stack": 2}
SET = "arpabet39"
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
    said = given_weights.take(encoder, (BLANK, "AA", "B", "T"), SET, str(folder))
    assert all(weights.equal(theirs[name]) for name, weights in encoder.state_dict().items())
    assert said == f"{len(theirs)} of {len(theirs)} tensors are those of given"


def taken_rows(theirs, encoder, tokens, rows):
    """Tell whether each class has the row of another in all tensors of the output layer."""
    own = encoder.state_dict()
    return all(
        own[name][i].equal(theirs[name][rows[token]])
        for name in ("output.weight", "output.bias")
        for i, token in enumerate(tokens)
        if token in rows
    )


@pytest.fixture
def of_all_phones(tmp_path):
    """A network of ARPAbet's 39 phones: its folder, tensors, and the row of each label."""
    tokens = (BLANK, *phones.PhoneSet.load(SET).labels)
    config, encoder = network(tokens, 1)
    model = CTCModel(config, tokens, Normaliser(config.features), Calibration(), encoder)
    model_folder.save(tmp_path / "all", model, "card")
    return tmp_path / "all", encoder.state_dict(), {token: i for i, token in enumerate(tokens)}


def german(tmp_path, *more):
    """Write a phone set, and return its path and its tokens."""
    labels = ("p͡f", "t", "tʃ", "aː˥˩", "ʏ", "x", "aɪ̯", *more)
    path = tmp_path / "german.tsv"
    path.write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
    return str(path), (BLANK, *phones.PhoneSet.load(str(path)).labels)


def test_labels_that_are_new_start_as_the_phones_that_are_alike(of_all_phones, tmp_path):
    pytest.importorskip("panphon")
    folder, theirs, rows = of_all_phones
    path, tokens = german(tmp_path, "#")
    _, encoder = network(tokens, 2)
    before = {name: weights.clone() for name, weights in encoder.state_dict().items()}
    said = given_weights.take(encoder, tokens, path, str(folder))
    alike = {"p͡f": "P", "t": "T", "tʃ": "CH", "aː˥˩": "AH", "ʏ": "UH", "x": "K", "aɪ̯": "AY", BLANK: BLANK}
    assert taken_rows(theirs, encoder, tokens, {token: rows[other] for token, other in alike.items()})
    assert encoder.output.weight[-1].equal(before["output.weight"][-1])
    assert "p͡f as P, t as T" in said
    assert said.endswith("it has nothing like #")


def test_without_panphon_only_equal_phones_are_alike(of_all_phones, tmp_path, monkeypatch):
    folder, theirs, rows = of_all_phones
    path, tokens = german(tmp_path)
    _, encoder = network(tokens, 2)
    before = {name: weights.clone() for name, weights in encoder.state_dict().items()}
    monkeypatch.setattr(given_weights.articulatory_features, "are_installed", lambda: False)
    said = given_weights.take(encoder, tokens, path, str(folder))
    equal = {BLANK: rows[BLANK], "t": rows["T"], "tʃ": rows["CH"]}
    assert taken_rows(theirs, encoder, tokens, equal)
    new = [i for i, token in enumerate(tokens) if token not in equal]
    assert encoder.output.weight[new].equal(before["output.weight"][new])
    assert "it has nothing like p͡f aː˥˩ ʏ x aɪ̯" in said
    assert "[pfer]" in said


@pytest.mark.parametrize("phone_set", phones.names())
def test_labels_of_one_set_are_like_themselves(phone_set):
    labels = phones.PhoneSet.load(phone_set).labels
    assert given_weights.like(labels, phone_set, phone_set) == {label: label for label in labels}


def test_characters_are_like_themselves_alone(of_all_phones, tmp_path):
    path = tmp_path / "characters.tsv"
    path.write_text("▁\nt\nö\n", encoding="utf-8")
    assert given_weights.like(["▁", "t", "ö"], str(path), SET) == {"▁": None, "t": "T", "ö": None}


def test_a_deeper_network_takes_the_layers_that_fit(given):
    folder, theirs = given
    tokens = (BLANK, "AA", "B", "T")
    _, encoder = network(tokens, 2, num_layers=3)
    said = given_weights.take(encoder, tokens, SET, str(folder))
    own = encoder.state_dict()
    assert all(own[name].equal(weights) for name, weights in theirs.items())
    assert "new are forward_layers.2." in said


def test_classes_that_are_no_labels_keep_their_output_layer(given):
    folder, theirs = given
    _, encoder = network(range(7), 2)
    before = encoder.output.weight.detach().clone()
    given_weights.take(encoder, (), SET, str(folder))
    assert encoder.output.weight.equal(before)
    assert encoder.state_dict()["forward_layers.1.weight_hh_l0"].equal(theirs["forward_layers.1.weight_hh_l0"])


def test_a_narrower_network_takes_the_cells_that_weigh_most(given):
    folder, theirs = given
    tokens = (BLANK, "AA", "B", "T")
    config, wide = network(tokens, 3, hidden_size=11)
    silent = torch.tensor([0, 4, 10])  # cells whose outputs count for nothing: without them it is the same function
    heard = torch.tensor([i for i in range(11) if i not in silent])
    with torch.no_grad():
        for name, weights in wide.state_dict().items():
            if name.endswith(("weight_hh_l0", "1.weight_ih_l0", "output.weight")):
                weights[:, [*silent, *(silent + 11)] if weights.shape[1] == 22 else silent] = 0
    model = CTCModel(config, tokens, Normaliser(config.features), Calibration(), wide)
    model_folder.save(folder.parent / "wide", model, "card")
    _, encoder = network(tokens, 2)
    said = given_weights.take(encoder, tokens, SET, str(folder.parent / "wide"))
    assert said == f"{len(theirs)} of {len(theirs)} tensors are those of wide; of its LSTM cells those that weigh most"
    rows = torch.cat([gate * 11 + heard for gate in range(4)])
    recurrent = wide.backward_layers[1].weight_hh_l0[rows][:, heard]
    assert encoder.backward_layers[1].weight_hh_l0.equal(recurrent)
    features, lengths = torch.randn(3, 20, 14), torch.tensor([20, 13, 7])
    with torch.no_grad():
        assert torch.allclose(encoder(features, lengths)[0], wide(features, lengths)[0], atol=1e-6)


@pytest.mark.parametrize("changed", [{}, {"num_layers": 3}, {"num_layers": 1}])
def test_a_wider_network_computes_what_the_given_one_did(given, changed):
    folder, _ = given
    tokens = (BLANK, "AA", "B", "T")
    config, theirs = network(tokens, 3, **changed)
    folder = folder.parent / "slim"
    model_folder.save(folder, CTCModel(config, tokens, Normaliser(config.features), Calibration(), theirs), "card")
    _, encoder = network(tokens, 2, hidden_size=13, **changed)
    before = encoder.forward_layers[0].weight_ih_l0[8:13].clone()
    said = given_weights.take(encoder, tokens, SET, str(folder))
    of = len(theirs.state_dict())
    assert said == f"{of} of {of} tensors are those of slim; LSTM cells are added"
    assert encoder.forward_layers[0].weight_ih_l0[8:13].equal(before)  # the new ones start as those of any network
    assert before.abs().min() > 0
    features, lengths = torch.randn(3, 20, 14), torch.tensor([20, 13, 7])
    with torch.no_grad():
        assert torch.allclose(encoder(features, lengths)[0], theirs(features, lengths)[0], atol=1e-6)
    encoder(features, lengths)[0].square().sum().backward()
    assert encoder.output.weight.grad[:, 8:13].abs().max() > 0  # so that they are heard after the first update


def test_a_wider_network_with_other_labels_features_and_depth_takes_what_fits(given):
    folder, theirs = given
    tokens = (BLANK, "T", "AA")
    _, encoder = network(tokens, 2, hidden_size=12, stack=3, num_layers=3)
    said = given_weights.take(encoder, tokens, SET, str(folder))
    new = said.split("; new are ")[1].split(", ")
    assert {name.split(".")[1] for name in new} == {"0", "2"}
    assert len(new) == 10
    assert encoder.output.weight[1, [*range(8), *range(12, 20)]].equal(theirs["output.weight"][3])
    assert not encoder.output.weight[1, 8:12].any()


def test_what_does_not_fit_is_one_line(given, tmp_path):
    folder, _ = given
    _, encoder = network((BLANK, "AA"), 2, hidden_size=12, bidirectional=False)
    with pytest.raises(AsrError, match=r"no layer of .* has the shape"):
        given_weights.take(encoder, (BLANK, "AA"), SET, str(folder))
    with pytest.raises(AsrError, match="no model folder at"):
        given_weights.take(encoder, (BLANK, "AA"), SET, str(tmp_path / "nowhere"))


def test_the_card_says_where_the_weights_come_from_and_these(given):
    folder, _ = given
    card = given_weights.origin(TrainConfig(init=str(folder), freeze=1), "30 of 30 tensors are those of given")
    first = "training began with the weights of given, which was trained on mini: 30 of 30 tensors are those of given"
    assert card == f"- {first}\n- layers frozen from the input up: 1\n"
    (folder / "README.md").write_text(f"# card\n\n{card}")
    folder.rename(folder.parent / "model")
    later = given_weights.origin(TrainConfig(init=str(folder.parent)), "…").splitlines()
    run = folder.parent.name
    assert later[0] == f"- training began with the weights of {run}, which was trained on mini: …"
    assert later[1] == f"- {first}".replace("training began", f"training of {run} began", 1)
    assert len(later) == 2
    (folder.parent / "model" / "README.md").write_text("\n".join(later))
    last = given_weights.origin(TrainConfig(init=str(folder.parent / "model")), "…").splitlines()
    assert last == [later[0], later[0].replace("training began", f"training of {run} began", 1), later[1]]


def test_frozen_layers_are_in_the_card_of_a_training_from_nothing():
    assert given_weights.origin(TrainConfig(freeze=2), "") == "- layers frozen from the input up: 2\n"
    assert given_weights.origin(TrainConfig(), "") == ""
