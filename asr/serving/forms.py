"""What requests ask for: multipart forms with a recording become jobs."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from asr.recognition import render, render_alignment
from asr.serving import labels, transcription
from asr.serving.recognising import Job
from asr.serving.refusal import Refusal, bad
from asr.serving.settings import MEGABYTE, Limits

MOST_FIELDS = 32
LONGEST_NAME = 200  # characters
MOST_CHANNELS = 64
TIERS = ("sentences", "words", "syllables", "phones")
MEDIA_TYPES = {
    "json": "application/json",
    "verbose_json": "application/json",
    transcription.EVENTS: "text/event-stream",
    "eaf": "application/xml",
    "vtt": "text/vtt",
    "srt": "application/x-subrip",
    "tsv": "text/tab-separated-values",
}

Reader = Callable[[str, str], Any]  # of the name and the value of a field


def _text(name: str, value: str) -> str:
    if not value.strip():
        raise bad(f"{name} is empty: give the words or phones that are said", name)
    return value


def _boolean(name: str, value: str) -> bool:
    found = {"true": True, "1": True, "false": False, "0": False}.get(value.lower())
    if found is None:
        raise bad(f"{name} must be true or false, but it is {value[:LONGEST_NAME]!r}", name)
    return found


def _channel(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 3 and int(value) < MOST_CHANNELS):
        raise bad(f"{name} must be a whole number from 0 to {MOST_CHANNELS - 1}", name)
    return int(value)


def one_of(choices: Sequence[str]) -> Reader:
    """Return a reader that takes some words only."""

    def read(name: str, value: str) -> str:
        if value not in choices:
            raise bad(f"{name} must be one of {', '.join(choices)}, but it is {value[:LONGEST_NAME]!r}", name)
        return value

    return read


def _tiers(name: str, value: str) -> list[str]:
    found = [one_of(TIERS)(name, each.strip()) for each in value.split(",")]
    if len({*found}) < len(found):
        raise bad(f"{name} names a tier twice", name)
    return found


@dataclass(frozen=True)
class Form:
    """The fields that a path takes beside ``file``.

    Attributes
    ----------
    kind
        Of its jobs.
    formats
        The values of ``response_format``, the default first.
    fields
        A reader for each other field.
    """

    kind: str
    formats: tuple[str, ...]
    fields: Mapping[str, Reader] = field(default_factory=dict)


def _json_first(forms: Sequence[str]) -> tuple[str, ...]:
    return ("json", *(form for form in forms if form != "json"))


FORMS = {
    "/v1/phones": Form(
        "phones", _json_first([*render.SUFFIXES]), {"words": _boolean, "ipa": _boolean, "channel": _channel}
    ),
    "/v1/align": Form(
        "align",
        _json_first([*render_alignment.SUFFIXES]),
        {
            "text": _text,
            "phones": _text,
            "tiers": _tiers,
            "units": one_of(TIERS),
            "gop": _boolean,
            "g2p": _boolean,
            "ipa": _boolean,
            "channel": _channel,
        },
    ),
    "/v1/pronunciation": Form(
        "pronounce", ("json", "text"), {"text": _text, "g2p": _boolean, "ipa": _boolean, "channel": _channel}
    ),
    "/v1/posteriors": Form("posteriors", ("json",), {"ipa": _boolean, "channel": _channel}),
    "/v1/convert": Form("convert", labels.FORMATS),
}  # fmt: skip


def job_of(path: str, form: FormData) -> Job:
    """Return what a form asks one of `FORMS` for.

    Raises
    ------
    Refusal
        A field is missing, unknown, given twice or has a wrong value.
    """
    spec, name = FORMS[path], name_of(recording_of(form))
    readers = {"response_format": one_of(spec.formats), **spec.fields}
    values = single_values(form, [*readers])
    options = {field: readers[field](field, value) for field, value in values.items()}
    options.setdefault("response_format", spec.formats[0])
    if spec.kind == "align" and ("text" in options) == ("phones" in options):
        raise bad("give either text or phones: what is said in the recording", "text")
    if spec.kind == "pronounce" and "text" not in options:
        raise bad("text is missing: give the words that are said", "text", "missing")
    if options.get("gop") and options["response_format"] != "json":
        raise bad("gop goes with response_format json: the others have no place for it", "gop")
    return Job(spec.kind, name, options)


def single_values(form: FormData, known: Sequence[str] | None = None) -> dict[str, str]:
    """Return the fields of a form, the recording apart; `known` are those that there may be.

    Raises
    ------
    Refusal
        A field is unknown or given twice, or it is a file.
    """
    found = dict[str, str]()
    for name, value in form.multi_items():
        if name == "file":
            continue
        if known is not None and name not in known:
            shown = name[:LONGEST_NAME]
            raise bad(f"there is no field {shown!r}: there are file, {', '.join(known)}", shown, "unknown_field")
        if not isinstance(value, str):
            raise bad(f"{name[:LONGEST_NAME]} must be text, not a file", name[:LONGEST_NAME])
        if name in found and known is not None:
            raise bad(f"{name} is given twice", name)
        found[name] = value
    return found


def recording_of(form: FormData) -> UploadFile:
    """Return the recording.

    Raises
    ------
    Refusal
        There is none.
    """
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise bad("the field file is missing: send a recording in it, as a file", "file", "missing")
    return file


def name_of(file: UploadFile) -> str:
    """Return what the client calls a recording, in letters that can be printed."""
    name = (file.filename or "").encode("utf-8", "replace").decode()
    return "".join(letter for letter in name if letter.isprintable())[:LONGEST_NAME] or "recording"


class _Parser(MultiPartParser):
    """Knows whether the form has ended."""

    has_ended = False

    def on_end(self) -> None:
        self.has_ended = True


async def read_form(request: Request, limits: Limits) -> FormData:
    """Read the form of a request; close it when the recording has been read.

    Raises
    ------
    Refusal
        The body is no such form, too long, or comes too slowly; or the client is gone.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise Refusal(415, "not_a_form", "send a form: Content-Type: multipart/form-data with the recording in file")
    promised = request.headers.get("content-length", "")
    if promised.isascii() and promised.isdigit() and len(promised) < 20 and int(promised) > limits.upload_bytes:
        raise _too_large(limits)
    parser = _Parser(request.headers, request.stream(), max_files=1, max_fields=MOST_FIELDS, max_part_size=MEGABYTE)
    parser.stream = _body(request, limits, parser)
    try:
        return await parser.parse()
    except MultiPartException as error:
        raise bad(f"the form is damaged: {error.message}", code="bad_form") from error


async def _body(request: Request, limits: Limits, parser: _Parser) -> AsyncGenerator[bytes, None]:
    """Yield the body of a request as far as its length and its time allow.

    Whatever is wrong is raised here, where the parser closes the files that it has begun.
    """
    stream, length, deadline = request.stream(), 0, time.monotonic() + limits.upload_seconds
    while True:
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                chunk = await anext(stream, None)
        except TimeoutError:
            message = f"the request did not arrive within {limits.upload_seconds:g} s: send it faster"
            raise Refusal(408, "too_slow", message) from None
        except ClientDisconnect:
            raise Refusal(499, "disconnected", "the client is gone") from None
        if chunk is None:
            if not parser.has_ended:
                raise MultiPartException("it has no end")
            return
        length += len(chunk)
        if length > limits.upload_bytes:
            raise _too_large(limits)
        yield chunk


async def drain(request: Request, limits: Limits) -> None:
    """Read the rest of a body and throw it away: a client that is still sending does not look for an answer.

    What is longer than one allowed body is not read.
    """
    length = 0
    try:
        async with asyncio.timeout(limits.upload_seconds):
            async for chunk in request.stream():
                length += len(chunk)
                if length > limits.upload_bytes:
                    return
    except (TimeoutError, ClientDisconnect, RuntimeError):  # RuntimeError: it has been read
        pass


def _too_large(limits: Limits) -> Refusal:
    message = f"the request is longer than {limits.upload_bytes / MEGABYTE:g} MB: send a shorter one"
    return Refusal(413, "too_large", message)


def transcription_of(form: FormData, model: str, language: str) -> Job:
    """Return what a form of OpenAI's transcriptions asks for; fields that mean nothing here are passed by.

    Parameters
    ----------
    form
        The fields of a request.
    model, language
        Those of this server: its name, and its language as OpenAI names it.

    Raises
    ------
    Refusal
        A field has a wrong value, or there is no such model.
    """
    name, values = name_of(recording_of(form)), single_values(form)
    if values.get("model", model) != model:
        message = f"there is no model {values['model'][:LONGEST_NAME]!r}: this server has {model!r}"
        raise Refusal(404, "model_not_found", message, "model")
    if language == "english" and values.get("language", "en").lower() not in ("en", "english"):
        raise bad("this server knows English: leave language out, or give en", "language", "unsupported_language")
    form_name = one_of(transcription.FORMATS)("response_format", values.get("response_format", "json"))
    granularities = [
        one_of(("word", "segment"))("timestamp_granularities", str(value))
        for key in ("timestamp_granularities", "timestamp_granularities[]")
        for value in form.getlist(key)
    ]
    if granularities and form_name != "verbose_json":
        raise bad("timestamp_granularities need response_format=verbose_json", "timestamp_granularities")
    if _boolean("stream", values.get("stream", "false")):
        if form_name not in ("json", "text"):
            raise bad("stream=true goes with response_format json or text", "stream")
        form_name = transcription.EVENTS
    options = {"response_format": form_name, "granularities": granularities or ["segment"]}
    return Job("transcribe", name, options)
