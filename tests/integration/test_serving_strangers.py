"""A running server and what should not be sent to it: random requests and frames, damaged recordings, playlists."""

import http.client
import os
import random
import re
import socket
import time
from pathlib import Path

import numpy as np
import pytest

from tests import hostile

pytest.importorskip("httpx", reason="httpx is not installed")
pytest.importorskip("websockets", reason="the extra `serve` is not installed")

from tests.serving import RECORDING, error_of, flac, post


def random_request(rng):
    """Something like a request, in which anything may be wrong."""
    paths = ["/v1/phones", "/v1/align", "/v1/pronunciation", "/v1/audio/transcriptions", "/v1/models", "/v2", "/\xff"]
    names = [
        "file",
        "text",
        "phones",
        "response_format",
        "stream",
        "timestamp_granularities[]",
        "channel",
        "",
        "\xff\0",
    ]
    values = ["", "true", "json", "x" * 3000, "\xff\xfe\0", "HH AY", "-1", "9" * 400, "../../etc/passwd", "🎉"]
    parts = b""
    for _ in range(rng.randrange(6)):
        name, value = rng.choice(names), rng.choice(values).encode("utf-8")
        if rng.random() < 0.4:
            value = rng.choice([rng.randbytes(rng.randrange(3000)), RECORDING.read_bytes()[: rng.randrange(6000)]])
        head = f'Content-Disposition: form-data; name="{name}"'
        if name == "file" or rng.random() < 0.2:
            head += f'; filename="{rng.choice(values)}"'
        parts += b"--b\r\n" + head.encode("utf-8") + b"\r\n\r\n" + value + b"\r\n"
    body = parts + rng.choice([b"--b--\r\n", b"", b"--b", rng.randbytes(50)])
    if rng.random() < 0.2:
        body = rng.randbytes(rng.randrange(2000))
    types = ["multipart/form-data; boundary=b"] * 6 + ["multipart/form-data", "text/plain", "\xff", "a/b; boundary="]
    types += ["multipart/form-data; boundary=b; charset=nonsense", "multipart/form-data; boundary=" + "b" * 300]
    headers = {"Content-Type": rng.choice(types), "Content-Length": str(len(body))}
    if rng.random() < 0.2:
        headers[rng.choice(["Content-Length", "Transfer-Encoding", "Host", "Origin", "Authorization", "Expect"])] = (
            rng.choice(["-1", "chunked", "x" * 5000, "\xff", "", "1e9", "http://[", "100-continue"])
        )
    lines = [f"{rng.choice(['POST', 'POST', 'POST', 'GET', 'PUT', 'x'])} {rng.choice(paths)} HTTP/1.1"]
    headers = {"Host": "localhost", "Connection": "close"} | headers
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body


def test_random_requests_are_answered(served, http_client):
    rng = random.Random(26)
    statuses = set()
    for _ in range(300):
        request = random_request(rng)
        with socket.create_connection((served.host, served.port), timeout=60) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            answer = http.client.HTTPResponse(connection)
            try:
                answer.begin()
            except http.client.BadStatusLine:  # the client is taken to be gone
                continue
            statuses.add(answer.status)
            answer.read()
    assert {200, 400, 403, 404, 405, 415} <= statuses
    assert max(statuses) < 500
    assert http_client.get("/readyz").status_code == 200
    assert post(http_client, "/v1/phones").status_code == 200


def test_random_frames_are_answered(served, http_client):
    rng = random.Random(26)
    head = "GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    head += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    for _ in range(60):
        with socket.create_connection((served.host, served.port), timeout=60) as connection:
            connection.sendall(head.encode())
            assert connection.recv(12) in (b"HTTP/1.1 101", b"HTTP/1.1 429")
            for _ in range(rng.randrange(5)):
                payload = rng.choice([rng.randbytes(rng.randrange(120)), b'{"eof": 1}', b'{"config": {}}'])
                frame = bytes(
                    [rng.choice([0x81, 0x82, 0x88, 0x89, rng.randrange(256)]), 0x80 | len(payload), 0, 0, 0, 0]
                )
                try:
                    connection.sendall(frame + payload)
                except OSError:  # the server has closed it
                    break
    deadline = time.monotonic() + 60
    while served.pool.busy or "asr_streams 0" not in http_client.get("/metrics").text:
        assert time.monotonic() < deadline, "a stream is left open"
        time.sleep(0.05)
    assert '"500"' not in http_client.get("/metrics").text


def test_strange_recordings_are_answered(served, http_client, tmp_path):
    statuses = {}
    for what, path in hostile.make(tmp_path / "strange").items():
        if path.is_file() and not re.fullmatch(r"cut after \d*[1-9] bytes", what):  # these are all alike
            answer = post(http_client, "/v1/phones", path.read_bytes(), path.name.encode("utf8", "replace").decode())
            statuses[what] = answer.status_code
            if answer.status_code != 200:
                error_of(answer)
    assert len(statuses) > 60
    assert {*statuses.values()} == {200, 400}
    assert {statuses[what] for what in ("silence", "clipped", "8 channels", "MP3 of 8 kHz", "192000 Hz")} == {200}
    assert {statuses[what] for what in ("no samples", "NaN", "random bytes", "text", "FLAC cut in half")} == {400}


@pytest.mark.parametrize(
    "content",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{path}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{path}'\n",
        "{path}",
        "file://{path}",
    ],
)
def test_no_file_of_the_server_is_opened_for_a_client(content, http_client):
    answer = post(http_client, "/v1/phones", content.format(path=RECORDING).encode(), str(RECORDING))
    assert answer.status_code == 400


def test_nothing_is_kept(served, http_client):
    (worker,) = served.pool._workers
    assert post(http_client, "/v1/phones", flac(np.random.default_rng(1).uniform(-1, 1, 59 * 16000))).status_code == 200
    assert os.listdir(worker._folder.name) == []
    links = [os.readlink(each) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    assert not [link for link in links if "(deleted)" in link and "multipart" in link]
