"""Recordings for tests of `asr batch`, and the rows that it has written."""

import gzip
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import soundfile
from asr.speech import espeak

ROOT = Path(__file__).parents[1]
WORDS = "one two three four five six seven eight nine ten".split()
# With the address of a cluster, which machines of a test know as their own.
RUN = "from asr.cli.app import main; main()"


def make(folder: Path, count: int) -> Path:
    """Write so many recordings, which a voice counts, and two that are none; each with its text beside it."""
    folder.mkdir(parents=True)
    for k, said in enumerate(itertools.islice(itertools.permutations(WORDS, 3), count)):
        spoken = espeak.synthesise(" ".join(said), pitch=30 + k % 40)
        soundfile.write(folder / f"{k:03d}.wav", spoken.samples, spoken.sample_rate)
        (folder / f"{k:03d}.txt").write_text(" ".join(said))
    (folder / "003x.wav").write_bytes(b"")
    (folder / "005x.wav").write_text("no sound\n" * 50)
    return folder


def rows(folder: Path) -> list[dict]:
    """Return the rows of all files in their order."""
    lines = (gzip.decompress(path.read_bytes()).splitlines() for path in sorted(folder.glob("part-*.jsonl.gz")))
    return [json.loads(line) for line in itertools.chain.from_iterable(lines)]


def start(*arguments: object) -> subprocess.Popen:
    """Start the command in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", RUN, "batch", *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(what, process: subprocess.Popen, seconds: float = 300) -> object:
    """Return what a function returns as soon as it is true, while a process runs."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.01)
    return found
