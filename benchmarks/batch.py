"""`asr batch` on one and two processes: recordings a second, efficiency, and memory for each worker.

python benchmarks/batch.py
python benchmarks/batch.py --audio LibriSpeech/test-clean --minutes 60 --ray

The recordings, or sentences that espeak-ng speaks, are repeated until they last so long. Efficiency is the pace of two
processes of one command over that of two commands of one thread, each with half of the work, at the same time: what the
command itself costs. Times are of whole commands, their start included; processor time is that of all their processes.
Memory is the most that a process which hears has held. Ray, if it is asked for, starts a cluster on this machine.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import soundfile
from _bench import describe

from asr.speech import audio, espeak
from asr.speech.media_files import SOUND_SUFFIXES
from data_prep import mini

RUN = "from asr.cli.app import main; main()"
ONE_THREAD = {"NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def recordings(folder: Path | None, target: Path, minutes: float) -> tuple[Path, int, float]:
    """Write a list of recordings that last so many minutes; return its place, their number and their seconds."""
    if folder is None:
        sentences = mini.sentences(np.random.default_rng(1))
        for k in range(100):
            said = espeak.synthesise(next(sentences), pitch=30 + k % 50)
            soundfile.write(target / f"{k}.wav", said.samples, said.sample_rate)
    files = sorted(each for each in (folder or target).rglob("*") if each.suffix.lower() in SOUND_SUFFIXES)
    lengths = [len(audio.load(each)) / audio.SAMPLE_RATE for each in files]
    seconds, paths = 0.0, list[str]()
    while seconds < 60 * minutes:
        seconds += lengths[len(paths) % len(files)]
        paths.append(str(files[len(paths) % len(files)].resolve()))
    place = target / "list.jsonl"
    place.write_text("".join(json.dumps(path) + "\n" for path in paths))
    return place, len(paths), seconds


class Memory(threading.Thread):
    """Looks ten times a second at what processes with some words in their command line have held at most."""

    def __init__(self, words: tuple[str, ...]):
        super().__init__(daemon=True)
        self.words, self.peaks, self.is_over = words, dict[str, int](), False

    def run(self) -> None:
        """Look, until it is over."""
        while not self.is_over:
            for folder in Path("/proc").glob("[0-9]*"):
                with suppress(OSError, StopIteration):
                    if any(word in (folder / "cmdline").read_text(errors="replace") for word in self.words):
                        lines = (folder / "status").read_text().splitlines()
                        peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
                        self.peaks[folder.name] = max(peak, self.peaks.get(folder.name, 0))
            time.sleep(0.1)


def measure(commands: list[list[str]], words: tuple[str, ...], **environment: str) -> tuple[float, float, int]:
    """Run commands at the same time; return seconds, seconds of processors, and the most memory in bytes."""
    memory, start = Memory(words), time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    memory.start()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": os.environ | environment}
    running = [subprocess.Popen([sys.executable, "-c", RUN, "batch", *command], **quiet) for command in commands]
    codes = [each.wait() for each in running]
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    memory.is_over = True
    memory.join()
    assert codes == [0] * len(codes), codes
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, processor, 1000 * max(memory.peaks.values(), default=0)


def main() -> None:
    """Print machine, versions and a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", type=Path, help="a folder of recordings (default: espeak-ng speaks)")
    parser.add_argument("--minutes", type=float, default=60, help="of speech (default 60)")
    parser.add_argument("--options", nargs="*", default=[], help="of asr batch, such as --words without the dashes")
    parser.add_argument("--ray", action="store_true", help="measure Ray on this machine, too")
    arguments = parser.parse_args()
    options = [f"--{each}" for each in arguments.options]
    print(describe("onnxruntime", "numba"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        place, count, speech = recordings(arguments.audio, folder, arguments.minutes)
        print(f"{count:,} recordings, {speech / 60:.0f} min")

        def command(output: str, *more: str) -> list[str]:
            size = str(-(-count // 2))
            return [str(place), "--output", str(folder / output), "--shard-size", size, *options, *more]

        ways = {
            "warm": ([command("warm", "--jobs", "1", "--shard", "1/2")], (name,), ONE_THREAD),
            "1 process": ([command("one", "--jobs", "1")], (name,), ONE_THREAD),
            "2 commands": ([command("both", "--jobs", "1", "--shard", f"{k}/2") for k in (1, 2)], (name,), ONE_THREAD),
            "2 processes": ([command("two", "--jobs", "2")], ("spawn_main",), {}),
        }
        if arguments.ray:
            ways["Ray"] = ([command("ray", "--ray", "local")], ("ray::",), {"RAY_worker_niceness": "0"})
        found = {way: measure(commands, words, **more) for way, (commands, words, more) in ways.items()}
        for way, (seconds, processor, memory) in list(found.items())[1:]:
            pace = f"{count / seconds:6.1f} recordings a second  {speech / seconds:5.0f} x real time"
            print(f"{way:12} {pace}  {processor:6.1f} s of processors  {memory / 1e9:.2f} GB a worker at most")
        wall, processor, _ = found["2 commands"]
        for way in list(found)[3:]:
            share = f"{wall / found[way][0]:.2f} by time, {processor / found[way][1]:.2f} by processor time"
            print(f"efficiency of {way} against 2 commands: {share}")


if __name__ == "__main__":
    main()
