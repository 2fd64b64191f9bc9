"""`asr align` on an hour of speech whose text lacks some sentences and has others that nobody says.

python benchmarks/long_alignment.py LibriSpeech/test-clean
python benchmarks/long_alignment.py LibriSpeech/test-clean --hours 0.2 --removed 0 --added 0
python benchmarks/long_alignment.py LibriSpeech/train-clean-100 --speakers 4088 5652 8226 --costs 2,4 1,2 0.7,2

Chapters of a LibriSpeech folder, drawn by a seed, are joined. Some sentences are taken from the text, and others, from
chapters that are not in the recording, are put between those that are. A sentence is an utterance of the corpus.

It prints time and peak memory of a process that aligns the whole; the drift: how far word starts lie from those of
each sentence aligned alone; how many removed sentences are found (four fifths of the sentence's speech lie where the
alignment has no words) and how many added ones (four fifths of its words are found to be unsaid); and false alarms.
With --costs, all of it for each choice of the costs in asr/models/text_graph.py.
"""

import argparse
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from _bench import describe

from asr import Recogniser
from asr.core.files import read_tensors, write_tensors
from asr.models import text_graph
from asr.recognition.align import align
from asr.speech import audio
from asr.speech.segments import Segment

ENOUGH = 0.8  # of a sentence, to count as found
NEAR = 0.05  # seconds between the starts of a word that agree


class Sentence(NamedTuple):
    """An utterance: where its recording is, what is said, and its chapter."""

    path: Path
    text: str
    chapter: str


class Text(NamedTuple):
    """A sentence of the text: whose it is, and the second at which it starts in the recording; None if it is added."""

    sentence: Sentence
    start: float | None


def read_chapters(folder: Path, speakers: list[str]) -> dict[str, list[Sentence]]:
    """Return the sentences of each chapter of a LibriSpeech folder, of some speakers or, if none are named, of all."""
    chapters = dict[str, list[Sentence]]()
    for file in sorted(folder.resolve().rglob("*.trans.txt")):
        name = file.name.removesuffix(".trans.txt")
        if speakers and name.split("-")[0] not in speakers:
            continue
        for line in file.read_text().splitlines():
            key, text = line.split(maxsplit=1)
            chapters.setdefault(name, []).append(Sentence(file.parent / f"{key}.flac", text, name))
    return chapters


def use(costs: str | None) -> None:
    """Let graphs of texts have costs such as 2,4: nats of a frame of the filler, and of a phone of an unsaid word."""
    if costs is not None:
        filler, unsaid = map(float, costs.split(","))
        text_graph.OF_CTC = text_graph.OF_CRF = text_graph.Costs(-filler, -unsaid)


def whole(folder: Path, model: str) -> None:
    """Align the recording in a folder, and write there what was found and what it took."""
    recogniser = Recogniser.from_pretrained(model)
    text = (folder / "all.txt").read_text()
    start, used = time.perf_counter(), time.process_time()
    found = align(recogniser, folder / "all.wav", words=text)
    took = np.array([time.perf_counter() - start, time.process_time() - used, 0.0])
    status = Path("/proc/self/status")  # getrusage's figure begins with that of the process that started this one
    peak = re.search(r"VmHWM:\s+(\d+)", status.read_text()) if status.is_file() else None
    took[2] = int(peak[1]) if peak else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    words = np.array([(word.start, word.end) for word in found.words or ()])
    tensors = {"took": took, "words": words, "unspoken": np.array(found.unspoken).reshape(-1, 2)}
    write_tensors(folder / "found", tensors)
    print(found.misfit)


def overlap(start: float, end: float, stretches: np.ndarray) -> float:
    """Return how many seconds of a stretch lie within others (M, 2)."""
    return float(np.maximum(np.minimum(end, stretches[:, 1]) - np.maximum(start, stretches[:, 0]), 0).sum())


def speech(words: list[Segment]) -> np.ndarray:
    """Return starts and ends of words (L, 2)."""
    return np.array([(word.start, word.end) for word in words])


def main() -> None:
    """Print machine, versions, what is aligned, and a line for each claim."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="a folder of LibriSpeech, such as LibriSpeech/test-clean")
    parser.add_argument("--model", default="en-us-phones")
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--removed", type=float, default=0.1, help="share of the sentences that the text lacks")
    parser.add_argument("--added", type=float, default=0.1, help="sentences that nobody says, a sentence said")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--speakers", nargs="+", default=[], help="whose chapters are taken (default all)")
    parser.add_argument("--costs", nargs="+", default=[None], help="FILLER,UNSAID in nats (default the model's)")
    parser.add_argument("--whole", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.whole:
        use(arguments.costs[0])
        whole(arguments.whole, arguments.model)
        return
    print(describe("numpy", "numba", "onnxruntime"))
    rng = np.random.default_rng(arguments.seed)
    chapters = read_chapters(arguments.corpus, arguments.speakers)
    names = [sorted(chapters)[i] for i in rng.permutation(len(chapters))]
    waveforms, said, lengths = list[np.ndarray](), list[Sentence](), [0]
    while names and lengths[-1] < 3600 * arguments.hours * audio.SAMPLE_RATE:
        for sentence in chapters[names.pop()]:
            waveforms.append(audio.load(sentence.path))
            said.append(sentence)
            lengths.append(lengths[-1] + len(waveforms[-1]))
    others = [sentence for name in names for sentence in chapters[name]]
    removed = {int(i) for i in rng.choice(len(said), round(arguments.removed * len(said)), replace=False)}
    places = sorted(rng.choice(len(said), round(arguments.added * len(said)), replace=False).tolist())
    extra = dict(zip(places, rng.permutation(len(others))[: len(places)].tolist(), strict=True))
    texts = list[Text]()
    for i, sentence in enumerate(said):
        texts += [Text(sentence, lengths[i] / audio.SAMPLE_RATE)] if i not in removed else []
        texts += [Text(others[extra[i]], None)] if i in extra else []
    words = sum(len(text.sentence.text.split()) for text in texts)
    seconds = lengths[-1] / audio.SAMPLE_RATE
    print(
        f"{len({each.chapter for each in said})} chapters, {len(said)} sentences, {seconds:.0f} s; the text has "
        f"{words} words: {len(removed)} sentences are removed, {len(places)} added (seed {arguments.seed})"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        soundfile.write(folder / "all.wav", np.concatenate(waveforms), audio.SAMPLE_RATE)
        (folder / "all.txt").write_text(" ".join(text.sentence.text for text in texts))
        recogniser = Recogniser.from_pretrained(arguments.model)
        for costs in arguments.costs:
            command = [sys.executable, __file__, arguments.corpus, "--model", arguments.model, "--whole", folder]
            subprocess.run(command + (["--costs", costs] if costs else []), check=True)
            use(costs)
            print(f"costs {costs or 'of the model'}")
            found, _ = read_tensors(folder / "found")
            report(recogniser, texts, found, [said[i] for i in sorted(removed)], said, lengths)


def report(
    recogniser: Recogniser,
    texts: list[Text],
    found: dict[str, np.ndarray],
    removed: list[Sentence],
    said: list[Sentence],
    lengths: list[int],
) -> None:
    """Print what the alignment took, and how far it is from that of each sentence alone."""
    starts = {sentence.path: length / audio.SAMPLE_RATE for sentence, length in zip(said, lengths, strict=False)}
    spans, unspoken, (wall, used, peak) = found["words"], found["unspoken"], found["took"]
    is_unsaid = spans[:, 1] <= spans[:, 0]
    drift, false_words, false_seconds, first, found_added, added = list[float](), 0, 0.0, 0, 0, 0
    for sentence, start in texts:
        if start is None:
            count = len(sentence.text.split())
            found_added += is_unsaid[first : first + count].mean() >= ENOUGH
            added += 1
        else:
            alone = speech(align(recogniser, sentence.path, words=sentence.text).words or []) + start
            count = len(alone)
            unsaid = is_unsaid[first : first + count]
            false_words += int(unsaid.sum())
            errors = np.abs(spans[first : first + count, 0] - alone[:, 0])
            drift += np.where(unsaid, np.inf, errors).tolist()
            false_seconds += overlap(alone[0, 0], alone[-1, 1], unspoken)
        first += count
    hits = 0
    for sentence in removed:
        inside = speech(align(recogniser, sentence.path, words=sentence.text).words or []) + starts[sentence.path]
        silent = inside[-1, 1] - inside[0, 0] - overlap(inside[0, 0], inside[-1, 1], spans)
        hits += silent >= ENOUGH * (inside[-1, 1] - inside[0, 0])
    print(f"{wall:.1f} s of wall time, {used:.1f} s of processor time, at most {peak / 2**20:.2f} GiB of memory")
    print(
        f"of {len(drift)} words {100 * np.mean(np.array(drift) <= NEAR):.2f} % start within {1000 * NEAR:.0f} ms of "
        f"where they start in the sentence alone, {100 * np.mean(np.array(drift) <= 0.5):.2f} % within 500 ms"
    )
    print(f"removed sentences found: {hits} of {len(removed)}; added sentences found: {found_added} of {added}")
    print(f"false alarms: {false_words} words, {false_seconds:.1f} s of speech")


if __name__ == "__main__":
    main()
