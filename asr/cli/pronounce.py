"""The verb `asr pronounce`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.options import G2P, Channel, KnownWords, LexiconFile, ModelOption, OutputDir, check, check_format
from asr.core.errors import AsrError, CorpusError

if TYPE_CHECKING:
    from rich.text import Text

FORMATS = ("text", "json")


def pronounce(
    names: Annotated[list[str], typer.Argument(metavar="RECORDINGS", help="Audio files, or folders of them.")],
    text: KnownWords = None,
    model: ModelOption = "en-us-phones",
    g2p: G2P = True,
    lexicon: LexiconFile = None,
    output_format: Annotated[str, typer.Option("--format", help="text or json.")] = "text",
    output_dir: OutputDir = None,
    page: Annotated[Path | None, typer.Option(help="Write a page with sound of all recordings: an HTML file.")] = None,
    reference: Annotated[
        Path | None, typer.Option(help="With --page: a recording of the same text, to be played beside the learner's.")
    ] = None,
    channel: Channel = None,
) -> None:
    """Score how learners pronounce a known English text, and name the phones that are wrong.

    Without --text each recording's text is found as by `asr align`. A phone scores 0 to 2, words and sentences 0 to 10.
    A recording that fails is reported and skipped; the exit code then is 1, or 2 if all fail.

    asr pronounce a.wav --text "We call it bear."
    asr pronounce recordings/ --format json --output-dir scores
    asr pronounce a.wav --text "We call it bear." --page a.html --reference teacher.wav
    """
    check_format(output_format, FORMATS)
    check(reference is None or page is not None, "--reference", "come with --page", str(reference))
    if text is not None and not text.strip():
        raise AsrError("the text is empty: give the words that are said")

    from asr.cli import loop, recordings
    from asr.core.files import write_text
    from asr.recognition import align as alignment
    from asr.recognition import pronunciation_page
    from asr.recognition.pronounce import pronounce as score
    from asr.recognition.recogniser import Recogniser
    from asr.recognition.render import SUFFIXES
    from asr.recognition.render_pronunciation import coloured
    from asr.speech import texts_beside

    found, faults = loop.find(names)
    if text is not None and len(found) > 1:
        raise AsrError(f"one text for {len(found)} recordings: put each one's text in a .txt file beside it")
    recogniser = Recogniser.from_pretrained(model)
    _ = recogniser.scorer  # a fault of it is known before the first recording
    own = None if lexicon is None else alignment.read_lexicon(lexicon, recogniser.model)
    loop.Output(output_format, output_dir).make_folder()
    entries = list[pronunciation_page.Entry]()

    def work(recording: recordings.Recording) -> list[str]:
        words = texts_beside.find(recording.path) if text is None else text
        if words is None:
            hint = f"write what is said to {recording.path.with_suffix('.txt').name}"
            raise CorpusError(f"{recording.path}: no text beside it: {hint}")
        with recordings.opened(recording.path) as file:
            scored = score(recogniser, file, words, g2p, lexicon=own, channel=channel)
        if scored.guessed:
            loop.remark(recording.path, f"guessed: {loop.shortened(scored.guessed)}")
        if scored.misfit is not None:
            loop.remark(recording.path, scored.misfit)
        if page is not None:
            same = None
            if reference is not None:
                same = alignment.align(recogniser, reference, words, g2p=g2p, lexicon=own)
                if same.misfit is not None:
                    loop.remark(reference, same.misfit)
            entries.append(pronunciation_page.Entry(recording.name, scored, same))
        if output_format == "json":
            written = scored.to_json(str(recording.path)) + "\n"
        else:
            lines = coloured(scored, recording.name if len(found) > 1 and output_dir is None else None)
            written = printed(lines) if output_dir is None and sys.stdout.isatty() else lines.plain
        if output_dir is None:
            return [written]
        write_text(output_dir / (recording.name + SUFFIXES[output_format]), written)
        return []

    title = None if output_dir is None else "scoring"
    code = loop.run(found, faults, loop.one_by_one(work), title, fault="could not be scored")
    if page is not None and entries:
        pronunciation_page.write(page, entries)
    raise typer.Exit(code)


def printed(lines: "Text") -> str:
    """Return lines with the codes of their colours, as far as the terminal has colours."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    with console.capture() as capture:
        console.print(lines, end="")
    return capture.get()
