"""`asr lm train` beside KenLM's lmplz: time, processor time and memory for n-grams of words of a big text.

python benchmarks/lm_train.py
python benchmarks/lm_train.py books.txt --lmplz kenlm/build/bin/lmplz
python benchmarks/lm_train.py books.txt --lmplz kenlm/build/bin/lmplz --num-words 10000000 --orders 3 --min-counts 1 1 2

Both learn the same sentences with Kneser-Ney's discounts, and must find equally many n-grams. Ours writes a model
folder and scores a little text that is held out; lmplz writes an ARPA file and may use 4 GB. Without a text a million
words are drawn by Zipf's law; without --lmplz ours runs alone.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _bench import describe

from asr.lm.folder import load
from asr.lm.ngram import NGram

HELD_OUT = 1000  # sentences


@dataclass(frozen=True)
class Run:
    """What a process took, in seconds and bytes, and what it wrote on standard error."""

    seconds: float
    processor_seconds: float
    memory: int
    said: str


def run(command: Sequence[object], text: Path, log: Path) -> Run:
    """Run a command that reads the text from standard input, if it reads any."""
    with text.open() as given, log.open("w") as errors:
        start = time.perf_counter()
        process = subprocess.Popen([*map(str, command)], stdin=given, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
    said = log.read_text()
    if status:
        raise SystemExit(f"{command[0]} failed:\n{said}")
    return Run(seconds, used.ru_utime + used.ru_stime, 1024 * used.ru_maxrss, said)


def drawn(path: Path) -> Path:
    """Write a million words drawn by Zipf's law, in sentences of 15."""
    draws = np.random.default_rng(1)
    sentences = np.minimum(draws.zipf(1.15, (70_000, 15)), 30_000)
    path.write_text("".join(" ".join(f"w{number}" for number in row) + "\n" for row in sentences.tolist()))
    return path


def take(text: Path, num_words: int, folder: Path) -> tuple[Path, Path, int]:
    """Write the first words of a text, but for the first sentences, which are held out; return files and words."""
    trained, held_out, count = folder / "train.txt", folder / "dev.txt", 0
    with text.open() as given, trained.open("w") as train, held_out.open("w") as dev:
        for number, line in enumerate(given):
            (dev if number < HELD_OUT else train).write(line)
            count += len(line.split()) if number >= HELD_OUT else 0
            if count >= num_words:
                break
    return trained, held_out, count


def compare(order: int, min_counts: Sequence[int], texts: tuple[Path, Path], lmplz: Path | None, folder: Path) -> None:
    """Print what both sides take for an order."""
    train, dev = texts
    recipe = folder / "lm.yaml"
    recipe.write_text(
        f"text: {{text: {train}, dev_text: {dev}, unit: words, open_vocabulary: true}}\n"
        f"model: {{name: ngram, order: {order}, min_counts: {[*min_counts][:order]}}}\n"
    )
    asr = [sys.executable, "-m", "asr", "lm", "train", recipe, "--run", folder / "run"]
    runs = {"asr lm train": run(asr, train, folder / "asr.log")}
    if lmplz is not None:
        pruned = ["--prune", *(count - 1 for count in [*min_counts][:order])]
        theirs = [lmplz, "-o", order, "-S", "4G", "-T", folder, "--interpolate_unigrams", 0, *pruned]
        runs["lmplz"] = run([*theirs, "--arpa", folder / "lm.arpa"], train, folder / "lmplz.log")
        with (folder / "lm.arpa").open() as file:
            counts = [int(line.split("=")[1]) for line, _ in zip(file, range(order + 1), strict=False) if "=" in line]
        lm = load(folder / "run")
        assert isinstance(lm, NGram)
        ours = [len(each.tokens) for each in lm.orders()]
        if ours != [counts[0] - 1, *counts[1:]]:  # with <s> and </s> for our one edge
            raise SystemExit(f"lmplz found {counts} n-grams, asr {ours}")
    for name, each in runs.items():
        numbers = f"{each.seconds:7.1f} s, processor {each.processor_seconds:7.1f} s, {each.memory / 1e9:5.2f} GB"
        print(f"order {order}  {name:14} {numbers}", flush=True)
    print(re.findall(r"perplexity .* held out", runs["asr lm train"].said)[-1], flush=True)


def main() -> None:
    """Print machine, versions and a line for each order and side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, nargs="?", help="a sentence on each line (default: drawn words)")
    parser.add_argument("--lmplz", type=Path, help="KenLM's program (github.com/kpu/kenlm, built with cmake)")
    parser.add_argument("--num-words", type=int, default=10**12, help="only so many words of the text")
    parser.add_argument("--orders", type=int, nargs="+", default=[3, 4])
    parser.add_argument("--min-counts", type=int, nargs="+", default=[1], help="as model.min_counts")
    arguments = parser.parse_args()
    print(describe("numba", "numpy"))
    with tempfile.TemporaryDirectory() as name:
        text = arguments.text or drawn(Path(name, "drawn.txt"))
        train, dev, count = take(text, arguments.num_words, Path(name))
        print(f"{count:,} words")
        for order in arguments.orders:
            compare(order, arguments.min_counts, (train, dev), arguments.lmplz, Path(name))


if __name__ == "__main__":
    main()
