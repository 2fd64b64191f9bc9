"""`asr transcribe`: many recordings, one after the other, to standard output or into files."""

import queue
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asr import audio, recordings, rendering
from asr.config import check, one_of
from asr.errors import AsrError
from asr.model_folder import write_text
from asr.progress import track
from asr.streaming import Stream, chunks
from asr.transcribe import Recogniser, Transcript


@dataclass(frozen=True)
class Request:
    """What is asked for beside recordings; see `asr transcribe --help`."""

    model: str
    beam_size: int | None
    decode: dict[str, Any]
    output_format: str
    output_dir: Path | None
    ipa: bool
    channel: int | None
    words: bool

    def __post_init__(self) -> None:
        one_of("--format", self.output_format, tuple(rendering.FORMATS))
        several = self.decode.get("nbest", 1) > 1
        check(not several or self.output_format == "json", "--nbest", "be 1, or come with --format json", several)
        if self.words and "lm" not in self.decode:
            raise AsrError("--words needs a language model over words: give one with --lm")


def transcribe_all(names: Sequence[str], microphone: bool, request: Request) -> int:
    """Write down all recordings that can be read; return the exit code.

    Raises
    ------
    AsrError
        Nothing can be begun: no model, two files for one name.
    """
    paths, faults = [], 0
    for name in names:
        try:
            paths += recordings.find([name])
        except (AsrError, OSError) as error:
            faults += 1
            print(f"asr: {error}", file=sys.stderr)
    if request.output_dir is not None or request.output_format == "ctm":
        recordings.check_stems(paths)
    if request.output_dir is not None:
        request.output_dir.mkdir(parents=True, exist_ok=True)
    progress = request.output_dir is None and sys.stderr.isatty()
    recogniser = Recogniser.from_pretrained(request.model, request.beam_size, progress, **request.decode)
    if microphone:
        _put(recogniser.transcribe(_record()), Path("microphone"), request, recogniser, alone=True)
    total = len(paths) + faults
    for path in track(paths, "transcribing") if request.output_dir is not None else paths:
        try:
            transcript = _transcribe(path, request, recogniser)
            _put(transcript, path, request, recogniser, alone=total == 1)
        except AsrError as error:
            faults += 1
            print(f"asr: {error}", file=sys.stderr, flush=True)
    if faults and total > 1:
        print(f"asr: {faults} of {total} recordings could not be read", file=sys.stderr)
    return 0 if not faults else 1 if faults < total else 2


def _transcribe(path: Path, request: Request, recogniser: Recogniser) -> Transcript:
    """Return a recording's transcript; standard input becomes a file first, since most formats are read with seeks."""
    if str(path) != recordings.STDIN:
        return recogniser.transcribe(path, channel=request.channel)
    with tempfile.NamedTemporaryFile() as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
        file.flush()
        try:
            return recogniser.transcribe(file.name, channel=request.channel)
        except AsrError as error:
            raise AsrError(str(error).replace(file.name, "standard input")) from error


def _put(transcript: Transcript, path: Path, request: Request, recogniser: Recogniser, alone: bool) -> None:
    """Print a transcript, or write it into a file of the recording's name."""
    if request.words and transcript.words is None:
        raise AsrError(f"{request.decode['lm']} is over phones: --words needs a language model over words")
    if request.ipa:
        transcript = rendering.in_ipa(transcript, recogniser.model.config.data.labels)
    form = request.output_format
    name = "stdin" if str(path) == recordings.STDIN else path.stem
    rendered = rendering.render(transcript, form, str(path) if form == "json" else name, request.words)
    if request.output_dir is not None:
        write_text(request.output_dir / (name + rendering.FORMATS[form]), rendered)
        return
    head = f"{path}: " if form == "text" and not alone else ""
    sys.stdout.write(head + rendered)
    sys.stdout.flush()


def stream_all(names: Sequence[str], microphone: bool, model: str, channel: int | None) -> None:
    """Print the phones of each recording, or of the microphone, as they come, and on stderr how late they were.

    Raises
    ------
    AsrError
        The model has to hear the future, or a recording cannot be read.
    """
    sources = [_microphone()] if microphone else [chunks(audio.load(path, channel)) for path in recordings.find(names)]
    for source in sources:
        stream, spent = Stream(model), []
        for chunk in source:
            start = time.perf_counter()
            found = stream.accept(chunk)
            spent.append(time.perf_counter() - start)
            print(*(spike.label for spike in found), sep=" ", end=" " if found else "", flush=True)
        print(*(spike.label for spike in stream.finish()), flush=True)
        worst = f"{1e3 * np.median(spent):.1f} ms to compute 100 ms of sound, {1e3 * max(spent):.1f} at most"
        print(f"asr: latency {1e3 * stream.latency:.0f} ms of sound, and {worst}", file=sys.stderr)


def _record() -> np.ndarray:
    """Return what the microphone hears until Enter is pressed.

    Raises
    ------
    AsrError
        There is none, or its library is not installed.
    """
    print("recording: press Enter to end", file=sys.stderr)
    return np.concatenate([np.zeros(0, np.float32), *_microphone()])


def _microphone() -> Iterator[np.ndarray]:
    """Yield what the microphone hears, a tenth of a second at a time, until a line comes on standard input."""
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: PortAudio is missing
        raise AsrError(f'--mic needs a microphone\'s library ({error}): pip install "asr[mic]"') from error
    heard: queue.SimpleQueue[np.ndarray | None] = queue.SimpleQueue()

    def wait() -> None:
        sys.stdin.readline()
        heard.put(None)

    threading.Thread(target=wait, daemon=True).start()
    try:
        with sounddevice.InputStream(
            samplerate=audio.SAMPLE_RATE,
            channels=1,
            blocksize=audio.SAMPLE_RATE // 10,
            callback=lambda block, frames, time, status: heard.put(block[:, 0].copy()),
        ):
            while (block := heard.get()) is not None:
                yield block
    except sounddevice.PortAudioError as error:
        raise AsrError(f"--mic: {error}: check that a microphone is there") from error
