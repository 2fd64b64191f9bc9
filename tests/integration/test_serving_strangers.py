"""A running server and what should not be sent to it: random requests and frames, damaged recordings, playlists."""

import contextlib
import os
import random
import re
from pathlib import Path

import numpy as np
import pytest

from tests import hostile

pytest.importorskip("httpx", reason="httpx is not installed")
pytest.importorskip("websockets", reason="the extra `serve` is not installed")

from tests import strangers
from tests.serving import RECORDING, error_of, flac, post, wait_for


def test_random_requests_are_answered(served, http_client, caplog):
    rng = random.Random(26)
    statuses = {strangers.send_request((served.host, served.port), rng) for _ in range(1000)} - {None}
    assert {200, 400, 403, 404, 405, 415} <= statuses
    assert max(statuses) < 500
    assert caplog.messages == []
    assert http_client.get("/readyz").status_code == 200
    assert post(http_client, "/v1/phones").status_code == 200


def test_random_frames_are_answered(served, http_client, caplog):
    rng = random.Random(26)
    assert {strangers.send_frames((served.host, served.port), rng) for _ in range(300)} <= {101, 429}
    wait_for(
        lambda: not served.pool.busy and "asr_streams 0" in http_client.get("/metrics").text, "a stream is left open"
    )
    assert '"500"' not in http_client.get("/metrics").text
    assert caplog.messages == []


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
    links = []
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it was closed just now
            links.append(os.readlink(each))
    assert not [link for link in links if "(deleted)" in link and "multipart" in link]
