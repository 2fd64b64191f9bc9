"""Every kind of recording comes in one way: what it is, at which rate, which channel. No silent wrong answer."""

import io
import struct
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from asr.core.config import from_dict
from asr.core.errors import AudioError
from asr.ctc import beam_search, best_path, forced_align, soft_align
from asr.ctc.goodness import goodness
from asr.encoders import build
from asr.models import model_folder
from asr.models.base import BLANK
from asr.models.calibration import Calibration
from asr.models.ctc import CTCModel
from asr.recognition.align import align
from asr.recognition.recogniser import Recogniser
from asr.recognition.stream import Stream
from asr.speech import audio, media_files
from asr.speech.normaliser import Normaliser


@pytest.fixture
def stereo(rng):
    """Two channels (N, 2) of 16-bit integers at 16 kHz, each its own."""
    return (8000 * rng.uniform(-1, 1, (4000, 2))).astype(np.int16)


@pytest.fixture
def wav(stereo, tmp_path):
    soundfile.write(tmp_path / "a.wav", stereo, 16000, subtype="PCM_16")
    return tmp_path / "a.wav"


@pytest.fixture(scope="module")
def recogniser():
    return Recogniser.from_pretrained("en-us-phones", beam_size=1)


class Pipe(io.RawIOBase):
    """A binary file that cannot seek."""

    def __init__(self, content):
        self._rest = io.BytesIO(content)

    def readable(self):
        return True

    def readinto(self, buffer):
        return self._rest.readinto(memoryview(buffer)[:1000])


@pytest.mark.parametrize("channel", [None, 0, 1])
def test_what_is_in_a_recording_does_not_depend_on_its_kind(stereo, wav, channel):
    expected = stereo.mean(axis=1) / 32768 if channel is None else stereo[:, channel] / 32768
    at_end = io.BytesIO()
    soundfile.write(at_end, stereo, 16000, format="WAV", subtype="PCM_16")
    with wav.open("rb") as opened:
        files = [str(wav), wav, wav.read_bytes(), bytearray(wav.read_bytes()), memoryview(wav.read_bytes()), at_end]
        files += [opened, Pipe(wav.read_bytes()), io.BufferedReader(Pipe(wav.read_bytes()))]
        found = [audio.load(each, channel=channel) for each in files]
    samples = [stereo, stereo.T, stereo / 32768, (stereo / 32768).tolist(), torch.from_numpy(stereo)]
    samples += [torch.tensor(stereo.T / 32768, requires_grad=True)]
    found += [audio.load(each, 16000, channel) for each in samples]
    for waveform in found:
        assert waveform.dtype == np.float32
        np.testing.assert_allclose(waveform, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("samples", [np.zeros((1, 800)), np.zeros(800).tolist(), torch.zeros(1, 800)])
def test_one_row_is_one_channel(samples):
    assert audio.load(samples, 8000).shape == (1600,)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.int16])
def test_tensors_of_any_type(dtype):
    expected = 0.5 if dtype.is_floating_point else 0.5 / 32768 * 32768
    values = torch.full((400,), 0.5).to(dtype) if dtype.is_floating_point else torch.full((400,), 16384, dtype=dtype)
    np.testing.assert_array_equal(audio.load(values, 16000), np.full(400, expected, np.float32))


def test_samples_need_a_rate_and_a_file_keeps_its_own(wav, stereo, recogniser):
    for call in (audio.load, recogniser.transcribe, lambda samples: align(recogniser, samples, phones="HH")):
        with pytest.raises(AudioError, match="do not say their rate: give sample_rate") as caught:
            call(stereo)
        assert "\n" not in str(caught.value)
    assert audio.load(wav, 16000).shape == (4000,)
    for recording in (wav, wav.read_bytes()):
        with pytest.raises(AudioError, match="the file says 16000 Hz, not 8000: leave sample_rate out"):
            audio.load(recording, 8000)


@pytest.mark.parametrize("rate", ["16000", 0, -1, float("nan"), True, [16000]])
def test_rates_that_are_none(stereo, wav, rate):
    for recording in (stereo, wav):
        with pytest.raises(AudioError, match=r"the sample rate is .*: give it in Hz"):
            audio.load(recording, rate)


@pytest.mark.parametrize("channel", [2, 7, -1, 0.5, "left", True])
def test_channels_that_are_none(stereo, wav, channel):
    for recording, rate in ((wav, None), (stereo, 16000), (stereo.T, 16000)):
        with pytest.raises(AudioError, match="channel"):
            audio.load(recording, rate, channel)
    with pytest.raises(AudioError, match="there is no channel 1 among 1"):
        audio.load(stereo[:, 0], 16000, 1)


def test_the_recogniser_and_the_aligner_hear_the_channel(recogniser, rng):
    speech = audio.load("docs/audio/glorious-scrap.flac").astype(float)
    both = np.stack([0.3 * rng.standard_normal(len(speech)), speech], axis=1)
    said = recogniser.transcribe(both, 16000, 1)
    assert said == recogniser.transcribe(speech, 16000) != recogniser.transcribe(both, 16000)
    with pytest.raises(AudioError, match="no channel 7 among 2"):
        recogniser.transcribe(both, 16000, channel=7)
    found = [align(recogniser, both, phones="HH AY", sample_rate=16000, channel=each).score for each in (None, 0, 1)]
    assert len({*found}) == 3


@pytest.mark.parametrize(
    ("recording", "message"),
    [
        (None, "no recording, but of type NoneType"),
        (3, "no recording, but of type int"),
        ({"array": np.zeros(5)}, "no recording, but of type dict"),
        ((np.zeros(9), 16000), "no recording"),
        (["a.wav", "b.wav"], "the samples are <U5"),
        (io.StringIO("text"), "opened as text: open it in mode 'rb'"),
        (b"", "the file is empty"),
        (b"no sound", "not audio"),
        (io.BytesIO(), "the file is empty"),
        ("a\0.wav", "null"),
    ],
)
def test_what_is_no_recording_is_one_line(recording, message, recogniser):
    for call in (audio.load, recogniser.transcribe):
        with pytest.raises(AudioError, match=message) as caught:
            call(recording, 16000) if not isinstance(recording, str | bytes | io.IOBase) else call(recording)
        assert "\n" not in str(caught.value)


def test_a_closed_file(wav):
    with wav.open("rb") as file:
        pass
    with pytest.raises(AudioError, match="give an open file"):
        audio.load(file)


def test_a_file_that_can_be_read_once_is_still_shown_in_a_notebook(recogniser, wav):
    said = recogniser.transcribe(Pipe(wav.read_bytes()))
    np.testing.assert_array_equal(said.sound(), audio.load(wav))


# Streams


@pytest.fixture
def causal(tmp_path):
    """A model folder of a small network in one direction, with weights that make it say something."""
    values = {
        "data": {"corpora": {"mini": None}},
        "features": {"num_mel_bins": 10, "use_energy": False, "delta_order": 0, "cmvn": "global"},
        "model": {"name": "blstm", "num_layers": 2, "hidden_size": 24, "stack": 3, "bidirectional": False},
    }
    config, tokens = from_dict(values), (BLANK, "AA", "B", "T")
    torch.manual_seed(3)
    encoder = build(config.model, 10, len(tokens)).eval()
    for weights in encoder.parameters():
        torch.nn.init.normal_(weights, std=0.5)
    normaliser = Normaliser(config.features, np.full(10, 15, np.float32), np.full(10, 3, np.float32))
    model_folder.save(tmp_path / "model", CTCModel(config, tokens, normaliser, Calibration(), encoder), "card")
    return tmp_path / "model"


def spikes(stream, samples, size=700):
    return [s for at in range(0, len(samples), size) for s in stream.accept(samples[at : at + size])] + stream.finish()


def test_a_stream_takes_what_transcribe_takes(causal, rng):
    level = np.repeat(10 ** rng.uniform(0, 3.5, 40), 800)
    integers = (level * rng.standard_normal(32000)).astype(np.int16)
    expected = spikes(Stream(causal, 16000), (integers / 32768).astype(np.float32))
    assert len(expected) > 3
    assert spikes(Stream(causal, 16000), integers) == expected
    assert spikes(Stream(causal, 16000), torch.from_numpy(integers)) == expected
    assert spikes(Stream(causal, 16000, 1), np.stack([0 * integers, integers], axis=1)) == expected
    other_rate = np.repeat(integers, 3)
    whole = audio.load(other_rate, 48000)
    assert spikes(Stream(causal, 48000), other_rate) == spikes(Stream(causal, 16000), whole) != []


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.full(800, 3000.0), "the samples reach 3000: give floats in"),
        (np.full(800, np.nan), "NaN"),
        (np.zeros((1, 800)), r"\(1, 800\)"),
        (np.zeros(800, np.int64), "int64"),
        ("text", "no recording"),
    ],
)
def test_a_stream_refuses_garbage(causal, samples, message):
    with pytest.raises(AudioError, match=message):
        Stream(causal, 16000).accept(samples)


def test_a_stream_needs_a_rate(causal):
    with pytest.raises(TypeError, match="sample_rate"):
        Stream(causal)
    with pytest.raises(AudioError, match="the sample rate is 0"):
        Stream(causal, 0)


# Headers that do not know


def chunk(name, content, size=None):
    return name + struct.pack("<I", len(content) if size is None else size) + content + b"\0" * (len(content) % 2)


def wave(samples, size=None, after=b""):
    """A WAV of 16 bits at 16 kHz, whose header says that its samples have `size` bytes."""
    layout = struct.pack("<HHIIHH", 1, 1, 16000, 32000, 2, 16)
    content = b"WAVE" + chunk(b"fmt ", layout) + chunk(b"data", samples.tobytes(), size) + after
    return b"RIFF" + struct.pack("<I", len(content)) + content


@pytest.fixture
def mono(rng):
    return (8000 * rng.uniform(-1, 1, 4001)).astype("<i2")


@pytest.mark.parametrize("size", [0, 4000, 0xFFFF_FFFF, 0x7FFF_F000])
def test_all_samples_of_a_wav_with_a_wrong_size_are_read(mono, size, tmp_path, caplog):
    (tmp_path / "a.wav").write_bytes(wave(mono, size))
    for recording in (tmp_path / "a.wav", wave(mono, size)):
        np.testing.assert_array_equal(audio.load(recording), np.float32(mono / 32768))
    assert ("knows of 4000 of 8002 bytes" in caplog.text) == (size == 4000)


@pytest.mark.parametrize(
    "after", [chunk(b"LIST", b"INFO"), chunk(b"abcd", b"x" * 30) + chunk(b"id3 ", b"12"), b"\0\0\0"]
)
def test_metadata_is_no_sound(mono, after, caplog):
    assert len(audio.load(wave(mono[:4000], None, after))) == 4000
    assert caplog.text == ""
    with pytest.raises(AudioError, match="there are no samples"):
        audio.load(wave(mono[:0], None, after))


def test_two_recordings_in_one_file_are_refused(mono):
    with pytest.raises(AudioError, match="a second recording follows the first"):
        audio.load(wave(mono[:2000]) + wave(mono[2000:4000]))


def patched(content, place, values):
    return content[:place] + values + content[place + len(values) :]


@pytest.mark.parametrize(
    ("file_format", "name", "shift", "values"),
    [
        ("AIFF", b"SSND", 4, struct.pack(">I", 0)),
        ("AIFF", b"SSND", 4, struct.pack(">I", 4008)),
        ("AU", b".snd", 8, struct.pack(">I", 0)),
        ("AU", b".snd", 8, struct.pack(">I", 4000)),
        ("CAF", b"data", 4, struct.pack(">q", -1)),
        ("CAF", b"data", 4, struct.pack(">q", 4004)),
        ("RF64", b"ds64", 16, struct.pack("<qq", 0, 0)),
        ("RF64", b"ds64", 16, struct.pack("<qq", -1, -1)),
        ("RF64", b"ds64", 16, struct.pack("<qq", 4000, 2000)),
        ("W64", b"data", 16, struct.pack("<q", 24)),
        ("NIST", b"sample_count", 0, b"sample_count -i 2000"),
    ],
)
def test_other_headers_with_a_wrong_size(mono, file_format, name, shift, values, tmp_path):
    buffer = io.BytesIO()
    soundfile.write(buffer, mono, 16000, format=file_format, subtype="PCM_16")
    content = buffer.getvalue()
    assert len(audio.load(content)) == 4001
    np.testing.assert_allclose(
        audio.load(patched(content, content.index(name) + shift, values))[:4001], mono / 32768, atol=1e-7
    )


def test_a_flac_from_a_pipe_states_no_length(mono):
    buffer = io.BytesIO()
    soundfile.write(buffer, mono, 16000, format="FLAC", subtype="PCM_16")
    content = bytearray(buffer.getvalue())
    content[21] &= 0xF0  # the last 36 bits of bytes 18 to 25 of the file count the samples
    content[22:26] = bytes(4)
    np.testing.assert_array_equal(audio.load(bytes(content)), np.float32(mono / 32768))


def test_a_wav_beyond_4_gb_becomes_an_rf64(mono):
    """What libsndfile is given says the size in 64 bits."""
    from asr.speech import sound_headers

    start = wave(mono[:0], 704)[:44]
    layout = sound_headers.LAYOUTS[b"RIFF"]
    header = sound_headers._header(start, layout, 2**32 + 1000, 2**32 + 1044)
    assert header[:4] == b"RF64"
    assert struct.unpack("<QQ", header[28:44]) == (2**32 + 1000, (2**32 + 1000) // 2)
    assert header.endswith(b"data\xff\xff\xff\xff")


def mp3_inside_a_wav(samples, lacking):
    """MP3 in a WAV as ffmpeg writes it; the count of samples in the header is larger than what is there."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, 16000, format="MP3")
    layout = struct.pack("<HHIIHHHHIHHH", 0x55, 1, 16000, 4000, 576, 0, 12, 1, 2, 576, 1, 1393)
    count = struct.pack("<I", len(samples) + lacking)
    content = b"WAVE" + chunk(b"fmt ", layout) + chunk(b"fact", count) + chunk(b"data", buffer.getvalue())
    return b"RIFF" + struct.pack("<I", len(content)) + content


def test_mp3_inside_a_wav():
    tone = np.float32(0.3 * np.sin(np.arange(32000) * 0.2))
    assert abs(len(audio.load(mp3_inside_a_wav(tone, 1000))) - 32000) <= 2 * 1152


# libmpg123


def test_the_words_of_libmpg123_do_not_reach_the_terminal(tmp_path, python):
    soundfile.write(tmp_path / "a.mp3", np.float32(0.1 * np.sin(np.arange(64000) * 0.2)), 16000)
    content = (tmp_path / "a.mp3").read_bytes()
    (tmp_path / "b.mp3").write_bytes(content + content)  # "Xing stream size off by more than 1%"
    noisy = python("import soundfile, sys; soundfile.read(sys.argv[1])", tmp_path / "b.mp3")
    assert "Xing" in noisy.stderr
    done = python(
        "import sys, threading, os\n"
        "from asr.speech import audio\n"
        "ends = threading.Event()\n"
        "def speak():\n"
        "    while not ends.wait(0.0005):\n"
        "        said.append(f'line {len(said)} of another thread'); os.write(2, said[-1].encode() + b'\\n')\n"
        "said = []\n"
        "thread = threading.Thread(target=speak); thread.start()\n"
        "readers = [threading.Thread(target=audio.load, args=[sys.argv[1]]) for _ in range(6)]\n"
        "[each.start() for each in readers]; [each.join() for each in readers]\n"
        "ends.set(); thread.join(); print(*said, sep='\\n')\n",
        tmp_path / "b.mp3",
    )
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) > 3
    assert sorted(done.stderr.splitlines()) == sorted(done.stdout.splitlines())


def test_no_standard_error_at_all(tmp_path):
    soundfile.write(tmp_path / "a.mp3", np.float32(0.1 * np.sin(np.arange(16000) * 0.2)), 16000)
    code = "import os; os.close(2); from asr.speech import audio; print(len(audio.load('a.mp3')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True)
    assert int(done.stdout) == 16000


# ffmpeg


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.m4a", b"\0\0\0\x1cftypM4A \0\0\x02\0"),
        ("a.bin", b"\x1a\x45\xdf\xa3\x01\0\0\0"),
        ("a.wma", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
        ("a.amr", b"#!AMR\n\x3c"),
        ("a.g722", b"\xfa"),
        ("a.wav", b"RIFF\x40\0\0\0WAVEfmt \x12\0\0\0\xff\0\x01\0" + bytes(40)),
    ],
)
def test_without_ffmpeg_the_line_names_both_ways(name, content, tmp_path, monkeypatch):
    monkeypatch.setattr(media_files, "_has_pyav", lambda: False)
    monkeypatch.setattr(media_files.shutil, "which", lambda name: None)
    (tmp_path / name).write_bytes(content + bytes(100))
    with pytest.raises(AudioError) as caught:
        audio.load(tmp_path / name)
    assert str(caught.value) == (
        f"{tmp_path / name}: this format needs ffmpeg: pip install av, or put the program ffmpeg on the PATH"
    )
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(AudioError, match="damaged, or not audio"):
        audio.load(tmp_path / "text.wav")


FAKE = """#!{python}
import sys, struct
assert sys.argv[1:3] == ["-nostdin", "-v"] and "file:{file}" in sys.argv, sys.argv
if "{fault}":
    print("[mov @ 0x55] {fault}", file=sys.stderr)
sys.stdout.buffer.write(struct.pack(">4s5I", b".snd", 28, 0xFFFFFFFF, 6, 8000, 2) + b"text")
sys.stdout.buffer.write(struct.pack(">8f", 0.5, 0, 0.5, 0, 0.5, 0, 0.5, 0) * 1000)
"""


@pytest.mark.parametrize("fault", ["", "stream 0, offset 0x30: partial file"])
def test_the_program_ffmpeg_decodes(tmp_path, monkeypatch, fault):
    """A stand-in for the program, which writes what `-f au` writes: 4,000 frames of two channels at 8 kHz."""
    file, program = tmp_path / "a.m4a", tmp_path / "ffmpeg"
    file.write_bytes(b"\0\0\0\x1cftypM4A ")
    program.write_text(FAKE.format(python=sys.executable, file=file, fault=fault))
    program.chmod(0o755)
    monkeypatch.setattr(media_files, "_has_pyav", lambda: False)
    monkeypatch.setenv("PATH", str(tmp_path))
    if fault:
        with pytest.raises(AudioError, match=r"a\.m4a: damaged, or not audio \(ffmpeg: stream 0, .*partial file\)"):
            audio.load(file)
        return
    waveform = audio.load(file, channel=0)
    assert len(waveform) == 8000
    np.testing.assert_allclose(waveform[1000:-1000], 0.5, atol=1e-4)
    np.testing.assert_allclose(audio.load(file)[1000:-1000], 0.25, atol=1e-4)


def encoded(av, codec, container, samples, rate=16000):
    """Encode int16 samples (N, channels)."""
    buffer, layout = io.BytesIO(), {1: "mono", 2: "stereo"}[samples.shape[1]]
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.reshape(1, -1)), format="s16", layout=layout)
        frame.sample_rate = rate
        resampler = av.AudioResampler(format=stream.codec_context.format.name, layout=layout, rate=rate)
        for each in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(each))
        output.mux(stream.encode(None))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("codec", "container", "tolerance"), [("alac", "ipod", 1e-3), ("aac", "mp4", 0.02), ("libopus", "webm", 0.05)]
)
def test_pyav_decodes(codec, container, tolerance):
    """400 Hz on the left and 900 Hz on the right, at half and at a quarter of full scale."""
    av = pytest.importorskip("av")
    rate, time = 48000, np.arange(96000) / 48000
    samples = np.stack([0.5 * np.sin(2 * np.pi * 400 * time), 0.25 * np.sin(2 * np.pi * 900 * time)], axis=1)
    content = encoded(av, codec, container, (32767 * samples).astype(np.int16), rate)
    for channel, frequency, level in ((0, 400, 0.5), (1, 900, 0.25)):
        waveform = audio.load(content, channel=channel)
        assert abs(len(waveform) - 32000) < 1100
        inside = waveform[8000:24000]
        assert np.abs(np.fft.rfft(inside)).argmax() == frequency
        assert np.sqrt(2 * np.mean(inside**2)) == pytest.approx(level, abs=tolerance)
    with pytest.raises(AudioError, match=r"damaged|cut short"):
        audio.load(content[: len(content) // 2])
    with pytest.raises(AudioError, match="the file says 48000 Hz, not 44100"):
        audio.load(content, 44100)


def test_raw_g722_is_known_by_its_name(tmp_path):
    av = pytest.importorskip("av")
    samples = (16384 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)).astype(np.int16)[:, None]
    (tmp_path / "a.g722").write_bytes(encoded(av, "g722", "g722", samples))
    waveform = audio.load(tmp_path / "a.g722")
    assert abs(len(waveform) - 16000) < 100
    assert np.abs(np.fft.rfft(waveform[4000:12000])).argmax() == 220
    assert np.sqrt(2 * np.mean(waveform[4000:12000] ** 2)) == pytest.approx(0.5, abs=0.02)


def test_a_playlist_opens_nothing(tmp_path):
    pytest.importorskip("av")
    soundfile.write(tmp_path / "other.wav", np.zeros(16000), 16000)
    (tmp_path / "a.m4a").write_text(f"ffconcat version 1.0\nfile '{tmp_path / 'other.wav'}'\n")
    with pytest.raises(AudioError, match="Operation not permitted"):
        audio.load(tmp_path / "a.m4a")


# What `asr.ctc` takes for log probabilities


@pytest.mark.parametrize("change", [np.exp, lambda log_probs: log_probs + 5])
def test_probabilities_and_logits_are_refused(change, rng):
    log_probs = np.log(rng.dirichlet(np.ones(4), 12))
    values = change(log_probs)
    targets = np.array([1, 2])
    for call in (
        lambda: best_path(values),
        lambda: beam_search(values[:, None]),
        lambda: forced_align(values[:, None], targets[None]),
        lambda: soft_align(values[:, None], targets[None]),
        lambda: goodness(values, targets),
    ):
        with pytest.raises(ValueError, match=r"frame \d+, which is no log probability: give the log of a softmax"):
            call()
    rounded = np.where(log_probs > -0.5, 1e-6, log_probs)  # as a softmax in float32 rounds
    assert best_path(rounded).tokens == best_path(log_probs).tokens
