"""A stream beside the whole recording: the same phones, whatever the pieces."""

import numpy as np
import pytest
import torch

from asr.core.config import from_dict
from asr.core.errors import ConfigError
from asr.encoders import build
from asr.lm.estimation import estimate
from asr.models import model_folder
from asr.models.base import BLANK
from asr.models.calibration import Calibration
from asr.models.ctc import CTCModel
from asr.recognition.stream import Stream
from asr.speech.features import FeatureExtractor
from asr.speech.normaliser import Normaliser

TOKENS = (BLANK, "AA", "B", "T")
CAUSAL, CHUNKS = {"bidirectional": False}, {"chunk": 3, "lookahead": 2}


@pytest.fixture
def folder(tmp_path):
    def make(stack=3, cmvn="global", features=(), lm=None, **options):
        values = {
            "data": {"corpora": {"mini": None}},
            "features": {"num_mel_bins": 10, "use_energy": False, "delta_order": 0, "cmvn": cmvn} | dict(features),
            "model": {"name": "blstm", "num_layers": 2, "hidden_size": 24, "stack": stack} | (options or CAUSAL),
        }
        if lm is not None:
            values["train"] = {"criterion": {"name": "ctc_crf", "lm": "phone_bigram"}}
        config = from_dict(values)
        torch.manual_seed(3)
        encoder = build(config.model, FeatureExtractor(config.features).num_features, len(TOKENS)).eval()
        for weights in encoder.parameters():
            torch.nn.init.normal_(weights, std=0.5)
        statistics = (np.full(10, 15, np.float32), np.full(10, 3, np.float32)) if cmvn == "global" else ()
        model = CTCModel(config, TOKENS, Normaliser(config.features, *statistics), Calibration(), encoder, lm=lm)
        model_folder.save(tmp_path / "model", model, "card")
        return tmp_path / "model"

    return make


def heard(stream, waveform, sizes):
    """Feed a stream pieces of the sizes given, over and over."""
    found, start = [], 0
    while start < len(waveform):
        for size in sizes:
            found += stream.accept(waveform[start : start + size])
            start += size
    return found + stream.finish()


@pytest.mark.parametrize("stack", [1, 3, 4])
@pytest.mark.parametrize("sizes", [[1600], [37, 0, 1, 2311], [40000]])
@pytest.mark.parametrize("view", [CAUSAL, CHUNKS, CHUNKS | {"channels": 2}, {"chunk": 2, "channels": 2}])
def test_a_stream_hears_what_the_whole_recording_gives(view, stack, sizes, folder, rng):
    path = folder(stack, **view)
    level = np.repeat(10 ** rng.uniform(-4, -0.5, 40), 800)
    waveform = (level * rng.standard_normal(len(level))).astype(np.float32)
    model = model_folder.load(path)
    features = model.normaliser(FeatureExtractor(model.config.features)(waveform))
    (whole,) = model.decode(model.emissions([features]), 1)
    found = heard(Stream(path, 16000), waveform, sizes)
    assert [spike.label for spike in found] == [TOKENS[token] for token in whole.tokens]
    assert len(found) >= 3
    times = [spike.time for spike in found]
    assert times == sorted(times)
    for spike, peak in zip(found, whole.timesteps, strict=True):
        assert spike.time <= peak * stack * 0.01 + 1e-9


@pytest.mark.parametrize("view", [CAUSAL, CHUNKS])
def test_with_an_n_gram_a_stream_finds_what_the_search_finds(view, folder, rng):
    lm = estimate([["AA", "B"], ["T", "AA", "B"], ["B", "AA", "T", "T"]], "phones", 2, "witten_bell", TOKENS[1:])
    path, waveform = folder(lm=lm, **view), (0.2 * rng.standard_normal(32000)).astype(np.float32)
    model = model_folder.load(path)
    features = model.normaliser(FeatureExtractor(model.config.features)(waveform))
    (whole,) = model.decode(model.emissions([features]), model.config.decode.beam_size)
    expected = [TOKENS[token] for token in whole.tokens]
    stream = Stream(path, 16000, lag=10.0)
    for sizes in ([1600], [37, 0, 1, 2311]):
        found = heard(stream, waveform, sizes)
        assert [spike.label for spike in found] == expected
        assert len(found) >= 3
        assert [spike.time for spike in found] == sorted({spike.time for spike in found})
    soon, told = Stream(path, 16000, lag=0.09), []
    for start in range(0, len(waveform), 160):
        told += [(spike, (start + 160) / 16000) for spike in soon.accept(waveform[start : start + 160])]
    assert soon.latency == pytest.approx(Stream(path, 16000, lag=0).latency + 0.09)
    at_once = Stream(path, 16000, lag=0)
    at_once.accept(waveform)
    assert soon.known == pytest.approx(at_once.known - 0.09)
    for spike, now in told:
        assert 0 < now - spike.time <= soon.latency + 0.0101 + model.frame_shift


@pytest.mark.parametrize("lag", [-1, np.inf, np.nan])
def test_a_lag_is_a_number_from_0(lag, folder):
    with pytest.raises(ConfigError, match=r"^lag must be 0 or more, and finite"):
        Stream(folder(), 16000, lag=lag)


def test_a_stream_hears_one_recording_after_the_other(folder, rng):
    waveform = (0.2 * rng.standard_normal(16000)).astype(np.float32)
    stream = Stream(folder(), 16000)
    first = heard(stream, waveform, [1600])
    assert heard(stream, waveform, [1600]) == first != []


@pytest.mark.parametrize(("view", "latency"), [(CAUSAL, 0.045), (CHUNKS | {"channels": 2}, 0.175)])
def test_a_phone_is_told_as_soon_as_its_step_is_heard(view, latency, folder, rng):
    stream, told = Stream(folder(**view), 16000), []
    waveform = (0.2 * rng.standard_normal(32000)).astype(np.float32)
    for start in range(0, len(waveform), 160):
        told += [(spike, (start + 160) / 16000) for spike in stream.accept(waveform[start : start + 160])]
    assert told
    for spike, now in told:
        assert 0 < now - spike.time <= stream.latency + 0.0101
    assert stream.latency == pytest.approx(latency)


def test_nothing_and_too_little(folder):
    stream = Stream(folder(), 16000)
    assert stream.accept(np.zeros(0)) == stream.accept(np.zeros(399)) == stream.finish() == []


@pytest.mark.parametrize(
    "options",
    [
        {"bidirectional": True},
        {"cmvn": "utterance"},
        CAUSAL | {"channels": 2},
        {"cmvn": "none", "features": {"delta_order": 1}},
    ],
)
def test_models_that_hear_the_future_are_refused(options, folder):
    with pytest.raises(ConfigError, match=r"has to hear a recording's end .*model\.chunk=5"):
        Stream(folder(**options), 16000)
