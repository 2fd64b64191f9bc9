"""The server's page in a real browser: each of its controls, and a fake microphone that plays a recording."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.speech import audio, elan
from tests.browser import RECORDING, chromium, violations
from tests.conftest import PATIENCE
from tests.serving import heard, subtitle

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

DONE = ".status:has-text('Done')"
SECOND = 320  # pixels
SIZES = {360: "dark", 768: "light", 1400: "dark"}
# Notes what is played: a phone is over too soon to be waited for. A whole recording is played so slowly that it is not.
PLAYED = """
    const start = AudioBufferSourceNode.prototype.start;
    window.played = [];
    AudioBufferSourceNode.prototype.start = function (...times) {
        played.push(this.buffer.duration);
        if (this.buffer.duration > 3) this.playbackRate.value = 0.001;
        start.apply(this, times);
    };
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("microphone")) as browser:
        yield browser


@pytest.fixture
def page(browser, served):
    """The page, in which nothing may go wrong."""
    with browser.new_context(viewport={"width": 768, "height": 900}, permissions=["microphone"]) as context:
        page, faults, addresses = context.new_page(), [], []
        page.set_default_timeout(1000 * PATIENCE)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: addresses.append(request.url))
        page.add_init_script(PLAYED)
        page.goto(served.url)
        yield page
        assert [fault for fault in faults if "the server responded with a status of 40" not in fault] == []
        assert all(address.startswith((served.url, "blob:", "data:")) for address in addresses)


def choose(page, *recordings):
    page.set_input_files("#file", recordings or RECORDING)
    page.wait_for_selector(DONE)


def buttons(page, tier):
    return page.locator(f"[aria-label={tier}] button")


def labels(page, tier):
    return buttons(page, tier).all_text_contents()


def titles(page, tier, first, last):
    return [buttons(page, tier).nth(i).get_attribute("aria-label") for i in range(first, last)]


def title(phone):
    return f"{phone['label']}: {phone['start']:.2f} to {phone['end']:.2f} s, confidence {phone['confidence']:.2f}"


def played(page, count):
    """How many seconds each of the first stretches lasted that were played."""
    for _ in range(10 * PATIENCE):  # page.wait_for_function would need a weaker Content-Security-Policy
        if len(found := page.evaluate("played")) >= count:
            return found
        page.wait_for_timeout(100)
    raise AssertionError(f"{found} was played")


def save(page, name):
    with page.expect_download() as download:
        page.get_by_role("button", name=name, exact=True).click()
    return download.value.suggested_filename, Path(download.value.path())


def test_a_chosen_file_is_shown_played_and_saved(page, cli):
    choose(page)
    assert page.text_content(".said") == heard().text
    found = json.loads(cli("transcribe", RECORDING, "--words", "--format", "json").out)
    page.click(".whole")
    playwright.expect(buttons(page, "phones")).to_have_count(len(found["phones"]))
    assert labels(page, "words") == heard().text.split()
    assert labels(page, "phones") == [phone["label"] for phone in found["phones"]]
    page.click(".in")
    page.click(".out")
    page.focus(".timeline")
    page.keyboard.press("+")
    page.keyboard.press("-")
    page.keyboard.press("Home")
    first, length = buttons(page, "phones").first, found["phones"][0]["end"] - found["phones"][0]["start"]
    playwright.expect(first).to_have_attribute("aria-label", title(found["phones"][0]))
    assert first.bounding_box()["width"] == pytest.approx(SECOND * length, abs=1)
    first.click()
    assert played(page, 1) == pytest.approx([length], abs=1e-3)
    page.wait_for_selector(".play:has-text('Play')")
    page.click(".play")
    assert played(page, 2)[1] == pytest.approx(3.065, abs=1e-3)
    page.wait_for_selector(".cursor:visible")
    page.keyboard.press("Escape")
    page.wait_for_selector(".play:has-text('Play')")
    assert page.is_hidden(".cursor")
    name, path = save(page, "TextGrid")
    assert name == "glorious-scrap.TextGrid"
    assert path.read_text("utf8") == cli("transcribe", RECORDING, "--words", "--format", "textgrid").out
    assert save(page, "SRT")[1].read_text("utf8") == "1\n" + subtitle(",")
    start, length = (
        f"{value:.3f}" for value in (heard().words[0].start, heard().words[0].end - heard().words[0].start)
    )
    assert save(page, "CTM")[1].read_text("utf8").startswith(f"glorious-scrap 1 {start} {length} i'd ")
    assert json.loads(save(page, "JSON")[1].read_text("utf8"))["words"] == found["words"]
    name, path = save(page, "WAV")
    np.testing.assert_allclose(soundfile.read(path)[0], audio.load(RECORDING), atol=2 / 32768)


def test_labels_and_boundaries_are_edited_undone_and_saved(page):
    choose(page)
    s, ey = (f"confidence {phone.confidence:.2f}" for phone in heard().phones[2:4])
    start, end, last = heard().phones[2].start, heard().phones[2].end, heard().phones[3].end
    moved, earlier = start + 0.05, end - 0.02
    box = buttons(page, "phones").nth(2).bounding_box()
    page.mouse.move(box["x"], box["y"] + 9)
    page.mouse.down()
    page.mouse.move(box["x"] + SECOND * 0.05, box["y"] + 9, steps=3)
    page.mouse.up()
    page.wait_for_selector(".undo:enabled")
    assert titles(page, "phones", 1, 3)[1] == f"S: {moved:.2f} to {end:.2f} s, edited, {s}"
    assert titles(page, "words", 0, 2)[1].startswith(f"say: {moved:.2f} to")  # the boundary is the word's, too
    buttons(page, "phones").nth(2).focus()
    for key in ("F2", "S", "H", "Enter", "Tab", "Tab", "ArrowDown", "ArrowDown", "Tab"):
        page.keyboard.press(key)
    asked = "() => { const leave = new Event('beforeunload', { cancelable: true }); return !dispatchEvent(leave); }"
    assert page.evaluate(asked)
    assert titles(page, "phones", 2, 4) == [
        f"SH: {moved:.2f} to {earlier:.2f} s, edited",
        f"EY: {earlier:.2f} to {last:.2f} s, edited, {ey}",
    ]
    tiers = elan.read_tiers(save(page, "eaf")[1])
    assert [(each.label, each.start, each.end) for each in tiers["phones"][1:4]] == [
        ("D", heard().phones[1].start, round(moved, 2)),
        ("SH", round(moved, 2), round(earlier, 2)),
        ("EY", round(earlier, 2), last),
    ]
    page.click(".undo")
    page.keyboard.press("Control+z")  # a time of the editor goes step by step
    page.keyboard.press("Control+z")
    assert titles(page, "phones", 2, 3) == [f"S: {moved:.2f} to {end:.2f} s, edited, {s}"]
    page.click(".redo")
    page.click(".undo")
    page.click(".undo")
    assert titles(page, "phones", 2, 3) == [f"S: {start:.2f} to {end:.2f} s, {s}"]
    assert page.is_disabled(".undo")
    assert not page.evaluate(asked)
    page.fill(".label", "")
    page.keyboard.press("Enter")
    assert labels(page, "phones")[:3] == ["AY", "D", "EY"]


def test_boundaries_stay_between_their_neighbours(page):
    moved = page.evaluate(
        """async () => {
            const { moveBoundary } = await import("./page/edits.js");
            const tiers = { words: [{ start: 0.1, end: 0.3 }, { start: 0.3, end: 0.3 }, { start: 0.5, end: 0.6 }],
                            phones: [{ start: 0.1, end: 0.2 }, { start: 0.2, end: 0.3 }, { start: 0.5, end: 0.6 }] };
            const times = (from, to) => Object.values(moveBoundary(tiers, from, to, 1)).map(
                (tier) => tier.map(({ start, end }) => [start, end]).flat());
            return [times(0.3, 9), times(0.3, 0), times(0.2, 0.25), times(0.6, 9)];
        }"""
    )
    assert moved == [
        [[0.1, 0.5, 0.5, 0.5, 0.5, 0.6], [0.1, 0.2, 0.2, 0.5, 0.5, 0.6]],
        [[0.1, 0.21, 0.21, 0.21, 0.5, 0.6], [0.1, 0.2, 0.2, 0.21, 0.5, 0.6]],
        [[0.1, 0.3, 0.3, 0.3, 0.5, 0.6], [0.1, 0.25, 0.25, 0.3, 0.5, 0.6]],
        [[0.1, 0.3, 0.3, 0.3, 0.5, 1], [0.1, 0.2, 0.2, 0.3, 0.5, 1]],
    ]


def test_a_known_text_is_placed_and_scored(page):
    page.fill("#text", "I'd say there was going to be a glorious scrap!")
    page.select_option("#alphabet", "ipa")
    choose(page)
    assert labels(page, "words")[0] == "I'd"
    assert labels(page, "phones")[:3] == ["aɪ", "d", "s"]
    page.click("summary")
    assert page.text_content(".again button") == "Align"
    page.check(".again .learner")
    page.click(".again button:has-text('Score')")
    page.wait_for_selector(".scores:has-text('fluency')")
    assert titles(page, "words", 0, 1)[0].endswith(" s, good, accuracy 10.0 of 10")
    page.fill(".known", "Mother has eaten a gun")
    page.click(".again button:has-text('Score')")
    page.wait_for_selector(".fault:has-text('are not heard')")
    assert page.text_content(".scores") == ""
    assert "of 5 words are not heard" in page.text_content("li .fault")
    assert page.is_visible(".grades")
    assert page.is_hidden(".confidences")
    assert titles(page, "words", 0, 1)[0].startswith("Mother: 0.")
    assert titles(page, "words", 0, 1)[0].endswith(" s, wrong, not heard, no score")
    wrong = page.locator("[aria-label=phones] [data-look=wrong]").first
    assert wrong.text_content() == "m ✗"
    assert wrong.get_attribute("aria-label").split(", ")[1] == "wrong"
    mistake = page.locator(".mistakes button").first
    assert re.match("Mother: said .+ for m", mistake.text_content())
    mistake.click()
    assert played(page, 1)[0] > 0.03


def test_partial_results_are_shown_as_they_come(page):
    """A script answers here: from a server on a busy machine none may come before the phrase has ended."""
    phones = [{"label": label, "start": i / 10} for i, label in enumerate(["AY", "D", "S", "EY"])]
    answer = json.dumps({"partial": "i'd say", "phones": phones})
    page.route_web_socket("**/v1/stream", lambda socket: socket.on_message(lambda message: socket.send(answer)))
    page.click("#listen")
    page.wait_for_selector("#live:has(#partial:has-text('i\\'d say')):has(#phones:has-text('AYDSEY'))")
    assert page.is_disabled("#record")


def test_speech_is_recognised_as_it_comes(page):
    page.click("#listen")
    page.wait_for_selector("#finals:has-text('glorious scrap')")
    page.click("#listen")
    page.wait_for_selector(DONE)
    assert page.text_content("h2 >> nth=-1") == "live.wav"
    assert page.text_content(".said").endswith("going to be a glorious scrap")
    page.click(".whole")
    assert labels(page, "phones")[-4:] == ["K", "R", "AE", "P"]
    assert page.is_hidden("#live")


def test_a_stream_that_breaks_off_leaves_a_recording(page):
    page.route_web_socket("**/v1/stream", lambda socket: socket.close())
    page.click("#listen")
    page.wait_for_selector("#fault:has-text('broke off')")
    page.wait_for_timeout(2500)
    page.click("#listen")
    page.wait_for_selector(DONE)
    assert page.text_content(".said").startswith("i'd say")


def test_a_recording_is_made(page):
    page.click("#record")
    page.wait_for_selector("#meter:visible")
    page.wait_for_timeout(2500)
    page.click("#record")
    page.wait_for_selector(DONE)
    assert page.text_content(".said").startswith("i'd say")
    assert save(page, "WAV")[0] == "recording.wav"


def test_several_recordings_and_faults(page, tmp_path):
    (tmp_path / "a.wav").write_text("no sound")
    choose(page, tmp_path / "a.wav", RECORDING)
    page.wait_for_selector("article[aria-label='a.wav'] .fault:has-text('damaged, or not audio')")
    assert page.locator(".fault[role=alert]").count() == 3
    other = page.locator("article[aria-label='glorious-scrap.flac']")
    assert other.locator(".said").text_content() == heard().text
    page.set_viewport_size({"width": 1400, "height": 900})
    boxes = [page.locator("article").nth(i).bounding_box() for i in range(2)]
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["x"] != boxes[1]["x"]
    page.evaluate(
        """() => {
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File(["no sound"], "dropped.wav"));
            dispatchEvent(new DragEvent("drop", { dataTransfer, cancelable: true }));
        }"""
    )
    page.wait_for_selector("article[aria-label='dropped.wav'] .fault:has-text('damaged, or not audio')")
    page.get_by_role("button", name="Close dropped.wav").click()
    page.get_by_role("button", name="Close a.wav").click()
    assert page.evaluate("document.activeElement.ariaLabel") == "Close glorious-scrap.flac"
    assert page.locator("article").count() == 1


def test_a_token_is_asked_for(page):
    def answer(route):
        if route.request.headers.get("authorization") == "Bearer the token":
            route.continue_()
        else:
            route.fulfill(status=401, json={"error": {"message": "the token is missing or wrong"}})

    page.route("**/v1/phones", answer)
    page.set_input_files("#file", RECORDING)
    page.wait_for_selector("li .fault:has-text('the token is missing')")
    page.fill("#token", "the token")
    page.keyboard.press("Tab")
    page.wait_for_selector(DONE)


def test_the_keyboard_is_enough(page):
    choose(page)
    page.focus("#alphabet")
    names = []
    for _ in range(10):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.ariaLabel || document.activeElement.textContent.trim()"))
    assert names[:5] == ["Close glorious-scrap.flac", "Play", "Zoom in", "Zoom out", "Whole"]
    assert names[6] == "Timeline of glorious-scrap.flac"
    assert [name.split(":")[0] for name in names[7:9]] == ["i'd", "AY"]
    buttons(page, "words").first.focus()
    for key, expected in (("ArrowRight", "say"), ("End", "scrap"), ("ArrowRight", "scrap"), ("Home", "i'd")):
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.textContent") == expected
    page.keyboard.press("Enter")
    assert played(page, 1) == pytest.approx([heard().words[0].end - heard().words[0].start], abs=1e-3)


def ink(page):
    """The opacity of the waveform, the spectrogram and the heat map, column by column."""
    return page.evaluate(
        """() => [[".picture", 0, 64], [".picture", 64, 128], [".heat", 9, 351]].map(([name, top, height]) => {
            const canvas = document.querySelector(name), pen = canvas.getContext("2d", { willReadFrequently: true });
            const { data, width } = pen.getImageData(0, top, canvas.width, height), columns = new Array(width).fill(0);
            for (let i = 0; i < width * height; i++) columns[i % width] += data[4 * i + 3];
            return columns;
        })"""
    )


def scroll(page, left):
    """Scroll, and wait until everything is drawn."""
    page.evaluate(
        """async (left) => {
            document.querySelector(".timeline").scrollLeft = left;
            for (let i = 0; i < 3; i++) await new Promise(requestAnimationFrame);
        }""",
        left,
    )
    page.wait_for_selector(".timeline[aria-busy=false]")


def test_the_picture_fits_any_window_and_shows_what_is_scrolled_to(page, tmp_path):
    speech = audio.load(RECORDING)
    soundfile.write(tmp_path / "a.wav", np.concatenate([np.zeros(24000), speech, np.zeros(5 * 16000), speech]), 16000)
    choose(page, tmp_path / "a.wav")
    page.check(".posteriors")
    page.wait_for_selector(".heat:visible")
    for width, scheme in SIZES.items():
        page.set_viewport_size({"width": width, "height": 700})
        page.emulate_media(color_scheme=scheme)
        scroll(page, 320)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        wave, spectrum, heat = (np.array(each) for each in ink(page))
        silence, voice = slice(70, 160), slice(240, 300)
        assert wave[voice].mean() > 3 * wave[silence].mean()
        assert spectrum[silence].sum() < 0.02 * spectrum[voice].sum()
        assert heat[silence].sum() < 0.1 * heat[voice].sum()
    scroll(page, 1e6)
    assert sum(ink(page)[1]) > 0
    assert labels(page, "words")[-1] == "scrap"


def test_of_an_hour_only_what_is_seen_is_made(page):
    """Labels of an hour beside the sound of a few seconds: the picture of the rest stays empty."""
    phones = [{"label": "AH", "start": i / 10, "end": (i + 1) / 10, "confidence": 0.9} for i in range(36000)]
    page.route("**/v1/phones", lambda route: route.fulfill(json={"duration": 3600, "phones": phones}))
    choose(page)
    assert len(labels(page, "phones")) < 40
    buttons(page, "phones").first.focus()
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.title").startswith("AH: 3599.90 to 3600.00 s")
    assert len(labels(page, "phones")) < 40
    page.click(".whole")
    assert page.text_content(".tier") == "Zoom in to see 36000 phones"


def test_an_audit_of_accessibility_finds_nothing(page):
    page.fill("#text", "Mother has eaten a gun")
    page.check("#learner")
    choose(page)
    page.check(".posteriors")
    page.click("summary")
    page.fill("#text", "")
    page.set_input_files("#file", RECORDING)
    page.wait_for_selector(f"li:first-child {DONE}")
    page.evaluate("document.getElementById('live').hidden = false")
    assert violations(page) == []
