"""The verbs of `asr data`: check, export."""

from pathlib import Path
from typing import Annotated, Any

import typer

from asr.cli.options import check as check_option
from asr.cli.options import with_verbosity
from asr.core.config import DataConfig

FORMS = ("kaldi", "lhotse", "shar")

app = typer.Typer(no_args_is_help=True, help="Corpora of your own: what they are like before you train on them.")


@app.command()
@with_verbosity
def check(
    corpus: Annotated[Path, typer.Argument(help="A folder or a table of recordings, or a folder of manifests.")],
    output: Annotated[
        Path | None, typer.Option(help="The folder for check.html, .png and .json.", show_default="runs/check/<corpus>")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the splits that the corpus lacks.")] = 0,
    lexicon: Annotated[
        str | None, typer.Option(help="A lexicon of another language; none: the phones in the corpus count.")
    ] = None,
    characters: Annotated[bool, typer.Option("--characters", help="Labels are letters, not phones.")] = False,
) -> None:
    """Listen to a corpus before you train on it, and tell what is in it and what is wrong with it.

    It prints hours, speakers and sample rates; silence and clipping; words that the dictionary lacks, characters beyond
    the alphabet, texts too long for their sound; sound and texts that are in two splits; and what will be left out.
    Nothing of the corpus is changed.

    asr data check mine
    asr data check mine/utterances.csv --output checked
    asr data check data/mini_librispeech
    asr data check mine --lexicon german.dict
    asr data check mine --characters
    """
    from asr.data.check import check as look_at
    from asr.data.check import lines
    from asr.data.pronunciations import of_corpus
    from asr.data.splits import name_of
    from asr.evaluation.data_page import write

    settings: dict[str, Any] = {"corpora": {"own": None}}
    if characters or lexicon is not None:
        settings |= {"labels": "auto", "lexicon": lexicon, "units": "characters" if characters else "phones"}
    report = look_at(corpus, seed, of_corpus(DataConfig(**settings), "own"))
    for line in lines(report):
        typer.echo(line)
    typer.echo(f"page: {write(report, output or Path('runs', 'check', name_of(corpus)))}")


@app.command()
@with_verbosity
def export(
    corpus: Annotated[Path, typer.Argument(help="The folder of its manifests, such as data/mine.")],
    output: Annotated[Path, typer.Argument(help="The folder to write: it gets one for each split.")],
    form: Annotated[str, typer.Option("--to", help="kaldi, lhotse or shar.")] = "kaldi",
) -> None:
    """Write a prepared corpus for other toolkits: as Kaldi's data directories, Lhotse's manifests, or Shar.

    asr prepare --corpus mine
    asr data export data/mine mine-kaldi
    asr data export data/mine mine-shar --to shar
    """
    check_option(form in FORMS, "--to", f"be one of {', '.join(FORMS)}", form)

    from data_prep.export import export as write

    for split, count in write(corpus, output, form).items():
        typer.echo(f"{output / split}: {count:,} utterances")
