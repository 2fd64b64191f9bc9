"""A running server and clients of the Wyoming protocol: Home Assistant's own package, and strange ones."""

import asyncio
import contextlib
import json
import random
import socket
from types import SimpleNamespace

import numpy as np
import pytest

from asr.speech import audio

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

from asr.serving import run, wyoming
from asr.serving.settings import Limits
from tests.conftest import PATIENCE
from tests.serving import RECORDING, heard, wait_for


@pytest.fixture
def connection(served):
    with socket.create_connection(served.wyoming, timeout=PATIENCE) as connection:
        yield connection


def event(kind, payload=b"", **data):
    head = {"type": kind, "data": data} | ({"payload_length": len(payload)} if payload else {})
    return json.dumps(head).encode() + b"\n" + payload


def answer(connection):
    """The next event from the server."""
    stream = connection.makefile("rb")
    head = json.loads(stream.readline())
    return head["type"], json.loads(stream.read(head["data_length"]))


def pcm(rate, channels=1):
    waveform = audio.resample(audio.load(RECORDING), 16000 * 16000 / rate)
    return np.repeat((32767 * waveform).astype("<i2"), channels).tobytes()


@pytest.mark.filterwarnings("ignore:'audioop' is deprecated:DeprecationWarning")  # the package's own
def test_home_assistants_own_client_gets_words(served):
    pytest.importorskip("wyoming", reason="wyoming is not installed")
    from wyoming.asr import Transcribe, Transcript
    from wyoming.audio import AudioChunk, AudioStart, AudioStop
    from wyoming.client import AsyncTcpClient
    from wyoming.info import Describe, Info

    form = {"rate": 16000, "width": 2, "channels": 1}
    content = pcm(16000)

    async def ask():
        async with AsyncTcpClient(*served.wyoming) as client:
            await client.write_event(Describe().event())
            info = Info.from_event(await client.read_event())
            for _ in range(2):
                await client.write_event(Transcribe(language="en").event())
                await client.write_event(AudioStart(**form).event())
                for start in range(0, len(content), 2048):
                    await client.write_event(AudioChunk(**form, audio=content[start : start + 2048]).event())
                await client.write_event(AudioStop().event())
                transcript = Transcript.from_event(await client.read_event())
        return info, transcript

    info, transcript = asyncio.run(ask())
    assert transcript.text == heard().text
    (program,) = info.asr
    (model,) = program.models
    assert (model.name, model.languages, model.installed) == ("en-us-phones", ["en"], True)


def test_sound_of_any_rate_and_with_several_channels(connection):
    for rate, channels in ((16000, 2), (48000, 1)):
        connection.sendall(event("transcribe", name="x") + event("audio-start", rate=rate, width=2, channels=channels))
        connection.sendall(event("audio-chunk", pcm(rate, channels)[: 1 << 20]) + event("audio-stop"))
        assert answer(connection) == ("transcript", {"text": heard().text})


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "invalid_value"),
        (b"[]\n", "invalid_value"),
        (b"[" * 9000 + b"\n", "invalid_value"),
        (b"x" * 200_000, "invalid_value"),
        (b'{"type": "audio-start", "data": 3}\n', "invalid_value"),
        (b'{"type": "describe", "data_length": 99999999}\n', "invalid_value"),
        (b'{"type": "audio-chunk", "payload_length": -1}\n', "invalid_value"),
        (event("audio-start", rate=16000, width=2), "invalid_value"),
        (event("audio-start", rate=0, width=2, channels=1), "invalid_value"),
        (event("audio-start", rate=16000, width=2, channels=1) + event("audio-stop"), "unusable"),
        (
            event("audio-start", rate=16000, width=2, channels=1)
            + event("audio-chunk", bytes(1 << 20)) * 2
            + event("audio-stop"),
            "too_long",
        ),
        (
            event("audio-start", rate=16000, width=4, channels=1) + event("audio-chunk", bytes(1 << 20)) * 4,
            "too_large",
        ),
    ],
)
def test_mistakes_are_named_and_end_the_connection(content, code, connection, served):
    with contextlib.suppress(ConnectionError):  # the answer may have come already
        connection.sendall(content)
    kind, data = answer(connection)
    assert (kind, data["code"]) == ("error", code)
    wait_for(lambda: served.pool.inside == 0, "the sound is still counted in")


def test_a_client_that_is_gone_leaves_nothing(served, caplog):
    rng = random.Random(26)
    content = event("audio-start", rate=16000, width=2, channels=1) + event("audio-chunk", bytes(99)) * 9
    for _ in range(30):
        with socket.create_connection(served.wyoming, timeout=PATIENCE) as connection:
            connection.sendall(content[: rng.randrange(len(content))])
    wait_for(lambda: served.pool.inside == 0, "a client is left inside")
    assert caplog.messages == []


def test_too_many_clients(served):
    with contextlib.ExitStack() as stack:

        def ask():
            client = stack.enter_context(socket.create_connection(served.wyoming, timeout=PATIENCE))
            client.sendall(event("describe"))
            return answer(client)

        for _ in range(served.pool.limits.streams):
            wait_for(lambda: ask()[0] == "info", "those before are not gone")
        assert ask()[1]["code"] == "streams_full"


def test_a_client_that_reads_nothing_does_not_keep_the_server():
    async def sessions_left():
        pool, listening = SimpleNamespace(limits=Limits()), run.bind("127.0.0.1", 0)
        async with wyoming.serving(listening, pool, {"asr": ["x" * (1 << 20)]}):
            _, writer = await asyncio.open_connection(*listening.getsockname(), limit=1)
            writer.write(event("describe") * 100)
            while len(asyncio.all_tasks()) == 1:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)  # until its answers are more than fit on the way
        for _ in range(3):
            await asyncio.sleep(0)
        writer.close()
        return len(asyncio.all_tasks()) - 1

    assert asyncio.run(sessions_left()) == 0
