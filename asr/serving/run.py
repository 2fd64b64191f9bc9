"""A server that runs until it is stopped."""

import logging
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

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
    """Tell whether a log record is of a fault here, and not of a client that is gone or sends text that is none."""
    error = record.exc_info[1] if record.exc_info else None
    return "state=MUST_CLOSE" not in str(error) and not str(record.msg).startswith("Invalid UTF-8")


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
        ws="websockets-sansio",
        ws_max_size=LONGEST_MESSAGE,
        ws_per_message_deflate=False,
        h11_max_incomplete_event_size=LONGEST_HEAD,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
    )
    return _Server(config, on_start)
