"""`asr serve` under load: many clients at once, strange, slow and vanishing ones, and its memory after minutes of it.

python benchmarks/serving.py
python benchmarks/serving.py --clients 200 --minutes 60 --audio a.flac b.flac
python benchmarks/serving.py --live 4 --audio a.flac b.flac

A server is started in a process of its own. First all clients ask at once, which is more than the queue holds: those
that are refused get 429. Then 1,000 random requests and as many streams of random frames come, from the seed that is
printed. Slow senders and clients that drop their connections stand beside one that behaves. At last a few clients go on
for minutes with requests of every kind, streams, damaged files and random ones among them. Memory is the resident set
of the server and its workers. A status of 500 or a worker that is replaced would be a fault, and ends this with code 1.

With `--live` the recordings are streamed instead as fast as they were spoken, so many at a time. A phone of the final
result is behind the voice by the time from its end to the first partial result that has it at its place.
"""

import argparse
import asyncio
import json
import random
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
from _bench import describe
from websockets.asyncio.client import connect

from asr.speech import audio
from tests import strangers

DEFAULT = Path(__file__).parents[1] / "docs" / "audio" / "glorious-scrap.flac"
PIECE = 0.1  # seconds of sound in a message, as the page sends them
NEAR = 0.1  # seconds by which a phone's start may move between a partial result and the final one
TEXT = "I'd say there was going to be a glorious scrap"
HEAD = (
    b"POST /v1/phones HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n"
    b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
)


class Load:
    """Clients of one server, and what became of their requests."""

    def __init__(self, port: int, recordings: list[Path]):
        self.port = port
        self.recordings = [path.read_bytes() for path in recordings]
        self.pcm = (32767 * audio.load(recordings[0])).astype("<i2").tobytes()
        self.statuses, self.seconds, self.faults = Counter[str](), list[float](), 0

    async def post(self, client: httpx.AsyncClient, path: str, content: bytes, **fields: str) -> None:
        """Send a recording, and note the status and the time."""
        start = time.perf_counter()
        try:
            answer = await client.post(path, files={"file": ("a", content)}, data=fields)
        except httpx.HTTPError as error:
            self.statuses[type(error).__name__] += 1
            return
        self.statuses[str(answer.status_code)] += 1
        if answer.status_code == 200:
            self.seconds.append(time.perf_counter() - start)

    async def stream(self) -> None:
        """Send a recording through a WebSocket, ten times as fast as it was spoken."""
        try:
            async with connect(f"ws://127.0.0.1:{self.port}/v1/stream") as connection:
                for start in range(0, len(self.pcm), 6400):
                    await connection.send(self.pcm[start : start + 6400])
                    await connection.recv()
                    await asyncio.sleep(0.02)
                await connection.send('{"eof": 1}')
                self.statuses["stream" if "text" in json.loads(await connection.recv()) else "stream failed"] += 1
        except Exception as error:
            self.statuses[f"stream: {type(error).__name__}"] += 1

    async def speak(self, pcm: bytes) -> tuple[list[float], float]:
        """Stream a recording as it was spoken; return how late its phones and its last result came."""
        size, answers, loop = (
            2 * round(PIECE * audio.SAMPLE_RATE),
            list[tuple[float, dict]](),
            asyncio.get_running_loop(),
        )
        async with connect(f"ws://127.0.0.1:{self.port}/v1/stream") as connection:

            async def listen() -> None:
                async for message in connection:
                    answers.append((loop.time(), json.loads(message)))

            listening, begin = asyncio.create_task(listen()), loop.time()
            for start in range(0, len(pcm), size):
                await asyncio.sleep(begin + (start + size) / 2 / audio.SAMPLE_RATE - loop.time())
                await connection.send(pcm[start : start + size])
            end = loop.time()
            await connection.send('{"eof": 1}')
            await listening
        shown = [(when, phone) for when, answer in answers if "partial" in answer for phone in answer["phones"]]
        finals = [phone for _, answer in answers if "text" in answer for phone in answer["phones"]]
        behind = list[float]()
        for phone in finals:
            found = [
                when
                for when, each in shown
                if each["label"] == phone["label"] and abs(each["start"] - phone["start"]) < NEAR
            ]
            if found:
                behind.append(found[0] - begin - phone["end"])
            self.statuses["phones that a partial result had" if found else "phones that came at the end"] += 1
        return behind, answers[-1][0] - end

    async def vanish(self) -> None:
        """Begin a request, and drop the connection."""
        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(HEAD)
        await writer.drain()
        writer.transport.abort()

    async def dawdle(self, seconds: float) -> None:
        """Send a byte a second."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(HEAD)
        deadline = time.monotonic() + seconds
        try:
            while time.monotonic() < deadline and not reader.at_eof():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(1)
        except ConnectionError:
            pass
        writer.close()

    async def confuse(self, rng: random.Random) -> None:
        """Send a random request, and open a stream of random frames."""
        for kind, send in (("random request", strangers.send_request), ("random frames", strangers.send_frames)):
            try:
                status = await asyncio.to_thread(send, ("127.0.0.1", self.port), rng)
            except OSError as error:
                status = type(error).__name__
            self.statuses[f"{kind} {status or 'no answer'}"] += 1

    async def mix(self, client: httpx.AsyncClient, rng: random.Random) -> None:
        """Do one of many things."""
        content, kind = rng.choice(self.recordings), rng.randrange(9)
        if kind < 2:
            await self.post(client, "/v1/audio/transcriptions", content)
        elif kind < 4:
            await self.post(client, "/v1/phones", content, ipa="true")
        elif kind == 4:
            await self.post(client, "/v1/align", content, text=TEXT)
        elif kind == 5:
            await self.post(client, "/v1/phones", content[: rng.randrange(len(content))])
        elif kind == 6:
            await self.vanish()
        elif kind == 7:
            await self.confuse(rng)
        else:
            await self.stream()

    def report(self, what: str) -> None:
        """Print statuses and percentiles, and begin anew."""
        counts = ", ".join(f"{status}: {count}" for status, count in sorted(self.statuses.items()))
        print(f"{what}: {counts}")
        if self.seconds:
            low, high, highest = np.quantile(self.seconds, [0.5, 0.95, 0.99])
            print(f"  seconds to an answer of 200: median {low:.2f}, 95 % {high:.2f}, 99 % {highest:.2f}")
        self.faults += sum(count for status, count in self.statuses.items() if status.endswith("500"))
        self.statuses, self.seconds = Counter(), []


def family(process: int) -> Iterator[Path]:
    """Yield the folders in /proc of a process and of those that it has started."""
    todo = [process]
    while todo:
        folder = Path(f"/proc/{todo.pop()}")
        yield folder
        for thread in (folder / "task").iterdir():
            todo += map(int, (thread / "children").read_text().split())


def megabytes(folder: Path, key: str = "VmRSS") -> float:
    """Return the memory of a process in /proc."""
    found = re.search(rf"{key}:\s+(\d+)", (folder / "status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def resident(process: int) -> float:
    """Return the memory of a process and of those that it has started, in megabytes."""
    return sum(map(megabytes, family(process)))


@contextmanager
def serving(*options: str) -> Iterator[tuple[int, int]]:
    """Start a server in a process of its own, and return its port and the process when it is ready."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "asr", "serve", "--port", str(port), *options]
    with subprocess.Popen(command) as server:
        try:
            while server.poll() is None:
                try:
                    httpx.get(f"http://127.0.0.1:{port}/readyz").raise_for_status()
                    break
                except httpx.HTTPError:
                    time.sleep(0.2)
            yield port, server.pid
        finally:
            server.terminate()


def limits_of_clients(clients: int) -> httpx.Limits:
    """Return limits that let each client have its own connection."""
    return httpx.Limits(max_connections=clients, max_keepalive_connections=clients)


async def measure_live(load: Load, arguments: argparse.Namespace) -> None:
    """Stream all recordings, some at a time."""
    waiting = [(32767 * audio.load(path)).astype("<i2").tobytes() for path in arguments.audio]
    behind, rests = list[float](), list[float]()

    async def keep_on() -> None:
        while waiting:
            found, rest = await load.speak(waiting.pop())
            behind.extend(found)
            rests.append(rest)

    await asyncio.gather(*(keep_on() for _ in range(arguments.live)))
    for what, values in (("partial phones behind the voice", behind), ("final results behind the end", rests)):
        low, high, highest = np.quantile(values, [0.5, 0.95, 0.99])
        print(f"{what}, {arguments.live} at a time, s: median {low:.2f}, 95 % {high:.2f}, 99 % {highest:.2f}")
    load.report(f"{len(arguments.audio)} recordings")


async def measure(load: Load, arguments: argparse.Namespace, process: int) -> None:
    """Run the four parts."""
    url, clients = f"http://127.0.0.1:{load.port}", arguments.clients
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits_of_clients(clients)) as client:
        content = load.recordings[0]
        await asyncio.gather(*(load.post(client, "/v1/phones", content) for _ in range(clients)))
        load.report(f"{clients} clients at once")

        rng = random.Random(arguments.seed)
        for _ in range(1000):
            await load.confuse(rng)
        load.report(f"1,000 random requests and streams of seed {arguments.seed}")

        slow = [asyncio.create_task(load.dawdle(15)) for _ in range(20)]
        await asyncio.gather(*(load.vanish() for _ in range(clients)))
        for _ in range(20):
            await load.post(client, "/v1/phones", content)
        await asyncio.gather(*slow)
        load.report(f"one client beside 20 slow senders and {clients} dropped connections")

        end = time.monotonic() + 60 * arguments.minutes

        async def keep_on(number: int) -> None:
            rng = random.Random(number)
            while time.monotonic() < end:
                await load.mix(client, rng)

        async def look() -> float:
            await asyncio.sleep(min(60, 30 * arguments.minutes))
            return resident(process)

        first, *_ = await asyncio.gather(look(), *(keep_on(number) for number in range(arguments.soak_clients)))
        last = resident(process)
        load.report(f"{arguments.minutes:g} minutes of {arguments.soak_clients} clients")
        print(f"  memory: {first:.0f} MB after the first minute, {last:.0f} MB at the end ({last / first - 1:+.1%})")
        replaced = re.search(r"asr_workers_replaced (\d+)", (await client.get("/metrics")).text)
        print(replaced[0])
        load.faults += int(replaced[1])


def main() -> None:
    """Start a server, and print what it does under load."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", nargs="*", type=Path, default=[DEFAULT], help="recordings (default: the docs' own)")
    parser.add_argument("--clients", type=int, default=200, help="that ask at once (default 200)")
    parser.add_argument("--soak-clients", type=int, default=6, help="that go on for minutes (default 6)")
    parser.add_argument("--minutes", type=float, default=10, help="of the last part (default 10)")
    parser.add_argument("--seed", type=int, default=26, help="of random requests (default 26)")
    parser.add_argument("--live", type=int, metavar="STREAMS", help="measure live streams only, so many at a time")
    parser.add_argument("--workers", type=int, default=2, help="of the server (default 2)")
    parser.add_argument("--stream-model", help="a model for live speech (default: the server's own)")
    arguments = parser.parse_args()
    more = ["--stream-model", arguments.stream_model] if arguments.stream_model else []
    with serving("--workers", str(arguments.workers), *more) as (port, process):
        print(describe("starlette", "uvicorn", "onnxruntime"))
        load = Load(port, arguments.audio)
        asyncio.run(measure_live(load, arguments) if arguments.live else measure(load, arguments, process))
    sys.exit(0 if load.faults == 0 else 1)


if __name__ == "__main__":
    main()
