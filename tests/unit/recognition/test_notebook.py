"""A transcript as HTML: well formed, self-contained, with the sound, the spectrogram and each label in its place."""

import base64
import io
import pickle
import re
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile
from PIL import Image

from asr.recognition import notebook
from asr.recognition.alignment import Alignment
from asr.recognition.recogniser import Recogniser, Transcript
from asr.speech.segments import Segment
from asr.speech.spectrogram import spectrogram_levels

NASTY = "<b>&'\"]]>"
PHONES = [Segment("HH", 0.1, 0.2, 0.9), Segment(NASTY, 0.2, 0.5)]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def waveform(rng):
    """A quiet second and a loud one."""
    return np.concatenate([0.001 * rng.standard_normal(16000), 0.2 * rng.standard_normal(16000)]).astype(np.float32)


def parsed(annotation):
    return ElementTree.fromstring(annotation._repr_html_())


def data(address, kind):
    start, content = address.split(",")
    assert start == f"data:{kind};base64"
    return io.BytesIO(base64.b64decode(content))


def test_sound_picture_and_labels(waveform):
    page = parsed(Transcript(PHONES, 2.0, [Segment("hi", 0.1, 0.5)], sound=lambda: waveform))
    (player,), (image,) = page.iter("audio"), page.iter(f"{SVG}image")
    samples, rate = soundfile.read(data(player.get("src"), "audio/wav"), dtype="float32")
    assert rate == 16000
    np.testing.assert_allclose(samples, waveform, atol=1e-4)
    picture = np.asarray(Image.open(data(image.get("href"), "image/png")).convert("RGBA"))
    assert picture.shape == (80, 200, 4)
    opacities = picture[..., 3].astype(float)
    np.testing.assert_array_equal(opacities, spectrogram_levels(waveform, 200).astype(int) ** 2 // 255)
    assert opacities[:, 110:].mean() > opacities[:, :90].mean() + 50
    texts = [each.text for each in page.iter(f"{SVG}text")]
    assert texts == ["hi", "HH", NASTY, "0 s", "1 s", "2 s"]
    boxes = [(float(each.get("x")), float(each.get("width"))) for each in page.iter(f"{SVG}rect")]
    assert boxes == [(pytest.approx(notebook.SECOND * s), pytest.approx(notebook.SECOND * w)) for s, w in
                     [(0.1, 0.4), (0.1, 0.1), (0.2, 0.3)]]  # fmt: skip
    titles = [each.text for each in page.iter(f"{SVG}title")]
    assert titles[1:] == ["HH: 0.100 to 0.200 s, confidence 0.90", f"{NASTY}: 0.200 to 0.500 s"]


def test_nothing_is_fetched_and_nothing_runs(waveform):
    page = Transcript(PHONES, 2.0, sound=lambda: waveform)._repr_html_()
    assert not re.search(r"<(script|link|style|iframe)|\son\w+=", page)
    addresses = re.findall(r'(?:src|href)="([^"]*)', page)
    assert len(addresses) == 2
    assert all(address.startswith("data:") for address in addresses)


def test_an_alignment_shows_its_states(waveform):
    states = [Segment("HH.1", 0.1, 0.15)]
    page = parsed(Alignment(PHONES, 2.0, [], score=-1.0, states=states, sound=lambda: waveform))
    assert [each.text for each in page.iter(f"{SVG}text")][:3] == ["HH", NASTY, "HH.1"]


def test_labels_alone_without_sound(tmp_path):
    """Of a transcript made by hand, of a file that is gone, and of a recording that is no frame long."""
    recogniser = Recogniser.from_pretrained("en-us-phones-small", beam_size=1)
    soundfile.write(tmp_path / "a.wav", np.zeros(8000), 16000)
    said = recogniser.transcribe(tmp_path / "a.wav")
    assert list(parsed(said).iter("audio"))
    (tmp_path / "a.wav").unlink()
    for each in (said, Transcript(PHONES, 2.0), Transcript(PHONES, 0.01, sound=lambda: np.zeros(160, np.float32))):
        page = parsed(each)
        assert not list(page.iter("audio"))
        assert "".join(page.itertext()) == "phones " + " ".join(phone.label for phone in each)


def test_a_transcript_keeps_no_waveform_of_a_file_and_none_of_a_long_recording(tmp_path, rng, monkeypatch):
    recogniser = Recogniser.from_pretrained("en-us-phones-small", beam_size=1)
    noise = (0.1 * rng.standard_normal(32000)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", noise, 16000, subtype="FLOAT")
    of_file, of_array = recogniser.transcribe(tmp_path / "a.wav"), recogniser.transcribe(noise, 16000)
    assert of_file == of_array
    assert len(pickle.dumps(of_file)) < 10_000
    np.testing.assert_array_equal(of_file.sound(), of_array.sound())
    assert "sound" not in repr(of_file) + of_file.to_json()
    monkeypatch.setattr(notebook, "LONGEST", 1.0)
    assert recogniser.transcribe(noise, 16000).sound is None
