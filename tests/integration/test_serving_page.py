"""The server's page in a real browser: each of its controls, and a fake microphone that plays a recording."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.speech import audio
from tests.serving import HEARD

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

BROWSER = shutil.which("chromium") or "/usr/bin/chromium"
RECORDING = Path(__file__).parents[2] / "docs" / "audio" / "glorious-scrap.flac"
DONE = "#status:has-text('Done')"
# Notes what is played: a phone is over too soon to be waited for.
PLAYED = """
    const start = AudioBufferSourceNode.prototype.start;
    window.played = [];
    AudioBufferSourceNode.prototype.start = function (...times) { played.push(times); start.apply(this, times); };
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not Path(BROWSER).exists():
        pytest.skip(f"no browser at {BROWSER}")
    heard = tmp_path_factory.mktemp("microphone") / "microphone.wav"
    soundfile.write(heard, np.pad(audio.load(RECORDING), (4000, 16000)), audio.SAMPLE_RATE)
    flags = ["--no-sandbox", "--mute-audio", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    flags.append(f"--use-file-for-fake-audio-capture={heard}%noloop")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, served):
    """The page, in which nothing may go wrong."""
    with browser.new_context(viewport={"width": 768, "height": 900}, permissions=["microphone"]) as context:
        page, faults, addresses = context.new_page(), [], []
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: addresses.append(request.url))
        page.add_init_script(PLAYED)
        page.goto(served.url)
        yield page
        assert [fault for fault in faults if "the server responded with a status of 400" not in fault] == []
        assert all(address.startswith((served.url, "blob:", "data:")) for address in addresses)


def choose(page, recording=RECORDING):
    page.set_input_files("#file", recording)
    page.wait_for_selector(DONE)


def labels(page, tier):
    return page.locator(f"[aria-label={tier}] button").all_text_contents()


def save(page, name):
    with page.expect_download() as download:
        page.get_by_role("button", name=name, exact=True).click()
    return download.value.suggested_filename, Path(download.value.path()).read_text("utf8")


def test_a_chosen_file_is_shown_played_and_saved(page, cli):
    choose(page)
    assert page.text_content("#said") == HEARD
    assert labels(page, "words") == HEARD.split()
    found = json.loads(cli("transcribe", RECORDING, "--words", "--format", "json").out)
    assert labels(page, "phones") == [phone["label"] for phone in found["phones"]]
    first = page.locator("[aria-label=phones] button").first
    assert first.get_attribute("aria-label") == "AY: 0.12 to 0.32 s, confidence 1.00"
    box, last = first.bounding_box(), page.locator("[aria-label=phones] button").last.bounding_box()
    assert box["width"] == pytest.approx(320 * 0.2, abs=1)
    assert last["x"] - box["x"] == pytest.approx(320 * (2.88 - 0.12), abs=1)
    first.click()
    page.wait_for_selector("#play:has-text('Play')")
    page.click("#play")
    page.wait_for_selector("#cursor:visible")
    page.keyboard.press("Escape")
    page.wait_for_selector("#play:has-text('Play')")
    assert page.is_hidden("#cursor")
    phone, whole = page.evaluate("played")
    assert phone == pytest.approx([0, 0.12, 0.2])
    assert whole == pytest.approx([0, 0, 3.065], abs=1e-3)
    printed = cli("transcribe", RECORDING, "--words", "--format", "textgrid").out
    assert save(page, "TextGrid") == ("glorious-scrap.TextGrid", printed)
    assert save(page, "SRT") == ("glorious-scrap.srt", f"1\n00:00:00,120 --> 00:00:02,990\n{HEARD}\n\n")
    assert save(page, "CTM")[1].startswith("glorious-scrap 1 0.120 0.310 i'd ")
    assert json.loads(save(page, "JSON")[1])["words"] == found["words"]


def test_a_known_text_is_placed(page):
    page.fill("#text", "I'd say there was going to be a glorious scrap!")
    page.select_option("#alphabet", "ipa")
    choose(page)
    assert page.text_content("#start") == "Align"
    assert labels(page, "words")[0] == "I'd"
    assert labels(page, "phones")[:3] == ["aɪ", "d", "s"]
    page.fill("#text", "")
    page.click("#start")
    page.wait_for_selector('[aria-label=words] button:has-text("i\'d")')


def test_the_microphone(page):
    page.click("#record")
    page.wait_for_timeout(4500)
    page.click("#record")
    page.wait_for_selector(DONE)
    assert page.text_content("#said").endswith("going to be a glorious scrap")
    assert save(page, "SRT")[0] == "recording.srt"


def test_a_fault_is_told(page, tmp_path):
    (tmp_path / "a.wav").write_text("no sound")
    page.set_input_files("#file", tmp_path / "a.wav")
    page.wait_for_selector("#fault:has-text('damaged, or not audio')")
    assert page.is_hidden("#result")
    messages = page.locator("#fault")
    assert messages.get_attribute("role") == "alert"
    choose(page)
    assert messages.text_content() == ""


def test_the_keyboard_is_enough(page):
    choose(page)
    page.focus("#alphabet")
    names = []
    for _ in range(8):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.textContent.trim().split('\\n')[0]"))
    assert names[0] == "Play"
    assert names[2:] == ["i'd", "AY", "TextGrid", "SRT", "JSON", "CTM"]
    page.locator("[aria-label=words] button").first.focus()
    for key, expected in (("ArrowRight", "say"), ("End", "scrap"), ("ArrowRight", "scrap"), ("Home", "i'd")):
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.textContent") == expected
    page.keyboard.press("Enter")
    assert page.evaluate("played") == [[0, 0.12, pytest.approx(0.31)]]


def ink(page):
    """The opacity of the picture's upper part, which has the waveform, and of the spectrogram, column by column."""
    return page.evaluate(
        """() => {
            const canvas = document.getElementById("picture"), pen = canvas.getContext("2d");
            const sums = [0, 64].map((top) => {
                const { data, width, height } = pen.getImageData(0, top, canvas.width, top ? 128 : 64);
                const columns = new Array(width).fill(0);
                for (let i = 0; i < width * height; i++) columns[i % width] += data[4 * i + 3];
                return columns;
            });
            return sums;
        }"""
    )


def test_the_picture_fits_any_window_and_shows_what_is_scrolled_to(page, tmp_path):
    tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000) * 0.5
    soundfile.write(tmp_path / "tone.wav", np.concatenate([np.zeros(8000), tone, np.zeros(8 * 16000), tone]), 16000)
    choose(page, tmp_path / "tone.wav")
    for width, scheme in ((360, "dark"), (768, "light"), (1400, "dark")):
        page.set_viewport_size({"width": width, "height": 700})
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(100)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        wave, spectrum = (np.array(each) for each in ink(page))
        assert spectrum[:150].sum() < 0.02 * spectrum[170:320].sum()  # half a second of silence before the tone
        assert wave[170:320].mean() > 20 * wave[:150].mean()
    page.evaluate("document.getElementById('timeline').scrollLeft = 320 * 5")
    page.wait_for_timeout(200)
    assert sum(ink(page)[1]) == 0
    page.evaluate("document.getElementById('timeline').scrollLeft = 1e6")
    page.wait_for_timeout(200)
    assert sum(ink(page)[1]) > 0
