"""What the application does beside its answers."""

import asyncio
from types import SimpleNamespace

import pytest

pytest.importorskip("starlette", reason="the extra `serve` is not installed")

from asr.serving.app import Server
from asr.serving.settings import Access, Limits, Models


def test_workers_are_ended_whatever_becomes_of_the_server():
    closed = []

    async def close():
        closed.append(True)

    async def receive():
        if not sent:
            return {"type": "lifespan.startup"}
        raise ZeroDivisionError("of the server")

    async def send(message):
        sent.append(message["type"])

    sent = []
    pool = SimpleNamespace(limits=Limits(), close=close)
    app = Server(pool, Models("en-us-phones-small")).application(Access())
    with pytest.raises(ZeroDivisionError, match="of the server"):
        asyncio.run(app({"type": "lifespan"}, receive, send))
    assert (sent[0], closed) == ("lifespan.startup.complete", [True])
