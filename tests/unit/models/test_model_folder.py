"""Model folders: what is saved comes back, and each way to break a folder is one line."""

import json
import pickle
import re
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from asr import encoders
from asr.core import files
from asr.core.config import TrainConfig, from_dict
from asr.core.errors import AsrError, ConfigError, ModelError, OutputError
from asr.core.settings import section
from asr.ctc import ctc_loss
from asr.lm.estimation import estimate
from asr.models import model_folder
from asr.models.base import BLANK
from asr.models.calibration import Calibration
from asr.models.ctc import CTCModel
from asr.speech import phones
from asr.speech.features import FeatureExtractor
from asr.speech.normaliser import Normaliser

TOKENS = (BLANK, *phones.PhoneSet.load("timit61").labels)


@pytest.fixture(scope="module")
def model():
    config = from_dict(
        {
            "data": {
                "corpora": {"timit": "/secret/TIMIT", "mini": None},
                "labels": "timit61",
                "scoring": "timit39",
                "exclude": "/secret/misread.txt",
            },
            "features": {"num_mel_bins": 13, "delta_order": 1, "cmvn": "global"},
            "model": {"name": "blstm", "num_layers": 2, "hidden_size": 24, "stack": 2},
        }
    )
    torch.manual_seed(1)
    size = FeatureExtractor(config.features).num_features
    encoder = encoders.build(config.model, size, len(TOKENS)).eval()
    encoder.output.weight.data *= 10  # an untrained network says much the same of everything
    rng = np.random.default_rng(1)
    statistics = rng.normal(size=size).astype(np.float32), rng.uniform(1, 2, size).astype(np.float32)
    normaliser = Normaliser(config.features, *statistics)
    return CTCModel(config, TOKENS, normaliser, Calibration(), encoder)


@pytest.fixture
def folder(model, tmp_path):
    path = tmp_path / "model"
    model_folder.save(path, model, "# A card\n")
    return path


def posteriors(model):
    rng = np.random.default_rng(2)
    size = FeatureExtractor(model.config.features).num_features
    speech = [rng.normal(size=(n, size)).astype(np.float32) for n in (30, 17)]
    return model.emissions([model.normaliser(each) for each in speech])


def test_what_is_saved_comes_back(model, folder):
    assert {path.name for path in folder.iterdir()} == {"config.yaml", "model.safetensors", "tokens.txt", "README.md"}
    loaded = model_folder.load(folder)
    assert loaded.tokens == TOKENS
    assert not loaded.encoder.training
    assert loaded.frame_shift == pytest.approx(0.02)
    np.testing.assert_array_equal(loaded.normaliser.mean, model.normaliser.mean)
    np.testing.assert_array_equal(loaded.normaliser.std, model.normaliser.std)
    ours, theirs = posteriors(loaded), posteriors(model)
    assert [len(rows) for rows in ours] == [15, 9]
    for left, right in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(left, right)
        np.testing.assert_allclose(np.exp(left).sum(axis=1), 1, atol=1e-5)
        assert left.std() > 0.5


def test_the_folder_does_not_say_where_a_corpus_lies(model, folder):
    assert not any(b"secret" in path.read_bytes() for path in folder.iterdir())
    loaded = model_folder.load(folder).config
    assert (loaded.data.corpora, loaded.data.exclude) == ({"timit": None, "mini": None}, "misread.txt")
    assert replace(loaded, data=model.config.data) == model.config


@pytest.fixture
def crf(model):
    """The model as if trained with CTC-CRF."""
    named = {"name": "ctc_crf", "lm": "/secret/phone_bigram"}
    config = replace(model.config, train=section("train", TrainConfig, {"criterion": named}))
    labels = TOKENS[1:]
    lm = estimate([labels, labels[::-1]], "phones", 2, "witten_bell", labels)
    return replace(model, config=config, lm=lm)


def test_an_n_gram_belongs_to_the_model(crf, tmp_path):
    model_folder.save(tmp_path / "model", crf, "# A card\n")
    model_folder.copy(tmp_path / "model", tmp_path / "copy")
    model_folder.export(tmp_path / "copy", tmp_path / "half")
    assert not any(b"secret" in path.read_bytes() for path in (tmp_path / "half").rglob("*.*"))
    emissions = posteriors(crf)
    expected = crf.log_probs(emissions[0])
    assert np.abs(np.exp(expected) - np.exp(emissions[0])).max() > 0.1
    for folder in ("model", "copy", "half"):
        for light in (False, True):
            loaded = model_folder.load(tmp_path / folder, light=light)
            np.testing.assert_array_equal(loaded.log_probs(emissions[0]), expected)
            best, searched = loaded.decode(emissions[:1], 1)[0], loaded.decode(emissions[:1], 8)[0]
            assert loaded.decoders(8) == {"best path": 1, "beam 8 + phone_bigram": 8}
            for found in (best, searched):  # confidences are posteriors, whatever was searched
                rows = expected[list(found.timesteps), list(found.tokens)]
                np.testing.assert_allclose(found.confidences, np.exp(rows), rtol=1e-6)
            assert searched.score > naive_score(crf, emissions[0], best.tokens) - 1e-4


def naive_score(model, emissions, tokens):
    """The score of a labelling: its paths, and its n-gram."""
    spelt = ctc_loss(
        torch.tensor(emissions)[:, None], torch.tensor([tokens]), [len(emissions)], [len(tokens)], 0, "sum"
    )
    return model.lm.totals([[TOKENS[token] for token in tokens]])[0] - spelt.item()


def test_a_folder_without_its_n_gram_is_one_line(crf, tmp_path):
    model_folder.save(tmp_path / "model", crf, "# A card\n")
    lm = tmp_path / "model" / "phone_bigram"
    about = json.loads((lm / "lm.json").read_text())
    (lm / "lm.json").write_text(json.dumps(about | {"tokens": [*about["tokens"][:-1], "XX"]}))
    with pytest.raises(AsrError, match="does not know"):
        model_folder.load(tmp_path / "model")
    shutil.rmtree(lm)
    with pytest.raises(ModelError, match="lacks phone_bigram, its n-gram"):
        model_folder.load(tmp_path / "model")


def test_half_precision_halves_the_file_and_hardly_moves_the_posteriors(model, folder, tmp_path):
    half = tmp_path / "half"
    (folder / "metrics.json").write_text('{"results": []}\n')
    model_folder.export(folder, half)
    full_size, half_size = ((path / "model.safetensors").stat().st_size for path in (folder, half))
    assert half_size < 0.6 * full_size
    weights = load_file(half / "model.safetensors")
    assert {str(value.dtype) for name, value in weights.items() if name.startswith("encoder.")} == {"float16"}
    loaded = model_folder.load(half)
    assert next(loaded.encoder.parameters()).dtype == torch.float32
    np.testing.assert_array_equal(loaded.normaliser.mean, model.normaliser.mean)
    ours, theirs = np.concatenate(posteriors(loaded)), np.concatenate(posteriors(model))
    assert 0 < np.abs(np.exp(ours) - np.exp(theirs)).max() < 0.01
    assert (half / "README.md").read_text() == "# A card\n"
    assert (half / "metrics.json").read_text() == '{"results": []}\n'


def test_8_bits_round_each_row_of_a_matrix_to_its_scale(model, folder, tmp_path):
    eighth = tmp_path / "eighth"
    model_folder.export(folder, eighth, int8=True)
    stored = load_file(eighth / "model.safetensors")
    matrices = [name for name, value in stored.items() if value.dtype == np.int8]
    assert {name.removeprefix("encoder.") for name in matrices} == {
        name for name, value in model.encoder.named_parameters() if value.ndim > 1
    }
    full, half = load_file(folder / "model.safetensors"), stored["encoder.output.bias"]
    assert half.dtype == np.float16
    loaded = model_folder.load(eighth)
    for name, value in loaded.tensors().items():
        rows = full[name].reshape(len(full[name]), -1)
        steps = np.abs(rows).max(axis=1) / 127 if name in matrices else np.abs(rows).max(axis=1) / 1024
        assert (np.abs(value.reshape(rows.shape) - rows) <= 0.501 * steps[:, None]).all(), name
    ours, theirs = np.concatenate(posteriors(loaded)), np.concatenate(posteriors(model))
    assert 0 < np.abs(np.exp(ours) - np.exp(theirs)).max() < 0.05
    again = tmp_path / "again"
    model_folder.export(eighth, again, int8=True)
    twice = load_file(again / "model.safetensors")
    for name in matrices:  # rounded numbers stay where they are
        np.testing.assert_array_equal(twice[name], stored[name])


def test_a_row_of_zeros_in_8_bits_is_one_of_zeros(model, folder, tmp_path):
    change_weights(folder, lambda values: values["encoder.output.weight"].fill(0))
    model_folder.export(folder, tmp_path / "eighth", int8=True)
    assert not model_folder.load(tmp_path / "eighth").encoder.output.weight.any()


def test_a_run_folder_a_model_folder_and_a_shipped_name_are_found(folder, monkeypatch):
    assert model_folder.find(folder) == folder
    assert model_folder.find(folder.parent) == folder
    monkeypatch.setattr(model_folder, "PRETRAINED", folder.parent)
    assert model_folder.find("model") == folder
    with pytest.raises(ModelError, match=r"no model folder at nothing: .* a shipped model's name \(model\)"):
        model_folder.find("nothing")


@pytest.mark.parametrize("mode", ["utterance", "speaker", "none"])
def test_modes_without_statistics_need_none(model, tmp_path, mode):
    config = replace(model.config, features=replace(model.config.features, cmvn=mode))
    model_folder.save(tmp_path, replace(model, config=config, normaliser=Normaliser(config.features)), "")
    assert model_folder.load(tmp_path).normaliser.config.cmvn == mode
    assert all(name.startswith("encoder.") for name in load_file(tmp_path / "model.safetensors"))


def test_a_failed_save_leaves_the_old_model(model, folder, monkeypatch):
    before = (folder / "model.safetensors").read_bytes()

    def fail(weights, path, notes):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "save_file", fail)
    with pytest.raises(OutputError, match="No space left"):
        model_folder.save(folder, model, "")
    assert (folder / "model.safetensors").read_bytes() == before
    monkeypatch.undo()
    posteriors(model_folder.load(folder))


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


class Bomb:
    """Would create a file if it were unpickled."""

    def __reduce__(self):
        return (open, ("exploded", "w"))


def break_folder(folder, how):
    weights, tokens, config = (folder / name for name in ("model.safetensors", "tokens.txt", "config.yaml"))
    match how:
        case "no tokens":
            tokens.unlink()
        case "no weights":
            weights.unlink()
        case "no config":
            config.unlink()
        case "cut weights":
            weights.write_bytes(weights.read_bytes()[:-1000])
        case "empty weights":
            weights.write_bytes(b"")
        case "pickled weights":
            weights.write_bytes(pickle.dumps(Bomb()))
        case "another size":
            config.write_text(config.read_text().replace("hidden_size: 24", "hidden_size: 25"))
        case "other features":
            config.write_text(config.read_text().replace("delta_order: 1", "delta_order: 2"))
        case "fewer tokens":
            tokens.write_text("".join(tokens.read_text().splitlines(keepends=True)[:-2]))
        case "no blank":
            tokens.write_text(tokens.read_text().removeprefix(f"{BLANK}\n"))
        case "binary tokens":
            tokens.write_bytes(b"\xff\xfe\n")
        case "a weight lost":
            change_weights(folder, lambda values: values.pop("encoder.output.bias"))
        case "no mean":
            change_weights(folder, lambda values: values.pop("cmvn.mean"))
        case "scales of another matrix":
            scales = np.ones((3, 2, 2), np.float32)
            change_weights(folder, lambda values: values.update({"encoder.output.bias.scale": scales}))
        case "a NaN":
            change_weights(folder, lambda values: values["encoder.output.bias"].put(1, np.nan))
        case "no spread":
            change_weights(folder, lambda values: values["cmvn.std"].put(1, 0))
        case "a token twice":
            *others, before, _ = tokens.read_text().splitlines(keepends=True)
            tokens.write_text("".join([*others, before, before]))
        case "no statistics":
            change_weights(folder, lambda values: [values.pop(f"cmvn.{name}") for name in ("mean", "std")])
        case "short mean":
            change_weights(folder, lambda values: values.update({"cmvn.mean": values["cmvn.mean"][:5].copy()}))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no tokens", r"model lacks tokens.txt: copy the whole model folder"),
        ("no weights", r"model lacks model.safetensors: copy the whole model folder"),
        ("no config", r"no model folder at .*model: give a run or model folder"),
        ("cut weights", r"model.safetensors is damaged .*: copy or make it again"),
        ("empty weights", r"model.safetensors is damaged"),
        ("pickled weights", r"model.safetensors is damaged"),
        ("another size", r"model.safetensors does not fit config.yaml and tokens.txt \(size mismatch"),
        ("other features", r"model.safetensors: cmvn.mean and cmvn.std are not what config.yaml asks for"),
        ("fewer tokens", r"model.safetensors does not fit config.yaml and tokens.txt \(size mismatch for output"),
        ("no blank", r"tokens.txt: the first line must be <blank>"),
        ("binary tokens", r"tokens.txt: the first line must be <blank>"),
        ("a weight lost", r"model.safetensors does not fit .*output.bias"),
        ("scales of another matrix", r"model.safetensors is damaged \(operands could not be broadcast"),
        ("a NaN", r"model.safetensors: encoder.output.bias holds NaN or infinity: take it from"),
        ("no spread", r"model.safetensors: cmvn.mean and cmvn.std are not what"),
        ("a token twice", r"tokens.txt: the first line must be <blank>, and no two alike"),
        ("no mean", r"model.safetensors: cmvn.mean and cmvn.std are not what config.yaml asks for"),
        ("no statistics", r"model.safetensors: cmvn.mean and cmvn.std are not what config.yaml asks for"),
        ("short mean", r"model.safetensors: cmvn.mean and cmvn.std are not what config.yaml asks for"),
    ],
)
def test_a_broken_folder_is_one_line(folder, how, message, monkeypatch):
    monkeypatch.chdir(folder.parent)
    break_folder(folder, how)
    with pytest.raises(ModelError, match=message) as caught:
        model_folder.load(folder)
    assert "\n" not in str(caught.value)
    assert not (folder.parent / "exploded").exists()


def test_a_config_that_is_not_yaml_is_one_line(folder):
    (folder / "config.yaml").write_text("data: [\n")
    with pytest.raises(ModelError, match=r"cannot read .*config.yaml: line 2"):
        model_folder.load(folder)


def test_every_shipped_model_loads_and_has_a_card():
    shipped = sorted(model_folder.PRETRAINED.glob("*/config.yaml"))
    for path in shipped:
        model = model_folder.load(path.parent.name)
        assert model.tokens[1:] == phones.PhoneSet.load(model.config.data.labels).labels
        assert "phone error rate" in (path.parent / "README.md").read_text(encoding="utf8")
        files = {each: each.stat().st_size for each in path.parent.rglob("*") if each.is_file()}
        ngrams = sum(size for each, size in files.items() if each.parent != path.parent)
        assert ngrams <= 1e6
        assert sum(files.values()) - ngrams <= (3e6 if path.parent.name.endswith("-small") else 12e6)
    if not shipped:
        pytest.skip("no model is shipped yet")


def test_export_of_a_broken_folder_writes_nothing(folder, tmp_path):
    break_folder(folder, "cut weights")
    with pytest.raises(AsrError):
        model_folder.export(folder, tmp_path / "half")
    assert not (tmp_path / "half").exists()


def test_a_folder_moved_elsewhere_says_the_same(folder, tmp_path, model):
    moved = shutil.copytree(folder, tmp_path / "elsewhere" / "renamed")
    shutil.rmtree(folder)
    np.testing.assert_array_equal(posteriors(model_folder.load(moved))[0], posteriors(model)[0])


def test_an_average_lies_between_two_networks(model, folder, tmp_path):
    change_weights(folder, lambda values: values["encoder.output.bias"].fill(2))
    other = tmp_path / "other"
    trained = replace(model, config=replace(model.config, model=model.config.model | {"dropout": 0.7}))
    model_folder.save(other, trained, "")
    change_weights(other, lambda values: values["encoder.output.bias"].fill(-2))
    (tmp_path / "mean").mkdir()
    (tmp_path / "mean" / "calibration.json").write_text("{}")
    model_folder.average(folder, other, 0.25, tmp_path / "mean")
    found, first = (model_folder.load(path).tensors() for path in (tmp_path / "mean", folder))
    assert (found.pop("encoder.output.bias") == 1).all()
    for name, value in found.items():
        np.testing.assert_array_equal(value, first[name].astype(np.float16).astype(np.float32))
    assert not (tmp_path / "mean" / "calibration.json").exists()
    assert "share of 0.25, other's" in (tmp_path / "mean" / "README.md").read_text()


def test_shipped_models_and_sources_are_not_written_over(folder, tmp_path):
    shipped = model_folder.PRETRAINED / "en-us-phones"
    for output in (folder, shipped):
        with pytest.raises(ModelError, match="stays as it is: name a"):
            model_folder.average(folder, folder, 0.5, output)
    with pytest.raises(ModelError, match="stays as it is: name a folder for a copy"):
        model_folder.export(folder, shipped)
    run = tmp_path / "run"
    shutil.copytree(folder, run / "model")
    for write in (partial(model_folder.export, folder), partial(model_folder.average, folder, shipped, 0.5)):
        with pytest.raises(ModelError, match=r"is the folder of a run, whose model is in .*model: name another folder"):
            write(run)
    with pytest.raises(ConfigError, match=r"the share is 1\.5"):
        model_folder.average(folder, folder, 1.5, tmp_path / "mean")


def test_no_file_of_a_shipped_model_names_a_place_on_a_machine():
    files = [path for path in model_folder.PRETRAINED.rglob("*") if path.suffix in (".json", ".yaml")]
    assert len(files) > 9
    for path in files:
        assert not re.search(r"[\"' ]/\w+/", path.read_text(encoding="utf8")), path


@pytest.mark.parametrize("change", ["tokens", "shape", "statistics"])
def test_networks_of_other_kinds_have_no_average(change, model, folder, tmp_path):
    if change == "tokens":
        other = replace(model, tokens=(BLANK, *TOKENS[:0:-1]))
    elif change == "statistics":
        mean, std = model.normaliser.mean + 1, model.normaliser.std
        other = replace(model, normaliser=Normaliser(model.config.features, mean, std))
    else:
        config = replace(model.config, model=model.config.model | {"hidden_size": 16})
        size = FeatureExtractor(config.features).num_features
        other = replace(model, config=config, encoder=encoders.build(config.model, size, len(TOKENS)))
    model_folder.save(tmp_path / "other", other, "")
    with pytest.raises(ModelError, match="have other labels, features or shapes"):
        model_folder.average(folder, tmp_path / "other", 0.5, tmp_path / "mean")
    assert not (tmp_path / "mean").exists()
