"""The verb `asr align`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asr.cli.options import (
    G2P,
    Channel,
    KnownWords,
    LexiconFile,
    ModelOption,
    OutputDir,
    check,
    check_format,
    note,
)
from asr.core.errors import AsrError

if TYPE_CHECKING:
    from asr.cli.aligning import Done
    from asr.cli.recordings import Recording

FORMATS = ("textgrid", "eaf", "ctm", "json", "audacity", "lab", "srt", "vtt")
SUBTITLES = ("srt", "vtt")
TIERS = ("sentences", "words", "syllables", "phones")


def align(
    names: Annotated[list[str], typer.Argument(metavar="RECORDINGS", help="Audio files, or folders of them.")],
    text: KnownWords = None,
    phones: Annotated[str | None, typer.Option(help="The phones that are said, for one recording.")] = None,
    model: ModelOption = "en-us-phones",
    g2p: G2P = True,
    lexicon: LexiconFile = None,
    gop: Annotated[bool, typer.Option("--gop", help="Rate each phone's pronunciation; with --format json.")] = False,
    output_format: Annotated[
        str, typer.Option("--format", help="textgrid, eaf (ELAN), ctm, json, audacity, lab (HTK), srt or vtt.")
    ] = "textgrid",
    tiers: Annotated[
        str, typer.Option(help="Of textgrid and eaf: some of sentences, words, syllables and phones, with commas.")
    ] = "words,phones",
    units: Annotated[
        str | None,
        typer.Option(
            help="Of ctm, audacity, lab, srt and vtt: sentences, words, syllables or phones.",
            show_default="phones; of srt and vtt sentences",
        ),
    ] = None,
    ipa: Annotated[bool, typer.Option("--ipa", help="Write the phones in IPA instead of ARPAbet.")] = False,
    output_dir: OutputDir = None,
    channel: Channel = None,
    each_channel: Annotated[
        bool, typer.Option("--each-channel", help="Align each channel with its own text: a.0.txt, a.1.txt for a.wav.")
    ] = False,
    tier: Annotated[
        list[str] | None,
        typer.Option(
            help="A tier of utterances in the TextGrid or .eaf beside each recording; may be given several times.",
            show_default="those that are found, where there is no text",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Write a page with the quality of words and recordings, and those worth a look to hear."),
    ] = None,
    unk: Annotated[
        bool, typer.Option("--unk", help="Label speech that the text lacks as <unk>; JSON lists it as unspoken.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with code 1 if a text does not fit.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that work side by side.")] = 1,
    resume: Annotated[
        bool, typer.Option("--resume", help="With --output-dir: pass by what was made from the same before.")
    ] = False,
) -> None:
    """Find where the words and phones of a known text are in a recording.

    Without --text or --phones each recording's text is the .txt or .lab file beside it, or its line in a LibriSpeech
    *.trans.txt; or the utterances in the TextGrid or .eaf file beside it, which is kept with tiers added. Numbers,
    dates, abbreviations and signs are read aloud as in English. A recording that fails is reported and skipped; the
    exit code then is 1, or 2 if all fail. A text that does not fit its recording has a line on standard error.

    asr align hello.wav --text "hello world"
    asr align hello.wav --phones "HH AH L OW" --format json --gop
    asr align recordings/ --output-dir aligned --format eaf --tiers sentences,words,phones --ipa
    asr align recordings/ --output-dir aligned --jobs 4 --resume --report aligned.html
    """
    check_format(output_format, FORMATS)
    if text is not None and phones is not None:
        raise AsrError("--text and --phones exclude each other: give one")
    if gop and output_format != "json":
        raise AsrError("--gop needs --format json: the other formats have no place for it")
    given = text if phones is None else phones
    if given is not None and not given.strip():
        raise AsrError("the text is empty: give the words or phones that are said")
    if resume and output_dir is None:
        raise AsrError("--resume needs --output-dir, where the results of before are")
    if each_channel and (channel is not None or given is not None):
        raise AsrError("--each-channel takes the texts beside the recording: leave --channel, --text and --phones out")
    wanted = tuple(each.strip() for each in tiers.split(","))
    check({*wanted} <= {*TIERS} and len({*wanted}) == len(wanted), "--tiers", f"be some of {', '.join(TIERS)}", tiers)
    units = units or ("sentences" if output_format in SUBTITLES else "phones")
    check(units in TIERS, "--units", f"be one of {', '.join(TIERS)}", units)

    from asr.cli import journal, loop, summary
    from asr.cli.aligning import Aligner
    from asr.recognition.render_alignment import Shape

    found, faults = loop.find(names)
    if given is not None and len(found) > 1:
        raise AsrError(f"one text for {len(found)} recordings: put each one's text in a .txt file beside it")
    if each_channel:
        found, faults = loop.each(found, faults, lambda recording: recording.channels())
    elif channel is not None:
        found = [replace(recording, channel=channel) for recording in found]
    output = loop.Output(output_format, output_dir)
    output.check(len(found))
    aligner = Aligner(
        model=model,
        text=text,
        phones=phones,
        g2p=g2p,
        gop=gop,
        lexicon=lexicon,
        tiers=tuple(tier or ()),
        shape=Shape(output_format, wanted, units, with_unknown=unk),
        ipa=ipa,
        folder=output_dir,
        with_words=report is not None,
        done=journal.read(output_dir) if resume and output_dir else {},
    )
    fresh = replace(aligner)  # a process of its own loads the recogniser itself
    aligner.prepare()
    output.make_folder()
    rows = dict[str, dict[str, Any]]()

    def finish(recording: "Recording", done: "Done") -> list[str]:
        rows[recording.name] = done.summary
        for each in done.remarks:
            loop.remark(recording.path, each)
        return [done.text]

    title = None if output_dir is None else "aligning"
    work = aligner if jobs == 1 else fresh
    code = loop.run(found, faults, work, title, fault="could not be aligned", jobs=jobs, finish=finish)
    if output_dir is not None and len(found) > 1:
        loop.show(f"{summary.table(rows, len(found) + faults - len(rows))}\n")
    if report is not None and rows:
        _write_report(report, rows, {recording.name: recording for recording in found})
    if strict and any(row["misfit"] for row in rows.values()):
        code = max(code, 1)
    raise typer.Exit(code)


def _write_report(path: Path, rows: dict[str, dict[str, Any]], named: dict[str, "Recording"]) -> None:
    """Write the page, and everything in it as JSON beside it."""
    from asr.cli import listening
    from asr.core.files import write_json
    from asr.evaluation import alignment_page

    write_json(path.with_suffix(".json"), rows)
    alignment_page.write_quality(path, rows, listening.worst_words(rows, named))
    note(f"page: {path}")
