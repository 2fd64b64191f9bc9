"""Word error rates and speed of `asr transcribe --words` beside pocketsphinx's full recogniser, in one run.

python benchmarks/words.py --data /path/to/LibriSpeech
python benchmarks/words.py --data /path/to/LibriSpeech --words en-us-words runs/en_us_words/full --count 655

pocketsphinx 5.1 recognises with its own US English model, language model and dictionary, as its `Decoder()` does. Ours
do with what was tuned for each word model; a beam can be named behind it: runs/en_us_words/full:400. A word in brackets
counts as wrong. Times are of whole recordings, one after the other, on all cores. Ten minutes are the first recordings
joined; three seconds are the beginning of these in a new process.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from _bench import describe, spread

from asr import Recogniser
from asr.core.terminal import track
from asr.data import splits
from asr.evaluation.metrics import ErrorCounts, bootstrap_interval, count_errors
from asr.speech import audio
from data_prep import prepare

Recognise = Callable[[np.ndarray], list[str]]


def pocketsphinx() -> Recognise:
    """Return pocketsphinx's recogniser of words."""
    from pocketsphinx import Decoder

    decoder = Decoder(loglevel="FATAL")

    def recognise(waveform: np.ndarray) -> list[str]:
        decoder.start_utt()
        decoder.process_raw((waveform * 32767).astype(np.int16).tobytes(), full_utt=True)
        decoder.end_utt()
        found = decoder.hyp()
        return [] if found is None else found.hypstr.lower().split()

    return recognise


def ours(model: str, words: str) -> Recognise:
    """Return our recogniser with a word model."""
    name, _, beam = words.partition(":")
    recogniser = Recogniser.from_pretrained(model, int(beam) if beam else None, words=name)
    return lambda waveform: recogniser.transcribe(waveform, audio.SAMPLE_RATE).text.lower().split()


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="mini_librispeech", help="whose test set (default mini_librispeech)")
    parser.add_argument("--data", type=Path, help="where it lies, unless it is prepared already")
    parser.add_argument("--manifests", type=Path, default=Path("data"))
    parser.add_argument("--model", default="en-us-phones", help="acoustic model (default en-us-phones)")
    parser.add_argument("--words", nargs="+", default=["en-us-words"], help="word models (default en-us-words)")
    parser.add_argument("--python", default=sys.executable, help="runs the new process: of a light install, say")
    parser.add_argument("--count", type=int, default=0, help="utterances, at equal steps (default all)")
    parser.add_argument("--repeats", type=int, default=3, help="passes of the ten minutes (default 3)")
    return parser.parse_args()


def main() -> None:
    """Print a row for each system, then ten minutes and three seconds."""
    arguments = parse_arguments()
    if arguments.data is None and not splits.has_split(arguments.manifests, arguments.corpus, "test"):
        print(f"left out: it needs {arguments.corpus} and --data")
        return
    print(describe("pocketsphinx", "onnxruntime", "numba"))
    prepare(arguments.corpus, arguments.data, arguments.manifests)
    cuts = list(splits.load_split(arguments.manifests, [arguments.corpus], "test"))
    cuts = cuts[:: max(1, len(cuts) // arguments.count) if arguments.count else 1]
    print(f"{arguments.corpus} test: {len(cuts)} utterances, {sum(cut.duration for cut in cuts) / 3600:.2f} h")
    systems = {each: ours(arguments.model, each) for each in arguments.words} | {"pocketsphinx": pocketsphinx()}
    errors: dict[str, list[ErrorCounts]] = {name: [] for name in systems}
    seconds = dict.fromkeys(systems, 0.0)
    for cut in track(cuts, "recognising"):
        waveform, truth = audio.load(cut.recording.sources[0].source), splits.words(cut)
        for name, recognise in systems.items():
            start = time.perf_counter()
            said = recognise(waveform)
            seconds[name] += time.perf_counter() - start
            errors[name].append(count_errors(truth, said))
    duration = sum(cut.duration for cut in cuts)
    for name, counts in errors.items():
        total = sum(counts[1:], counts[0])
        low, high = bootstrap_interval(counts)
        parts = f"{total.substitutions:,} sub {total.insertions:,} ins {total.deletions:,} del"
        speed = duration / seconds[name]
        print(
            f"{name:32} WER {100 * total.rate:6.2f} %  [{100 * low:.2f}, {100 * high:.2f}]  {parts} of "
            f"{total.reference_length:,}  {speed:.0f} x real time"
        )
    waveforms = [audio.load(cut.recording.sources[0].source) for cut in cuts[:120]]
    ten = np.concatenate(waveforms)[: 600 * audio.SAMPLE_RATE]
    for name, recognise in systems.items():
        times = []
        for _ in range(arguments.repeats):
            start = time.perf_counter()
            recognise(ten)
            times.append(time.perf_counter() - start)
        speed = len(ten) / audio.SAMPLE_RATE / np.median(times)
        print(f"{len(ten) / audio.SAMPLE_RATE:.0f} s  {name:32} {spread(np.array(times))}  {speed:.0f} x real time")
    with tempfile.TemporaryDirectory() as folder:
        path, times = Path(folder) / "short.wav", []
        soundfile.write(path, ten[: 3 * audio.SAMPLE_RATE], audio.SAMPLE_RATE)
        command = [arguments.python, "-P", "-m", "asr", "transcribe", path, "--words", "--model", arguments.model]
        for _ in range(1 + 3 * arguments.repeats):
            start = time.perf_counter()
            subprocess.run([*command, "--lm", arguments.words[0]], check=True, capture_output=True)
            times.append(time.perf_counter() - start)
        print(f"3 s    {'a new process, warm':32} {spread(np.array(times[1:]))}")


if __name__ == "__main__":
    main()
