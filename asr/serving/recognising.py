"""What a worker process does: it loads the models once, then decodes and recognises a recording after the other."""

import base64
import functools
import json
import logging
import os
import resource
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import PurePath
from typing import Any, NamedTuple

import numpy as np

from asr.core import workers
from asr.core.errors import AsrError, TooLongError
from asr.recognition import render_alignment
from asr.recognition.align import align
from asr.recognition.pronounce import pronounce
from asr.recognition.recogniser import Recogniser, Transcript
from asr.recognition.render import render
from asr.recognition.render_pronunciation import coloured
from asr.serving import labels, transcription
from asr.serving.settings import Limits, Models
from asr.speech import audio, phones

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """Something to do with a recording.

    Attributes
    ----------
    kind
        The name of a method of `Workshop`.
    name
        What the client calls the recording.
    options
        Of the method.
    """

    kind: str
    name: str
    options: dict[str, Any] = field(default_factory=dict)


class Answer(NamedTuple):
    """The body of the answer to a job, and what a person should know about the recording, if there is something."""

    text: str
    remark: str | None = None


class Workshop:
    """The recognisers of a worker, and a method for each kind of job."""

    def __init__(self, models: Models):
        self.recogniser = Recogniser.from_pretrained(models.model)
        self.words = self.partial_words = self.recogniser
        if models.words is not None:
            self.words = Recogniser.from_pretrained(models.model, words=models.words)
            # The phrase so far is searched anew over and over: there is no time to rescore it.
            self.partial_words = self.words.with_decoding(rescore_lm=None)

    @property
    def has_words(self) -> bool:
        """Whether words are recognised, and not phones alone."""
        return self.words is not self.recogniser or self.recogniser.spells

    def warm_up(self) -> None:
        """Run what the first recording would have to wait for: the compilation of kernels."""
        silence = np.zeros(audio.SAMPLE_RATE, np.float32)
        self.words.transcribe(silence, audio.SAMPLE_RATE)
        self.recogniser.transcribe(silence, audio.SAMPLE_RATE)
        label = self.recogniser.model.tokens[1]
        align(self.recogniser, silence, phones=[label], sample_rate=audio.SAMPLE_RATE)

    def transcribe(self, waveform: np.ndarray, name: str, response_format: str, granularities: list[str]) -> Answer:
        """Answer as OpenAI's transcriptions do."""
        said = self.words.transcribe(waveform, audio.SAMPLE_RATE)
        return Answer(transcription.write(said, response_format, granularities, name))

    def phones(
        self, waveform: np.ndarray, name: str, response_format: str, words: bool = False, ipa: bool = False
    ) -> Answer:
        """Answer as `asr transcribe` prints."""
        if words and not self.has_words:
            raise AsrError("this server recognises phones alone: leave words out")
        said: Transcript = (self.words if words else self.recogniser).transcribe(waveform, audio.SAMPLE_RATE)
        shown = said.ipa if ipa else said
        name = _name_in(response_format, name)
        return Answer(render(shown, response_format, name, words or self.recogniser.spells))

    def align(
        self,
        waveform: np.ndarray,
        name: str,
        response_format: str,
        text: str | None = None,
        phones: str | None = None,
        tiers: list[str] | None = None,
        units: str | None = None,
        gop: bool = False,
        g2p: bool = True,
        ipa: bool = False,
    ) -> Answer:
        """Answer as `asr align` prints."""
        aligned = align(self.recogniser, waveform, text, phones, g2p, gop, sample_rate=audio.SAMPLE_RATE)
        shape = render_alignment.Shape(
            response_format,
            tuple(tiers or ("words", "phones")),
            units or ("sentences" if response_format in ("srt", "vtt") else "phones"),
        )
        shown = aligned.ipa if ipa else aligned
        return Answer(render_alignment.write(shown, shape, _name_in(response_format, name)), aligned.misfit)

    def pronounce(
        self, waveform: np.ndarray, name: str, response_format: str, text: str, g2p: bool = True, ipa: bool = False
    ) -> Answer:
        """Answer as `asr pronounce` prints."""
        scored = pronounce(self.recogniser, waveform, text, g2p, sample_rate=audio.SAMPLE_RATE)
        shown = scored.ipa if ipa else scored
        written = shown.to_json(name) + "\n" if response_format == "json" else coloured(shown).plain
        return Answer(written, scored.misfit)

    def posteriors(self, waveform: np.ndarray, name: str, response_format: str, ipa: bool = False) -> Answer:
        """Answer with the probability of each class in each frame, as a byte in base64: 255 is 1."""
        model = self.recogniser.model
        log_probs = model.log_probs(self.recogniser.emissions(waveform))
        blank, *names = model.tokens
        if ipa:
            names = [phones.ipa(name, model.config.data.labels) for name in names]
        values = np.rint(255 * np.exp(log_probs)).astype(np.uint8).tobytes()
        found = {
            "labels": [blank, *names],
            "frame_shift": model.frame_shift,
            "values": base64.b64encode(values).decode(),
        }
        return Answer(json.dumps(found, ensure_ascii=False) + "\n")

    def phrase(self, waveform: np.ndarray, name: str, ipa: bool, is_final: bool) -> Answer:
        """Answer to a phrase of a stream, whole or so far: phones, and words where they are recognised."""
        said = (self.words if is_final else self.partial_words).transcribe(waveform, audio.SAMPLE_RATE)
        return Answer((said.ipa if ipa else said).to_json())

    def do(self, job: Job, content: bytes, longest: float) -> dict[str, Any]:
        """Return the message that answers a job: the text, a remark and the seconds of the recording, or a refusal."""
        options = dict(job.options)
        try:
            if job.kind == "convert":
                form = options["response_format"]
                return {"text": labels.convert(content, _name_in(form, job.name), form), "remark": None, "seconds": 0.0}
            if job.kind == "phrase":
                waveform = np.frombuffer(content, np.float32)
            else:
                waveform = audio.load(content, None, options.pop("channel", None), longest)
            work: Callable[..., Answer] = getattr(self, job.kind)
            answer = work(waveform, job.name, **options)
        except TooLongError as error:
            return _refused(413, "too_long", str(error))
        except AsrError as error:
            return _refused(400, "unusable", str(error))
        except MemoryError:
            return _refused(413, "memory_limit", "the recording needs more memory than this server allows: cut it")
        except Exception as error:
            if "alloc" in str(error):  # onnxruntime has an error of its own for it
                return _refused(413, "memory_limit", "the recording needs more memory than this server allows: cut it")
            log.exception("a job of kind %s failed", job.kind)
            return _refused(500, "internal", "this server has a fault, which its log describes")
        return answer._asdict() | {"seconds": len(waveform) / audio.SAMPLE_RATE}


def _name_in(form: str, name: str) -> str:
    """Return what a format calls a recording: by its file's name, or in formats of utterances without the suffix."""
    return name if form == "json" else PurePath(name).stem


def _refused(status: int, code: str, message: str) -> dict[str, Any]:
    return {"refused": {"status": status, "code": code, "message": message}}


def main(pipe: Connection, models: Models, limits: Limits, folder: str) -> None:
    """Be a worker: answer the jobs that come through a pipe, until it is closed or the server has ended.

    Parameters
    ----------
    pipe
        Jobs and recordings come through it, and answers go back as JSON.
    models, limits
        Those of the server.
    folder
        For temporary files. The server removes it when the worker has ended.
    """
    os.setpgid(0, 0)  # Ctrl-C does not reach it: the server ends it
    workers.end_with_parent()  # also while models are being loaded, or a long recording is worked on
    os.environ["PATH"] = ""  # the program ffmpeg would open files that a playlist names, which PyAV does not
    tempfile.tempdir = folder
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (limits.memory_bytes, limits.memory_bytes))

    def send(message: dict[str, Any]) -> None:
        pipe.send_bytes(json.dumps(message).encode())

    try:
        workshop = Workshop(models)
        workshop.warm_up()
    except AsrError as error:
        send(_refused(503, "model", str(error)))
        return
    send({})
    for job, content in iter(functools.partial(_received, pipe), None):
        send(workshop.do(job, content, limits.sound_seconds))


def _received(pipe: Connection) -> tuple[Job, bytes] | None:
    """Return the next job, None if the server has ended."""
    try:
        return pipe.recv()
    except (EOFError, OSError):
        return None
