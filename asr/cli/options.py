"""Options that several verbs share, and how a verb refuses one."""

import functools
import inspect
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from asr.core.errors import AsrError

LOGGERS = ("asr", "data_prep")

Recipe = Annotated[Path, typer.Argument(help="A recipe's YAML file, such as recipes/mini/blstm_ctc.yaml.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Settings to change: train.max_epochs=3 seed=2 …")]
Data = Annotated[
    Path | None,
    typer.Option("--data", help="The folder of the corpora.", show_default="download or synthesise them into corpora/"),
]
KnownData = Annotated[
    Path | None,
    typer.Option(
        "--data", help="The folder of the corpora.", show_default="where they were prepared from; no download"
    ),
]
Run = Annotated[Path | None, typer.Option("--run", help="The run folder.", show_default="runs/<recipe>/<system>")]
Model = Annotated[str, typer.Argument(help="A run or model folder, or the name of a shipped model.")]
ModelOption = Annotated[str, typer.Option("--model", help="A run or model folder, or the name of a shipped model.")]
Copy = Annotated[
    Path | None,
    typer.Option(
        "--output",
        help="The folder for a changed copy, which a shipped model needs.",
        show_default="the model's own folder",
    ),
]
KnownWords = Annotated[str | None, typer.Option("--text", help="The words that are said, for one recording.")]
G2P = Annotated[
    bool, typer.Option("--g2p/--no-g2p", help="Guess how words sound that are in no dictionary, or refuse them.")
]
LexiconFile = Annotated[
    Path | None,
    typer.Option("--lexicon", help="A file with a word and its phones on each line, for the dictionary's."),
]
Channel = Annotated[
    int | None, typer.Option(min=0, help="The channel to use, counted from 0.", show_default="their mean")
]
OutputDir = Annotated[
    Path | None,
    typer.Option(
        "--output-dir",
        help="Write one file for each recording into this folder; subfolders of a folder are kept.",
        show_default="print",
    ),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more on standard error.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only errors and warnings on standard error.")]


def set_verbosity(verbose: bool, quiet: bool) -> None:
    """Change how much is logged; without either option nothing changes."""
    for name in LOGGERS if verbose or quiet else ():
        logging.getLogger(name).setLevel(logging.WARNING if quiet else logging.DEBUG)


def with_verbosity(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb the options -v and -q, so that they may stand behind it as well as before it."""

    @functools.wraps(verb)
    def run(*, verbose: bool, quiet: bool, **values: Any) -> Any:
        set_verbosity(verbose, quiet)
        return verb(**values)

    signature = inspect.signature(verb)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=option)
        for name, option in (("verbose", Verbose), ("quiet", Quiet))
    ]
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *added])  # type: ignore[attr-defined]
    return run


def note(text: str) -> None:
    """Print a line on standard error, unless -q is given."""
    if logging.getLogger(LOGGERS[0]).isEnabledFor(logging.INFO):
        typer.echo(text, err=True)


def check(fits: bool, option: str, requirement: str, value: object) -> None:
    """Raise AsrError unless the value of an option meets its requirement.

    >>> check(False, "--nbest", "be 1 or more", 0)
    Traceback (most recent call last):
    ...
    asr.core.errors.AsrError: --nbest must be 1 or more, but it is 0
    """
    if not fits:
        raise AsrError(f"{option} must {requirement}, but it is {value!r}")


def check_model(name: str, overrides: Sequence[str] | None = None) -> None:
    """Raise AsrError if there is no such model, or a setting for it is none.

    The verbs that need the extra `train` do this before they import it, so that a typo is named as what it is in an
    install without the extra, too.
    """
    from asr.core import config
    from asr.models import model_folder

    if not any(Path(name).glob("seed-*/model/")):  # a run with several seeds has a model folder in each
        config.load(model_folder.find(name) / "config.yaml", overrides or ())


def check_exist(paths: Iterable[Path]) -> None:
    """Raise AsrError if there is nothing at one of the paths."""
    for path in paths:
        if not path.exists():
            raise AsrError(f"{path}: no such file or folder: check the path")


def check_format(form: str, formats: tuple[str, ...]) -> None:
    """Raise AsrError unless --format is one of these."""
    check(form in formats, "--format", f"be one of {', '.join(formats)}", form)
