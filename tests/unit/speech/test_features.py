import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from torchaudio.compliance import kaldi

from asr.core.config import FeatureConfig
from asr.core.errors import AudioError
from asr.speech import audio
from asr.speech.features import (
    MEL_FLOOR,
    VERSION,
    FeatureExtractor,
    add_deltas,
    apply_cmvn,
    cmvn_statistics,
    fbank,
    mfcc,
    num_frames,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "features.npz"


def scaled(waveform, dtype=torch.float64):
    """A waveform as torchaudio takes it: (1, N), in the range of 16-bit samples.

    In float64 by default: in float32 torchaudio rounds quiet bins beside loud ones, by 0.003 in speech, 2 in a sweep.
    """
    return torch.from_numpy(np.asarray(waveform, np.float32)).to(dtype)[None] * 32768


def assert_equals_torchaudio(waveform, dtype=torch.float64, atol=1e-3):
    theirs = scaled(waveform, dtype)
    reference = kaldi.fbank(theirs, num_mel_bins=40, use_energy=True).numpy()
    np.testing.assert_allclose(fbank(waveform), reference, rtol=0, atol=atol)
    np.testing.assert_allclose(fbank(waveform, use_energy=False), reference[:, 1:], rtol=0, atol=atol)
    for use_energy in (True, False):
        reference = kaldi.mfcc(theirs, num_ceps=13, num_mel_bins=23, use_energy=use_energy).numpy()
        np.testing.assert_allclose(mfcc(waveform, use_energy=use_energy), reference, rtol=0, atol=atol)


@pytest.mark.parametrize("level", [1e-5, 1e-3, 0.2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noise_equals_torchaudio(rng, level, dtype):
    assert_equals_torchaudio(np.float32(level * rng.standard_normal(32000)), dtype)


@pytest.mark.parametrize("num_mel_bins", [4, 23, 80, 128])
def test_any_number_of_mel_bins_equals_torchaudio(rng, num_mel_bins):
    waveform = np.float32(0.1 * rng.standard_normal(8000))
    reference = kaldi.fbank(scaled(waveform), num_mel_bins=num_mel_bins).numpy()
    np.testing.assert_allclose(fbank(waveform, num_mel_bins, use_energy=False), reference, rtol=0, atol=1e-3)


def test_sweep_equals_torchaudio():
    seconds = np.arange(4 * 16000) / 16000
    assert_equals_torchaudio(np.float32(0.5 * np.sin(2 * np.pi * 1000 * seconds**2)))  # 0 to 8 kHz


@pytest.mark.parametrize("offset", [0.5, -0.3])
def test_constant_offset_is_taken_off(rng, offset):
    assert_equals_torchaudio(np.float32(offset + 1e-3 * rng.standard_normal(8000)))


@pytest.mark.parametrize("offset", [0, 0.3])
def test_digital_silence_meets_the_floors(offset):
    waveform = np.full(8000, offset, np.float32)
    features = fbank(waveform)
    assert np.all(features[:, 0] == 0)
    np.testing.assert_allclose(features[:, 1:], np.log(MEL_FLOOR), rtol=1e-6)
    assert_equals_torchaudio(waveform)


@pytest.mark.corpus
@pytest.mark.parametrize("pattern", ["speechocean762-mini/WAVE/**/*.flac", "native-mini/*/**/*.ogg"])
@pytest.mark.parametrize("gain", [1, 1e-3])
def test_real_speech_equals_torchaudio(speech_data, pattern, gain):
    paths = sorted(speech_data.glob(pattern))
    assert len(paths) > 100
    for path in paths[:: len(paths) // 10]:
        assert_equals_torchaudio(np.float32(gain) * audio.load(path))


def test_golden_values():
    golden = np.load(GOLDEN)
    np.testing.assert_allclose(fbank(golden["waveform"]), golden["fbank"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(mfcc(golden["waveform"]), golden["mfcc"], rtol=0, atol=1e-3)


KEPT = {  # weighted sums of the statics, Δ and ΔΔ, by the version of the extractor that gave them
    1: {
        "fbank": [41472.625, -193.016, 59.786],
        "mfcc": [-5288.529, 307.140, -63.203],
    },
}


@pytest.mark.parametrize("kind", ["fbank", "mfcc"])
def test_other_features_are_another_version(kind, tmp_path):
    """Features that are kept on disk are found by their version: raise it with them, and add their sums here."""
    waveform = np.load(GOLDEN)["waveform"]
    soundfile.write(tmp_path / "a.wav", waveform, 22050, "PCM_16")  # so that reading and resampling count as well
    features = FeatureExtractor(FeatureConfig(kind=kind))(audio.load(tmp_path / "a.wav"))
    weights = 1 + np.arange(features.size // 3).reshape(len(features), -1) % 7
    sums = [float((part * weights).sum()) for part in np.split(features.astype(float), 3, axis=1)]
    np.testing.assert_allclose(sums, KEPT[VERSION][kind], rtol=1e-5, atol=0.05)


@pytest.mark.parametrize(
    ("config", "num_features"),
    [
        (FeatureConfig(), 123),
        (FeatureConfig(kind="mfcc"), 39),
        (FeatureConfig(kind="mfcc", delta_order=1), 26),
        (FeatureConfig(num_mel_bins=80, use_energy=False, delta_order=0), 80),
    ],
)
def test_extractor_gives_statics_then_deltas(rng, config, num_features):
    waveform = np.float32(0.1 * rng.standard_normal(16000))
    extractor = FeatureExtractor(config)
    features = extractor(waveform)
    assert features.shape == (98, extractor.num_features)
    assert extractor.num_features == num_features
    assert features.dtype == np.float32
    if config.kind == "mfcc":
        statics = mfcc(waveform, config.num_ceps, config.num_mel_bins)
    else:
        statics = fbank(waveform, config.num_mel_bins, config.use_energy)
    np.testing.assert_array_equal(features, add_deltas(statics, config.delta_order))


def test_features_of_an_utterance_stand_alone(rng):
    first, second = (np.float32(0.1 * rng.standard_normal(n)) for n in (16000, 23456))
    extractor = FeatureExtractor(FeatureConfig())
    alone = extractor(first)
    extractor(second)
    np.testing.assert_array_equal(extractor(first), alone)
    joined = fbank(np.concatenate([first, second]))
    np.testing.assert_array_equal(joined[:98], fbank(first))


@pytest.mark.parametrize("num_samples", [400, 559, 560, 561, 10639, 10640, 10641, 16000, 20880])
def test_frame_counts_equal_torchaudio(rng, num_samples):
    waveform = np.float32(rng.standard_normal(num_samples))
    assert num_frames(num_samples) == len(kaldi.fbank(scaled(waveform))) == len(fbank(waveform))


@pytest.mark.parametrize("num_samples", [0, 1, 399])
def test_less_than_a_frame_is_an_error(num_samples):
    assert num_frames(num_samples) == 0
    with pytest.raises(AudioError, match=rf"{num_samples} samples .* at least 400 samples \(25 ms\)") as error:
        FeatureExtractor(FeatureConfig())(np.zeros(num_samples, np.float32))
    assert "\n" not in str(error.value)


def test_waveform_of_two_channels_is_refused():
    with pytest.raises(ValueError, match=r"\(2, 16000\)"):
        fbank(np.zeros((2, 16000), np.float32))


@pytest.mark.parametrize("num_rows", [1, 2, 3, 50])
@pytest.mark.parametrize("window", [1, 2, 3])
def test_deltas_equal_torchaudio(rng, num_rows, window):
    features = rng.standard_normal((num_rows, 5)).astype(np.float32)
    reference = torch.from_numpy(features.T.copy())
    blocks = [reference]
    for _ in range(2):
        blocks.append(torchaudio.functional.compute_deltas(blocks[-1][None], 2 * window + 1)[0])
    expected = torch.cat(blocks).numpy().T
    np.testing.assert_allclose(add_deltas(features, 2, window), expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(add_deltas(features, 0), features)


def test_cmvn_statistics_are_those_of_all_frames_together(rng):
    utterances = [(1e4 + 3 * rng.standard_normal((n, 4))).astype(np.float32) for n in (1, 7, 300, 0, 42)]
    mean, std = cmvn_statistics(iter(utterances))
    frames = np.concatenate(utterances).astype(np.float64)
    np.testing.assert_allclose(mean, frames.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(std, frames.std(axis=0), rtol=1e-5)
    assert mean.dtype == std.dtype == np.float32


def test_cmvn_statistics_of_nothing_are_refused():
    with pytest.raises(ValueError, match="no frames"):
        cmvn_statistics([np.zeros((0, 3))])


def test_apply_cmvn_normalises(rng):
    features = (5 + 3 * rng.standard_normal((200, 4))).astype(np.float32)
    normalised = apply_cmvn(features)
    np.testing.assert_allclose(normalised.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(normalised.std(axis=0), 1, rtol=1e-5)
    assert normalised.dtype == np.float32
    np.testing.assert_array_equal(apply_cmvn(features, *cmvn_statistics([features])), normalised)
    halved = apply_cmvn(features, np.full(4, 5, np.float32), np.full(4, 2, np.float32))
    np.testing.assert_allclose(halved, (features - 5) / 2, rtol=1e-6)


def test_normalised_silence_is_zero():
    features = FeatureExtractor(FeatureConfig())(np.zeros(8000, np.float32))
    np.testing.assert_array_equal(apply_cmvn(features), 0)


def test_import_needs_no_torch():
    code = "import sys, asr.speech.features; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
