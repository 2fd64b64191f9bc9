"""How small an n-gram of words may become, and what that costs: pruning, quantisation, and KenLM beside us.

python benchmarks/lm_size.py
python benchmarks/lm_size.py books.txt --speech dev.tsv --tsv docs/figures/lm_size.tsv

The text has a sentence a line; without one it is that of the mini corpus. Every n-th line is learnt, so that there are
as many words as --num-words says, and every 350th of the others is held out. Contexts are as probable as a Witten-Bell
bigram of the same text says, but for the rows that say "own". A rounded model's probabilities do not quite sum to one:
its perplexity is that of the probabilities divided by their mean sum, over some contexts of the text held out. With
--speech, a file of a recording and its words a line with a tab between, the words that en-us-phones hears with each
model are compared with those.
"""

import argparse
import itertools
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from _bench import describe, in_turns, spread

from asr.core.workers import set_num_threads
from asr.evaluation.metrics import corpus_errors
from asr.lm import arpa, text
from asr.lm.estimation import estimate
from asr.lm.folder import save
from asr.lm.language_model import UNKNOWN
from asr.lm.lexicon import Lexicon
from asr.lm.ngram import NGram
from asr.lm.pruning import prune
from asr.lm.quantisation import quantise
from asr.lm.search import BEAM_THRESHOLD, TOKEN_THRESHOLD
from asr.lm.word_search import WordSearch
from asr.speech import audio
from data_prep import mini

THRESHOLDS, BITS = (1e-8, 3e-8, 1e-7, 3e-7, 1e-6), (8, 6, 4)
HELD_OUT, CONTEXTS, BEAM, WEIGHT, PENALTY = 350, 300, 50, 0.8, -0.5
Sentences = list[list[str]]
LOAD = """
import sys, time
from asr.lm.folder import load
start = time.perf_counter()
load(sys.argv[1])
print(time.perf_counter() - start)
"""


def read(path: Path | None, num_words: int) -> tuple[Sentences, Sentences]:
    """Return the sentences that are learnt and those held out."""
    if path is None:
        lines = list(itertools.islice(mini.sentences(np.random.default_rng(1)), 20_000))
    else:
        lines = path.read_text(encoding="utf8").splitlines()
    held_out = [line.split() for line in lines[HELD_OUT // 2 :: HELD_OUT]]
    del lines[HELD_OUT // 2 :: HELD_OUT]
    step = max(1, round(sum(line.count(" ") + 1 for line in lines) / num_words))
    return [line.split() for line in lines[::step]], held_out


def perplexity(lm: NGram, sentences: Sentences) -> tuple[float, float]:
    """Return the perplexity and the mean natural log of the sum of the probabilities after a context."""
    draws = np.random.default_rng(1)
    states = []
    for sentence in (sentences[i] for i in draws.integers(0, len(sentences), CONTEXTS)):
        tokens = lm.indices(sentence[: draws.integers(0, len(sentence) + 1)])
        state = lm.start()
        for token in tokens:
            state = lm.advance(state, np.array([token]))
        states.append(state)
    excess = np.mean([np.log(np.exp(lm.log_probs(state)).sum()) for state in states])
    found = np.concatenate(lm.score(sentences))
    return math.exp(excess - found.mean()), float(excess)


class Speech:
    """Word error rates of the shipped phone model with a language model."""

    def __init__(self, path: Path):
        from asr.recognition.recogniser import Recogniser

        recogniser = Recogniser.from_pretrained()
        rows = [line.split("\t") for line in path.read_text(encoding="utf8").splitlines()]
        self.labels, self.words = recogniser.model.tokens, [words.split() for _, words in rows]
        self.emissions = [recogniser.emissions(audio.load(file)) for file, _ in rows]

    def search(self, lm: NGram) -> Callable[[], list[tuple[str, ...] | None]]:
        """Return a function that recognises all recordings."""
        search = WordSearch(Lexicon.of(lm.tokens), lm, self.labels, WEIGHT, PENALTY)
        return lambda: [
            search(rows[:, None], None, BEAM, 1, BEAM_THRESHOLD, TOKEN_THRESHOLD)[0][0].words for rows in self.emissions
        ]

    def error_rate(self, lm: NGram) -> float:
        """Return the share of words that are wrong, in percent."""
        return 100 * corpus_errors(self.words, self.search(lm)()).rate


def models(lm: NGram, history: NGram) -> Iterator[tuple[str, float, int, NGram]]:
    """Yield where the probabilities of contexts come from, threshold, bits and model."""
    for threshold in (0.0, *THRESHOLDS):
        for name in ("history", "own") if threshold else ("history",):
            pruned = prune(lm, threshold, history if name == "history" else None) if threshold else lm
            yield name, threshold, 32, pruned
            for bits in BITS if name == "history" else ():
                yield name, threshold, bits, quantise(pruned, bits)


def sizes(lm: NGram, history: NGram, dev: Sentences, speech: Speech | None, folder: Path) -> list[str]:
    """Print and return a line for each model."""
    header = "contexts threshold bits n_grams megabytes bytes_an_n_gram perplexity ln_sum"
    lines = ["\t".join([*header.split(), *(["wer"] if speech else [])])]
    print(lines[0], flush=True)
    for name, threshold, bits, each in models(lm, history):
        save(folder / "model", each, "")
        size, count = sum(file.stat().st_size for file in (folder / "model").iterdir()), sum(each.packing.counts)
        value, excess = perplexity(each, dev)
        columns = [name, f"{threshold:g}", f"{bits}", f"{count}", f"{size / 1e6:.2f}", f"{size / count:.2f}"]
        columns += [f"{value:.2f}", f"{excess:.4f}", *([f"{speech.error_rate(each):.2f}"] if speech else [])]
        lines.append("\t".join(columns))
        print(lines[-1], flush=True)
    return lines


def times(lm: NGram, dev: Sentences, folder: Path, repeats: int) -> None:
    """Print the times of reading an ARPA file, loading in a new process, and looking up, ours and KenLM's."""
    start = time.perf_counter()
    arpa.write(lm, folder / "lm.arpa")
    print(f"ARPA file: {(folder / 'lm.arpa').stat().st_size / 1e6:.0f} MB, {lm.packing.counts} n-grams")
    print(f"  written in {time.perf_counter() - start:.1f} s")
    save(folder / "model", lm, "")
    loads = [
        float(subprocess.run([sys.executable, "-c", LOAD, folder / "model"], capture_output=True, check=True).stdout)
        for _ in range(5)
    ]
    print(f"  model folder loaded in {spread(np.array(loads))}")
    runs = {"asr": lambda: arpa.read(folder / "lm.arpa", "words")}
    tokens = [[UNKNOWN if word not in lm.index else word for word in sentence] for sentence in dev]
    states, nexts = _queries(lm, tokens)
    small = quantise(lm, 8)
    lookups = {"asr": lambda: lm.query(states, nexts), "asr, 8 bits": lambda: small.query(states, nexts)}
    try:
        import kenlm
    except ImportError:
        print("  (pip install kenlm to see it beside us)")
    else:
        theirs = kenlm.Model(str(folder / "lm.arpa"))
        runs["kenlm.Model"] = lambda: kenlm.Model(str(folder / "lm.arpa"))
        lines = [" ".join(sentence) for sentence in tokens]
        lookups["asr, sentences"] = lambda: lm.totals(tokens)
        lookups["kenlm, sentences"] = lambda: [theirs.score(line) for line in lines]
    for name, seconds in in_turns(runs, 1).items():
        print(f"  read by {name:16} {spread(seconds)}")
    for name, seconds in in_turns(lookups, repeats).items():
        rate = len(states) / np.median(seconds)
        print(f"  {len(states):,} look-ups by {name:18} {spread(seconds)}: {rate:,.0f} a second")


def _queries(lm: NGram, sentences: Sentences) -> tuple[np.ndarray, np.ndarray]:
    """Return the states before all words and ends of sentences, and the words' tokens."""
    rows = [np.append(lm.indices(sentence), 0) for sentence in sentences]
    states, found = lm.start(len(rows)), [np.zeros(len(row), np.int32) for row in rows]
    for i in range(max(map(len, rows))):
        (there,) = np.nonzero([i < len(row) for row in rows])
        for k in there:
            found[k][i] = states[k]
        states[there] = lm.advance(states[there], np.array([rows[k][i] for k in there]))
    return np.concatenate(found), np.concatenate(rows)


def main() -> None:
    """Print machine, versions and the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, nargs="?", help="a sentence a line (default: the mini corpus's)")
    parser.add_argument("--num-words", type=int, default=10_000_000, help="of the text (default 10,000,000)")
    parser.add_argument("--order", type=int, default=3, help="of the n-grams (default 3)")
    parser.add_argument("--min-count", type=int, default=3, help="of a word of the vocabulary (default 3)")
    parser.add_argument("--speech", type=Path, help="a recording and its words a line, with a tab between")
    parser.add_argument("--tsv", type=Path, help="also write the table of sizes here")
    parser.add_argument("--repeats", type=int, default=3, help="passes a round, of which there are three (default 3)")
    arguments = parser.parse_args()
    set_num_threads(1)
    print(describe("numba", "numpy"))
    sentences, dev = read(arguments.text, arguments.num_words)
    words = [UNKNOWN, *text.vocabulary(sentences, arguments.min_count)]
    print(f"{sum(map(len, sentences)):,} words learnt, {sum(map(len, dev)):,} held out, a vocabulary of {len(words):,}")
    lm = estimate(sentences, "words", arguments.order, tokens=words)
    history = estimate(sentences, "words", 2, "witten_bell", words)
    del sentences
    speech = Speech(arguments.speech) if arguments.speech else None
    with tempfile.TemporaryDirectory() as name:
        lines = sizes(lm, history, dev, speech, Path(name))
        if arguments.tsv is not None:
            arguments.tsv.write_text("\n".join(lines) + "\n", encoding="utf8")
        times(lm, dev, Path(name), arguments.repeats)


if __name__ == "__main__":
    main()
