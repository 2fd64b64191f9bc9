import re
import struct

import numpy as np
import pytest
import soundfile

from asr.core.errors import AudioError
from asr.speech.audio import from_array, load, resample


def sine(frequency, sample_rate, seconds=1.0, level=0.5):
    return np.float32(level * np.sin(2 * np.pi * frequency * np.arange(round(seconds * sample_rate)) / sample_rate))


def fault(path):
    """The one line that loading a bad file raises; it names the file, and how to mend it after the last colon."""
    with pytest.raises(AudioError) as error:
        load(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert re.search(r": (\w+ )+", message[len(f"{path}: ") :])
    return message


@pytest.mark.parametrize(
    ("name", "file_format", "subtype"),
    [
        ("a.wav", "WAV", "PCM_16"),
        ("a.wav", "WAV", "PCM_24"),
        ("a.wav", "WAV", "FLOAT"),
        ("A.WAV", "NIST", "PCM_16"),  # as TIMIT names its SPHERE files
        ("a.sph", "NIST", "PCM_16"),
        ("a.flac", "FLAC", "PCM_16"),
        ("a.aiff", "AIFF", "PCM_16"),
        ("a.au", "AU", "PCM_16"),
    ],
)
def test_lossless_formats_round_trip(tmp_path, rng, name, file_format, subtype):
    waveform = np.float32(np.clip(0.2 * rng.standard_normal(5000), -1, 1))
    soundfile.write(tmp_path / name, waveform, 16000, format=file_format, subtype=subtype)
    loaded = load(tmp_path / name)
    assert loaded.dtype == np.float32
    np.testing.assert_allclose(loaded, waveform, rtol=0, atol=1 / 32768)


@pytest.mark.parametrize(
    ("name", "file_format", "subtype", "tolerance"),
    [("a.mp3", "MP3", "MPEG_LAYER_III", 0.01), ("a.ogg", "OGG", "VORBIS", 0.01), ("a.opus", "OGG", "OPUS", 0.15)],
)
def test_lossy_formats_round_trip(tmp_path, name, file_format, subtype, tolerance):
    waveform = sine(440, 16000)
    soundfile.write(tmp_path / name, waveform, 16000, format=file_format, subtype=subtype)
    loaded = load(tmp_path / name)
    assert abs(len(loaded) - len(waveform)) < 1200
    inside = loaded[4000:12000]
    assert abs(np.abs(np.fft.rfft(inside)).argmax() * 16000 / len(inside) - 440) < 2
    assert np.sqrt(np.mean(inside**2)) == pytest.approx(0.5 / np.sqrt(2), rel=tolerance)


def test_path_may_be_a_string(tmp_path):
    soundfile.write(tmp_path / "a.wav", sine(440, 16000), 16000)
    np.testing.assert_array_equal(load(str(tmp_path / "a.wav")), load(tmp_path / "a.wav"))


@pytest.mark.parametrize("sample_rate", [8000, 11025, 22050, 44100, 48000])
def test_resampling_keeps_frequency_level_and_time(tmp_path, sample_rate):
    soundfile.write(tmp_path / "a.wav", sine(1000, sample_rate), sample_rate, subtype="FLOAT")
    loaded = load(tmp_path / "a.wav")
    assert len(loaded) == 16000
    np.testing.assert_allclose(loaded[1000:-1000], sine(1000, 16000)[1000:-1000], rtol=0, atol=1e-3)


def test_resampling_removes_what_16_khz_cannot_hold():
    assert np.abs(resample(sine(10_000, 44100), 44100)[1000:-1000]).max() < 1e-4


def test_channels_are_averaged(tmp_path):
    left, right = sine(300, 16000), sine(500, 16000, level=0.2)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), 16000, subtype="FLOAT")
    np.testing.assert_allclose(load(tmp_path / "a.wav"), (left + right) / 2, rtol=0, atol=1e-7)


def test_waveform_stays_within_one():
    loud = from_array(sine(440, 16000, level=3), 16000)
    assert np.abs(loud).max() == pytest.approx(1)
    np.testing.assert_allclose(loud, sine(440, 16000, level=1), atol=1e-3)
    square = np.sign(sine(440, 44100))
    assert np.abs(from_array(square, 44100)).max() <= 1


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.array([0, 16384, -32768], np.int16), [0, 0.5, -1]),
        (np.array([0, 2**30, -(2**31)], np.int32), [0, 0.5, -1]),
        (np.array([0, 64, -128], np.int8), [0, 0.5, -1]),
        (np.array([128, 192, 0], np.uint8), [0, 0.5, -1]),
        (np.array([0, 0.5, -1], np.float64), [0, 0.5, -1]),
        (np.array([[0, 0], [0.25, 0.75], [-1, -1]]), [0, 0.5, -1]),
        ([0.0, 0.5, -1.0], [0, 0.5, -1]),
    ],
)
def test_arrays_of_every_type(samples, expected):
    waveform = from_array(samples, 16000)
    assert waveform.dtype == np.float32
    np.testing.assert_array_equal(waveform, np.float32(expected))


@pytest.mark.parametrize(
    ("samples", "sample_rate", "message"),
    [
        (np.zeros(0), 16000, "no samples"),
        (np.zeros((0, 2)), 16000, "no samples"),
        (np.zeros((100, 16000)), 16000, r"\(100, 16000\).*\(N, channels\)"),
        (np.zeros((5, 0)), 16000, r"\(5, 0\)"),
        (np.zeros((2, 2, 2)), 16000, r"\(2, 2, 2\)"),
        (np.array([0, np.nan, np.inf]), 16000, "2 of 3 samples are NaN or infinite"),
        (np.array([1e300]), 16000, "1 of 1 samples are NaN or infinite"),
        (np.arange(10), 16000, "int64.*int16"),
        (np.zeros(10, bool), 16000, "bool"),
        (np.zeros(10, complex), 16000, "complex"),
        (np.zeros(10), 0, "sample rate is 0"),
        (np.zeros(10), -8000, "sample rate is -8000"),
        (np.zeros(10), float("nan"), "sample rate is nan"),
        (np.zeros(1), 1_000_000, "too few"),
    ],
)
def test_arrays_that_are_no_audio(samples, sample_rate, message):
    with pytest.raises(AudioError, match=message):
        from_array(samples, sample_rate)


def test_missing_file(tmp_path):
    assert "No such file" in fault(tmp_path / "a.wav")


def test_folder(tmp_path):
    assert "Is a directory" in fault(tmp_path)


def test_empty_file(tmp_path):
    (tmp_path / "a.wav").touch()
    assert "the file is empty" in fault(tmp_path / "a.wav")


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.flac", "a.txt"])
def test_text_file(tmp_path, name):
    (tmp_path / name).write_text("This is text, whatever its name says.\n" * 50)
    assert "not audio" in fault(tmp_path / name)


def test_raw_samples(tmp_path):
    (tmp_path / "a.raw").write_bytes(bytes(1000))
    assert "no header" in fault(tmp_path / "a.raw")


@pytest.mark.parametrize("file_format", ["WAV", "NIST", "AIFF"])
def test_no_samples(tmp_path, file_format):
    soundfile.write(tmp_path / "a.wav", np.zeros(0), 16000, format=file_format)
    assert "no samples" in fault(tmp_path / "a.wav")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite(tmp_path, value):
    waveform = sine(440, 16000)
    waveform[7] = value
    soundfile.write(tmp_path / "a.wav", waveform, 16000, subtype="FLOAT")
    assert "1 of 16000 samples are NaN or infinite" in fault(tmp_path / "a.wav")


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
@pytest.mark.parametrize(
    ("file_format", "subtype"),
    [
        ("WAV", "PCM_16"),
        ("WAV", "FLOAT"),
        ("WAV", "IMA_ADPCM"),
        ("NIST", "PCM_16"),
        ("FLAC", "PCM_16"),
        ("AIFF", "PCM_16"),
        ("AU", "PCM_16"),
    ],
)
def test_file_cut_short(tmp_path, rng, file_format, subtype, kept):
    path = tmp_path / f"a.{file_format.lower()}"
    waveform = np.float32(0.1 * rng.standard_normal(32000))
    soundfile.write(path, waveform, 16000, format=file_format, subtype=subtype)
    whole = path.read_bytes()
    load(path)
    path.write_bytes(whole[: int(kept * len(whole))])
    assert re.search("cut short|damaged", fault(path))


def test_mp3_cut_short(tmp_path, rng):
    path = tmp_path / "a.mp3"
    soundfile.write(path, np.float32(0.1 * rng.standard_normal(64000)), 16000)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "cut short" in fault(path)


@pytest.mark.parametrize("num_bytes", [1, 2, 3])
def test_wav_short_of_a_few_bytes_is_seen(tmp_path, num_bytes):
    path = tmp_path / "a.wav"
    soundfile.write(path, sine(440, 16000), 16000)
    path.write_bytes(path.read_bytes()[:-num_bytes])
    assert re.search(r"cut short, it has 1599[89] of 16000 samples", fault(path))


def test_damaged_flac(tmp_path, rng):
    path = tmp_path / "a.flac"
    soundfile.write(path, 0.1 * rng.standard_normal(32000), 16000)
    content = bytearray(path.read_bytes())
    content[20_000:30_000] = bytes(10_000)
    path.write_bytes(content)
    assert re.search("damaged|cut short", fault(path))


@pytest.mark.parametrize("size", [0xFFFF_FFFF, 0x7FFF_F000])
def test_wav_written_into_a_pipe_has_no_size_and_is_read(tmp_path, size):
    path = tmp_path / "a.wav"
    soundfile.write(path, sine(440, 16000), 16000)
    content = path.read_bytes()
    path.write_bytes(content[:4] + struct.pack("<I", size) + content[8:40] + struct.pack("<I", size) + content[44:])
    assert content[36:40] == b"data"
    assert len(load(path)) == 16000


def test_chunks_after_the_samples_are_no_fault(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, sine(440, 16000), 16000)
    content = path.read_bytes() + b"LIST" + struct.pack("<I", 4) + b"INFO"
    path.write_bytes(content[:4] + struct.pack("<I", len(content) - 8) + content[8:])
    assert len(load(path)) == 16000
