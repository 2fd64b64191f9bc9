"""The `asr` command: its verbs, its options before the verb, and what it says of a fault."""

import errno
import gc
import logging
import os
import sys
from typing import Annotated

import typer

import asr
from asr.cli import data, lm
from asr.cli.align import align
from asr.cli.batch import batch
from asr.cli.compare_alignments import compare_alignments
from asr.cli.evaluate import compare, evaluate, score, sensitivity
from asr.cli.options import LOGGERS, Quiet, Verbose, set_verbosity, with_verbosity
from asr.cli.pronounce import pronounce
from asr.cli.serve import serve
from asr.cli.train import average, calibrate, export, prepare, train, train_boundaries, train_scorer, tune
from asr.cli.transcribe import transcribe
from asr.core.errors import AsrError
from asr.core.terminal import log_handler

EVERYTHING = 'for the rest, in a checkout: pip install -e ".[train]"'

log = logging.getLogger(__name__)
app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
    help="Phone recognition with CTC: prepare a corpus, train, measure the phone error rate, transcribe recordings.",
)
for verb in (
    prepare,
    train,
    calibrate,
    evaluate,
    tune,
    compare,
    score,
    align,
    compare_alignments,
    pronounce,
    transcribe,
    batch,
    serve,
    train_boundaries,
    train_scorer,
    sensitivity,
    average,
    export,
):
    app.command()(with_verbosity(verb))
app.add_typer(data.app, name="data")
app.add_typer(lm.app, name="lm")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"asr {asr.__version__}")
        raise typer.Exit


@app.callback()
def _before_the_verb(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    set_verbosity(verbose, quiet)


def main() -> None:
    """Run the command line; a fault that the user can mend is one line and exit code 2."""
    # IPA is printed in any locale, and names of files need not be UTF-8.
    sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
    gc.set_threshold(300_000)  # starting makes 250,000 objects and no garbage; looking for it would take 0.2 s
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[log_handler()])
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO)
    try:
        app()
    except AsrError as error:
        typer.echo(f"asr: {error}", err=True)
        log.debug("where it failed", exc_info=error)
        sys.exit(2)
    except ModuleNotFoundError as error:
        if (error.name or "asr").partition(".")[0] == "asr":
            raise
        typer.echo(f"asr: no {error.name} here: this install recognises, aligns and scores; {EVERYTHING}", err=True)
        sys.exit(2)
    except OSError as error:
        if error.filename is None and error.errno != errno.ENOSPC:
            raise
        where = error.filename or "what is printed"
        typer.echo(f"asr: {where}: {error.strerror}: check the path, permissions and free space", err=True)
        if error.filename is None:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - or Python would try to print the rest at its end, and fail again
        sys.exit(2)
    except SystemExit as stop:
        if stop.code == 130:  # what typer makes of Ctrl-C
            verb = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
            goes_on = "; the same command goes on from the last checkpoint" if verb == "train" else ""
            typer.echo(f"\nasr: stopped{goes_on}", err=True)
        raise
    finally:
        gc.freeze()  # spares Python's last search for garbage, which would take 0.3 s
