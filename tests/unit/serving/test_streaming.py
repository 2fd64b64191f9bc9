"""When a stream answers: with the partial result that a message has caused, and at once to those who do not wait."""

import asyncio
import json
from types import SimpleNamespace

import pytest

pytest.importorskip("starlette", reason="the extra `serve` is not installed")

from starlette.websockets import WebSocket

from asr.serving import streaming
from asr.serving.settings import Limits
from tests.conftest import PATIENCE

PHONES = [{"label": "AH", "start": 0.02, "end": 0.06, "confidence": 0.9}]


LEAVES = {"type": "websocket.disconnect", "code": 1000}


def sound(seconds):
    return {"type": "websocket.receive", "bytes": bytes(2 * round(16000 * seconds))}


def answers(recognise, *messages):
    """What the client gets if it sends these messages; those in a list are there at once, others after an answer."""

    async def converse():
        coming, sent = asyncio.Queue(), asyncio.Queue()
        pool = SimpleNamespace(limits=Limits(), run=recognise)
        scope = {"type": "websocket", "subprotocols": [], "headers": []}
        session = asyncio.create_task(
            streaming.Session(WebSocket(scope, coming.get, sent.put), pool, None).run(),
        )
        coming.put_nowait({"type": "websocket.connect"})
        await sent.get()
        found = []
        for together in messages:
            for message in together:
                coming.put_nowait(message)
            for _ in range(len(together) - together.count(LEAVES)):
                found.append(json.loads((await sent.get())["text"]))
        coming.put_nowait(LEAVES)
        await session
        return [answer["partial"] for answer in found]

    async def patiently():
        async with asyncio.timeout(PATIENCE):
            return await converse()

    return asyncio.run(patiently())


async def at_once(job, read):
    return {"text": json.dumps({"phones": PHONES})}


async def never(job, read):
    await asyncio.Event().wait()


@pytest.fixture(autouse=True)
def hold(monkeypatch):
    monkeypatch.setattr(streaming, "HOLD", 2 * PATIENCE)


def test_an_answer_waits_for_its_partial_result():
    assert answers(at_once, [sound(0.1)], [sound(0.1)]) == ["AH", "AH"]


def test_it_waits_no_longer_than_for_the_next_message():
    started = []

    async def count(job, read):
        started.append(job)
        await never(job, read)

    assert answers(count, [sound(0.1), LEAVES]) == [""]
    assert len(started) == 1


def test_it_waits_for_a_time_at_most(monkeypatch):
    monkeypatch.setattr(streaming, "HOLD", 0.01)
    assert answers(never, [sound(0.1)]) == [""]


def test_samples_that_come_faster_than_speech_are_answered_at_once():
    assert answers(never, [sound(streaming.LEAD + 0.1)], [sound(0.1)]) == ["", ""]
