"""The page of `asr pronounce` in Chromium."""

import re

import pytest

from tests.browser import chromium

TEXT = "Mother has eaten a gun"
WATCH = """() => {
    window.seen = [];
    for (const audio of document.querySelectorAll("audio"))
        for (const what of ["play", "pause"])
            audio.addEventListener(what, () => seen.push([audio.className, what, audio.currentTime]));
}"""


@pytest.fixture(scope="module")
def file(cli, say, tmp_path_factory):
    """The page of a learner who says something else than the text, and of a reference."""
    folder = tmp_path_factory.mktemp("pronunciation")
    for name, text in (("learner", "I think that the sun is hot"), ("reference", TEXT)):
        say(text, folder / f"{name}.wav")
    command = ["pronounce", folder / "learner.wav", "--text", TEXT, "--reference", folder / "reference.wav"]
    code, _, _ = cli(*command, "--page", folder / "page.html")
    assert code == 0
    return folder / "page.html"


@pytest.fixture(scope="module")
def page(file, tmp_path_factory):
    """The page, which must fetch nothing and leave nothing in the console."""
    with chromium(tmp_path_factory.mktemp("browser")) as browser:
        page, complaints = browser.new_page(), []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or complaints.append(request.url))
        page.goto(file.as_uri())
        page.evaluate(WATCH)
        yield page
        assert complaints == []


def played(page, button):
    """Click a button, and return which sounds then play and pause, and where they are in seconds when they do."""
    page.evaluate("seen.length = 0")
    button.click()
    page.wait_for_selector("button.playing", state="detached")
    return page.evaluate("new Promise((done) => setTimeout(() => done(seen), 100))")


def test_a_phone_is_played_by_the_learner_then_by_the_reference(page):
    phone = page.locator(".phones button").nth(4)
    start, end = (float(phone.get_attribute(f"data-{name}")) for name in ("start", "end"))
    seen = played(page, phone)
    turns = [[who, what] for who in ("learner", "reference") for what in ("play", "pause")]
    assert [each[:2] for each in seen] == turns
    places = [place for *_, place in seen]
    edges = [start, end, *map(float, phone.get_attribute("data-reference").split())]
    assert all(-0.01 <= place - edge < 1 for place, edge in zip(places, edges, strict=True)), (places, edges)


def test_one_of_the_two_is_played_alone(page):
    page.check("input[value=reference]")
    seen = played(page, page.locator(".word > button").nth(1))
    assert [each[:2] for each in seen] == [["reference", "play"], ["reference", "pause"]]
    page.check("input[value=both]")


def test_mistakes_are_named_and_marked(page):
    named = page.locator(".mistakes li").all_text_contents()
    assert named
    words = TEXT.split()
    for each in named:
        word, what = each.split(": ")
        assert word in words
        assert re.fullmatch(r"said [A-Z ]+ for [A-Z ]+|left out [A-Z ]+|put in [A-Z]+", what)
    phones = [re.sub(".* (for|left out) ", "", each).split() for each in named if "put in" not in each]
    assert page.locator(".phones button.wrong").count() == sum(map(len, phones))
    who, *_ = played(page, page.locator(".mistakes button").first)[0]
    assert who == "learner"


@pytest.mark.parametrize("width", [360, 768, 1400])
def test_it_fits_its_window_in_which_an_audit_finds_nothing(page, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") == width
    spilled = "[...document.querySelectorAll('button')].filter((each) => each.scrollWidth > each.clientWidth).length"
    assert page.evaluate(spilled) == 0
    sizes = page.evaluate("[...document.querySelectorAll('button')].map((each) => each.getBoundingClientRect().height)")
    assert min(sizes) >= 24  # pixels, WCAG 2.2, 2.5.8
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found = axe.Axe().run(page).response["violations"]
        assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found] == []
