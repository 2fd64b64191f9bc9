"""The server's connections: which ends of a WebSocket are the application's fault, and which are the client's."""

import asyncio
import contextlib
import socket
import threading

import pytest

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

from uvicorn.server import ServerState

from asr.serving import run
from asr.serving.guard import respond
from asr.serving.refusal import Refusal
from tests.conftest import PATIENCE
from tests.serving import wait_for
from tests.strangers import UPGRADE

CLOSE, PING_WITHOUT_END = b"\x88\x80" + bytes(4), b"\x09\x80" + bytes(4)


class Transport(asyncio.Transport):
    """A connection that is closed only when the test says so, as that of a client who reads nothing."""

    def __init__(self):
        super().__init__({"sockname": ("127.0.0.1", 1), "peername": ("127.0.0.1", 2)})
        self.content, self._is_closing = b"", False

    def write(self, data):
        self.content += data

    def close(self):
        self._is_closing = True

    def is_closing(self):
        return self._is_closing

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass


async def converse(app, *events):
    """Let a client ask for a WebSocket, and events befall the connection whenever the application has paused."""
    config = run.server(app).config
    config.load()
    connection, transport = config.ws_protocol_class(config, ServerState(), {}), Transport()
    connection.connection_made(transport)
    connection.data_received(UPGRADE.encode())
    (task,) = connection.tasks
    for event in events:
        for _ in range(3):
            await asyncio.sleep(0)
        assert not task.done()
        event(connection)
    async with asyncio.timeout(60):
        await task
    for left in [*connection.connections]:  # the server is stopped
        left.shutdown()
        left.connection_lost(None)
    return transport.content


def lose(connection):
    connection.transport.close()
    connection.connection_lost(None)


def end(connection):
    connection.transport.close()  # as asyncio does where the client has closed its side


def break_protocol(connection):
    connection.data_received(PING_WITHOUT_END)


def leave(connection):
    connection.data_received(CLOSE)


async def pause():
    for _ in range(5):
        await asyncio.sleep(0)


async def refuse(scope, receive, send):
    await pause()
    await respond(Refusal(429, "streams_full", "try again"), scope, receive, send)


async def close(scope, receive, send):
    await pause()
    await send({"type": "websocket.close"})


async def accept(scope, receive, send):
    await pause()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close"})


async def answer(scope, receive, send):
    await send({"type": "websocket.accept"})
    await pause()
    await send({"type": "websocket.send", "text": "late"})
    await send({"type": "websocket.close"})


async def say_nothing(scope, receive, send):
    await pause()


@pytest.mark.parametrize(
    ("app", "status"),
    [(accept, 101), (answer, 101), (close, 403), (refuse, 429)],
    ids=lambda each: getattr(each, "__name__", None),
)
def test_an_answered_handshake_is_no_fault(app, status, caplog):
    content = asyncio.run(converse(app))
    assert content.startswith(f"HTTP/1.1 {status} ".encode())
    assert (b"late" in content, b"try again" in content) == (app is answer, app is refuse)
    assert caplog.messages == []


@pytest.mark.parametrize("event", [end, lose], ids=lambda event: event.__name__)
@pytest.mark.parametrize("app", [accept, close, refuse], ids=lambda app: app.__name__)
def test_a_client_that_is_gone_before_the_handshake_is_no_fault(app, event, caplog):
    asyncio.run(converse(app, event))
    assert caplog.messages == []


@pytest.mark.parametrize("event", [break_protocol, end, leave, lose], ids=lambda event: event.__name__)
def test_a_client_that_is_gone_before_an_answer_is_no_fault(event, caplog):
    content = asyncio.run(converse(answer, event))
    assert (b"late" in content) == (event is end)  # it may still read
    assert caplog.messages == []


def test_a_handshake_without_an_answer_is_a_fault(caplog):
    assert asyncio.run(converse(say_nothing)).startswith(b"HTTP/1.1 500 ")
    assert caplog.messages == ["ASGI callable returned without completing handshake."]


def test_an_error_is_a_fault(caplog):
    async def fail(scope, receive, send):
        with contextlib.suppress(ValueError):
            await send({"type": "websocket.accept"})
        raise ValueError("a fault")

    asyncio.run(converse(fail))
    assert "a fault" in caplog.text


@pytest.mark.parametrize(
    "request_", [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", UPGRADE.encode()], ids=["http", "ws"]
)
def test_a_client_that_waits_when_the_server_is_stopped_is_no_fault(request_, caplog, monkeypatch):
    monkeypatch.setattr(run, "GRACE", 0.1)
    waiting = threading.Event()

    async def wait(scope, receive, send):
        assert scope["type"] != "lifespan"  # it has none
        waiting.set()
        await asyncio.Event().wait()

    server, listening = run.server(wait), run.bind("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    wait_for(lambda: server.started, "the server does not start")
    with socket.create_connection(listening.getsockname(), timeout=PATIENCE) as client:
        client.sendall(request_)
        assert waiting.wait(PATIENCE)
        server.should_exit = True
        thread.join(PATIENCE)
    assert not thread.is_alive()
    assert caplog.messages == ["Cancel 1 running task(s), timeout graceful shutdown exceeded"]
