"""`asr transcribe`: many recordings, one after the other, to standard output or into files."""

import queue
import shutil
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np

from asr.cli import recordings
from asr.core.config import check, one_of
from asr.core.errors import AsrError, AudioError
from asr.core.files import write_text
from asr.core.terminal import track
from asr.recognition import render
from asr.recognition.recogniser import Recogniser, Transcript
from asr.recognition.stream import Stream, chunks
from asr.speech import audio


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
        one_of("--format", self.output_format, tuple(render.FORMATS))
        several = self.decode.get("nbest", 1) > 1
        check(not several or self.output_format == "json", "--nbest", "be 1, or come with --format json", several)
        if self.words and "lm" not in self.decode:
            raise AsrError("--words needs a language model over words: give one with --lm")


def transcribe_all(names: Sequence[str], microphone: bool, request: Request) -> int:
    """Write down all recordings that can be read; return the exit code.

    Raises
    ------
    AsrError
        Nothing can be begun: no model, a language model that does not fit, two files for one name.
    """
    paths, faults = _find(names)
    if request.output_dir is not None or request.output_format == "ctm":
        recordings.check_stems(paths)
    if request.output_dir is not None:
        request.output_dir.mkdir(parents=True, exist_ok=True)
    progress = request.output_dir is None and sys.stderr.isatty()
    recogniser = Recogniser.from_pretrained(request.model, request.beam_size, progress, **request.decode)
    if request.words and recogniser.transcribe(np.zeros(audio.SAMPLE_RATE, np.float32)).words is None:
        raise AsrError(f"{request.decode['lm']} is over phones: --words needs a language model over words")
    if microphone:
        sys.stdout.write(_rendered(recogniser.transcribe(_record()), Path("microphone"), request, recogniser))
    total = len(paths) + faults
    for path in track(paths, "transcribing") if request.output_dir is not None else paths:
        try:
            transcript = recogniser.transcribe(_waveform(path, request.channel))
            rendered = _rendered(transcript, path, request, recogniser)
            if request.output_dir is not None:
                name = _stem(path) + render.FORMATS[request.output_format]
                write_text(request.output_dir / name, rendered)
                continue
        except (AsrError, OSError) as error:
            faults += 1
            _report(path, error)
            continue
        head = f"{path}: " if request.output_format == "text" and total > 1 else ""
        sys.stdout.write(head + rendered)
        sys.stdout.flush()
    return _exit_code(faults, total)


def stream_all(names: Sequence[str], microphone: bool, model: str, channel: int | None) -> int:
    """Print the phones of each recording, or of the microphone, as they come, and on stderr how late they were.

    Raises
    ------
    AsrError
        The model has to hear the future.
    """
    if microphone:
        _stream(Stream(model), _microphone())
        return 0
    paths, faults = _find(names)
    total = len(paths) + faults
    for path in paths:
        stream = Stream(model)
        try:
            waveform = _waveform(path, channel)
        except (AsrError, OSError) as error:
            faults += 1
            _report(path, error)
            continue
        _stream(stream, chunks(waveform))
    return _exit_code(faults, total)


def _find(names: Sequence[str]) -> tuple[list[Path], int]:
    """Return the recordings that names mean, and how many names mean none."""
    paths, faults = [], 0
    for name in names:
        try:
            paths += recordings.find([name])
        except (AsrError, OSError) as error:
            faults += 1
            _report(Path(name), error)
    return paths, faults


def _report(path: Path, error: Exception) -> None:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    name = "standard input" if str(path) == recordings.STDIN else str(path)
    print(f"asr: {reason if name in reason else f'{name}: {reason}'}", file=sys.stderr, flush=True)


def _exit_code(faults: int, total: int) -> int:
    if faults and total > 1:
        print(f"asr: {faults} of {total} recordings could not be read", file=sys.stderr)
    return 0 if not faults else 1 if faults < total else 2


def _waveform(path: Path, channel: int | None) -> np.ndarray:
    """Read a recording; a pipe becomes a file first, since most formats are read with seeks.

    Raises
    ------
    AudioError
        As `asr.speech.audio.load`.
    """
    piped = str(path) == recordings.STDIN
    if not piped and not path.is_fifo():
        return audio.load(path, channel)
    with nullcontext(sys.stdin.buffer) if piped else path.open("rb") as source, NamedTemporaryFile() as file:
        shutil.copyfileobj(source, file)
        file.flush()
        try:
            return audio.load(file.name, channel)
        except AudioError as error:
            raise AudioError(str(error).replace(file.name, "standard input" if piped else str(path))) from error


def _stem(path: Path) -> str:
    return "stdin" if str(path) == recordings.STDIN else path.stem


def _rendered(transcript: Transcript, path: Path, request: Request, recogniser: Recogniser) -> str:
    if request.ipa:
        transcript = render.in_ipa(transcript, recogniser.model.config.data.labels)
    name = str(path) if request.output_format == "json" else _stem(path)
    return render.render(transcript, request.output_format, name, request.words)


def _stream(stream: Stream, source: Iterable[np.ndarray]) -> None:
    """Print what a stream hears."""
    spent = [0.0]
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
        raise AsrError(f'--mic needs a microphone\'s library ({error}): in a checkout, pip install ".[mic]"') from error
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
