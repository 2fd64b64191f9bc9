"""What should not be sent to a server: random requests and WebSocket frames."""

import http.client
import random
import socket

from tests.conftest import PATIENCE
from tests.serving import RECORDING

PATHS = ("/v1/phones", "/v1/align", "/v1/pronunciation", "/v1/audio/transcriptions", "/v1/models", "/v2", "/\xff")
NAMES = (
    *("file", "text", "phones", "response_format", "stream", "timestamp_granularities[]", "channel"),
    *("", "\xff\0"),
)
VALUES = ("", "true", "json", "x" * 3000, "\xff\xfe\0", "HH AY", "-1", "9" * 400, "../../etc/passwd", "🎉")
TYPES = (
    *("multipart/form-data; boundary=b",) * 6,
    *("multipart/form-data", "text/plain", "\xff", "a/b; boundary="),
    *("multipart/form-data; boundary=b; charset=nonsense", "multipart/form-data; boundary=" + "b" * 300),
)
HEADERS = ("Content-Length", "Transfer-Encoding", "Host", "Origin", "Authorization", "Expect")
ODD = ("-1", "chunked", "x" * 5000, "\xff", "", "1e9", "http://[", "100-continue")
UPGRADE = (
    "GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
TEXTS = (b'{"eof": 1}', b'{"reset": 1}', b'{"config": {}}', b'{"config": {"sample_rate": 1e400}}', b"[" * 2000, b"\xff")
KINDS = (0x81, 0x82, 0x82, 0x88, 0x89, 0x01, 0x80)  # text, binary, the end, a ping, a first and a last part


def random_request(rng: random.Random) -> bytes:
    """Return something like a request, in which anything may be wrong."""
    parts = b""
    for _ in range(rng.randrange(6)):
        name, value = rng.choice(NAMES), rng.choice(VALUES).encode("utf-8")
        if rng.random() < 0.4:
            value = rng.choice([rng.randbytes(rng.randrange(3000)), RECORDING.read_bytes()[: rng.randrange(6000)]])
        head = f'Content-Disposition: form-data; name="{name}"'
        if name == "file" or rng.random() < 0.2:
            head += f'; filename="{rng.choice(VALUES)}"'
        parts += b"--b\r\n" + head.encode("utf-8") + b"\r\n\r\n" + value + b"\r\n"
    body = parts + rng.choice([b"--b--\r\n", b"", b"--b", rng.randbytes(50)])
    if rng.random() < 0.2:
        body = rng.randbytes(rng.randrange(2000))
    headers = {"Host": "localhost", "Connection": "close"}
    headers |= {"Content-Type": rng.choice(TYPES), "Content-Length": str(len(body))}
    if rng.random() < 0.2:
        headers[rng.choice(HEADERS)] = rng.choice(ODD)
    lines = [f"{rng.choice(['POST', 'POST', 'POST', 'GET', 'PUT', 'x'])} {rng.choice(PATHS)} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body


def send_request(address: tuple[str, int], rng: random.Random) -> int | None:
    """Send a random request; return the status of the answer, None if there was none."""
    with socket.create_connection(address, timeout=PATIENCE) as connection:
        connection.sendall(random_request(rng))
        connection.shutdown(socket.SHUT_WR)
        answer = http.client.HTTPResponse(connection)
        try:
            answer.begin()
        except http.client.BadStatusLine:  # the client is taken to be gone
            return None
        answer.read()
        return answer.status


def random_frame(rng: random.Random) -> bytes:
    """Return something like a frame of a client's WebSocket, whose length, mask or content may be wrong."""
    payload = rng.choice([rng.randbytes(rng.randrange(120)), rng.choice(TEXTS), b"\0" * rng.randrange(4000)])
    length = len(payload)
    if rng.random() < 0.1:
        length = rng.choice([0, length + 7, 1 << 40, (1 << 63) + 1])
    if length < 126:
        size = bytes([0x80 | length])
    elif length < 1 << 16:
        size = b"\xfe" + length.to_bytes(2, "big")
    else:
        size = b"\xff" + length.to_bytes(8, "big")
    if rng.random() < 0.05:
        size = bytes([size[0] & 0x7F, *size[1:]])  # without a mask, which clients must have
    first = rng.choice(KINDS) if rng.random() < 0.9 else rng.randrange(256)
    return bytes([first]) + size + bytes(4) + payload


def send_frames(address: tuple[str, int], rng: random.Random) -> int:
    """Open a stream, send random frames and leave; return the status of the handshake."""
    with socket.create_connection(address, timeout=PATIENCE) as connection:
        connection.sendall(UPGRADE.encode())
        status = int(connection.recv(12)[-3:])
        for _ in range(rng.randrange(8)):
            try:
                connection.sendall(random_frame(rng))
            except OSError:  # the server has closed it
                break
    return status
