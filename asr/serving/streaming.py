"""The WebSocket of `/v1/stream`: samples in, phones and words out, in the messages of Vosk's server.

A client sends `{"config": {"sample_rate": 16000}}`, then samples in binary messages, and at last `{"eof": 1}`. Each
binary message has one answer: the partial result, or the final result of a phrase that has just ended. While a client
speaks, an answer waits a moment for a partial result that is being worked on, or for the next message.
"""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from asr.core.errors import AsrError
from asr.recognition.recogniser import Recogniser
from asr.serving.guard import PROTOCOL
from asr.serving.listener import Listener, Stretch, final
from asr.serving.live import Live
from asr.serving.recognising import Job
from asr.serving.refusal import Refusal, bad
from asr.serving.settings import Limits
from asr.serving.workers import Pool
from asr.speech.audio import SAMPLE_RATE
from asr.speech.features import WINDOW_LENGTH

VIOLATION = 1008  # a reason to close (RFC 6455, section 7.4.1)
LONGEST_CONFIG = 10_000  # characters
HOLD = 0.2  # seconds that an answer waits for a partial result
LEAD = 0.5  # seconds by which samples may be ahead of the clock; who sends faster than that does not speak


class Session:
    """A client's connection, once it is accepted.

    Parameters
    ----------
    websocket
        The connection.
    pool
        Recognises.
    open_live
        Makes what hears a recording as it comes; None leaves partial results to the pool.
    """

    def __init__(self, websocket: WebSocket, pool: Pool, open_live: Callable[[], Live] | None):
        self._websocket, self._pool, self._open_live = websocket, pool, open_live
        self._live: Live | None = None
        self._sample_rate, self._ipa = float(SAMPLE_RATE), False
        self._listener: Listener | None = None
        self._asked: tuple[Stretch, asyncio.Task[dict[str, Any]]] | None = None  # for a partial result
        self._coming: asyncio.Task[Message] | None = None  # the client's next message, once it is waited for
        self._start = 0.0  # when the first samples of the recording came, by the loop's clock

    async def run(self) -> None:
        """Answer the client until one side ends the stream."""
        offered = self._websocket.scope.get("subprotocols", ())
        await self._websocket.accept(PROTOCOL if PROTOCOL in offered else None)
        try:
            while not await self._answer(await self._next()):
                pass
            await self._websocket.close()
        except Refusal as refusal:
            await self._refuse(refusal)
        except AsrError as error:
            await self._refuse(bad(str(error)))
        except WebSocketDisconnect:
            pass
        finally:
            self._forget_partial()
            if self._coming is not None:
                self._coming.cancel()

    async def _refuse(self, refusal: Refusal) -> None:
        with suppress(WebSocketDisconnect):
            await self._websocket.send_text(refusal.to_json())
            await self._websocket.close(VIOLATION, refusal.code)

    def _forget_partial(self) -> None:
        """Wait no longer for a partial result."""
        if self._asked is not None:
            task, self._asked = self._asked[1], None
            if not task.cancel() and not task.cancelled():
                task.exception()  # which asyncio would report if nobody looked at it

    async def _next(self) -> bytes | dict[str, Any]:
        """Return the client's next message: samples, or an object."""
        seconds = self._pool.limits.upload_seconds
        try:
            async with asyncio.timeout(seconds):
                message = await self._receive()
            self._coming = None
        except TimeoutError:
            raise Refusal(408, "too_slow", f"nothing came for {seconds:g} s") from None
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message["code"])
        if message.get("bytes") is not None:
            return message["bytes"]
        text = message.get("text") or ""
        try:
            found = json.loads(text) if len(text) <= LONGEST_CONFIG else None
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise bad('send samples, or an object such as {"config": {"sample_rate": 16000}} or {"eof": 1}')
        return found

    def _receive(self) -> asyncio.Task[Message]:
        """Return the task that waits for the client's next message."""
        if self._coming is None:
            self._coming = asyncio.create_task(self._websocket.receive())
        return self._coming

    async def _answer(self, message: bytes | dict[str, Any]) -> bool:
        """Answer a message; return whether it was the last one."""
        if isinstance(message, bytes):
            await self._send(await self._hear(message))
        elif "config" in message:
            self._configure(message["config"])
        elif message.get("eof") or message.get("reset"):
            listener = await self._get_listener()
            await asyncio.to_thread(listener.finish)
            await self._send(await self._final(listener.end))
            self._listener = None
            return bool(message.get("eof"))
        else:
            raise bad("an object must have config, eof or reset")
        return False

    def _configure(self, config: Any) -> None:
        """Take Vosk's settings; those that mean nothing here are passed by."""
        if not isinstance(config, dict):
            raise bad("config must be an object")
        rate = config.get("sample_rate", self._sample_rate)
        if isinstance(rate, bool) or not isinstance(rate, int | float):
            raise bad("sample_rate must be a number", "sample_rate")
        if self._listener is not None:
            raise bad("config must come before the samples", "config")
        ipa = config.get("ipa", self._ipa)
        if not isinstance(ipa, bool):
            raise bad("ipa must be true or false", "ipa")
        self._sample_rate, self._ipa = float(rate), ipa

    async def _get_listener(self) -> Listener:
        """Return what hears this recording; the first samples make it."""
        if self._listener is None:
            self._start = asyncio.get_running_loop().time()
            self._listener = await asyncio.to_thread(self._new_listener)
        return self._listener

    def _new_listener(self) -> Listener:
        self._live = None if self._open_live is None else self._open_live()
        return Listener(self._sample_rate, self._live, self._ipa)

    async def _hear(self, content: bytes) -> dict[str, Any]:
        """Return the answer to samples."""
        listener = await self._get_listener()
        await asyncio.to_thread(listener.accept, content)
        if listener.end > self._pool.limits.sound_seconds:
            raise Refusal(413, "too_long", f"the stream is longer than {self._pool.limits.sound_seconds:g} s")
        self._take_partial(listener)
        if listener.phrase_end is None:
            if self._asked is None and (due := listener.due) is not None:
                self._asked = due, asyncio.create_task(self._recognise(due, is_final=False))
            is_live = listener.end < asyncio.get_running_loop().time() - self._start + LEAD
            if self._asked is not None and is_live:
                tasks = (self._asked[1], self._receive())
                await asyncio.wait(tasks, timeout=HOLD, return_when=asyncio.FIRST_COMPLETED)
                self._take_partial(listener)
        return listener.partial if listener.phrase_end is None else await self._final(listener.phrase_end)

    def _take_partial(self, listener: Listener) -> None:
        """Take the partial result that was asked for, if it is there."""
        if self._asked is not None and self._asked[1].done():
            stretch, task = self._asked
            self._asked = None
            listener.set_partial(task.result(), stretch)

    async def _final(self, end: float) -> dict[str, Any]:
        """End the phrase, and return its final result."""
        assert self._listener is not None
        self._forget_partial()
        stretch = self._listener.cut(end)
        return final(await self._recognise(stretch, is_final=True), stretch.start)

    async def _recognise(self, stretch: Stretch, is_final: bool) -> dict[str, Any]:
        """Return phones and words of a phrase, or of the phrase so far; none where it is too short for a frame."""
        if len(stretch.waveform) < WINDOW_LENGTH:
            return {"phones": []}
        if stretch.emissions is not None and self._live is not None:
            return await asyncio.to_thread(self._live.recognise, stretch.waveform, stretch.emissions, self._ipa)

        async def read() -> bytes:
            return stretch.waveform.tobytes()

        answer = await self._pool.run(Job("phrase", "stream", {"ipa": self._ipa, "is_final": is_final}), read)
        return json.loads(answer["text"])

    async def _send(self, message: dict[str, Any]) -> None:
        await self._websocket.send_text(json.dumps(message, ensure_ascii=False))


class Streams:
    """The streams of a server, of which there may be so many at a time.

    Parameters
    ----------
    pool, limits
        Of the server.
    model
        A model for live speech, whose results are the partial ones; None leaves them to the pool.
    words
        A language model over words, for the words of partial results; None gives phones only.

    Raises
    ------
    AsrError
        There is no such model, or it is none for live speech.
    """

    def __init__(self, pool: Pool, limits: Limits, model: str | None, words: str | None):
        self._pool, self._limits, self._open_live = pool, limits, None
        if model is not None:
            # Each step searches the phrase so far anew: there is no time to rescore it.
            search = None if words is None else Recogniser.from_pretrained(model, words=words, rescore_lm=None)
            self._open_live = partial(Live, model, search)
            silence = np.zeros(SAMPLE_RATE, np.float32)
            self._open_live().accept(silence)  # its faults are known before the first client, and kernels compiled
            if search is not None:
                search.transcribe(silence, SAMPLE_RATE)
        self.num_open = 0

    async def __call__(self, websocket: WebSocket) -> None:
        """Serve a client.

        Raises
        ------
        Refusal
            There are too many already.
        """
        if self.num_open >= self._limits.streams:
            raise Refusal(429, "streams_full", f"{self.num_open} streams are open: try again later")
        self.num_open += 1
        try:
            await Session(websocket, self._pool, self._open_live).run()
        finally:
            self.num_open -= 1
