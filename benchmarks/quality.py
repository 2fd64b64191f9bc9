"""Whether the quality values of `asr align --report` tell bad alignments from good ones.

python benchmarks/quality.py LibriSpeech/test-clean

Utterances are aligned as they are, and spoilt: with the text of another one, with every fifth word replaced, in white
noise as loud as the speech, in a crowd of voices, clipped by 30 dB, and with the starts of words moved by up to 0.2 s
at random. Printed is the area under the ROC curve with which the quality of the recording, and each value that it is
made of, tells the spoilt ones from the others: 0.5 tells nothing, 1 everything. Beside it stands that of the quality of
words, for words that were replaced or moved, and those that were not.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _bench import describe
from _conditions import babble, clipped, white

from asr.core.errors import AsrError
from asr.evaluation.pronunciation import ranks
from asr.recognition import quality
from asr.recognition.align import known_text, place
from asr.recognition.alignment import Alignment
from asr.recognition.recogniser import Recogniser
from asr.speech import audio

EVERY = 5  # words, of which one is replaced
FARTHEST = 0.2  # seconds that a word's start is moved
VALUES = ("quality", "confidence", "deviation", "snr")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="a part of LibriSpeech")
    parser.add_argument("--model", default="en-us-phones")
    parser.add_argument("--count", type=int, default=60, help="utterances, chosen at random")
    return parser.parse_args()


def utterances(corpus: Path, count: int, rng: np.random.Generator) -> list[tuple[np.ndarray, list[str]]]:
    """Return waveforms with their words."""
    lines = [
        (file.parent, *line.split()) for file in sorted(corpus.rglob("*.trans.txt")) for line in file.open() if line
    ]
    chosen = [lines[i] for i in rng.permutation(len(lines))[:count]]
    return [(audio.load(folder / f"{name}.flac"), words) for folder, name, *words in chosen]


def area(good: np.ndarray, bad: np.ndarray) -> float:
    """Return the area under the ROC curve: the probability that a good one has the higher value."""
    ranked = ranks(np.concatenate([good, bad]))[: len(good)]
    return float((ranked.sum() - len(good) * (len(good) - 1) / 2) / (len(good) * len(bad)))


def moved(aligned: Alignment, rng: np.random.Generator) -> tuple[Alignment, np.ndarray]:
    """Move the starts of every fifth word, and the end of the word before; return which words are concerned."""
    words, phones, hit = list(aligned.words or ()), list(aligned.phones), np.zeros(len(aligned.words or ()), bool)
    for i in range(1, len(words), EVERY):
        shift = float(rng.choice([-1, 1]) * rng.uniform(FARTHEST / 2, FARTHEST))
        before, after = words[i - 1 : i + 1]
        if after.end - after.start == 0 or before.end - before.start == 0 or after.start - before.end > 0:
            continue
        time = after.start + shift
        low, high = before.start, after.end
        time = min(max(time, low + 0.01), high - 0.01)
        hit[i - 1 : i + 1] = True
        for k, each in enumerate(phones):
            if before.start <= each.start and each.end <= before.end + 1e-6:
                phones[k] = replace(each, start=min(each.start, time), end=min(each.end, time))
                if each.end == before.end:
                    phones[k] = replace(phones[k], end=time)
            elif after.start - 1e-6 <= each.start and each.end <= after.end:
                phones[k] = replace(each, start=max(each.start, time), end=max(each.end, time))
                if each.start == after.start:
                    phones[k] = replace(phones[k], start=time)
        words[i - 1], words[i] = replace(before, end=time), replace(after, start=time)
    return replace(aligned, words=words, phones=phones), hit


def main() -> None:
    """Print machine, versions and the areas."""
    arguments, rng = parse_arguments(), np.random.default_rng(0)
    print(describe("numpy", "torch"))
    recogniser = Recogniser.from_pretrained(arguments.model)
    spoken = utterances(arguments.corpus, arguments.count, rng)
    voices = [waveform for waveform, _ in spoken]

    def rated(waveform: np.ndarray, words: list[str]) -> tuple[Alignment, np.ndarray]:
        heard = recogniser.hear(waveform.astype(np.float32), audio.SAMPLE_RATE)
        return place(recogniser.model, known_text(recogniser.model, " ".join(words)), heard), heard.waveform

    sounds: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "white noise, 0 dB": lambda waveform: white(waveform, rng, 0),
        "babble, 0 dB": lambda waveform: babble(waveform, rng, 0, voices),
        "clipped by 30 dB": lambda waveform: clipped(waveform, rng, 30),
    }
    names = ["as it is", "another text", "a fifth of the words replaced", "word starts moved", *sounds]
    found: dict[str, list[Any]] = {name: [] for name in names}
    good_words, bad_words = (dict[str, list[float]]((name, []) for name in names) for _ in range(2))

    def note(name: str, aligned: Alignment, sound: np.ndarray, hit: np.ndarray | None = None) -> None:
        result = quality.assess(aligned, sound)
        found[name].append(result)
        for k, word in enumerate(result.words):
            (bad_words if hit is not None and hit[k] else good_words)[name].append(word.quality)

    vocabulary = sorted({word for _, words in spoken for word in words})
    for i, (waveform, words) in enumerate(spoken):
        try:
            aligned, sound = rated(waveform, words)
            note("as it is", aligned, sound)
            note("another text", *rated(waveform, spoken[i - 1][1]))
            hit = np.arange(len(words)) % EVERY == EVERY // 2
            false = [str(rng.choice(vocabulary)) if hit[k] else word for k, word in enumerate(words)]
            hit = np.array([one != other for one, other in zip(words, false, strict=True)])
            note("a fifth of the words replaced", *rated(waveform, false), hit)
            shifted, hit = moved(aligned, rng)
            note("word starts moved", shifted, sound, hit)
            for name, spoil in sounds.items():
                note(name, *rated(spoil(waveform), words))
        except AsrError as error:
            print(f"left out: {error}")
    print(f"{len(found['as it is'])} utterances of {arguments.corpus}")
    print(f"{'area under the ROC curve':32}" + "".join(f"{name:>12}" for name in (*VALUES, "words")))
    for name in names[1:]:
        values = []
        for value in VALUES:
            good, bad = (np.array([getattr(each, value) for each in found[which]]) for which in ("as it is", name))
            values.append(area(-good, -bad) if value == "deviation" else area(good, bad))
        row = "".join(f"{each:12.3f}" for each in values)
        of_words = f"{area(np.array(good_words[name]), np.array(bad_words[name])):12.3f}" if bad_words[name] else ""
        print(f"{name:32}{row}{of_words}")


if __name__ == "__main__":
    main()
