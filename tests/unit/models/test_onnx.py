"""The network in onnxruntime, held against torch; graphs that were exported, and damaged ones."""

import re
import tomllib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile
import torch

from asr.core import files
from asr.core.config import from_dict
from asr.core.errors import ConfigError, ModelError
from asr.encoders import build
from asr.models import model_folder, networks, onnx_messages
from asr.models.calibration import Calibration
from asr.models.ctc import CTCModel
from asr.models.onnx import OnnxModel, graph_of
from asr.recognition.recogniser import Recogniser
from asr.speech.features import FeatureExtractor
from asr.speech.normaliser import Normaliser
from tests.conftest import ROOT

TOKENS = ("<blank>", "AA", "B", "T")


def model(features=None, **options):
    network = {"name": "blstm", "num_layers": 2, "hidden_size": 6} | options
    config = from_dict(
        {
            "data": {"corpora": {"mini": None}},
            "features": features or {"num_mel_bins": 10, "use_energy": False, "delta_order": 0},
            "model": network,
        }
    )
    torch.manual_seed(1)
    encoder = build(network, FeatureExtractor(config.features).num_features, len(TOKENS)).eval()
    for weights in encoder.parameters():
        torch.nn.init.normal_(weights, std=0.4)
    return CTCModel(config, TOKENS, Normaliser(config.features), Calibration(), encoder)


def utterances(rng, *lengths):
    return [rng.standard_normal((length, 10)).astype(np.float32) for length in lengths]


VIEWS = [{}, {"bidirectional": False}, {"chunk": 3, "lookahead": 2}, {"chunk": 2}]  # of the future


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("channels", [0, 3])
@pytest.mark.parametrize("stack", [1, 3, 4])
@pytest.mark.parametrize("num_layers", [1, 3])
def test_as_torch_computes_it(num_layers, stack, channels, view, rng, tmp_path):
    theirs = model(num_layers=num_layers, stack=stack, channels=channels, **view)
    model_folder.save(tmp_path, theirs, "card")
    ours = model_folder.load(tmp_path, light=True)
    assert isinstance(ours, OnnxModel)
    assert ours.num_parameters == theirs.num_parameters
    assert ours.frame_shift == theirs.frame_shift
    for lengths in ([1], [40], [12, 31, 7, 1]):
        features = utterances(rng, *lengths)
        for one, other in zip(ours.emissions(features), theirs.emissions(features), strict=True):
            np.testing.assert_allclose(one, other, atol=2e-5)
            np.testing.assert_allclose(np.exp(one).sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("view", VIEWS[:3])
@pytest.mark.parametrize(("stack", "channels"), [(1, 0), (3, 0), (1, 3), (3, 3)])
def test_what_fills_a_batch_after_the_lengths_changes_no_bit(stack, channels, view, int8, rng, tmp_path):
    """The shorter utterance's last step of three frames holds one frame of it and two of padding."""
    theirs = model(stack=stack, channels=channels, **view)
    model_folder.save(tmp_path / "model", theirs, "card")
    model_folder.export(tmp_path / "model", tmp_path / "out", graphs=[model_folder.GRAPH], int8=int8)
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "model.onnx"))
    short, long = utterances(rng, 22, 31)

    def heard(filling):
        batch = np.full((2, 40, 10), filling, np.float32)
        batch[0, :22], batch[1, :31] = short, long
        log_probs, steps = session.run(None, {"features": batch, "lengths": np.array([22, 31])})
        assert steps.tolist() == [-(-22 // stack), -(-31 // stack)]
        return [log_probs[:count, i] for i, count in enumerate(steps)]

    zeros = heard(0.0)
    for filling in (-23.0, 7.0, 1e30, np.inf, np.nan):
        for one, other in zip(heard(filling), zeros, strict=True):
            np.testing.assert_array_equal(one, other)
    if not int8:
        for one, other in zip(zeros, theirs.emissions([short, long]), strict=True):
            np.testing.assert_allclose(one, other, atol=2e-3)  # the folder's weights are float16


def test_an_exported_graph_is_the_same_and_one_in_8_bits_nearly(rng, tmp_path):
    model_folder.save(tmp_path / "model", model(hidden_size=32, stack=2), "card")
    features = utterances(rng, 50, 20)
    for int8, tolerance in ((False, 0.0), (True, 0.5)):
        folder = tmp_path / f"int8-{int8}"
        model_folder.export(tmp_path / "model", folder)  # whose weights are float16
        expected = model_folder.load(folder, light=True).emissions(features)
        model_folder.export(tmp_path / "model", folder, graphs=[model_folder.GRAPH], int8=int8)
        found = model_folder.load(folder, light=True).emissions(features)
        worst = max(np.abs(one - other).max() for one, other in zip(found, expected, strict=True))
        assert worst <= tolerance
    assert (tmp_path / "int8-True" / "model.onnx").stat().st_size < (
        tmp_path / "int8-False" / "model.onnx"
    ).stat().st_size


@pytest.mark.parametrize("stateful", [True, False])
@pytest.mark.parametrize("channels", [0, 3])
def test_a_graph_is_what_the_package_onnx_takes_for_one(channels, stateful):
    made = model(stack=3, channels=channels, bidirectional=not stateful)
    graph, _ = graph_of(made.config, len(TOKENS), made.tensors(), stateful)
    read = onnx.load_from_string(graph.model(has_weights=True) + onnx_messages.note("key", "väl" * 100))
    onnx.checker.check_model(read, full_check=True)
    assert {entry.key: entry.value for entry in read.metadata_props} == {"key": "väl" * 100}
    weights = {each.name: onnx.numpy_helper.to_array(each) for each in read.graph.initializer}
    assert all((weights[name] == value).all() for name, value in graph.weights.items())
    assert (weights["integers_0_-1_30"] == [0, -1, 30]).all() if channels == 0 else "integers_0_-1_30" not in weights
    (lstm, *_) = (node for node in read.graph.node if node.op_type == "LSTM")
    attributes = {each.name: onnx.helper.get_attribute_value(each) for each in lstm.attribute}
    assert attributes == {"direction": b"forward" if stateful else b"bidirectional", "hidden_size": 6}
    assert [each.name for each in read.graph.input][2:] == (["h_0", "c_0", "h_1", "c_1"] if stateful else [])


def test_what_has_no_graph(tmp_path):
    plain = model()
    config = from_dict(
        {"data": {"corpora": {"mini": None}}, "model": {"name": "tdnn"}, "features": {"num_mel_bins": 10}}
    )
    encoder = build(config.model, 33, len(TOKENS)).eval()
    other = CTCModel(config, TOKENS, plain.normaliser, plain.calibration, encoder)
    model_folder.save(tmp_path, other, "card")
    assert type(model_folder.load(tmp_path, light=True)) is CTCModel
    with pytest.raises(ConfigError, match="tdnn has no ONNX graph"):
        model_folder.export(tmp_path, tmp_path / "out", graphs=[model_folder.GRAPH])


def test_damaged_graphs_and_weights(tmp_path):
    model_folder.save(tmp_path / "model", model(), "card")
    model_folder.export(tmp_path / "model", tmp_path / "out", graphs=[model_folder.GRAPH])
    graph = (tmp_path / "out" / "model.onnx").read_bytes()
    for damaged in (b"", b"nonsense", graph[: len(graph) // 2]):
        (tmp_path / "out" / "model.onnx").write_bytes(damaged)
        with pytest.raises(ModelError, match=r"model\.onnx is damaged .*export it again"):
            model_folder.load(tmp_path / "out", light=True)
    (tmp_path / "out" / "model.onnx").write_bytes(graph)
    model_folder.save(tmp_path / "out", model(), "card")  # trained anew: other weights
    with pytest.raises(ModelError, match="made of other weights than lie beside it"):
        model_folder.load(tmp_path / "out", light=True)
    tensors, _ = files.read_tensors(tmp_path / "model" / "model.safetensors")
    names = ("encoder.output.bias", "encoder.forward_layers.1.weight_ih_l0")
    for name in names:
        for changed in (tensors | {name: tensors[name][:-1]}, {k: v for k, v in tensors.items() if k != name}):
            files.write_tensors(tmp_path / "model" / "model.safetensors", changed)
            with pytest.raises(ModelError, match=r"does not fit config\.yaml"):
                model_folder.load(tmp_path / "model", light=True)


def test_a_recogniser_without_torch(python):
    done = python(
        "import sys, numpy as np\n"
        "from asr import Recogniser\n"
        "said = Recogniser.from_pretrained().transcribe(np.random.default_rng(0).normal(0, 0.1, 32000), 16000)\n"
        "print(said.duration, *(name for name in ('torch', 'lhotse', 'pytorch_lightning') if name in sys.modules))"
    )
    assert done.stdout.split() == ["2.0"], done.stderr


LIGHT = """
import importlib.abc, sys
class Lacking(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {lacking}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Lacking())
from asr.cli.app import main
main()
"""


@pytest.fixture
def noise(tmp_path, rng):
    soundfile.write(tmp_path / "noise.wav", 0.1 * rng.standard_normal(32000), 16000)
    return tmp_path / "noise.wav"


@pytest.fixture
def light(python):
    """Run `asr` as an install without the extras does."""
    train = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["train"]
    names = {re.split("[>=<]", each)[0].replace("-", "_") for each in train}
    others = {"scikit_learn": "sklearn", "pillow": "PIL"}
    code = LIGHT.format(lacking={others.get(name, name) for name in names})
    return lambda *arguments: python(code, *arguments)


def test_a_light_install_recognises_and_aligns(light, noise):
    for verb in (["transcribe", "--format", "json"], ["align", "--text", "hello", "--format", "ctm"]):
        done = light(*verb, noise)
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_a_light_install_counts_ngrams(light, tmp_path):
    text, recipe, lm = tmp_path / "text.txt", tmp_path / "lm.yaml", tmp_path / "run"
    text.write_text("a b c\nb c a\n" * 30)
    recipe.write_text(f"text: {{text: {text}, unit: words}}\nmodel: {{name: ngram}}\n")
    for verb in (
        ["train", recipe, "--run", lm],
        ["score", lm, text],
        ["generate", lm],
        ["export", lm, tmp_path / "lm.arpa"],
    ):
        done = light("lm", *verb)
        assert done.returncode == 0, done.stderr
    assert light("lm", "overlap", text, text, "--order", 3).returncode == 1  # they share something


@pytest.mark.parametrize("verb", [["train", "recipes/mini/blstm_ctc.yaml"], ["evaluate", "en-us-phones"]])
def test_a_light_install_names_the_extra(light, verb):
    done = light(*verb)
    assert done.returncode == 2
    assert re.fullmatch(r'asr: no \w+ here: .* pip install -e "\.\[train\]"\n', done.stderr), done.stderr


def test_mfcc_models_need_no_scipy(light, noise, tmp_path):
    model_folder.save(tmp_path / "model", model({"kind": "mfcc"}), "")
    done = light("transcribe", noise, "--model", tmp_path / "model")
    assert done.returncode == 0, done.stderr


def test_weights_of_8_bits_name_the_package_that_they_need(light, tmp_path):
    done = light("export", "en-us-phones-small", tmp_path / "out", "--onnx", "--int8")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "asr: --int8 needs the package onnx: pip install onnx\n"
    assert not (tmp_path / "out" / "model.onnx").exists()
    done = light("export", "en-us-phones-small", tmp_path / "out", "--onnx")
    assert (done.returncode, done.stderr) == (0, "")


def test_threads_share_a_recogniser(rng):
    recogniser = Recogniser.from_pretrained()
    noises = [rng.normal(0, 0.1, 8000 * (i + 1)).astype(np.float32) for i in range(6)]
    alone = [recogniser.transcribe(noise, 16000) for noise in noises]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda noise: recogniser.transcribe(noise, 16000), noises * 3)) == alone * 3


def test_it_says_what_torch_says(tmp_path, rng):
    noise = rng.normal(0, 0.1, 48000).astype(np.float32)
    light, heavy = Recogniser.from_pretrained(), Recogniser(model_folder.load("en-us-phones"))
    assert light.transcribe(noise, 16000).phones == heavy.transcribe(noise, 16000).phones
    np.testing.assert_allclose(
        light.emissions(noise),
        networks.outputs(heavy.model.encoder, [heavy.model.normaliser(heavy._extractor(noise))])[0],
        atol=1e-3,
    )
