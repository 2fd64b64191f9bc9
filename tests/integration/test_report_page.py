import base64
import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from asr.evaluation.media import utterance_media
from asr.evaluation.metrics import align
from asr.evaluation.page import write
from asr.speech.audio import SAMPLE_RATE

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--mute-audio", "--autoplay-policy=no-user-gesture-required")
FLAGS += ("--no-first-run", "--disable-background-networking", "--remote-debugging-pipe")
# Chromium reads commands on descriptor 3 and answers on 4.
LAUNCHER = "import os, sys; r, w, *command = sys.argv[1:]; os.dup2(int(r), 3); os.dup2(int(w), 4);"
LAUNCHER += "os.execv(command[0], command)"


class Page:
    """A headless browser's page, driven over the DevTools protocol: JSON messages that end in NUL."""

    def __init__(self, profile):
        theirs, self._commands = os.pipe()
        self._answers, ours = os.pipe()
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (theirs, ours)]  # out of the way of 3 and 4
        for end in (theirs, ours):
            os.close(end)
        command = [sys.executable, "-c", LAUNCHER, *map(str, ends), BROWSER, *FLAGS, f"--user-data-dir={profile}"]
        self._process = subprocess.Popen(
            command, pass_fds=ends, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for end in ends:
            os.close(end)
        self._numbers, self._buffer, self._session, self.events = itertools.count(1), b"", {}, []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._session = {"sessionId": session}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method, **parameters):
        number = next(self._numbers)
        message = json.dumps({"id": number, "method": method, "params": parameters} | self._session)
        os.write(self._commands, message.encode() + b"\0")
        while (answer := self._receive()).get("id") != number:
            self.events.append(answer)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def _receive(self):
        deadline = time.monotonic() + 60
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], max(0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            chunk = os.read(self._answers, 1 << 20)
            assert chunk, "the browser has ended"
            self._buffer += chunk
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)

    def open(self, path, width=1400, height=1000, dark=False):
        self.resize(width, height)
        self.send("Emulation.setEmulatedMedia", features=self._features(dark))
        self.events.clear()
        self.send("Page.navigate", url=path.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())
        self.settle()

    def resize(self, width, height=1000):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **size)

    @staticmethod
    def _features(dark):
        values = {"prefers-color-scheme": "dark" if dark else "light", "prefers-reduced-motion": "reduce"}
        return [{"name": name, "value": value} for name, value in values.items()]

    def settle(self):
        """Wait until charts are drawn: two frames after the layout is known."""
        self.run(
            "new Promise((done) => setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(done)), 100))"
        )

    def run(self, code):
        """Run JavaScript, wait for its promise if it gives one, and return what it gives."""
        answer = self.send("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def texts(self, selector):
        return self.run(f"[...document.querySelectorAll({json.dumps(selector)})].map((node) => node.textContent)")

    def press(self, key):
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def picture(self, path, whole=True):
        values = self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(values["data"]))

    def close(self):
        self._session = {}
        self.send("Browser.close")
        self._process.wait(timeout=30)
        os.close(self._commands)
        os.close(self._answers)


SECTIONS = ["summary", "regimes", "groups", "training", "confusions", "classes", "lengths", "calibration", "boundaries"]
SECTIONS += ["utterances"]
TROUBLE = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
LABELS = ["aa", "b", "iy", "s"]
SECONDS = 1.5


def media(rng):
    """A glide from 200 Hz to 2 kHz, and posteriors of four labels, one after the other."""
    seconds = np.arange(round(SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    waveform = 0.3 * np.sin(2 * np.pi * (200 + 600 * seconds) * seconds) + rng.normal(0, 1e-3, len(seconds))
    posteriors = np.full((50, 5), 0.02)
    posteriors[np.arange(50), [0, 1, 0, 2, 0, 3, 0, 4, 0, 0] * 5] = 0.92
    return utterance_media(waveform.astype(np.float32), np.log(posteriors), ["<blank>", *LABELS], 0.03)


def utterance(number, num_wrong, shown):
    """Twenty phones, of which the first `num_wrong` are replaced."""
    reference = LABELS * 5
    hypothesis = ["uh"] * num_wrong + reference[num_wrong:]
    segments = [
        {"label": label, "start": 0.3 * i, "end": 0.3 * i + 0.2, "confidence": 0.5} for i, label in enumerate(LABELS)
    ]
    return {
        "id": f"utt-{number:04}",
        "speaker": f"speaker{number % 3}",
        "gender": None,
        "age": 31.0,
        "duration": SECONDS + number / 100,
        "text": f"sentence number {number} </script><b>bold</b>",
        "per": 100 * num_wrong / 20,
        "pairs": align(reference, hypothesis),
        "reference": segments,
        "hypothesis": segments,
        "audio": None,
        "posteriors": None,
        "spectrogram": None,
    } | shown


def evaluation(system, num_utterances, shown):
    wrongs = [(7 * i) % 20 for i in range(num_utterances)]
    per = 100 * sum(wrongs) / (20 * num_utterances)
    regime = {"name": "39, sil scored", "description": "the strict one", "headline": True, "per": per}
    regime |= {"interval": [0.9 * per, 1.1 * per], "interval_speakers": None, "num_phones": 20 * num_utterances}
    regime |= {"substitutions": sum(wrongs), "insertions": 0, "deletions": 0, "num_utterances": num_utterances}
    group = {"per": per, "num_phones": 20, "num_utterances": 1}
    bins = [{"low": 0.0, "high": 1.0, "confidence": 0.6, "accuracy": 0.5, "count": 9}]
    epoch = {"updates": 10, "dev_per": 50.0, "learning_rate": 0.1, "seconds": 2.0}
    return {
        "system": system,
        "corpus": "mini",
        "split": "test",
        "decoder": "best path",
        "command": "asr evaluate runs/mini",
        "frame_shift": 0.03,
        "regimes": [regime, regime | {"name": "61 unfolded", "headline": False}],
        "groups": {
            "speaker": [group | {"group": f"speaker{i}"} for i in range(3)],
            "gender": [],
            "age": [],
            "length": [],
        },
        "confusions": {"labels": LABELS, "counts": np.diag([9, 8, 7, 6]).tolist(), "deletions": [1, 0, 0, 0]}
        | {"insertions": [0, 2, 0, 0]},
        "classes": {"manner": [group | {"group": "vowel", "most_confused_with": None}], "place": []},
        "pfer": 12.5,
        "boundaries": [
            {"name": "posteriors", "within": {"10": 50.0, "20": 87.5, "50": 99.0}, "mean_ms": -1.5, "median_ms": 0.5}
            | {"histogram": {"edges_ms": [-20.0, 0.0, 20.0], "counts": [3, 5]}, "num_boundaries": 8}
        ],
        "calibration": {"ece": 0.1, "ece_raw": 0.2, "bins": bins, "bins_raw": bins},
        "training": [epoch | {"epoch": i, "loss": 3.0 / i} for i in (1, 2, 3)],
        "utterances": [utterance(i, wrong, shown if i == 3 else {}) for i, wrong in enumerate(wrongs)],
    }


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if BROWSER is None:
        pytest.skip("no chromium, chromium-browser or google-chrome on the path")
    page = Page(tmp_path_factory.mktemp("profile"))
    yield page
    page.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    shown = media(np.random.default_rng(1))
    one = evaluation("blstm", 40, shown)
    bare = evaluation("bare", 5, {}) | {"boundaries": None, "calibration": None, "pfer": None, "training": []}
    large = evaluation("large", 2620, {})
    sized = {"parameters": 3812345, "training_seconds": 90.0, "times_real_time": 1250.0}
    contents = {"one": [one], "two": [one | sized, bare], "large": [large]}
    differences = [
        {
            "systems": pair,
            "difference": 1.5,
            "interval": [1.0, 2.0],
            "p_value": p_value,
            "p_value_corrected": 3 * p_value,
        }
        for pair, p_value in ((["b", "a"], 0.01), (["c", "a"], 0.02), (["c", "b"], 0.0001))
    ]
    systems = [{"name": name} for name in ("a", "b", "c")]
    table = {"corpus": "mini", "split": "test", "systems": systems, "differences": differences}
    for name, evaluations in contents.items():
        tables = [table] if name == "two" else []
        write(folder / f"{name}.html", evaluations, ["The difference is significant."], tables)
    return {name: folder / f"{name}.html" for name in contents}


@pytest.fixture
def page(browser, files):
    browser.open(files["one"])
    yield browser
    browser.settle()
    assert [event["params"] for event in browser.events if event["method"] in TROUBLE] == []
    requests = [e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"]
    assert requests  # the page itself, from a file
    assert {url.split(":")[0] for url in requests} <= {"file", "data"}


def rates(page):
    return [float(text.split()[0]) for text in page.texts("#utterances tbody td:nth-child(3)")]


def click(page, text, selector="button"):
    page.run(
        f"[...document.querySelectorAll({json.dumps(selector)})]"
        f".find((node) => node.textContent.trim().startsWith({json.dumps(text)})).click()"
    )


def type_filter(page, text):
    page.run(
        "{ const box = document.querySelector('#utterances input[type=search]');"
        f" box.value = {json.dumps(text)}; box.dispatchEvent(new Event('input')); }}"
    )


def test_every_section_is_there_and_every_chart_drawn(page):
    assert page.run("[...document.querySelectorAll('#evaluation section')].map((node) => node.id)") == SECTIONS
    assert page.run("[...document.querySelectorAll('.chart')].every((node) => node.querySelector('svg'))")
    assert page.run("document.querySelectorAll('.chart').length") == 6
    assert "NaN" not in page.run("document.querySelector('main').outerHTML")
    summary = page.texts("#summary .figure")
    assert [text for text in summary if "%" in text] == ["47.50 %", "12.50 %", "87.5 %"]
    assert page.texts("#contents a")[-1] == "Utterances"


def test_text_is_never_read_as_html(page):
    assert page.run("document.querySelector('.detail p').textContent").endswith("</script><b>bold</b>”")
    assert page.run("document.querySelector('.detail b')") is None


def test_sorting_by_error_rate_orders_the_rows_and_turns_round(page):
    worst = [95, 95, 90, 90, 85, 85, 80, 80, 75, 75, 70, 70, 65, 65, 60]  # (7 i mod 20) / 20 of 40 utterances, in pairs
    head = "document.querySelector('#utterances th:nth-child(3)').getAttribute('aria-sort')"
    assert rates(page) == worst
    assert page.run(head) == "descending"
    click(page, "PER", "#utterances th button")
    assert rates(page) == [0, 0, 5, 5, 10, 10, 15, 15, 20, 20, 25, 25, 30, 30, 35]
    assert page.run(head) == "ascending"
    click(page, "PER", "#utterances th button")
    assert rates(page) == worst
    click(page, "Utterance", "#utterances th button")
    assert page.run(head) is None
    assert page.texts("#utterances tbody td:first-child")[:4] == ["utt-0000", "utt-0001", "utt-0002", "utt-0003\u00a0♪"]


def test_leafing_reaches_every_utterance_once(page):
    seen = []
    for place in ("1–15 of 40", "16–30 of 40", "31–40 of 40"):
        assert page.texts(".pager span") == [place]
        seen += page.texts("#utterances tbody td:first-child")
        click(page, "Next")  # does nothing on the last
    assert len(set(seen)) == len(seen) == 40


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("utt-003", 10),
        ("SPEAKER1", 13),
        ("number 7 ", 1),
        ("aa → uh", 38),  # all but the two without an error
        ("iy->uh", 34),  # at least three errors
        ("– → uh", 0),
        ("xx → aa", 0),
        ("nowhere", 0),
    ],
)
def test_the_filter_finds_ids_speakers_words_and_confusions(page, typed, found):
    type_filter(page, typed)
    text = page.texts(".pager span")[0]
    assert text.endswith(f"of {found}") if found else text == "no utterance matches"
    assert page.run("document.querySelectorAll('#utterances tbody tr').length") == min(found, 15)


def test_a_chosen_utterance_shows_its_aligned_phones(page):
    type_filter(page, "utt-0001")  # 7 of 20 phones wrong
    click(page, "utt-0001", "#utterances tbody button")
    assert page.texts(".detail h3")[0] == "utt-0001"
    assert page.run("document.querySelectorAll('.alignment .substituted').length") == 7
    assert page.run("document.querySelectorAll('.alignment .correct').length") == 13
    assert page.texts(".alignment li:first-child span") == ["aa", "uh"]
    assert "7 substituted, 0 inserted, 0 deleted" in page.texts(".detail p")[1]
    assert page.run("document.querySelector('.detail audio')") is None


def test_the_player_plays_and_the_playhead_follows(page):
    ready = "new Promise((done) => { const a = document.querySelector('audio'); const wait = () =>"
    ready += " a.readyState > 2 ? done(a.duration) : a.error ? done(a.error.message) : setTimeout(wait, 20); wait(); })"
    assert page.run(ready) == pytest.approx(SECONDS, abs=0.05)
    played = "(async () => { const a = document.querySelector('audio'); await a.play(); while (a.currentTime < 0.4)"
    played += " await new Promise((done) => setTimeout(done, 20)); a.pause(); return a.currentTime; })()"
    seconds = page.run(played)
    left = page.run("parseFloat(document.querySelector('.playhead').style.left)")
    assert left == pytest.approx(100 * seconds / (SECONDS + 0.03), abs=10)  # its duration is said to be 1.53 s


def test_a_phone_plays_from_its_start_to_its_end(page):
    page.run(
        "(async () => { const a = document.querySelector('audio'); document.querySelectorAll('.phone')[2].click();"
        " await new Promise((done) => a.addEventListener('pause', done)); })()"
    )
    assert 0.65 < page.run("document.querySelector('audio').currentTime") < 1.3  # iy lasts from 0.6 to 0.8 of 1.5 s
    assert page.run("document.querySelector('.phone.playing')") is None


def test_pictures_are_as_wide_as_the_recording_is_long(page):
    sizes = page.run(
        "Promise.all([...document.querySelectorAll('.lane img')].map((image) =>"
        " image.decode().then(() => [image.naturalWidth, image.naturalHeight])))"
    )
    assert sizes == [[150, 80], [150, 5]]  # 10 ms a column; mel bins; labels and the blank
    assert page.texts(".rows span") == [*LABELS, "<blank>"]
    lefts = page.run("[...document.querySelectorAll('.lane')].map((node) => node.getBoundingClientRect().left)")
    assert len(set(lefts)) == 1


def test_a_cell_of_the_heat_map_says_its_pair_and_count(page):
    page.run("document.querySelector('#confusions [role=application]').focus()")
    page.press("ArrowRight")
    assert page.texts(".readout span") == ["aa → aa: 9 of 10 (90.0 %)"]
    for _ in LABELS:
        page.press("ArrowRight")
    assert page.texts(".readout span") == ["aa deleted: 1 of 10 (10.0 %)"]
    click(page, "List the utterances")
    assert page.run("document.querySelector('input[type=search]').value") == "aa → –"
    assert page.texts("#confusions tbody button") == ["– → b", "aa → –"]


def test_a_point_opens_its_utterance(page):
    page.run("document.querySelectorAll('#lengths .point')[5].dispatchEvent(new Event('click'))")
    assert page.texts(".detail h3")[0] == "utt-0005"


@pytest.mark.parametrize("width", [420, 1400])
@pytest.mark.parametrize("name", ["one", "two"])
def test_nothing_is_wider_than_the_window(page, files, name, width):
    page.open(files[name], width)
    assert page.run("innerWidth") == width
    assert page.run("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    wide = "[...document.querySelectorAll('section, .detail, .chart, audio')].filter((node) =>"
    wide += " !node.parentElement.closest('.scroll') && node.getBoundingClientRect().right > innerWidth).length"
    assert page.run(wide) == 0
    page.resize(1400 + 420 - width)
    page.settle()
    widths = "['svg', '.chart'].map((part) => document.querySelector(`#training ${part}`).clientWidth)"
    assert len(set(page.run(widths))) == 1  # drawn again for the new width


def luminance(page, selector, property_name):
    numbers = page.run(
        f"getComputedStyle(document.querySelector({selector!r})).{property_name}.match(/[\\d.]+/g).map(Number)"
    )
    return sum(numbers[:3]) / 3


def test_dark_is_what_the_system_or_the_button_says(page, files):
    assert luminance(page, "body", "backgroundColor") > 200 > 100 > luminance(page, "h2", "color")
    page.run("document.getElementById('theme').click()")
    assert luminance(page, "body", "backgroundColor") < 60
    page.open(files["one"], dark=True)
    assert luminance(page, "body", "backgroundColor") < 60 < 200 < luminance(page, "h2", "color")
    page.run("document.getElementById('theme').click()")
    assert luminance(page, "body", "backgroundColor") > 200


def test_several_evaluations_are_compared_and_chosen_from(page, files):
    page.open(files["two"])
    assert page.texts("#compared .rates tbody th") == ["blstmmini test, best path", "baremini test, best path"]
    assert page.texts("#compared .rates tbody tr:first-child td")[6:9] == ["3,812,345", "1 min 30 s", "1,250"]
    assert page.texts("#compared .rates tbody tr:last-child td")[6:9] == ["–", "–", "–"]
    assert page.texts("#compared p")[0] == "The difference is significant."
    assert page.run("document.querySelectorAll('#compared .bar-interval').length") == 2
    click(page, "bare")
    assert page.texts("#choice [aria-pressed=true]") == ["bare"]
    left = [name for name in SECTIONS if name not in ("training", "calibration", "boundaries")]
    assert page.run("[...document.querySelectorAll('#evaluation section')].map((node) => node.id)") == left
    assert page.texts(".pager span") == ["1–5 of 5"]


def test_differences_of_many_systems_stand_in_a_triangle(page, files):
    page.open(files["two"])
    assert page.texts(".triangle thead th") == ["System", "1", "2"]
    assert page.texts(".triangle tbody th") == ["2 b", "3 c"]
    assert page.texts(".triangle td") == ["1.50", "", "1.50", "1.50"]
    significant = "[...document.querySelectorAll('.triangle td')].map((cell) => cell.matches('.significant'))"
    assert page.run(significant) == [True, False, False, True]
    page.run("document.querySelector('.triangle td').dispatchEvent(new PointerEvent('pointermove', {bubbles: true}))")
    assert page.texts("#tip") == ["b over a: 1.00 – 2.00 points, p = 0.010, p = 0.030 by Holm"]


def test_thousands_of_utterances_are_quick_to_sort_and_filter(page, files):
    page.open(files["large"])
    assert page.texts(".pager span") == ["1–15 of 2,620"]
    start = page.run("performance.now()")
    click(page, "Phones", "#utterances th button")
    type_filter(page, "aa → uh")
    assert page.run("document.querySelectorAll('#utterances tbody tr').length") == 15
    assert page.run("performance.now()") - start < 2000  # milliseconds, on a busy machine


def test_every_control_has_a_name(page):
    nameless = (
        "[...document.querySelectorAll('button, input, [role=application], img')].filter((node) => !(node.textContent"
    )
    nameless += " || node.ariaLabel || node.labels?.length || node.alt)).length"
    assert page.run(nameless) == 0
