"""The graph from a waveform to log posteriors, held against the features and the network apart."""

import numpy as np
import onnx
import onnxruntime
import pytest

from asr.core.config import FeatureConfig
from asr.core.errors import ConfigError
from asr.models import model_folder, onnx_messages
from asr.models.onnx import OnnxModel, graph_of, write_graph
from asr.models.onnx_features import with_features
from asr.models.onnx_graph import Graph, Operators
from asr.recognition.recogniser import Recogniser
from asr.speech import audio
from asr.speech.features import FeatureExtractor
from asr.speech.normaliser import Normaliser
from tests.conftest import ROOT

SPEECH = ROOT / "docs" / "audio" / "glorious-scrap.flac"


def features_by_graph(config, normaliser, waveform):
    """Return the normalised features (T, F): through a network that copies them."""
    copy = Operators()
    copy.add("Identity", "features", output="copied")
    shape = [1, "frames", FeatureExtractor(config).num_features]
    outputs = [onnx_messages.value_info("copied", onnx_messages.FLOAT, shape)]
    session = with_features(Graph(copy.nodes, [], outputs, {}, {}), normaliser).session()
    return session.run(None, {"waveform": waveform})[0][0]


@pytest.mark.parametrize("cmvn", ["none", "global", "speaker", "utterance", "speech"])
@pytest.mark.parametrize(
    "kind",
    [
        {"kind": "fbank"},
        {"kind": "fbank", "num_mel_bins": 80, "use_energy": False, "delta_order": 0},
        {"kind": "mfcc", "num_mel_bins": 23, "delta_order": 1},
        {"kind": "mfcc", "num_mel_bins": 23, "use_energy": False},
    ],
    ids=lambda kind: "-".join(map(str, kind.values())),
)
def test_features_as_numpy_computes_them(kind, cmvn):
    config = FeatureConfig(**kind, cmvn=cmvn)
    extractor = FeatureExtractor(config)
    speech = audio.load(SPEECH)
    normaliser = Normaliser(config)
    if cmvn == "global":
        size = extractor.num_features
        normaliser = Normaliser(config, np.arange(size, dtype=np.float32), np.arange(1, size + 1, dtype=np.float32))
    for waveform in (speech, np.concatenate([speech[:20000], np.zeros(16000, np.float32)]), speech[:400], speech[:559]):
        expected = normaliser(extractor(waveform))
        found = features_by_graph(config, normaliser, waveform)
        assert found.shape == expected.shape
        # A frame alone, or features without spread, are divided by a floor of 1e-3.
        np.testing.assert_allclose(found, expected, atol=2e-3 if len(expected) > 1 else 0.2)


def test_silence_alone():
    config = FeatureConfig(use_energy=False, delta_order=0, cmvn="speech")
    assert (features_by_graph(config, Normaliser(config), np.zeros(4000, np.float32)) == 0).all()


def test_phones_of_the_exported_graph(tmp_path):
    model_folder.export("en-us-phones-small", tmp_path, [model_folder.WAVEFORM_GRAPH])
    onnx.checker.check_model(onnx.load(tmp_path / "waveform.onnx"), full_check=True)
    session = onnxruntime.InferenceSession(str(tmp_path / "waveform.onnx"))
    waveform = audio.load(SPEECH)
    log_probs, steps = session.run(None, {"waveform": waveform})
    recogniser = Recogniser.from_pretrained(tmp_path)
    np.testing.assert_allclose(log_probs[:, 0], recogniser.emissions(waveform), atol=1e-3)
    assert steps.tolist() == [len(log_probs)]
    model_folder.export("en-us-phones-small", tmp_path)
    assert not (tmp_path / "waveform.onnx").exists()


def test_weights_of_8_bits_leave_the_features_alone(tmp_path):
    model_folder.export("en-us-phones-small", tmp_path, [model_folder.GRAPH, model_folder.WAVEFORM_GRAPH], int8=True)
    waveform = audio.load(SPEECH)
    sessions = [onnxruntime.InferenceSession(str(tmp_path / name)) for name in ("waveform.onnx", "model.onnx")]
    model = model_folder.load(tmp_path, light=True)
    features = model.normaliser(FeatureExtractor(model.config.features)(waveform))
    network = {"features": features[None], "lengths": np.array([len(features)])}
    found, expected = sessions[0].run(None, {"waveform": waveform})[0], sessions[1].run(None, network)[0]
    assert np.abs(found - expected).max() < 0.5


def test_a_running_mean_has_no_graph():
    model = model_folder.load("en-us-phones-small", light=True)
    assert isinstance(model, OnnxModel)
    graph, _ = graph_of(model.config, len(model.tokens), model.tensors())
    with pytest.raises(ConfigError, match="running has no graph from the waveform"):
        with_features(graph, Normaliser(FeatureConfig(delta_order=0, cmvn="running")))


@pytest.mark.parametrize(("storage", "share"), [("float16", 0.65), ("int8", 0.4)])
def test_weights_of_fewer_bits_give_the_same_numbers(storage, share, tmp_path):
    model_folder.export("en-us-phones-small", tmp_path / "model", int8=storage == "int8")
    model = model_folder.load(tmp_path / "model", light=True)  # whose weights have these bits
    write_graph(tmp_path / "whole", model, from_waveform=True)
    write_graph(tmp_path / "short", model, from_waveform=True, storage=storage)
    whole, short = (onnxruntime.InferenceSession(str(tmp_path / name)) for name in ("whole", "short"))
    heard = {"waveform": audio.load(SPEECH)}
    np.testing.assert_allclose(short.run(None, heard)[0], whole.run(None, heard)[0], atol=1e-4)
    assert (tmp_path / "short").stat().st_size < share * (tmp_path / "whole").stat().st_size
