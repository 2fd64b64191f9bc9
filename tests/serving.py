"""A real server in a thread of the test's process, with workers in processes of their own."""

import asyncio
import io
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import soundfile

from asr.recognition.recogniser import Recogniser
from asr.serving import run
from asr.serving.app import Server
from asr.serving.settings import Access
from asr.serving.workers import Pool
from tests.conftest import PATIENCE

RECORDING = Path(__file__).parents[1] / "docs" / "audio" / "glorious-scrap.flac"
TEXT = "i'd say there was going to be a glorious scrap"


@dataclass(frozen=True)
class Served:
    host: str
    port: int
    pool: Pool
    wyoming: tuple[str, int]

    @property
    def url(self):
        return f"http://{self.host}:{self.port}"

    @property
    def websocket(self):
        return f"ws://{self.host}:{self.port}/v1/stream"


@contextmanager
def serving(models, limits, access=None, stream_model=None):
    pool = Pool(models, limits)
    pool.start()
    listening = run.bind("127.0.0.1", 0)
    home = run.bind("127.0.0.1", 0)
    server = run.server(Server(pool, models, stream_model, home).application(access or Access()))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        wait_for(lambda: server.started or not thread.is_alive(), "the server does not start")
        yield Served(*listening.getsockname(), pool, home.getsockname())
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        listening.close()
        home.close()
    if thread.is_alive():
        waiting = io.StringIO()
        for task in asyncio.all_tasks(server.servers[0].get_loop()):
            task.print_stack(file=waiting)
        pytest.fail(f"the server does not end:\n{waiting.getvalue()}")


@cache
def heard():
    """What the library hears in the recording: phones, words, times."""
    return Recogniser.from_pretrained("en-us-phones", words=True).transcribe(RECORDING)


def subtitle(separator):
    """The one subtitle of the recording."""
    start, end = (
        f"00:00:{second:06.3f}".replace(".", separator) for second in (heard().words[0].start, heard().words[-1].end)
    )
    return f"{start} --> {end}\n{heard().text}\n\n"


def post(http_client, path, content=None, name="a.flac", **fields):
    content = RECORDING.read_bytes() if content is None else content
    return http_client.post(path, files={"file": (name, content)}, data=fields)


def wait_for(condition, what):
    """Wait until something is so, which is soon on an idle machine."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def error_of(answer):
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return error["code"]


def flac(samples, rate=16000):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()
