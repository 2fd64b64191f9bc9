"""Chromium, whose microphone plays a recording, for the tests of pages."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from asr.speech import audio
from tests.conftest import PATIENCE, ROOT

RECORDING = ROOT / "docs" / "audio" / "glorious-scrap.flac"
BEFORE, BEHIND = 16000, 24000  # samples of silence around the recording


@contextmanager
def chromium(folder: Path) -> Iterator[Any]:
    """Start Debian's Chromium by Playwright; skip the test where one of them is missing. The folder gets the sound."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("chromium is not installed")
    heard = folder / "microphone.wav"
    soundfile.write(heard, np.pad(audio.load(RECORDING), (BEFORE, BEHIND)), audio.SAMPLE_RATE)
    flags = ["--no-sandbox", "--mute-audio", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    flags.append(f"--use-file-for-fake-audio-capture={heard}%noloop")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=flags, timeout=1000 * PATIENCE)
        playwright.expect.set_options(1000 * PATIENCE)
        yield browser
        browser.close()


def violations(page: Any) -> list[tuple[str, str, list[str]]]:
    """Audit a page's accessibility with axe; return each colour scheme, rule and what in the page breaks it."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    found = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for rule in axe.Axe().run(page).response["violations"]:
            found.append((scheme, rule["id"], [node["html"] for node in rule["nodes"]]))
    return found
