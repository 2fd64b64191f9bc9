"""The verb `asr align`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from asr.cli.options import Channel, ModelOption, OutputDir, check_format
from asr.core.errors import AsrError

FORMATS = ("textgrid", "ctm", "json", "audacity")
MOST_NAMED = 30  # guessed words in a line


def align(
    names: Annotated[list[str], typer.Argument(metavar="RECORDINGS", help="Audio files, or folders of them.")],
    text: Annotated[str | None, typer.Option(help="The words that are said, for one recording.")] = None,
    phones: Annotated[str | None, typer.Option(help="The phones that are said, for one recording.")] = None,
    model: ModelOption = "en-us-phones",
    g2p: Annotated[
        bool, typer.Option("--g2p/--no-g2p", help="Guess how words sound that are in no dictionary, or refuse them.")
    ] = True,
    lexicon: Annotated[
        Path | None, typer.Option(help="A file with a word and its phones on each line, for the dictionary's.")
    ] = None,
    gop: Annotated[bool, typer.Option("--gop", help="Rate each phone's pronunciation; with --format json.")] = False,
    output_format: Annotated[
        str, typer.Option("--format", help="textgrid, ctm, json or audacity (words and phones in the first and third).")
    ] = "textgrid",
    output_dir: OutputDir = None,
    channel: Channel = None,
) -> None:
    """Find where the words and phones of a known text are in a recording.

    Without --text or --phones each recording's text is the .txt or .lab file beside it, or its line in a LibriSpeech
    *.trans.txt. Numbers, dates, abbreviations and signs are read aloud as in English. A recording that fails is
    reported and skipped; the exit code then is 1, or 2 if all fail.

    asr align hello.wav --text "hello world"
    asr align hello.wav --phones "HH AH L OW" --format json --gop
    asr align recordings/ --output-dir aligned --format audacity
    """
    check_format(output_format, FORMATS)
    if text is not None and phones is not None:
        raise AsrError("--text and --phones exclude each other: give one")
    if gop and output_format != "json":
        raise AsrError("--gop needs --format json: the other formats have no place for it")
    given = text if phones is None else phones
    if given is not None and not given.strip():
        raise AsrError("the text is empty: give the words or phones that are said")

    from asr.cli import batch, recordings
    from asr.recognition import align as alignment
    from asr.recognition.recogniser import Recogniser

    found, faults = batch.find(names)
    if given is not None and len(found) > 1:
        raise AsrError(f"one text for {len(found)} recordings: put each one's text in a .txt file beside it")
    output = batch.Output(output_format, output_dir)
    output.check(len(found))
    recogniser = Recogniser.from_pretrained(model)
    own = None if lexicon is None else alignment.read_lexicon(lexicon, recogniser.model)
    output.make_folder()

    def work(recording: recordings.Recording) -> list[str]:
        words = recordings.text_beside(recording.path) if given is None else text
        with recordings.opened(recording.path) as file:
            aligned = alignment.align(recogniser, file, words, phones, g2p, gop, lexicon=own, channel=channel)
        if aligned.guessed:
            batch.remark(recording.path, f"guessed: {shortened(aligned.guessed)}")
        if aligned.misfit is not None:
            batch.remark(recording.path, aligned.misfit)
        return [output.write(recording, aligned)]

    title = None if output_dir is None else "aligning"
    raise typer.Exit(batch.run(found, faults, work, title, fault="could not be aligned"))


def shortened(words: Sequence[str]) -> str:
    """Return words with commas between, the first ones if there are many.

    >>> shortened(["snark"] * 32)[-24:]
    'snark, snark, and 2 more'
    """
    more = len(words) - MOST_NAMED
    return ", ".join([*words[:MOST_NAMED], *([f"and {more} more"] if more > 0 else [])])
