"""The page of `asr serve` with an hour of sound: times, memory of the browser, and how long its page stands still.

python benchmarks/page.py
python benchmarks/page.py --minutes 5 --audio a.flac b.flac

The recordings are joined, over and over, until they are long enough. A server and Chromium are started; the file is
chosen on the page, then scrolled and zoomed through. A task of the page's own thread that takes longer than 50 ms is a
long one. Memory is the resident set of the process that shows the page.
"""

import argparse
import itertools
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from _bench import describe
from playwright.sync_api import Page, sync_playwright
from serving import DEFAULT, family, megabytes, serving

from asr.speech import audio

COUNT = """
    window.long = [];
    new PerformanceObserver((list) => long.push(...list.getEntries().map((each) => each.duration)))
        .observe({ type: "longtask" });
"""
# Waits until the picture does not change any more, and returns the milliseconds.
SETTLE = """async () => {
    const start = performance.now(), canvas = document.querySelector(".picture");
    const pen = canvas.getContext("2d");
    for (let before = "", same = 0, changed = start; ; ) {
        await new Promise((resolve) => setTimeout(resolve, 20));
        const sum = String(pen.getImageData(0, 0, canvas.width, canvas.height).data.reduce((a, b) => a + b, 0));
        if (sum !== before) { same = 0; changed = performance.now(); }
        else if (++same === 5) return changed - start;
        before = sum;
    }
}"""
FRAMES = """async () => {
    const times = [], timeline = document.querySelector(".timeline");
    for (let i = 0, last = performance.now(); i < 120; i++) {
        timeline.scrollLeft += 40;
        await new Promise(requestAnimationFrame);
        const now = performance.now();
        times.push(now - last);
        last = now;
    }
    return times;
}"""


def memory() -> tuple[float, float]:
    """Return the megabytes of the largest process that shows a page, now and at most."""
    pages = [each for each in family(os.getpid()) if b"--type=renderer" in (each / "cmdline").read_bytes()]
    return max((megabytes(each), megabytes(each, "VmHWM")) for each in pages)


def report(page: Page, what: str, seconds: float) -> None:
    """Print what a step took, and begin to count anew."""
    tasks = page.evaluate("long.splice(0)")
    now, most = memory()
    longest = f"{max(tasks):.0f} ms" if tasks else "none"
    print(f"{what}: {seconds:.2f} s; longest of {len(tasks)} long tasks: {longest}; {now:.0f} MB, at most {most:.0f}")


def measure(page: Page, path: Path) -> None:
    """Choose a file, and look at all of it."""
    start = time.perf_counter()
    page.set_input_files("#file", path)
    page.wait_for_selector(".result:not([hidden])")
    report(page, "the picture is there", time.perf_counter() - start)
    page.wait_for_selector(".status:has-text('Done'), li .fault:not(:empty)")
    if fault := page.text_content("li .fault"):
        sys.exit(fault)
    report(page, "words and phones are there", time.perf_counter() - start)
    start = time.perf_counter()
    page.check(".posteriors")
    page.wait_for_selector(".heat:visible")
    report(page, "posteriors are there", time.perf_counter() - start)
    page.evaluate("document.querySelector('.timeline').scrollLeft = 1e9")
    report(page, "scrolled to the end", page.evaluate(SETTLE) / 1000)
    page.click(".whole")
    report(page, "zoomed to the whole", page.evaluate(SETTLE) / 1000)
    for _ in range(9):
        page.click(".in")
    report(page, "zoomed in again", page.evaluate(SETTLE) / 1000)
    times = page.evaluate(FRAMES)
    print(
        "a frame while it scrolls, ms: median {:.0f}, 95 % {:.0f}, longest {:.0f}".format(
            *np.quantile(times, [0.5, 0.95, 1])
        )
    )


def main() -> None:
    """Make the sound, start server and browser, and print what they do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", nargs="*", type=Path, default=[DEFAULT], help="recordings (default: the docs' own)")
    parser.add_argument("--minutes", type=float, default=59.9, help="of sound (default 59.9)")
    arguments = parser.parse_args()
    left, parts = round(60 * arguments.minutes * audio.SAMPLE_RATE), []
    for waveform in itertools.cycle([audio.load(each) for each in arguments.audio]):
        if left <= 0:
            break
        parts.append(waveform[:left])
        left -= len(parts[-1])
    with (
        tempfile.TemporaryDirectory() as folder,
        serving("--workers", "1", "--max-time", "3600") as (port, _),
        sync_playwright() as driver,
    ):
        path = Path(folder) / "hour.wav"
        soundfile.write(path, np.concatenate(parts), audio.SAMPLE_RATE)
        print(describe("starlette", "playwright"))
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(3_600_000)
        page.add_init_script(COUNT)
        page.goto(f"http://127.0.0.1:{port}/")
        report(page, "an empty page", 0)
        measure(page, path)
        browser.close()


if __name__ == "__main__":
    main()
