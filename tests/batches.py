"""Recordings for tests of `asr batch`, the command in a process of its own, and the rows that it has written."""

import gzip
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import soundfile

from asr.recognition.batch.worker import Worker
from asr.speech import espeak
from tests.conftest import PATIENCE, started

ROOT = Path(__file__).parents[1]
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
RUN = "from asr.cli.app import main; main()"


def make(folder, count):
    """Write so many recordings, in which a voice counts, and two that are none; each with its text beside it."""
    folder.mkdir(parents=True)
    for k, said in enumerate(itertools.islice(itertools.permutations(WORDS, 3), count)):
        spoken = espeak.synthesise(" ".join(said), pitch=30 + k % 40)
        soundfile.write(folder / f"{k:03d}.wav", spoken.samples, spoken.sample_rate)
        (folder / f"{k:03d}.txt").write_text(" ".join(said))
    (folder / "003x.wav").write_bytes(b"")
    (folder / "005x.wav").write_text("no sound\n" * 50)
    return folder


def stalled(talks, folder, number):
    """Return a list of copies of recordings, of which one is a pipe that keeps whoever opens it, until `go_on`."""
    shutil.copytree(talks, folder)
    paths = sorted(folder.glob("*.wav"))
    paths[number].rename(paths[number].with_suffix(".kept"))
    os.mkfifo(paths[number])
    place = folder / "list.jsonl"
    place.write_text("".join(json.dumps({"id": path.name, "path": path.name}) + "\n" for path in paths))
    return place


def go_on(folder):
    """Put the recording back in the place of the pipe."""
    for path in folder.glob("*.kept"):
        path.replace(path.with_suffix(".wav"))


def rows(folder):
    """Return the rows of all files in their order."""
    lines = (gzip.decompress(path.read_bytes()).splitlines() for path in sorted(folder.glob("part-*.jsonl.gz")))
    return [json.loads(line) for line in itertools.chain.from_iterable(lines)]


def start(*arguments, code=(RUN, "batch"), **options):
    """Run the command in a process of its own for a block, by some code of Python, which has its own arguments."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    command = [sys.executable, "-c", *map(str, code), *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return started(command, env=environment, text=True, **pipes, **options)


def wait_for(what, process, seconds=2 * PATIENCE):
    """Return what a function returns as soon as it is true, while a process runs."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.02)
    return found


def children(process):
    """Return the processes that a process has started."""
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(each) for each in found.read_text().split()]


@dataclass(frozen=True)
class Deadly(Worker):
    """A worker whose process dies of one recording."""

    poison: str = ""

    def __reduce__(self):
        return Deadly, (self.model, self.words, self.align, self.ipa, self.poison)

    def __call__(self, items):
        if any(item.id == self.poison for item in items):
            os.kill(os.getpid(), signal.SIGKILL)
        return [{"id": item.id, "path": item.path, "error": None} for item in items]
