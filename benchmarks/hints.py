"""Words that a user expects: how many more of them are recognised with hints, and what long lists of hints cost.

python benchmarks/hints.py --lm FOLDER --audio FOLDER [--model en-us-phones]

The folder of recordings is laid out as LibriSpeech: FLAC, with `*.trans.txt` beside. Settings of the search are those
that the word model has for the acoustic model. The recordings of each folder (a chapter of a book) are recognised with
hints of their own: the rare words of their texts, which are outside the language model's vocabulary or beyond its
5,000 commonest words, and distractors, which are drawn from other rare words of the vocabulary. Recall is the share of
the rare words said that are found, precision the share of the listed words found that were said there, and false the
number of the others. Without hints, the rare words are listed.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from _bench import describe

from asr.cli.recordings import text_beside
from asr.core.terminal import track
from asr.evaluation.metrics import ErrorCounts, align, count_errors
from asr.lm.ngram import NGram
from asr.lm.search import language_model
from asr.models.ctc import CTCModel
from asr.recognition.recogniser import Recogniser
from asr.speech import audio

BATCH, COMMON = 16, 5000


class Chapter(NamedTuple):
    """The words of some recordings, their log posteriors (T, C), and those words that are rare."""

    words: list[list[str]]
    emissions: list[np.ndarray]
    rare: list[str]


class Found(NamedTuple):
    """Counts over recordings."""

    errors: ErrorCounts
    said: int  # rare words
    right: int  # of those
    listed: int  # words found that are listed
    true: int  # of those


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="en-us-phones", help="run or model folder, or a shipped model")
    parser.add_argument("--lm", required=True, help="language model over words")
    parser.add_argument("--audio", type=Path, required=True, help="folder of recordings, searched to any depth")
    parser.add_argument("--bonus", type=float, nargs="+", default=[2, 3, 4, 5, 6, 8], help="nats for each word")
    parser.add_argument("--distractors", type=int, nargs="+", default=[0, 100, 1000])
    return parser.parse_args()


def commonest(lm: NGram) -> list[str]:
    """Return the words of a language model, the commonest first."""
    tokens = np.arange(1, len(lm.tokens))
    log_probs, _ = lm.query(np.zeros_like(tokens), tokens)
    return [lm.tokens[token] for token in tokens[np.argsort(-log_probs, kind="stable")]]


def hear(recogniser: Recogniser, folder: Path, common: Sequence[str]) -> list[Chapter]:
    """Return the recordings in a folder by the folders that they are in."""
    files, known = sorted(folder.rglob("*.flac")), set(common)
    chapters: dict[Path, Chapter] = {}
    for path in track(files, "listening"):
        chapter = chapters.setdefault(path.parent, Chapter([], [], []))
        chapter.words.append(text_beside(path).lower().split())
        chapter.emissions.append(recogniser.emissions(audio.load(path)))
        chapter.rare.extend(word for word in chapter.words[-1] if word not in known and word not in chapter.rare)
    return list(chapters.values())


def recognise(model: CTCModel, chapters: Sequence[Chapter], lists: Sequence[Sequence[str]], bonus: float) -> Found:
    """Recognise the recordings of each chapter, without hints if the bonus is 0, and count."""
    errors, counts = ErrorCounts(), np.zeros(4, int)
    for chapter, words in zip(chapters, lists, strict=True):
        decode = replace(model.config.decode, hints=tuple(words) if bonus else (), hint_bonus=bonus)
        hinting, listed, rare = model.with_decoding(decode), set(words), set(chapter.rare)
        for reference, hypothesis in zip(chapter.words, decoded(hinting, chapter.emissions), strict=True):
            errors += count_errors(reference, hypothesis)
            for said, found in align(reference, hypothesis):
                is_right = said == found
                counts += said in rare, said in rare and is_right, found in listed, found in listed and is_right
    return Found(errors, *counts.tolist())


def decoded(model: CTCModel, emissions: Sequence[np.ndarray]) -> Iterator[Sequence[str]]:
    """Yield the words of each recording."""
    for first in range(0, len(emissions), BATCH):
        for found in model.decode(emissions[first : first + BATCH], model.config.decode.beam_size):
            yield found.words or ()


def print_row(name: str, bonus: float, found: Found) -> None:
    """Print shares in percent, and a number."""
    shares = 100 * found.errors.rate, 100 * found.right / found.said, 100 * found.true / max(found.listed, 1)
    print(f"{name:29} {bonus:5g} {shares[0]:8.2f} {shares[1]:7.1f} {shares[2]:10.1f} {found.listed - found.true:6}")


def main() -> None:
    """Print the error rate, recall and precision without hints, and for each bonus and length of the lists."""
    arguments = parse_arguments()
    print(describe("numpy", "numba"))
    recogniser = Recogniser.from_pretrained(arguments.model, words=arguments.lm)
    model = recogniser.model
    assert isinstance(model, CTCModel)
    lm = language_model(str(model.config.decode.lm), model.tokens)
    assert isinstance(lm, NGram)
    words = commonest(lm)
    chapters = hear(recogniser, arguments.audio, words[:COMMON])
    said = {word for chapter in chapters for text in chapter.words for word in text}
    others = np.random.default_rng(1).permutation([word for word in words[COMMON:] if word not in said]).tolist()
    rare = [chapter.rare for chapter in chapters]
    print(f"{sum(len(each.words) for each in chapters)} recordings in {len(chapters)} folders, ", end="")
    print(f"{sum(map(len, rare))} rare words, {len(set().union(*rare) - set(words))} of them not in the vocabulary")
    print(f"{'hints':29} bonus  wrong %  recall  precision  false")
    print_row("none", 0, recognise(model, chapters, rare, 0.0))
    for bonus in arguments.bonus:
        for count in arguments.distractors:
            listed = [[*each, *others[:count]] for each in rare]
            print_row(f"rare words, {count} distractors", bonus, recognise(model, chapters, listed, bonus))
        most = others[: max(arguments.distractors)]
        print_row(f"{len(most)} distractors", bonus, recognise(model, chapters, [most] * len(chapters), bonus))


if __name__ == "__main__":
    main()
