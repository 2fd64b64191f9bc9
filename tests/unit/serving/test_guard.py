import asyncio
import base64

import pytest

pytest.importorskip("starlette", reason="the extra `serve` is not installed")

from starlette.responses import PlainTextResponse

from asr.core.errors import ConfigError
from asr.serving.guard import BEARER, PROTOCOL, Guard
from asr.serving.metrics import Metrics
from asr.serving.settings import Access, Limits

TOKEN = "a token of many letters"


def status(access, path="/v1/models", kind="http", subprotocols=(), **headers):
    """The status that a request with some headers gets."""
    headers = {"host": "localhost:8000"} | headers
    scope = {
        "type": kind,
        "method": "GET",
        "path": path,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "subprotocols": subprotocols,
        "extensions": {"websocket.http.response": {}},
    }
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(Guard(PlainTextResponse("in"), access, Metrics(), [path])(scope, None, send))
    return sent[0]["status"]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost:8000", 200),
        ("127.0.0.1", 200),
        ("[::1]:8000", 200),
        ("example.org", 403),
        ("localhost.example.org", 403),
        ("127.0.0.1.example.org:8000", 403),
        ("[", 403),
        ("", 403),
    ],
)
def test_without_a_token_only_names_of_this_machine_are_answered(host, expected):
    assert status(Access(), host=host) == expected
    assert status(Access(TOKEN), host=host, authorization=f"Bearer {TOKEN}") == 200


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("http://localhost:8000", 200),
        ("http://localhost:9000", 403),
        ("https://example.org", 403),
        ("null", 403),
        ("http://[", 403),
    ],
)
def test_pages_of_others_are_refused_unless_they_are_named(origin, expected):
    for kind in ("http", "websocket"):
        assert status(Access(), kind=kind, origin=origin) == expected
        assert status(Access(origins=(origin,)), kind=kind, origin=origin) == 200


@pytest.mark.parametrize(
    "given", ["", "Bearer", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer \xff"]
)
def test_a_wrong_token_is_refused(given):
    assert status(Access(TOKEN), authorization=given) == 401
    assert status(Access(TOKEN), kind="websocket", authorization=given) == 401
    assert status(Access(TOKEN), path="/metrics", authorization=given) == 401


def test_the_right_token_is_taken():
    assert status(Access(TOKEN), authorization=f"Bearer {TOKEN}") == 200
    assert status(Access(TOKEN), authorization=f"bearer  {TOKEN}") == 200
    assert status(Access(TOKEN)) == 401
    assert [status(Access(TOKEN), path=path) for path in ("/", "/page/main.js", "/healthz", "/readyz")] == [200] * 4
    assert status(Access(TOKEN), path="/", kind="websocket") == 401


def bearer(token):
    return BEARER + base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    ("protocols", "expected"),
    [
        ([PROTOCOL, bearer(TOKEN)], 200),
        ([PROTOCOL, bearer(TOKEN[:-1])], 401),
        ([PROTOCOL, BEARER + "é", BEARER + "A"], 401),
        ([PROTOCOL, TOKEN], 401),
    ],
)
def test_a_browser_sends_the_token_of_a_stream_as_a_protocol(protocols, expected):
    assert status(Access(TOKEN), kind="websocket", subprotocols=protocols) == expected


def test_a_token_that_can_be_guessed_is_no_token():
    with pytest.raises(ConfigError, match="16 characters"):
        Access("1234")
    assert TOKEN not in repr(Access(TOKEN))


def test_limits_are_positive():
    with pytest.raises(ConfigError, match="queue"):
        Limits(queue=0)
