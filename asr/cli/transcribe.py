"""The verb `asr transcribe`.

What recognises is imported by the functions that need it, so that `asr --help` does not wait for it.
"""

import math
import statistics
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asr.cli.options import Channel, ModelOption, OutputDir, check, check_format, note
from asr.core.errors import AsrError, ConfigError

if TYPE_CHECKING:
    import numpy as np

    from asr.recognition.recogniser import Recogniser
    from asr.recognition.stream import Stream

FORMATS = ("text", "json", "ctm", "textgrid", "srt", "vtt", "tsv", "audacity")
STREAM_MODEL = "en-us-phones-stream"
TUNED = "; with --words what the word model was tuned with"  # of the defaults in the help
STREAMED = {"names", "model", "channel", "mic", "stream", "verbose", "quiet"}  # the parameters that --stream allows


def transcribe(
    ctx: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RECORDINGS",
            help="Files of sound or film; folders, patterns, - for standard input.",
        ),
    ] = None,
    model: ModelOption = "en-us-phones",
    output_format: Annotated[
        str, typer.Option("--format", help="text, json (a line each), ctm, textgrid, srt, vtt, tsv or audacity.")
    ] = "text",
    output_dir: OutputDir = None,
    ipa: Annotated[bool, typer.Option("--ipa", help="Write the phones in IPA instead of ARPAbet.")] = False,
    channel: Channel = None,
    nbest: Annotated[int, typer.Option(min=1, help="With --format json: how many hypotheses to write.")] = 1,
    beam_size: Annotated[
        int | None,
        typer.Option(
            min=1, help="Hypotheses of the beam search; 1: best path.", show_default=f"the model's own{TUNED}"
        ),
    ] = None,
    lm: Annotated[
        str | None,
        typer.Option(
            "--lm",
            help="A language model over phones or words: a folder or an ARPA file; --words needs one over words.",
            show_default="with --words en-us-words, else none",
        ),
    ] = None,
    lm_weight: Annotated[
        float | None,
        typer.Option(min=0, help="Weight of the language model; `asr tune` finds it.", show_default=f"1{TUNED}"),
    ] = None,
    penalty: Annotated[
        float | None, typer.Option(help="Nats for each phone or word; `asr tune` finds it.", show_default=f"0{TUNED}")
    ] = None,
    label_prior_scale: Annotated[
        float | None,
        typer.Option(
            "--label-prior-scale",
            min=0,
            help="Exponent of the label priors that the search divides out; `asr tune` finds it.",
            show_default=f"0{TUNED}",
        ),
    ] = None,
    lexicon: Annotated[
        str | None,
        typer.Option(
            help="For words: a file with a word and its phones on each line.",
            show_default="with --words the word model's lexicon.txt, else CMUdict",
        ),
    ] = None,
    words: Annotated[bool, typer.Option("--words", help="English words instead of phones, or those of --lm.")] = False,
    hint: Annotated[
        list[str] | None,
        typer.Option(
            help="With --words: words and phrases to expect, with commas between, or a file with one on each line.",
        ),
    ] = None,
    hint_bonus: Annotated[
        float | None, typer.Option(min=0, help="Nats for each word of a hint.", show_default="4")
    ] = None,
    unknown: Annotated[
        str | None,
        typer.Option(
            help="With words: write those that the language model does not know in brackets as spelling or phones.",
            show_default="spelling",
        ),
    ] = None,
    rescore: Annotated[
        bool,
        typer.Option(
            "--rescore/--no-rescore",
            help="With words: sort the ten best sentences again by the recurrent model of --words, or do not.",
        ),
    ] = True,
    mic: Annotated[bool, typer.Option("--mic", help="Record from the microphone until Enter is pressed.")] = False,
    stream: Annotated[
        bool,
        typer.Option("--stream", help="Print phones while the speech is heard; --model is en-us-phones-stream then."),
    ] = False,
) -> None:
    """Write down the phones in recordings.

    A recording that fails is reported and skipped; the exit code then is 1, or 2 if all fail.

    asr transcribe a.wav
    asr transcribe talks/ --format textgrid --output-dir phones
    ffmpeg -i film.mkv -f wav - | asr transcribe - --format srt
    asr transcribe *.flac --format json --nbest 5 --ipa
    asr transcribe a.wav --words
    asr transcribe a.wav --words --hint "Ljubljana, Dr. Nguyen"
    asr transcribe a.wav --words --lm LANGUAGE_MODEL --lm-weight 0.7 --beam-size 50 --model ITS_RECOGNISER
    asr transcribe --mic --stream
    """
    if bool(names) == mic:
        raise typer.BadParameter("name recordings, or give --mic", param_hint="RECORDINGS")
    if stream:
        sources = {each: ctx.get_parameter_source(each) for each in ctx.params}
        given = {each for each, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
        if given - STREAMED:
            raise AsrError("--stream prints phones as they come: only --model, --channel and --mic go with it")
        raise typer.Exit(_stream_all(names or (), model if "model" in given else STREAM_MODEL, channel))
    check_format(output_format, FORMATS)
    check(nbest == 1 or output_format == "json", "--nbest", "be 1, or come with --format json", nbest)
    if not words and (hint or hint_bonus is not None):
        raise typer.BadParameter("hints are for words: add --words", param_hint="--hint")
    if not words and not rescore:
        raise typer.BadParameter("this is for words: add --words", param_hint="--no-rescore")
    if lm == "":
        raise typer.BadParameter("the name is empty: name a folder or an ARPA file", param_hint="--lm")
    check(penalty is None or math.isfinite(penalty), "--penalty", "be finite", penalty)

    from asr.cli import loop, microphone, recordings
    from asr.speech.audio import SAMPLE_RATE

    if mic:
        microphone.library()
    found, faults = loop.find(names or ())
    output = loop.Output(output_format, output_dir, words)
    output.check(len(found))
    options: dict[str, Any] = {"lexicon": lexicon, "lm_weight": lm_weight, "insertion_penalty": penalty}
    options |= {"label_prior_scale": label_prior_scale, "unknown": unknown}
    options |= {"hints": hint and tuple(hint), "hint_bonus": hint_bonus}
    options["words" if words else "lm"] = lm or (words or None)
    decode = {key: value for key, value in options.items() if value is not None} | {"nbest": nbest}
    decode |= {} if rescore else {"rescore_lm": None}
    recogniser = _recogniser(model, beam_size, decode, output_dir is None and sys.stderr.isatty())
    if recogniser.spells:
        output = replace(output, words=True)
        check(not ipa, "--ipa", "be left out: the model writes letters, not phones", True)
    if not words and lm is None:
        for option, value in (("--lexicon", lexicon), ("--unknown", unknown)):
            if value is not None:
                raise typer.BadParameter("this is for words: add --words", param_hint=option)
    output.make_folder()

    def work(recording: recordings.Recording) -> list[str]:
        with recordings.opened(recording.path) as file:
            said = recogniser.transcribe(file, channel=channel)
        return [output.write(recording, said.ipa if ipa else said)]

    if mic:
        said = recogniser.transcribe(microphone.record(), SAMPLE_RATE)
        loop.show(output.write(microphone.RECORDING, said.ipa if ipa else said))
    title, named = None if output_dir is None else "transcribing", output_format == "text" and output_dir is None
    raise typer.Exit(loop.run(found, faults, loop.one_by_one(work), title, named))


def _recogniser(model: str, beam_size: int | None, decode: dict[str, Any], progress: bool) -> "Recogniser":
    """Load a recogniser; a fault of a setting names the option that sets it."""
    from asr.recognition.recogniser import Recogniser

    try:
        return Recogniser.from_pretrained(model, beam_size, progress, **decode)
    except ConfigError as error:
        section, _, setting = error.key.partition(".")
        if section != "decode":
            raise
        raise ConfigError(str(error).replace(error.key, f"--{setting.replace('_', '-')}", 1)) from error


def _stream_all(names: Sequence[str], model: str, channel: int | None) -> int:
    """Print the phones of each recording, or of the microphone, while it is heard; return the exit code."""
    from asr.cli import loop, microphone, recordings
    from asr.recognition.stream import Stream, chunks
    from asr.speech import audio

    if not names:
        microphone.library()
    stream = Stream(model, audio.SAMPLE_RATE)

    def work(recording: recordings.Recording) -> Iterator[str]:
        with recordings.opened(recording.path) as file:
            waveform = audio.load(file, channel=channel)
        return _stream(stream, chunks(waveform))

    if not names:
        for part in _stream(stream, microphone.blocks()):
            loop.show(part)
        return 0
    return loop.run(*loop.find(names), loop.one_by_one(work))


def _stream(stream: "Stream", source: "Iterable[np.ndarray]") -> Iterator[str]:
    """Yield the phones that a stream finds as soon as it finds them, then a line break; note how late they were."""
    spent = [0.0]
    for chunk in source:
        start = time.perf_counter()
        found = stream.accept(chunk)
        spent.append(time.perf_counter() - start)
        yield "".join(f"{spike.label} " for spike in found)
    yield " ".join(spike.label for spike in stream.finish()) + "\n"
    worst = f"{1e3 * statistics.median(spent):.1f} ms to compute 100 ms of sound, {1e3 * max(spent):.1f} at most"
    note(f"asr: latency {1e3 * stream.latency:.0f} ms of sound, and {worst}")
