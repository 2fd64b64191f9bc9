"""`asr transcribe` beside pocketsphinx's phone loop: ten minutes, three seconds in a new process, an hour's memory.

python benchmarks/transcribe.py
python benchmarks/transcribe.py --audio a.flac b.flac --model runs/en_us_phones/blstm_ctc --python light/bin/python

The recordings, or sentences that espeak-ng speaks, are joined until they are long enough. Ours decode with the model's
own beam and place every phone in time; pocketsphinx 5.1 searches for phones (allphone) with its own model and phone
trigram. Windows: how many phones differ where the network hears five minutes whole instead of in windows, and decodes
them whole instead of in pieces.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from _bench import describe, spread
from accuracy import pocketsphinx

from asr import Recogniser
from asr.evaluation.metrics import count_errors
from asr.recognition import windows
from asr.speech import audio, espeak
from data_prep import mini

PEAK = (  # not getrusage's figure, which begins with that of the process which started this one
    "import re, sys; from pathlib import Path; from asr import Recogniser; "
    "Recogniser.from_pretrained(sys.argv[1]).transcribe(sys.argv[2]); "
    "print(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])"
)


def speech(files: list[Path], seconds: float) -> np.ndarray:
    """Return a waveform of so many seconds at least."""
    parts, length = [], 0
    sentences = mini.sentences(np.random.default_rng(1))
    while length < seconds * audio.SAMPLE_RATE:
        if files:
            part = audio.load(files[len(parts) % len(files)])
        else:
            said = espeak.synthesise(next(sentences), pitch=30 + len(parts) % 50)
            part = audio.from_array(said.samples, said.sample_rate)
        parts.append(part)
        length += len(part)
    return np.concatenate(parts)


def main() -> None:
    """Print machine, versions and a line for each claim."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="en-us-phones")
    parser.add_argument("--audio", nargs="*", type=Path, default=[], help="recordings (default: espeak-ng speaks)")
    parser.add_argument("--python", default=sys.executable, help="runs the new process: of a light install, say")
    parser.add_argument("--repeats", type=int, default=3, help="passes of each side (default 3)")
    arguments = parser.parse_args()
    print(describe("onnxruntime", "numba", "pocketsphinx"))
    ten = speech(arguments.audio, 600)[: 600 * audio.SAMPLE_RATE]
    recogniser, theirs = Recogniser.from_pretrained(arguments.model), pocketsphinx()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for label, part in (("short", ten[: 3 * audio.SAMPLE_RATE]), ("ten", ten), ("hour", np.tile(ten, 6))):
            soundfile.write(folder / f"{label}.wav", part, audio.SAMPLE_RATE)
        recogniser.transcribe(folder / "short.wav")
        times: dict[str, list[float]] = {"asr": [], "pocketsphinx": [], "new": []}
        for _ in range(arguments.repeats):
            start = time.perf_counter()
            recogniser.transcribe(folder / "ten.wav")
            times["asr"].append(time.perf_counter() - start)
            start = time.perf_counter()
            theirs(ten)
            times["pocketsphinx"].append(time.perf_counter() - start)
        command = [arguments.python, "-P", "-m", "asr", "transcribe", folder / "short.wav", "--model", arguments.model]
        for _ in range(1 + 2 * arguments.repeats):
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            times["new"].append(time.perf_counter() - start)
        for label in ("asr", "pocketsphinx"):
            median = np.median(times[label])
            ratio = median / np.median(times["asr"])
            speed = f"{600 / median:.0f} x real time  {ratio:.1f} x asr"
            print(f"10 minutes  {label:24} {spread(np.array(times[label]))}  {speed}")
        print(f"3 seconds   {'a new process, warm':24} {spread(np.array(times['new'][1:]))}")
        for label in ("short", "hour"):
            command = [sys.executable, "-c", PEAK, arguments.model, str(folder / f"{label}.wav")]
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
            print(f"memory      {label:24} {int(done.stdout) / 1e6:.2f} GB at most")
    joined = [phone.label for phone in recogniser.transcribe(ten[: 300 * audio.SAMPLE_RATE], audio.SAMPLE_RATE)]
    windows.WHOLE, windows.PIECE = 10**9, 1e9
    whole = [phone.label for phone in recogniser.transcribe(ten[: 300 * audio.SAMPLE_RATE], audio.SAMPLE_RATE)]
    print(f"windows     {100 * count_errors(whole, joined).rate:.2f} % of {len(whole):,} phones differ")


if __name__ == "__main__":
    main()
