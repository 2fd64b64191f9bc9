"""The page of `asr export --web` in headless Chromium beside Python: same phones, how far times differ, speed.

python benchmarks/web.py --audio /path/to/LibriSpeech/test-clean
python benchmarks/web.py --model runs/mini_librispeech/blstm_ctc --int8 --audio a.flac b.flac

Recordings are heard by Python in onnxruntime and by the page in onnxruntime-web, each with one thread, and both with
the beam of the model. Beside other work their processor time tells more than the clock. `--runtime` names a folder with
onnxruntime-web; without it the runtime is fetched once from npm.
"""

import argparse
import functools
import http.server
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from _bench import describe

from asr.core import workers
from asr.core.terminal import track
from asr.evaluation.metrics import ErrorCounts, count_errors
from asr.recognition.recogniser import Recogniser
from asr.serving import web_export
from asr.speech import audio

DEFAULT = Path(__file__).parents[1] / "docs" / "audio"
BROWSER = shutil.which("chromium") or "/usr/bin/chromium"
CHOOSE = "document.body.append(Object.assign(document.createElement('input'), {type: 'file', id: 'compared'}))"
HEAR = """async () => {
    const { recognise } = await import("./page/backend.js");
    return recognise(document.getElementById("compared").files[0], { ipa: false });
}"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder without a line for each request."""

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder to this machine, and give the address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def heard_by_page(folder: Path, recordings: list[Path]) -> Iterator[tuple[dict[str, Any], float]]:
    """Yield what the page finds in each recording, and the processor time that it takes."""
    from playwright.sync_api import sync_playwright

    with served(folder) as address, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        print(f"Chromium {browser.version}")
        page = browser.new_page()
        page.goto(address)
        page.evaluate(CHOOSE)
        system = browser.new_browser_cdp_session()
        for recording in track(recordings, "listening"):
            page.set_input_files("#compared", recording)
            start = renderers_time(system)
            found = page.evaluate(HEAR)
            yield found, renderers_time(system) - start
        browser.close()


def renderers_time(system: Any) -> float:
    """Return the processor time, in seconds, of the processes that run pages."""
    processes = system.send("SystemInfo.getProcessInfo")["processInfo"]
    return sum(process["cpuTime"] for process in processes if process["type"] == "renderer")


def main() -> None:
    """Print how the page compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="en-us-phones-small")
    parser.add_argument("--audio", nargs="*", type=Path, default=[DEFAULT], help="recordings or folders (the docs')")
    parser.add_argument("--count", type=int, default=50, help="recordings, at equal steps (default 50)")
    parser.add_argument("--int8", action="store_true", help="weights of 8 bits")
    parser.add_argument("--runtime", type=Path, help="a folder with onnxruntime-web")
    arguments = parser.parse_args()
    found = [file for path in arguments.audio for file in (sorted(path.rglob("*.flac")) if path.is_dir() else [path])]
    recordings = found[:: max(1, len(found) // arguments.count)][: arguments.count]
    print(describe("onnxruntime", "playwright"))
    workers.set_num_threads(1)
    recogniser = Recogniser.from_pretrained(arguments.model)
    recogniser.transcribe(recordings[0])
    seconds = {"Python": np.zeros(2), "page": np.zeros(2)}  # by the clock, and of the processor
    durations, same, shifts = 0.0, 0, list[float]()
    errors = ErrorCounts(0, 0, 0, 0)
    with tempfile.TemporaryDirectory() as name:
        size = web_export.export(arguments.model, Path(name), arguments.int8, arguments.runtime)
        for recording, (page, processor) in zip(recordings, heard_by_page(Path(name), recordings), strict=True):
            waveform = audio.load(recording)
            start = np.array([time.perf_counter(), time.process_time()])
            python = recogniser.transcribe(waveform, audio.SAMPLE_RATE)
            seconds["Python"] += [time.perf_counter(), time.process_time()] - start
            seconds["page"] += [page["seconds"], processor]
            durations += python.duration
            labels = [phone["label"] for phone in page["phones"]]
            errors += count_errors([phone.label for phone in python.phones], labels)
            if labels == [phone.label for phone in python.phones]:
                same += 1
                shifts += [
                    abs(other[edge] - getattr(phone, edge))
                    for phone, other in zip(python.phones, page["phones"], strict=True)
                    for edge in ("start", "end")
                ]
    print(f"{len(recordings)} recordings, {durations / 60:.1f} minutes; page with runtime {size / 1e6:.1f} MB")
    print(f"the same phones in {same} of {len(recordings)}; {100 * errors.rate:.2f} % of phones differ")
    print(
        f"edges of phones differ by {1000 * statistics.median(shifts):.0f} ms in the median, "
        f"{100 * np.mean(np.array(shifts) <= 0.02):.1f} % by 20 ms at most"
    )
    for who, (clock, processor) in seconds.items():
        print(f"{who:8} real-time factor {clock / durations:.3f}, processor {processor / durations:.3f} s a second")


if __name__ == "__main__":
    main()
