"""Strange and broken recordings through the command line and the loader: phones or one line, never a traceback."""

import json
import os
import re
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.core.errors import AudioError
from asr.speech import audio
from tests import hostile
from tests.conftest import RUN_ASR

GOOD = {
    "400 samples", "silence", "clipped", "direct current", "one click", "floats of 1e30", "floats of 1e-30",
    *(f"coded as {each}" for each in ("PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "GSM610")),
    "coded as IMA_ADPCM",
    *(f"{rate} Hz" for rate in (1000, 4000, 8000, 11025, 44100, 96000, 192000)),
    "8 channels", "channels that cancel", "a name in Latin-1",
    "spaces in the name", "a newline in the name", "letters of Korea",
    "an emoji and quotes", "a dash in front", "no suffix", "WAV called mp3", "brackets in the name",
    *(f"{form} of 8 kHz" for form in ("FLAC", "OGG", "MP3", "AIFF", "AU")), "384000 Hz",
}  # fmt: skip


@pytest.fixture(scope="module")
def strange(tmp_path_factory):
    return hostile.make(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def outcome(strange, run_asr):
    """All of them in one batch."""
    return run_asr("transcribe", "--format", "json", "--", *strange.values())


def test_a_batch_is_finished_whatever_is_in_it(strange, outcome):
    said = {json.loads(line)["path"] for line in outcome.stdout.splitlines()}
    assert outcome.returncode == 1
    good = {name for name, path in strange.items() if str(path) in said}
    assert good >= GOOD, GOOD - good
    lines = outcome.stderr.splitlines()
    num_bad = len(strange) - len(good)
    assert lines[-1] == f"asr: {num_bad} of {len(strange)} recordings could not be read"
    assert len(strange) >= 100
    assert num_bad >= 40


def test_each_fault_is_one_line_that_names_the_file(strange, outcome):
    said = {json.loads(line)["path"] for line in outcome.stdout.splitlines()}
    lines = outcome.stderr.splitlines()
    assert all(line.startswith("asr: ") for line in lines), lines
    assert "Traceback" not in outcome.stderr
    for path in strange.values():
        if str(path) not in said and "\n" not in path.name:
            (line,) = [line for line in lines if f"{path}: " in line]
            assert re.search(r": .+: .+", line), line  # what is wrong, and how to mend it


def test_a_full_disk(strange, python):
    done = python(
        f"import sys; sys.stdout = open('/dev/full', 'w'){RUN_ASR}",
        "transcribe",
        strange["clipped"],
        strange["silence"],
    )
    assert done.returncode == 2
    assert done.stderr == "asr: what is printed: No space left on device: check the path, permissions and free space\n"


def test_a_name_that_is_no_utf8(strange, cli, tmp_path):
    for form in ("text", "json", "ctm", "textgrid", "srt", "tsv"):
        code, _, err = cli("transcribe", strange["a name in Latin-1"], "--format", form, "--output-dir", tmp_path)
        assert (code, [line for line in err.splitlines() if line.startswith("asr:")]) == (0, [])
    assert len({path.stem for path in tmp_path.iterdir()}) == 1
    assert len(list(tmp_path.iterdir())) == 6


def test_pipes_and_patterns(strange, cli, tmp_path):
    (tmp_path / "with").mkdir()
    (tmp_path / "without").mkdir()
    (tmp_path / "with" / "a.wav").write_bytes(strange["clipped"].read_bytes())
    os.mkfifo(tmp_path / "pipe.wav")
    write = (tmp_path / "pipe.wav").write_bytes  # waits for a reader, which a failed command is not
    writer = threading.Thread(target=write, args=[strange["clipped"].read_bytes()], daemon=True)
    writer.start()
    code, out, err = cli("transcribe", "--format", "json", tmp_path / "w*", tmp_path / "pipe.wav")
    assert (code, err) == (0, "")
    first, second = (json.loads(line) for line in out.splitlines())
    assert first["phones"] == second["phones"]
    writer.join()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("bytes")


def assert_heard_or_refused(content, folder):
    path = folder / "a.wav"
    path.write_bytes(content)
    try:
        waveform = audio.load(path)
    except AudioError as error:
        message = str(error)
    else:
        message = ""
        assert waveform.dtype == np.float32
        assert np.abs(waveform).max() <= 1  # nor is a NaN
    assert "\n" not in message


@settings(max_examples=200)
@given(
    st.binary(max_size=400), st.sampled_from([b"", b"RIFF", b"fLaC", b"OggS", b"NIST_1A\n   1024\n", b"ID3", b"FORM"])
)
def test_random_bytes_are_refused_or_heard(folder, content, start):
    assert_heard_or_refused(start + content, folder)


@settings(max_examples=100)
@given(st.data())
def test_a_recording_with_bytes_changed(strange, folder, data):
    content = bytearray(strange[data.draw(st.sampled_from(["silence", "FLAC of 8 kHz", "AIFF of 8 kHz"]))].read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, min(200, len(content) - 1)))] = data.draw(st.integers(0, 255))
    assert_heard_or_refused(bytes(content), folder)
