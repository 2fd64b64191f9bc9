"""`asr serve` as a user starts and stops it, and what it refuses."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import PATIENCE, ROOT, RUN_ASR, started

httpx = pytest.importorskip("httpx", reason="httpx is not installed")
pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
TOKEN = "sixteen letters or more"


def test_it_serves_until_it_is_stopped(tmp_path):
    options = ["--port", "0", "--model", "en-us-phones-small", "--words", "none", "--workers", "1", "--wyoming", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "ASR_TOKEN": TOKEN, "TMPDIR": str(tmp_path)}
    # Workers import this as a module; and what a shell runs in the background has no handler of SIGINT.
    run = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n" + RUN_ASR
    command = [sys.executable, "-c", f"if __name__ == '__main__':\n{re.sub('(?m)^', '    ', run)}", "serve", *options]
    with started(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        line = process.stderr.readline()
        url = re.fullmatch(r"serving at (http://127\.0\.0\.1:\d+) and tcp://127\.0\.0\.1:\d+\n", line)[1]
        assert [path.name[:10] for path in tmp_path.iterdir()] == ["asr-worker"]
        with httpx.Client(base_url=url, timeout=PATIENCE) as client:
            assert client.get("/v1/models").status_code == 401
            client.headers["Authorization"] = f"Bearer {TOKEN}"
            assert client.get("/v1/models").json()["data"][0]["id"] == "en-us-phones-small"
            assert 'data-words="true"' not in client.get("/").text
            recording = (ROOT / "docs" / "audio" / "glorious-scrap.flac").read_bytes()
            answer = client.post("/v1/phones", files={"file": ("a", recording)}, data={"words": "true"})
            assert (answer.status_code, "phones alone" in answer.text) == (400, True)
            answer = client.post("/v1/audio/transcriptions", files={"file": ("a", recording)})
            assert answer.json()["text"].startswith("AY ")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
        assert process.stderr.read() == "\nasr: stopped\n"
    assert list(Path(tmp_path).iterdir()) == []


@pytest.mark.parametrize("is_ready", [False, True])
def test_a_service_manager_ends_it_and_nothing_stays_behind(is_ready, tmp_path):
    options = ["--port", "0", "--model", "en-us-phones-small", "--words", "none", "--workers", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    command = [
        sys.executable,
        "-c",
        f"if __name__ == '__main__':\n{re.sub('(?m)^', '    ', RUN_ASR)}",
        "serve",
        *options,
    ]
    with started(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        if is_ready:
            assert process.stderr.readline().startswith("serving at ")
        while not list(tmp_path.iterdir()):
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 128 + signal.SIGTERM
        assert "Traceback" not in process.stderr.read()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], "give a --token"),
        (["--host", "example.org"], "give a --token"),
        (["--host", "0.0.0.0", "--token", "short"], "16 characters or more"),
        (["--model", "no-such-model"], "no-such-model"),
        (["--stream-model", "en-us-phones"], "has to hear a recording's end"),
        (["--host", "192.0.2.1", "--token", TOKEN], "cannot listen at 192.0.2.1"),
    ],
)
def test_what_cannot_be_served(options, words, cli):
    code, out, err = cli("serve", "--port", "0", "--workers", "1", *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("asr: ")
    assert words in err


def test_a_port_that_is_taken(cli):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, err = cli("serve", "--port", taken.getsockname()[1])
    assert (code, err.count("\n")) == (2, 1)
    assert "choose another --host or --port" in err


def test_an_install_without_the_extra(python):
    lack = "import sys; sys.modules['starlette'] = None; sys.argv = ['asr', 'serve']\n"
    done = python(lack + RUN_ASR)
    assert done.returncode == 2
    assert done.stderr == 'asr: asr serve needs starlette: in a checkout, pip install ".[serve]"\n'
