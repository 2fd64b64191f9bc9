"""A running server: OpenAI's own client, the answers beside those of the commands, limits, and streams."""

import base64
import contextlib
import json
import os
import re
import signal
import socket
import time
from dataclasses import replace

import numpy as np
import pytest

from asr.speech import audio

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

from asr.serving.settings import Limits, Models
from tests.conftest import PATIENCE
from tests.serving import RECORDING, TEXT, error_of, flac, heard, post, serving, subtitle, wait_for

httpx = pytest.importorskip("httpx", reason="httpx is not installed")
openai = pytest.importorskip("openai", reason="openai's client is not installed")
websockets = pytest.importorskip("websockets", reason="the extra `serve` is not installed")


@pytest.fixture(scope="module")
def client(served):
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def transcribe(client, **options):
    return client.audio.transcriptions.create(file=RECORDING, model="en-us-phones", **options)


def test_openais_client_gets_words(client):
    assert transcribe(client).text == heard().text
    assert transcribe(client, response_format="text") == heard().text + "\n"
    assert transcribe(client, language="en", temperature=0.2, prompt="x").text == heard().text


def test_openais_client_gets_subtitles(client):
    assert transcribe(client, response_format="srt") == "1\n" + subtitle(",")
    assert transcribe(client, response_format="vtt") == "WEBVTT\n\n" + subtitle(".")


def test_openais_client_gets_times(client):
    said = transcribe(client, response_format="verbose_json", timestamp_granularities=["word", "segment"])
    assert (said.text, said.language, said.duration) == (heard().text, "english", 3.065)
    assert said.to_dict()["task"] == "transcribe"
    assert " ".join(word.word for word in said.words) == heard().text
    times = [heard().words[0].start, heard().words[-1].end]
    assert [said.words[0].start, said.words[-1].end] == [said.segments[0].start, said.segments[-1].end] == times
    assert said.segments[0].text == heard().text
    assert -1 < said.segments[0].avg_logprob < 0
    said = transcribe(client, response_format="verbose_json")
    assert said.words is None
    assert len(said.segments) == 1
    assert transcribe(client, response_format="verbose_json", timestamp_granularities=["word"]).segments is None


def test_granularities_without_brackets(http_client):
    answer = post(
        http_client, "/v1/audio/transcriptions", response_format="verbose_json", timestamp_granularities="word"
    )
    assert len(answer.json()["words"]) == len(heard().text.split())


def test_openais_client_gets_events(client, http_client):
    events = list(transcribe(client, stream=True))
    assert [event.type for event in events] == ["transcript.text.delta", "transcript.text.done"]
    assert "".join(event.delta for event in events[:-1]) == events[-1].text == heard().text


def test_pauses_part_the_events_whose_text_is_whole(client):
    speech = audio.load(RECORDING)
    twice = flac(np.concatenate([speech, np.zeros(16000), speech]))
    events = list(client.audio.transcriptions.create(file=("a.flac", twice), model="en-us-phones", stream=True))
    assert len(events) == 3
    assert "".join(event.delta for event in events[:-1]) == events[-1].text
    assert events[-1].text.count("going to be a glorious scrap") == 2


def test_openais_client_gets_models(client):
    (model,) = client.models.list()
    assert model.id == "en-us-phones"
    assert client.models.retrieve("en-us-phones") == model


def test_openais_client_gets_its_own_errors(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.audio.transcriptions.create(file=RECORDING, model="whisper-1")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("whisper-1")
    for options in ({"response_format": "diarized_json"}, {"language": "de"}, {"timestamp_granularities": ["word"]}):
        with pytest.raises(openai.BadRequestError):
            transcribe(client, **options)
    with pytest.raises(openai.BadRequestError, match="damaged, or not audio"):
        client.audio.transcriptions.create(file=("a.wav", b"no sound" * 100), model="en-us-phones")


@pytest.mark.parametrize("form", ["json", "ctm", "textgrid"])
def test_phones_are_what_the_command_prints(form, http_client, cli):
    answer = post(http_client, "/v1/phones", name=str(RECORDING), response_format=form, ipa="true")
    assert answer.status_code == 200
    assert answer.text == cli("transcribe", RECORDING, "--format", form, "--ipa").out


def test_words_beside_phones(http_client):
    found = post(http_client, "/v1/phones", words="true").json()
    assert found["path"] == "a.flac"
    assert " ".join(word["label"] for word in found["words"]) == heard().text
    assert [phone["label"] for phone in found["phones"]] == [phone.label for phone in heard().phones]


def test_an_alignment_is_what_the_command_prints(http_client, cli):
    answer = post(http_client, "/v1/align", name=str(RECORDING), text=TEXT, gop="true")
    assert answer.text == cli("align", RECORDING, "--text", TEXT, "--format", "json", "--gop").out
    answer = post(http_client, "/v1/align", text=TEXT, response_format="textgrid", tiers="words, syllables")
    assert '"syllables"' in answer.text
    assert '"phones"' not in answer.text


def test_scores_are_what_the_command_prints(http_client, cli):
    answer = post(http_client, "/v1/pronunciation", text=TEXT, response_format="text")
    assert answer.text == cli("pronounce", RECORDING, "--text", TEXT).out
    assert "Asr-Remark" not in answer.headers
    assert "not fit" in post(http_client, "/v1/pronunciation", text="Mother has eaten").headers["Asr-Remark"]
    assert post(http_client, "/v1/pronunciation", text=TEXT).json()["scores"].keys() >= {"accuracy", "fluency"}


def test_posteriors_agree_with_the_phones(http_client):
    found = post(http_client, "/v1/posteriors", ipa="true").json()
    assert len(found["labels"]) == 40
    assert {"<blank>", "aɪ", "ʃ"} <= {*found["labels"]}
    values = np.frombuffer(base64.b64decode(found["values"]), np.uint8).reshape(-1, 40)
    assert len(values) * found["frame_shift"] == pytest.approx(3.065, abs=0.06)
    assert np.abs(values.astype(int).sum(axis=1) - 255).max() <= 20  # each of 40 is rounded
    for phone in post(http_client, "/v1/phones", ipa="true").json()["phones"]:
        first, last = (round(phone[key] / found["frame_shift"]) for key in ("start", "end"))
        assert values[first - 1 : last + 1, found["labels"].index(phone["label"])].max() > 40


def test_labels_are_converted_as_the_command_writes_them(http_client, cli):
    found = post(http_client, "/v1/phones", words="true").content
    answer = post(http_client, "/v1/convert", found, name="glorious-scrap.flac", response_format="ctm")
    assert answer.text == cli("transcribe", RECORDING, "--words", "--format", "ctm").out
    answer = post(http_client, "/v1/convert", b"{}", response_format="eaf")
    assert (answer.status_code, error_of(answer)) == (400, "unusable")


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("/v1/phones", {"response_format": "docx"}, "response_format"),
        ("/v1/phones", {"words": "perhaps"}, "words"),
        ("/v1/phones", {"channel": "-1"}, "channel"),
        ("/v1/phones", {"beam": "3"}, "beam"),
        ("/v1/align", {}, "text"),
        ("/v1/align", {"text": "hello", "phones": "HH AH L OW"}, "text"),
        ("/v1/align", {"text": "  "}, "text"),
        ("/v1/align", {"text": "hello", "tiers": "words,words"}, "tiers"),
        ("/v1/align", {"text": "hello", "gop": "true", "response_format": "ctm"}, "gop"),
        ("/v1/align", {"phones": "HH QQ"}, None),
        ("/v1/pronunciation", {}, "text"),
        ("/v1/audio/transcriptions", {"stream": "true", "response_format": "srt"}, "stream"),
    ],
)
def test_a_wrong_field_is_named(path, fields, param, http_client):
    answer = post(http_client, path, **fields)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_a_form_without_a_recording(http_client):
    answer = http_client.post("/v1/phones", files={"other": ("a", b"")})
    assert (answer.status_code, error_of(answer)) == (400, "missing")
    answer = http_client.post("/v1/phones", json={})
    assert (answer.status_code, error_of(answer)) == (415, "not_a_form")
    assert http_client.get("/v1/phones").status_code == 405
    assert error_of(http_client.get("/v2")) == "not_found"


def test_what_is_too_large_is_refused(served, http_client):
    answer = post(http_client, "/v1/phones", bytes(served.pool.limits.upload_bytes))
    assert (answer.status_code, error_of(answer)) == (413, "too_large")

    def without_length():
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        for _ in range(5):
            yield bytes(1 << 20)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = http_client.post("/v1/phones", content=without_length(), headers=headers)
    assert (answer.status_code, error_of(answer)) == (413, "too_large")


def test_what_lasts_too_long_is_refused(http_client):
    answer = post(http_client, "/v1/phones", flac(np.zeros(61 * 16000)))
    assert (answer.status_code, error_of(answer)) == (413, "too_long")


def test_a_slow_sender_is_refused(served, monkeypatch):
    monkeypatch.setattr(served.pool, "limits", replace(served.pool.limits, upload_seconds=0.5))
    head = b"POST /v1/phones HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
    head += b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
    with socket.create_connection((served.host, served.port), timeout=PATIENCE) as connection:
        connection.sendall(head)
        start, answer = time.monotonic(), connection.recv(100)
    assert answer.startswith(b"HTTP/1.1 408")
    assert time.monotonic() - start >= served.pool.limits.upload_seconds - 0.1


def test_a_client_that_is_gone_leaves_nothing(served, http_client):
    head = b"POST /v1/phones HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
    head += b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
    for _ in range(10):
        with socket.create_connection((served.host, served.port)) as connection:
            connection.sendall(head)
    assert post(http_client, "/v1/phones").status_code == 200
    wait_for(lambda: served.pool.inside == 0, "a request is left inside")


def test_too_many_at_once_are_told_to_come_again(served, http_client):
    """As many as the queue holds are on their way when another one comes; they are answered all the same."""
    request = http_client.build_request("POST", "/v1/phones", files={"file": ("a", RECORDING.read_bytes())})
    headers = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    content = f"POST /v1/phones HTTP/1.1\r\n{headers}\r\n".encode() + request.read()
    with contextlib.ExitStack() as stack:
        connections = [
            stack.enter_context(socket.create_connection((served.host, served.port), timeout=PATIENCE))
            for _ in range(served.pool.limits.workers + served.pool.limits.queue)
        ]
        for connection in connections:
            connection.sendall(content[:-9])
        wait_for(lambda: served.pool.inside == len(connections), "not all are let in")
        refused = post(http_client, "/v1/phones")
        for connection in connections:
            connection.sendall(content[-9:])
        assert {connection.recv(12) for connection in connections} == {b"HTTP/1.1 200"}
    assert refused.status_code == 429
    assert error_of(refused) == "queue_full"
    assert refused.headers["Retry-After"] == "1"


def test_a_worker_that_dies_is_replaced(served, http_client):
    (worker,), restarts = served.pool._workers, served.pool.restarts
    os.kill(worker._process.pid, signal.SIGKILL)
    answer = post(http_client, "/v1/phones")
    assert (answer.status_code, error_of(answer)) == (422, "worker_ended")
    assert post(http_client, "/v1/phones").status_code == 200
    assert served.pool.restarts == restarts + 1


def test_health_readiness_and_metrics(http_client):
    parser = pytest.importorskip("prometheus_client.parser", reason="prometheus-client is not installed")
    assert http_client.get("/healthz").text == "ok\n"
    assert http_client.get("/readyz").text == "ready\n"
    http_client.get("/nobody/has/this")
    families = {
        family.name: family for family in parser.text_string_to_metric_families(http_client.get("/metrics").text)
    }
    requests = {(each.labels["path"], each.labels["status"]): each.value for each in families["asr_requests"].samples}
    assert requests["/healthz", "200"] >= 1
    assert requests["other", "404"] >= 1
    assert families["asr_workers"].samples[0].value == 1
    counts = {each.name: each.value for each in families["asr_request_seconds"].samples if not each.labels}
    assert counts["asr_request_seconds_count"] == sum(requests.values())


def open_stream(served, **options):
    from websockets.sync.client import connect

    return connect(served.websocket, open_timeout=PATIENCE, ping_timeout=PATIENCE, **options)


def hear(served, chunks, config=None, wait_at=None):
    """Send pieces of sound, and return the answers; each is awaited, and at one of them a partial result."""
    with open_stream(served) as connection:
        if config is not None:
            connection.send(json.dumps({"config": config}))
        answers, deadline = [], time.monotonic() + PATIENCE
        for number, chunk in enumerate(chunks):
            connection.send(chunk)
            answers.append(json.loads(connection.recv()))
            while number == wait_at and not answers[-1].get("partial"):
                assert time.monotonic() < deadline, "no partial result"
                connection.send(b"")
                answers.append(json.loads(connection.recv()))
        connection.send('{"eof" : 1}')
        answers.append(json.loads(connection.recv()))
        with pytest.raises(websockets.ConnectionClosedOK):
            connection.recv()
    return answers


def pcm(rate):
    waveform = audio.load(RECORDING)
    waveform = np.concatenate([np.zeros(24000, np.float32), waveform, np.zeros(20000, np.float32)])
    return (32767 * audio.resample(waveform, 16000 * 16000 / rate)).astype("<i2")  # as if it had been played at `rate`


@pytest.mark.parametrize("rate", [16000, 44100])
def test_a_stream_gives_words_as_vosks_server_does(rate, served):
    samples, size = pcm(rate), 2 * (rate // 5)
    content = samples.tobytes()
    chunks = [content[start : start + size] for start in range(0, len(content), size)]
    answers = hear(served, chunks, {"sample_rate": rate, "words": True}, wait_at=16)  # in the middle of the speech
    finals = [answer for answer in answers if answer.get("text")]
    said = " ".join(answer["text"] for answer in finals)
    # How much of the silence before is heard depends on when partial results come, and decides one word.
    assert re.fullmatch("i'd say there('s| is| was) going to be a glorious scrap", said)
    words = [word for answer in finals for word in answer["result"]]
    assert [word["word"] for word in words] == said.split()
    assert 1.5 <= words[0]["start"] <= words[0]["end"] <= words[-1]["end"] <= 1.5 + 3.1
    assert all(0 <= word["conf"] <= 1 for word in words)
    assert all(("partial" in answer) != ("text" in answer) for answer in answers)


def test_partial_words_of_a_model_for_live_speech():
    content = pcm(16000).tobytes()
    chunks = [content[start : start + 3200] for start in range(0, len(content), 3200)]
    models = Models("en-us-phones", "en-us-words")
    with serving(models, Limits(workers=1), stream_model="en-us-phones-stream") as served:
        answers = hear(served, chunks, wait_at=35)
        ipa = [phone["label"] for answer in hear(served, chunks, {"ipa": True}) for phone in answer["phones"]]
    said = " ".join(answer["text"] for answer in answers if answer.get("text"))
    assert re.fullmatch("i'd say there('s| is| was) going to be a glorious scrap", said)  # the other model's
    partial = max((answer.get("partial", "") for answer in answers), key=len)
    assert partial.startswith("i'd say there")
    assert all({"label", "start"} <= phone.keys() for answer in answers for phone in answer["phones"])
    assert "aɪ" in ipa
    assert not any(label.isupper() for label in ipa)


def test_a_stream_in_the_ipa(served):
    final = hear(served, [pcm(16000).tobytes()], {"ipa": True})[-1]
    assert final["phones"][0]["label"] == "aɪ"
    with open_stream(served, subprotocols=["asr.bearer.eA", "asr"]) as connection:
        assert connection.subprotocol == "asr"


def test_a_stream_of_nothing(served):
    assert hear(served, []) == [{"text": "", "result": [], "phones": []}]
    assert hear(served, [b"", b"\0", b"\0" * 3])[-1]["text"] == ""


def test_too_many_streams(served, caplog):
    with open_stream(served), open_stream(served):
        with pytest.raises(websockets.InvalidStatus) as caught:
            open_stream(served)
        assert caught.value.response.status_code == 429
    assert caplog.messages == []


def test_strange_messages_end_a_stream_with_a_reason(served):
    strange = [
        "",
        "x",
        "[]",
        "{}",
        '{"config": 1}',
        '{"config": {"ipa": 1}}',
        '{"config": {"sample_rate": "x"}}',
        "[" * 9000,
        "\0",
    ]
    strange += [
        '{"config": {"sample_rate": 1}}',
        '{"config": {"sample_rate": 1e999}}',
        '{"config": {"sample_rate": NaN}}',
    ]
    for message in strange:
        with open_stream(served) as connection:
            connection.send(message)
            with contextlib.suppress(websockets.ConnectionClosed):  # the answer may have come already
                connection.send(bytes(4000))
            assert "error" in json.loads(connection.recv())
            with pytest.raises(websockets.ConnectionClosedError) as caught:
                connection.recv()
            assert caught.value.rcvd.code == 1008
