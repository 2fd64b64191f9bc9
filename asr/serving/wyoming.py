"""The Wyoming protocol, by which Home Assistant has speech recognised.

An event is a line of JSON with its type; more of its data and a payload may follow, whose lengths the line gives. A
client asks `describe` and gets `info`, or sends `audio-start`, `audio-chunk` and `audio-stop` and gets a `transcript`.
The protocol has no token: it is for programs of the same machine. A browser cannot speak it, since the first line of
its request is no event, which closes the connection.
"""

import asyncio
import json
import socket
import tempfile
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import asr
from asr.serving.recognising import Job
from asr.serving.refusal import Refusal, bad
from asr.serving.settings import MEGABYTE
from asr.serving.workers import Pool

LONGEST_DATA = 1 << 16  # bytes of an event's line, and of the data behind it
JOB = Job("transcribe", "wyoming", {"response_format": "text", "granularities": []})
FORMAT = {"rate": (1000, 1_000_000), "width": (1, 4), "channels": (1, 64)}  # Hz, bytes: the least and the most


class Event(NamedTuple):
    """What one side tells the other."""

    kind: str
    data: dict[str, Any]
    payload: bytes = b""


class Session:
    """A client's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pool: Pool, info: dict[str, Any]):
        self._reader, self._writer, self._pool, self._info = reader, writer, pool, info

    async def run(self, is_full: bool) -> None:
        """Answer the client until it leaves or makes a mistake; or refuse it, since there are too many."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):  # it is gone
            try:
                if is_full:
                    raise Refusal(429, "streams_full", "there are too many clients: try again later")
                while True:
                    event = await self._next()
                    if event.kind == "describe":
                        await self._send("info", self._info)
                    elif event.kind == "audio-start":
                        await self._send("transcript", {"text": await self._transcribe(event)})
            except Refusal as refusal:
                await self._send("error", {"text": refusal.message, "code": refusal.code})

    async def _transcribe(self, start: Event) -> str:
        """Return what is said in the sound that follows."""
        rate, width, channels = (_whole(start.data, key, *limits) for key, limits in FORMAT.items())
        async with self._pool.admitted():
            with tempfile.SpooledTemporaryFile(MEGABYTE) as file:
                with wave.open(file, "wb") as sound:
                    sound.setparams((channels, width, rate, 0, "NONE", ""))
                    while (event := await self._next()).kind != "audio-stop":
                        if file.tell() + len(event.payload) > self._pool.limits.upload_bytes:
                            raise Refusal(413, "too_large", "the sound is longer than this server allows")
                        sound.writeframesraw(event.payload)
                file.seek(0)

                async def read() -> bytes:
                    return file.read()

                return (await self._pool.run(JOB, read))["text"].strip()

    async def _next(self) -> Event:
        """Return the client's next event."""
        seconds = self._pool.limits.upload_seconds
        try:
            async with asyncio.timeout(seconds):
                return await self._read()
        except TimeoutError:
            raise Refusal(408, "too_slow", f"nothing came for {seconds:g} s") from None
        except (ValueError, RecursionError):  # also of a line that is too long
            raise bad("an event must be a line of JSON with its type") from None

    async def _read(self) -> Event:
        line = await self._reader.readline()
        if not line:
            raise ConnectionError
        head = _object(line)
        data = head.get("data") or {}
        if length := _whole(head, "data_length", 0, LONGEST_DATA):
            data = _object(await self._reader.readexactly(length))
        payload = await self._reader.readexactly(_whole(head, "payload_length", 0, MEGABYTE))
        if not isinstance(data, dict):
            raise bad("data must be an object")
        return Event(str(head.get("type")), data, payload)

    async def _send(self, kind: str, data: dict[str, Any]) -> None:
        content = json.dumps(data).encode()
        head = {"type": kind, "version": asr.__version__, "data_length": len(content)}
        self._writer.write(json.dumps(head).encode() + b"\n" + content)
        await self._writer.drain()


def _object(content: bytes) -> dict[str, Any]:
    found = json.loads(content)
    if not isinstance(found, dict):
        raise bad("an event must be an object")
    return found


def _whole(values: dict[str, Any], key: str, least: int, most: int) -> int:
    """Return a whole number of an event, 0 where there is none."""
    value = values.get(key) or 0
    if not isinstance(value, int) or not least <= value <= most:
        raise bad(f"{key} must be a whole number from {least} to {most}", key)
    return int(value)


def info_of(model: str, languages: list[str]) -> dict[str, Any]:
    """Return what a client is told of this server and its model."""
    common = {"attribution": {"name": "asr", "url": ""}, "installed": True, "version": asr.__version__}
    described = {"name": model, "description": model, "languages": languages, **common}
    return {"asr": [{"name": "asr", "description": "Speech in words", "models": [described], **common}]}


@asynccontextmanager
async def serving(listening: socket.socket, pool: Pool, info: dict[str, Any]) -> AsyncIterator[None]:
    """Serve the clients of a socket."""
    writers = set[asyncio.StreamWriter]()

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        try:
            await Session(reader, writer, pool, info).run(len(writers) > pool.limits.streams)
        finally:
            writers.discard(writer)
            writer.close()

    async with await asyncio.start_server(meet, sock=listening, limit=LONGEST_DATA):
        yield
        for writer in writers:  # which ends their sessions, also of clients that read nothing
            writer.transport.abort()
