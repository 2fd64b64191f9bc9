"""A server that runs until it is stopped."""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from asr.core.errors import AsrError

LONGEST_MESSAGE = 1 << 20  # bytes of a WebSocket's message
LONGEST_HEAD = 1 << 16  # bytes of a request's headers
MOST_CONNECTIONS = 1000
KEEP_ALIVE = 15  # seconds that an idle connection is kept; httpx, and so OpenAI's client, gives it up first, after 5
GRACE = 5  # seconds that requests get to end when the server is stopped


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 takes any that is free.

    Raises
    ------
    AsrError
        The port is taken, or the host is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=MOST_CONNECTIONS)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise AsrError(f"cannot listen at {host}, port {port}: {reason}: choose another --host or --port") from error


def _is_fault(record: logging.LogRecord) -> bool:
    """Tell whether a log record is of a fault here, and not of a client that is gone or sends text that is none.

    Nor is it a fault that clients still wait when the server is stopped.
    """
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, asyncio.CancelledError) or "state=MUST_CLOSE" in str(error):
        return False
    return not str(record.msg).startswith("Invalid UTF-8")


class _WebSocket(WebSocketsSansIOProtocol):
    """Tells a client that is gone, or was refused, from a fault of the application; uvicorn logs these as faults too.

    The application may be told at any time that the client is gone. A client can close the connection, break the
    protocol or stop answering pings just before the application accepts it or answers.
    """

    async def send(self, message: Any) -> None:
        """Send what the application says.

        Raises
        ------
        ClientDisconnected
            The connection is closed, or closing.
        """
        await self.writable.wait()
        if self.close_sent:  # on the client's account: the application sends nothing once it has closed a connection
            raise ClientDisconnected
        await super().send(message)
        if self.close_sent:
            self.handshake_complete = True  # also by a refusal, which is an answer
        elif not self.handshake_complete and self.initial_response is None:
            raise ClientDisconnected  # it was gone before it could be accepted

    def shutdown(self) -> None:
        """Close the connection, unless the client has begun to."""
        if not self.transport.is_closing():
            super().shutdown()


class _Server(uvicorn.Server):
    """Says when it is ready."""

    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None]):
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_start()


def server(app: ASGIApp, on_start: Callable[[], None] = lambda: None) -> uvicorn.Server:
    """Return a server of an application; ``run(sockets=[…])`` runs it. `on_start` is called when it is ready."""
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of each damaged form, and uvicorn too
    logging.getLogger("uvicorn.error").addFilter(_is_fault)
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level=logging.ERROR,
        access_log=False,
        server_header=False,
        http="h11",
        ws=_WebSocket,
        ws_max_size=LONGEST_MESSAGE,
        ws_per_message_deflate=False,
        h11_max_incomplete_event_size=LONGEST_HEAD,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
    )
    return _Server(config, on_start)
