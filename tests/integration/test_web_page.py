"""The page of `asr export --web` in a real browser: the phones of Python, nothing sent, and no network needed."""

import base64
import functools
import http.server
import json
import shutil
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from safetensors.numpy import save as tensor_bytes

from asr.core.errors import AsrError
from asr.ctc import beam_search, best_path, forced_align
from asr.evaluation.metrics import count_errors
from asr.lm import fusion
from asr.lm.estimation import estimate
from asr.models import model_folder
from asr.recognition.recogniser import Recogniser, Transcript
from asr.recognition.render import render
from asr.serving import web_export, web_runtime
from asr.speech import audio
from asr.speech.segments import Segment
from tests.browser import RECORDING, chromium, violations
from tests.conftest import PATIENCE, ROOT

SCRIPTS = ROOT / "asr" / "serving" / "web"
DONE = ".status:has-text('Done')"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format, *arguments):
        pass


@contextmanager
def served(folder):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("microphone")) as browser:
        yield browser


@contextmanager
def opened(browser, address):
    """A page of its own, which may take its time."""
    with browser.new_context() as context:
        page = context.new_page()
        page.set_default_timeout(1000 * PATIENCE)
        page.goto(address)
        yield page


@pytest.fixture(scope="module")
def runtime():
    found = web_runtime.cache()
    if not found.is_dir():
        pytest.skip(f"no onnxruntime-web in {found}: asr export en-us-phones-small page --web downloads it")
    return found


@pytest.fixture(scope="module")
def exported(runtime, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    web_export.export("en-us-phones-small", folder, int8=True)
    return folder


@pytest.fixture(scope="module")
def recogniser():
    return Recogniser.from_pretrained("en-us-phones-small")


@pytest.fixture
def page(browser, exported):
    """The page, in which nothing may go wrong and from which nothing may be sent."""
    with browser.new_context(permissions=["microphone"]) as context, served(exported) as address:
        page, faults, requests = context.new_page(), [], []
        page.set_default_timeout(1000 * PATIENCE)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        context.on("request", lambda request: requests.append(request))
        page.goto(address)
        yield page
        assert faults == []
        assert all(request.url.startswith((address, f"blob:{address}", "data:")) for request in requests)
        assert {(request.method, request.post_data) for request in requests} == {("GET", None)}


def choose(page, recording=RECORDING):
    """Give the page a recording, and return what is shown of it."""
    page.set_input_files("#file", recording)
    article = page.locator("article").first
    article.locator(DONE).wait_for()
    return article


def save(page, article, name):
    with page.expect_download() as download:
        article.get_by_role("button", name=name, exact=True).click()
    return Path(download.value.path()).read_text("utf8")


def heard(page, article):
    return [Segment(**phone) for phone in json.loads(save(page, article, "JSON"))["phones"]]


def labels(phones):
    return [phone.label for phone in phones]


def test_the_page_is_small_and_whole(exported):
    assert sum(path.stat().st_size for path in exported.rglob("*") if path.is_file()) < 20e6
    assert {path.name for path in (exported / "runtime").iterdir()} == {*web_runtime.FILES, *web_runtime.LICENCES}
    first = (ROOT / "asr" / "serving" / "page" / "index.html").read_text("utf8")
    assert [before for before in web_export.CHANGES if before not in first] == []


def test_a_recording_has_the_phones_and_formats_of_python(page, recogniser):
    article = choose(page)
    python, phones = recogniser.transcribe(RECORDING), heard(page, article)
    assert labels(phones) == labels(python.phones)
    assert [phone.confidence for phone in phones] == pytest.approx([each.confidence for each in python], abs=2e-3)
    edges = np.array(
        [[each.start - other.start, each.end - other.end] for each, other in zip(phones, python, strict=True)]
    )
    assert np.abs(edges).max() < 0.06
    assert np.mean(np.abs(edges) < 0.002) > 0.9
    shown = Transcript(phones, python.duration, phone_set="arpabet39")
    assert save(page, article, "SRT") == render(shown, "srt", RECORDING.stem)
    assert save(page, article, "CTM") == render(shown, "ctm", RECORDING.stem)
    assert save(page, article, "TextGrid") == render(shown, "textgrid", RECORDING.stem)
    page.select_option("#alphabet", "ipa")
    assert choose(page).locator(".said").text_content() == str(shown.ipa)
    assert article.locator(".fault").first.text_content() == ""
    for needs_a_server in ("#text", "text=What is said", "#learner", "text=eaf"):
        assert page.is_hidden(needs_a_server)


def test_a_long_recording_goes_through_in_windows_and_pieces(page, recogniser, tmp_path):
    waveform = np.tile(np.pad(audio.load(RECORDING), (0, 8000)), 15)
    soundfile.write(tmp_path / "long.flac", waveform, audio.SAMPLE_RATE)
    article = choose(page, tmp_path / "long.flac")
    assert "windows of 24 s" in article.locator(".fault").first.text_content()
    python, phones = recogniser.transcribe(tmp_path / "long.flac"), heard(page, article)
    assert python.duration > 50
    # Python normalises the features of all windows alike, and the page those of each on its own.
    assert count_errors(labels(python.phones), labels(phones)).rate < 0.03
    assert phones[-1].end == pytest.approx(python.phones[-1].end, abs=0.05)


def test_the_microphone(page, recogniser):
    page.click("#listen")
    page.wait_for_selector("#finals:not(:empty)")
    page.click("#listen")
    page.wait_for_selector(DONE)
    said = page.locator(".said").text_content().split()
    assert count_errors(labels(recogniser.transcribe(RECORDING).phones), said).rate < 0.35


def test_posteriors_are_those_of_python(page, recogniser):
    choose(page)
    found = page.evaluate(
        """async (content) => {
            const { posteriors } = await import("./page/backend.js");
            const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
            const { labels, frameShift, values } = await posteriors(new File([bytes], "a.flac"), { ipa: true });
            return [labels, frameShift, [...values]];
        }""",
        base64.b64encode(RECORDING.read_bytes()).decode(),
    )
    expected = 255 * np.exp(recogniser.model.log_probs(recogniser.emissions(audio.load(RECORDING))))
    assert found[0][:3] == ["<blank>", "ɑ", "æ"]
    assert found[1] == recogniser.model.frame_shift
    np.testing.assert_allclose(found[2], expected.ravel(), atol=1)


def test_what_cannot_be_heard(page, tmp_path):
    (tmp_path / "text.wav").write_text("no sound")
    soundfile.write(tmp_path / "short.wav", np.zeros(300), audio.SAMPLE_RATE)
    soundfile.write(tmp_path / "silent.wav", np.zeros(16000), audio.SAMPLE_RATE)
    for name, fault in (("text.wav", "does not decode text.wav"), ("short.wav", "shorter than 25 ms")):
        page.set_input_files("#file", tmp_path / name)
        page.wait_for_selector(f"article .fault:has-text('{fault}')")
    assert choose(page, tmp_path / "silent.wav").locator(".said").text_content() == "Nothing was heard."


def test_an_audit_of_accessibility_finds_nothing(page):
    choose(page)
    page.check(".posteriors")
    page.evaluate("document.getElementById('live').hidden = false")
    assert violations(page) == []


def test_no_network_is_needed_after_the_first_visit(browser, exported, recogniser):
    with browser.new_context() as context:
        page = context.new_page()
        page.set_default_timeout(1000 * PATIENCE)
        with served(exported) as address:
            page.goto(address)
            page.evaluate("navigator.serviceWorker.ready.then(() => {})")
        page.goto(address)  # the server is gone
        said = choose(page).locator(".said").text_content()
        assert said == str(recogniser.transcribe(RECORDING))


def test_a_model_that_does_not_load_is_told(browser, exported, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "page")
    (folder / "model" / "model.onnx").write_bytes(b"damaged")
    with served(folder) as address, opened(browser, address) as page:
        page.set_input_files("#file", RECORDING)
        page.wait_for_selector("article .fault:not(:empty)")
        assert page.locator(".said").text_content() == ""


def test_a_network_with_an_ngram_has_the_phones_and_confidences_of_python(browser, runtime, tmp_path):
    web_export.export("en-us-phones", tmp_path / "page")
    recogniser, long = Recogniser.from_pretrained("en-us-phones"), tmp_path / "long.flac"
    soundfile.write(long, np.tile(np.pad(audio.load(RECORDING), (0, 8000)), 10), audio.SAMPLE_RATE)
    with served(tmp_path / "page") as address, opened(browser, address) as page:
        for recording in (RECORDING, long):
            python, phones = recogniser.transcribe(recording), heard(page, choose(page, recording))
            assert labels(phones) == labels(python.phones)
            confidences = [phone.confidence for phone in python]
            assert [phone.confidence for phone in phones] == pytest.approx(confidences, abs=2e-3)
            shifts = [abs(each.start - other.start) for each, other in zip(phones, python, strict=True)]
            assert np.mean(np.array(shifts) < 0.002) > 0.9
        assert python.duration > 30  # it is placed in pieces, and decoded as a whole


def test_the_small_network_fits_into_20_MB(runtime, tmp_path):
    assert web_export.export("en-us-phones-small", tmp_path, int8=True) < 20e6


def test_scripts_decode_with_an_ngram_as_python_does(browser, rng):
    with served(SCRIPTS) as address, opened(browser, f"{address}ngram.js") as page:
        for order in (2, 2, 3, 3, 4):
            tokens = ["<blank>", *"ABCDEF"[: rng.integers(2, 7)]]
            text = [rng.choice(tokens[1:], rng.integers(1, 9)).tolist() for _ in range(8)]
            lm = estimate(text, "phones", order, "witten_bell", tokens[1:])
            denominator = fusion.denominator(lm, tokens)
            utterances = rng.normal(size=(8, 25, len(tokens))).astype(np.float32) * 2
            utterances -= np.logaddexp.reduce(utterances, axis=2, keepdims=True)
            tensors = [web_export.automaton_arrays(denominator.automaton), web_export.ngram_arrays(lm, tokens)]
            contents = [base64.b64encode(tensor_bytes(each)).decode() for each in tensors]
            found = page.evaluate(
                """async ([contents, utterances, classes]) => {
                    const { beamSearch } = await import("./ctc.js");
                    const { logPosteriors, readArrays, tokenModel } = await import("./ngram.js");
                    const [automaton, ngram] = contents.map((content) =>
                        readArrays(Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0)).buffer));
                    const lm = tokenModel(ngram, classes, 0.7, -0.3);
                    return utterances.map((values) => {
                        const rows = { values: Float32Array.from(values), frames: values.length / classes, classes };
                        return [beamSearch(rows, 7, lm), [...logPosteriors(rows, automaton).values]];
                    });
                }""",
                [contents, utterances.reshape(8, -1).tolist(), len(tokens)],
            )
            fused = fusion.automaton(lm, tokens, 0.7, -0.3)
            for log_probs, (best, posteriors) in zip(utterances, found, strict=True):
                ((hypothesis,),) = beam_search(log_probs[:, None], beam_size=7, token_model=fused)
                assert tuple(best) == hypothesis.tokens
                expected = denominator.log_posteriors(log_probs[:, None])
                np.testing.assert_allclose(posteriors, expected.ravel(), rtol=1e-5, atol=1e-6)


def test_scripts_decode_and_align_as_python_does(browser, rng):
    with served(SCRIPTS) as address, opened(browser, f"{address}ctc.js") as page:
        for _ in range(40):
            frames, classes, beam = rng.integers(1, 30), rng.integers(2, 6), int(rng.integers(1, 20))
            log_probs = rng.normal(size=(frames, classes)).astype(np.float32) * 2
            log_probs -= np.logaddexp.reduce(log_probs, axis=1, keepdims=True)
            found = page.evaluate(
                """async ([values, frames, classes, beam]) => {
                    const { align, beamSearch, bestPath } = await import("./ctc.js");
                    const rows = { values: Float32Array.from(values), frames, classes };
                    const tokens = beamSearch(rows, beam);
                    return [bestPath(rows), tokens, align(rows, tokens)];
                }""",
                [log_probs.ravel().tolist(), int(frames), int(classes), beam],
            )
            best, tokens, places = found
            ((hypothesis,),) = beam_search(log_probs[:, None], beam_size=beam)
            assert tuple(best) == best_path(log_probs).tokens
            assert tuple(tokens) == hypothesis.tokens
            assert tuple(place["peak"] for place in places) == hypothesis.timesteps
            if tokens:
                (alignment,) = forced_align(log_probs[:, None], np.array([tokens]))
                assert [place["start"] for place in places] == alignment.starts.tolist()
                assert [place["end"] for place in places] == alignment.ends.tolist()


def test_a_model_that_the_page_cannot_have(tmp_path):
    divided = shutil.copytree(model_folder.find("en-us-phones-small"), tmp_path / "divided")
    settings = yaml.safe_load((divided / "config.yaml").read_text("utf8"))
    settings["decode"]["label_prior_scale"] = 0.3
    (divided / "config.yaml").write_text(yaml.safe_dump(settings), "utf8")
    for model, message in ((divided, "decoded with priors"), ("nosuch", "no model folder at nosuch")):
        with pytest.raises(AsrError, match=message):
            web_export.export(model, tmp_path / "page")
        assert not (tmp_path / "page").exists()
