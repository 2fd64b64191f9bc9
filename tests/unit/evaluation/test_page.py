import base64
import io
import json
import re

import numpy as np
import pytest
import soundfile
from PIL import Image

from asr.core.errors import AsrError, AudioError
from asr.evaluation import page as report_page
from asr.evaluation.media import utterance_media
from asr.speech.audio import SAMPLE_RATE

TOKENS = ["<blank>", "t", "n", "iy"]


def evaluation(**changes):
    segment = {"label": "t", "start": 0.1004, "end": 0.25, "confidence": 0.7501}
    row = {"id": "u1", "speaker": "s", "gender": None, "age": None, "duration": 1.0, "text": "tea", "per": 50.0}
    row |= {"pairs": [("t", "t"), ("iy", None), (None, "n")], "reference": [], "hypothesis": [segment]}
    row |= {"audio": "T2dn", "posteriors": None, "spectrogram": None}
    parts = dict.fromkeys(report_page.KEYS)
    parts |= {"system": "blstm", "corpus": "mini", "split": "test", "decoder": "beam 16", "utterances": [row]}
    return parts | changes


def contents(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def picture(text):
    image = Image.open(io.BytesIO(base64.b64decode(text)))
    assert image.format == "PNG"
    return np.asarray(image.convert("RGBA")).astype(int)


def test_one_file_without_links_that_forbids_requests(tmp_path):
    report_page.write(tmp_path / "report.html", [evaluation()])
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    page = (tmp_path / "report.html").read_text(encoding="utf8")
    assert set(re.findall(r"https?://[^\s\"'`<]+", page)) == {"http://www.w3.org/2000/svg"}  # a namespace
    assert re.search(r"<link[^>]*href=(?!\"data:,\")|<script[^>]*\bsrc=|@import|url\(", page) is None
    assert "default-src 'none'" in page
    assert "{{" not in page
    assert page.count("<script") == page.count("</script>") == 2


def test_text_cannot_leave_its_script_nor_the_title():
    nasty = "</script><script>alert(1)</script><!-- \u2028 & {{script}} \\"
    page = report_page.render([evaluation(system=nasty)], notes=[nasty])
    assert page.count("</script>") == 2
    assert "<script>alert" not in page
    values = contents(page)
    assert values["notes"] == [nasty]
    assert values["evaluations"][0]["system"] == nasty
    assert "<title>&lt;/script&gt;" in page


def test_labels_become_numbers_and_times_milliseconds():
    row, labels = (
        contents(report_page.render([evaluation()]))["evaluations"][0][key][:4] for key in ("utterances", "labels")
    )
    assert labels == ["t", "iy", "n"]
    assert row[0]["pairs"] == [0, 0, 1, -1, -1, 2]
    assert row[0]["hypothesis"] == [0, 100, 250, 750]
    assert row[0]["reference"] == []


def test_times_and_absent_media_take_no_room_where_nothing_is_shown():
    one = evaluation()
    one["utterances"][0]["audio"] = None
    row = contents(report_page.render([one]))["evaluations"][0]["utterances"][0]
    assert not row.keys() & {"audio", "posteriors", "spectrogram", "reference", "hypothesis"}


def test_a_shared_recording_is_stored_once():
    other = evaluation(decoder="best path")
    other["utterances"][0] |= {"spectrogram": "UE5H"}
    values = contents(report_page.render([evaluation(), other]))
    assert values["media"] == ["T2dn", "UE5H"]
    first, second = (one["utterances"][0] for one in values["evaluations"])
    assert (first["audio"], second["audio"], second["spectrogram"]) == (0, 0, 1)
    assert values["title"] == "2 evaluations compared"
    assert [one["name"] for one in values["evaluations"]] == ["beam 16", "best path"]


def test_what_is_missing_is_named_and_nothing_written(tmp_path):
    path = tmp_path / "report.html"
    incomplete = evaluation()
    del incomplete["regimes"], incomplete["pfer"]
    with pytest.raises(AsrError, match=r"^evaluation blstm lacks regimes, pfer: run `asr evaluate` on it again$"):
        report_page.write(path, [evaluation(), incomplete])
    with pytest.raises(AsrError, match=r"no evaluation for .*report\.html"):
        report_page.write(path, [])
    assert not list(tmp_path.iterdir())


def test_the_sound_is_the_recording():
    seconds = np.arange(3 * SAMPLE_RATE + 77) / SAMPLE_RATE
    waveform = (0.4 * np.sin(2 * np.pi * 440 * seconds)).astype(np.float32)
    text = utterance_media(waveform, np.log(np.full((150, 4), 0.25)), TOKENS, 0.02)["audio"]
    heard, rate = soundfile.read(io.BytesIO(base64.b64decode(text)))
    assert rate == SAMPLE_RATE
    assert len(heard) == len(waveform)
    assert np.abs(heard - waveform)[1000:-1000].max() < 0.1
    assert len(text) < 0.5 * waveform.size  # 16-bit samples in base64 are 2.7 characters each


def test_the_spectrogram_has_high_frequencies_on_top_and_10_ms_a_column():
    seconds = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    low, high = (0.3 * np.sin(2 * np.pi * frequency * seconds) for frequency in (300, 6000))
    waveform = np.where(seconds < 0.4, low, high).astype(np.float32)
    media = utterance_media(waveform, np.log(np.full((50, 4), 0.25)), TOKENS, 0.02)
    brightness = picture(media["spectrogram"])[..., :3].sum(axis=2)
    assert brightness.shape == (80, 100)
    loudest = brightness.argmax(axis=0)
    assert (loudest[:38] > 60).all()  # 300 Hz: a tenth of the way up the mel scale
    assert (loudest[42:] < 20).all()


def test_the_posteriorgram_follows_the_frames_and_their_probabilities():
    posteriors = np.full((4, 4), 0.01)  # n never is likely
    posteriors[[0, 1, 2, 3], [0, 3, 0, 1]] = [0.97, 0.97, 0.25, 0.97]
    media = utterance_media(np.zeros(16 * 160, np.float32), np.log(posteriors), TOKENS, 0.04)
    assert media["posterior_tokens"] == ["iy", "t", "<blank>"]
    opacity = picture(media["posteriors"])[..., 3] / 255
    assert opacity.shape == (3, 16)
    np.testing.assert_allclose(opacity[:, 1], np.sqrt([0.01, 0.01, 0.97]), atol=0.003)  # 10 ms: the first frame of 40
    np.testing.assert_allclose(opacity[:, 5], np.sqrt([0.97, 0.01, 0.01]), atol=0.003)
    np.testing.assert_allclose(opacity[:, 9], np.sqrt([0.01, 0.01, 0.25]), atol=0.003)
    np.testing.assert_allclose(opacity[:, 15], np.sqrt([0.01, 0.97, 0.01]), atol=0.003)


def test_columns_past_the_last_frame_are_empty():
    log_probs = np.log(np.full((2, 4), 0.25))
    media = utterance_media(np.zeros(10 * 160, np.float32), log_probs, TOKENS, 0.03)
    opacity = picture(media["posteriors"])[..., 3]
    assert (opacity[:, :6] > 0).all()
    assert (opacity[:, 6:] == 0).all()


def test_a_recording_shorter_than_a_frame_is_refused():
    with pytest.raises(AudioError):
        utterance_media(np.zeros(399, np.float32), np.log(np.full((1, 4), 0.25)), TOKENS, 0.03)
