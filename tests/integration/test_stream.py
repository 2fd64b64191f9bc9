"""Models in one direction or with chunks, trained by a command and heard by another as the speech comes."""

import numpy as np
import pytest
import soundfile

from asr.speech import audio
from tests.conftest import SETTINGS

FEATURES = ("features.delta_order=0", "features.use_energy=false")
CAUSAL = ("model.bidirectional=false", "features.cmvn=global"), 35
CHUNKS = ("model.chunk=10", "model.lookahead=10", "features.cmvn=running"), 415


@pytest.fixture(scope="module", params=[CAUSAL, CHUNKS], ids=["causal", "chunks"])
def causal(request, trained, cli, mini_tree, tmp_path_factory):
    run, (options, latency) = tmp_path_factory.mktemp("causal") / "run", request.param
    settings = (*SETTINGS, *FEATURES, *options, "train.max_epochs=8")
    settings = (*settings, f"data.manifests={trained.manifests}")
    code, _, err = cli("train", "recipes/timit/blstm_ctc.yaml", *settings, "--data", mini_tree, "--run", run)
    assert code == 0, err
    return run, latency


def test_phones_come_as_they_are_said(causal, cli, mini_tree):
    recordings = sorted(mini_tree.glob("TEST/*/*/*.WAV"))[:2]
    code, out, err = cli("transcribe", *recordings, "--model", causal[0], "--stream")
    assert code == 0
    said = [cli("transcribe", recording, "--model", causal[0], "--beam-size", 1)[1] for recording in recordings]
    assert out.split() == " ".join(said).split() != []
    assert err.count(f"asr: latency {causal[1]} ms of sound") == 2


def test_a_long_recording_is_heard_alike(causal, cli, mini_tree, tmp_path):
    waveform = np.concatenate([audio.load(each) for each in sorted(mini_tree.glob("TEST/*/*/*.WAV"))])
    waveform = np.tile(waveform, 1 + 60 * audio.SAMPLE_RATE // len(waveform))
    soundfile.write(tmp_path / "long.wav", waveform, audio.SAMPLE_RATE)
    _, streamed, _ = cli("transcribe", tmp_path / "long.wav", "--model", causal[0], "--stream")
    _, said, _ = cli("transcribe", tmp_path / "long.wav", "--model", causal[0], "--beam-size", 1)
    assert streamed.split() == said.split() != []


def test_what_cannot_be_streamed(causal, cli, mini_tree, tmp_path):
    good = next(mini_tree.glob("TEST/*/*/*.WAV"))
    (tmp_path / "text.wav").write_text("no sound")
    code, out, err = cli(
        "transcribe", tmp_path / "text.wav", good, tmp_path / "no.wav", "--model", causal[0], "--stream"
    )
    assert code == 1
    assert out.count("\n") == 1
    assert err.splitlines()[-1] == "asr: 2 of 3 recordings could not be read"
    code, out, err = cli("transcribe", good, "--model", causal[0], "--stream", "--format", "json")
    assert (code, out) == (2, "")
    assert "only --model, --channel and --mic go with it" in err


def test_a_model_that_hears_the_future_is_refused(trained, cli, mini_tree):
    code, _, err = cli("transcribe", next(mini_tree.glob("TEST/*/*/*.WAV")), "--model", trained.run, "--stream")
    assert code == 2
    assert "has to hear a recording's end" in err
    assert err.count("\n") == 1


def test_the_shipped_model_for_live_speech_is_taken_untold(cli):
    recording = "docs/audio/glorious-scrap.flac"
    code, out, err = cli("transcribe", recording, "--stream")
    assert code == 0
    _, said, _ = cli("transcribe", recording, "--model", "en-us-phones-stream")
    assert out.split() == said.split() != []
    assert "asr: latency 625 ms of sound" in err  # a chunk, what is seen of the next one, and the lag of the search
