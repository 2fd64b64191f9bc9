"""Language models and the search for words beside KenLM and torchaudio's ctc_decoder (flashlight), one thread each.

python benchmarks/lm.py
python benchmarks/lm.py --run runs/mini_librispeech/blstm_ctc --lm runs/mini_librispeech/lm/word_trigram --lm-weight 1.2

Estimation: a trigram of a million words drawn by Zipf's law. Sentences of that text, from strings to log probabilities;
queries, a word after a state each, ours all at once. Words: utterances of the run's test set (without a run, sentences
of the mini corpus that espeak-ng speaks, heard by en-us-phones), the same posteriors, lexicon, trigram, weights and
beam of 50 for all sides; flashlight takes the best path of a sentence, or with log_add the sum over its paths, as ours
does.
"""

import argparse
import itertools
import math
import tempfile
import time
from pathlib import Path

import kenlm
import numpy as np
import torch
from _bench import describe, in_turns, spread
from torchaudio.models.decoder import ctc_decoder

from asr.core.config import DecodeConfig
from asr.core.workers import set_num_threads
from asr.data import splits
from asr.evaluation.inputs import load_configured
from asr.evaluation.metrics import corpus_errors
from asr.evaluation.recognise import recognise
from asr.lm import arpa
from asr.lm.estimation import estimate
from asr.lm.folder import load
from asr.lm.lexicon import Lexicon
from asr.lm.ngram import NGram
from asr.lm.search import BEAM_THRESHOLD, TOKEN_THRESHOLD
from asr.lm.word_search import WordSearch
from asr.recognition.recogniser import Recogniser
from asr.speech import audio, espeak
from data_prep import mini

BEAM, VOICES = 50, 8


def estimation(num_words: int, folder: Path, repeats: int) -> None:
    """Time a trigram's estimation, and single sentences scored by both sides."""
    draws = np.random.default_rng(1)
    stream = [f"w{i}" for i in np.minimum(draws.zipf(1.15, num_words), 30_000)]
    ends = np.cumsum(draws.integers(5, 30, num_words // 15))
    sentences = [stream[start:end] for start, end in itertools.pairwise(ends) if end < num_words]
    count = sum(map(len, sentences))
    start = time.perf_counter()
    lm = estimate(sentences, "words", 3)
    print(f"estimation: {count:,} words, {lm.num_parameters:,} parameters: {time.perf_counter() - start:.2f} s")
    arpa.write(lm, folder / "zipf.arpa")
    theirs = kenlm.Model(str(folder / "zipf.arpa"))
    some = sentences[:2000]
    lines = [" ".join(each) for each in some]
    difference = np.abs(lm.totals(some) / math.log(10) - [theirs.score(line) for line in lines]).max()
    if difference > 1e-3:
        raise SystemExit(f"asr and KenLM disagree by {difference}")
    runs = {
        "asr": lambda: lm.totals([line.split() for line in lines]),
        "kenlm.Model.score": lambda: [theirs.score(line) for line in lines],
    }
    report("2,000 sentences", in_turns(runs, repeats), "kenlm.Model.score")
    queries(lm, theirs, some, repeats)


def queries(lm: NGram, theirs: kenlm.Model, sentences: list[list[str]], repeats: int) -> None:
    """Time what a decoder asks: a word after a state, its log probability and the state after it."""
    words = list(itertools.chain.from_iterable(sentences))
    our_states, their_states = [], []
    for sentence in sentences:
        node, state = lm.start(), kenlm.State()
        theirs.BeginSentenceWrite(state)
        for word in sentence:
            our_states.append(node)
            their_states.append(state)
            node, after = lm.advance(node, lm.indices([word])), kenlm.State()
            theirs.BaseScore(state, word, after)
            state = after
    nodes, after = lm.concat(our_states), kenlm.State()
    runs = {
        "asr": lambda: lm.query(nodes, lm.indices(words)),
        "kenlm.Model.BaseScore": lambda: [
            theirs.BaseScore(state, word, after) for state, word in zip(their_states, words, strict=True)
        ],
    }
    report(f"{len(words):,} queries", in_turns(runs, repeats), "kenlm.Model.BaseScore")


def words(
    posteriors: list[np.ndarray],
    references: list[list[str]],
    lm: NGram,
    labels: tuple[str, ...],
    decode: DecodeConfig,
    folder: Path,
    repeats: int,
) -> None:
    """Time all sides on the same utterances, and print their word error rates."""
    lexicon = Lexicon.of(lm.tokens)
    search = WordSearch(lexicon, lm, labels, decode.lm_weight, decode.insertion_penalty)
    arpa.write(lm, folder / "words.arpa")
    lines = [f"{word} {' '.join(spelt)} |" for word, each in lexicon.words.items() for spelt in each]
    (folder / "lexicon.txt").write_text("\n".join(line.removesuffix(" |") for line in lines) + "\n")
    common = {
        "lexicon": str(folder / "lexicon.txt"),
        "tokens": [*labels, "|"],
        "lm": str(folder / "words.arpa"),
        "beam_size": BEAM,
        "beam_threshold": BEAM_THRESHOLD,
        "lm_weight": decode.lm_weight * math.log(10),  # its KenLM speaks in decimal logarithms
        "word_score": -decode.insertion_penalty,
        "blank_token": labels[0],
        "sil_token": "|",  # it wants one: a class that is never said
    }
    peers = {"flashlight": ctc_decoder(**common), "flashlight, log_add": ctc_decoder(**common, log_add=True)}
    emissions = [torch_rows(rows) for rows in posteriors]
    runs = {
        "asr": lambda: [
            search(rows[:, None], None, BEAM, 1, BEAM_THRESHOLD, TOKEN_THRESHOLD)[0][0].words for rows in posteriors
        ]
    } | {name: lambda peer=peer: [peer(rows)[0][0].words for rows in emissions] for name, peer in peers.items()}
    seconds = sum(map(len, posteriors))
    print(f"{len(posteriors)} utterances, {seconds:,} frames, {len(lexicon.words):,} words")
    for name, run in runs.items():
        errors = corpus_errors(references, run())
        print(f"  {name:22} WER {100 * errors.rate:.2f} %")
    report("words", in_turns(runs, repeats), "asr")


def torch_rows(rows: np.ndarray) -> torch.Tensor:
    """Return posteriors (1, T, C + 1) with a last class that is never said."""
    return torch.from_numpy(np.pad(rows.astype(np.float32), ((0, 0), (0, 1)), constant_values=-1e4))[None]


def report(title: str, times: dict[str, np.ndarray], base: str) -> None:
    """Print each side's times and their ratio to the base's."""
    for name, seconds in times.items():
        ratio = np.median(seconds) / np.median(times[base])
        print(f"{title:16} {name:24} {spread(seconds):36} {ratio:6.2f} x {base}", flush=True)


Given = tuple[list[np.ndarray], list[list[str]], NGram, tuple[str, ...]]


def spoken() -> Given:
    """Return posteriors and words of sentences of the mini corpus, and a trigram of others."""
    recogniser = Recogniser.from_pretrained()
    texts = list(itertools.islice(mini.sentences(np.random.default_rng(1)), 2000))
    said = [[word.strip(".,?!").lower() for word in text.split()] for text in texts]
    speeches = [espeak.synthesise(text, pitch=35 + 5 * i) for i in range(VOICES) for text in texts[i * 5 : i * 5 + 5]]
    rows = [recogniser.emissions(audio.from_array(each.samples, each.sample_rate)) for each in speeches]
    return rows, said[: len(rows)], estimate(said[len(rows) :], "words", 3), recogniser.model.tokens


def recorded(run: str, lm: str, corpora: Path | None, count: int) -> Given:
    """Return posteriors and words of a run's test utterances, at equal steps, and a trigram."""
    _, model = load_configured(run, corpora=corpora)
    (corpus,) = model.config.data.corpora
    found = recognise(model, corpus, "test", with_sound=False).utterances
    some = found[:: max(1, len(found) // count)]
    given = load(lm)
    assert isinstance(given, NGram)
    return [each.log_probs for each in some], [splits.words(each.cut) for each in some], given, model.tokens


def main() -> None:
    """Print machine, versions and the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", help="a run of CTC whose test set is decoded (default: en-us-phones on spoken text)")
    parser.add_argument("--lm", help="with --run: a word n-gram")
    parser.add_argument("--data", type=Path, help="where the run's corpus lies")
    parser.add_argument("--lm-weight", type=float, default=0.8)
    parser.add_argument("--penalty", type=float, default=0.0, help="nats a word (default 0)")
    parser.add_argument("--count", type=int, default=200, help="utterances of the run's test set (default 200)")
    parser.add_argument("--repeats", type=int, default=3, help="passes a round, of which there are three (default 3)")
    parser.add_argument("--num-words", type=int, default=1_000_000, help="of the text (default 1,000,000)")
    arguments = parser.parse_args()
    set_num_threads(1)
    print(describe("numba", "torchaudio", "flashlight-text", "kenlm"))
    decode = DecodeConfig(lm_weight=arguments.lm_weight, insertion_penalty=arguments.penalty)
    with tempfile.TemporaryDirectory() as name:
        estimation(arguments.num_words, Path(name), arguments.repeats)
        if arguments.run is None:
            given = spoken()
        else:
            given = recorded(arguments.run, arguments.lm, arguments.data, arguments.count)
        words(*given, decode, Path(name), arguments.repeats)


if __name__ == "__main__":
    main()
