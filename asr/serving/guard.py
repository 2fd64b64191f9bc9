"""Who is let in: tokens, hosts and origins are checked before anything else, and every request is counted."""

import base64
import hmac
import logging
import time
from collections.abc import Collection
from contextlib import suppress
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asr.serving.metrics import Metrics
from asr.serving.refusal import Refusal
from asr.serving.settings import Access, is_loopback

PROTOCOL = "asr"  # of the WebSocket
BEARER = f"{PROTOCOL}.bearer."  # before the token in URL-safe base64, which a page sends as a second protocol
PAGE = "/page/"  # its files are below
OPEN = ("/", "/healthz", "/readyz")  # they tell nothing, and the page asks for the token itself
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

log = logging.getLogger(__name__)


class Guard:
    """The outermost layer of the application.

    Without a token only this machine's own programs can reach the server. Their browser is one of them, and shows pages
    of strangers: those must not use the server through it. Hence the name that the browser has looked up must be one of
    this machine's (`Host`), and a page must be the server's own (`Origin`).

    Parameters
    ----------
    app
        What is behind it.
    access
        Who may use the server.
    metrics
        Where requests are counted.
    paths
        Those that the server has; requests for others are counted together.
    """

    def __init__(self, app: ASGIApp, access: Access, metrics: Metrics, paths: Collection[str]):
        self._app, self._access, self._metrics, self._paths = app, access, metrics, frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        start, status = time.monotonic(), 499  # of a client that was gone before its answer

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                status = message["status"]
                message["headers"] = [*message.get("headers", []), *_HEADERS]
            elif message["type"] == "websocket.accept":
                status = 101
            await send(message)

        try:
            if (refusal := self._refusal(scope)) is not None:
                await respond(refusal, scope, receive, send_on)
            else:
                await self._app(scope, receive, send_on)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.count(path, status, time.monotonic() - start)

    def _refusal(self, scope: Scope) -> Refusal | None:
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._access.token is None and not is_loopback(_address_in(f"//{host}").hostname or ""):
            return Refusal(403, "host", "this server answers to localhost and 127.0.0.1 only, unless it has a token")
        is_own = origin is None or _address_in(origin).netloc.lower() == host.lower()
        if not is_own and origin not in self._access.origins:
            return Refusal(403, "origin", "pages of other sites may not use this server")
        is_open = scope["type"] == "http" and (scope["path"] in OPEN or scope["path"].startswith(PAGE))
        if self._access.token is None or is_open:
            return None
        if not hmac.compare_digest(_given_token(headers, scope), self._access.token.encode()):
            return Refusal(401, "invalid_api_key", "the token is missing or wrong: send Authorization: Bearer TOKEN")
        return None


def _given_token(headers: Headers, scope: Scope) -> bytes:
    """Return the token in a request's headers, or among the protocols of a WebSocket: browsers send no other header."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return given.strip().encode()
    for each in scope.get("subprotocols", ()):
        if each.startswith(BEARER):
            letters = each.removeprefix(BEARER)
            with suppress(ValueError):
                return base64.urlsafe_b64decode(letters + "=" * (-len(letters) % 4))
    return b""


def _address_in(text: str) -> SplitResult:
    """Return the parts of an address; none if it is damaged."""
    try:
        return urlsplit(text)
    except ValueError:
        return SplitResult("", "", "", "", "")


_HEADERS = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]


async def respond(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with a refusal, also to a client that wants a WebSocket."""
    await Response(refusal.to_json(), refusal.status, refusal.headers, "application/json")(scope, receive, send)
