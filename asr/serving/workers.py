"""The processes that decode and recognise: each has the models loaded, works on one recording, and can be killed.

A job goes to a worker pickled, and its answer comes back as JSON: a worker that a damaged recording has taken over
cannot make the server run anything.
"""

import asyncio
import json
import logging
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from typing import Any

from asr.core.errors import ModelError
from asr.serving import recognising
from asr.serving.recognising import Job
from asr.serving.refusal import Refusal
from asr.serving.settings import Limits, Models

LONGEST_ANSWER = 1 << 28  # bytes
START_SECONDS = 600.0  # in which a worker has to load its models; the first one ever compiles kernels

log = logging.getLogger(__name__)


class Worker:
    """A process with the models loaded. Its methods block, and one thread at a time may call them."""

    def __init__(self, models: Models, limits: Limits):
        self._models, self._limits = models, limits
        self._process: BaseProcess | None = None
        self._is_over = False  # nobody wants it any more
        self.is_alive = False

    def start(self) -> None:
        """Start the process and wait until its models are loaded.

        Raises
        ------
        ModelError
            They cannot be loaded, or the worker has been ended.
        """
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._folder = tempfile.TemporaryDirectory(prefix="asr-worker-")
        arguments = (theirs, self._models, self._limits, self._folder.name)
        process = context.Process(target=recognising.main, args=arguments, daemon=True)
        process.start()
        self._process = process
        theirs.close()
        self.is_alive = True
        if self._is_over:  # since before there was a process
            process.kill()
        answer = self._receive(START_SECONDS)
        if "refused" in answer:
            self.kill()
            message = f"the models do not load: too little memory, or longer than {START_SECONDS:g} s on a busy machine"
            raise ModelError(message if answer.get("ended") else answer["refused"]["message"])

    def run(self, job: Job, content: bytes) -> dict[str, Any]:
        """Return a worker's answer to a job on the bytes of a recording.

        Raises
        ------
        Refusal
            The recording or the job has a fault, or the worker took too long or ended; then it is not alive any more.
        """
        assert self._process is not None
        seconds, start = self._limits.work_seconds, time.monotonic()
        limit = threading.Timer(seconds, self._process.kill)  # of a worker that does not read what it is sent
        limit.start()
        try:
            self._pipe.send((job, content))
            limit.cancel()
            answer = self._receive(seconds)
        except OSError:
            answer = _late(seconds) if time.monotonic() - start >= seconds else _ended()
        except BaseException:
            self.kill()
            raise
        finally:
            limit.cancel()
        if answer.pop("ended", False):
            self.kill()
        if "refused" in answer:
            raise Refusal(**answer["refused"])
        return answer

    def _receive(self, seconds: float) -> dict[str, Any]:
        """Return the next message, or what became of a worker that sends none."""
        try:
            if self._pipe.poll(seconds):
                return json.loads(self._pipe.recv_bytes(LONGEST_ANSWER))
        except (EOFError, OSError):
            return _ended()
        return _late(seconds)

    def end(self) -> None:
        """End the process, also one that is being started; any thread may call this."""
        self._is_over = True
        if self._process is not None:
            with suppress(ValueError):  # it was closed
                self._process.kill()

    def kill(self) -> None:
        """End the process, and remove its temporary files."""
        assert self._process is not None
        self.is_alive = False
        self._process.kill()
        self._process.join()
        self._process.close()
        self._pipe.close()
        self._folder.cleanup()


def _late(seconds: float) -> dict[str, Any]:
    message = f"the work took longer than {seconds:g} s, the limit of this server: send a shorter recording"
    return {"ended": True, "refused": {"status": 504, "code": "time_limit", "message": message}}


def _ended() -> dict[str, Any]:
    message = (
        "the process that worked on the recording ended: it is damaged, or needs more memory than this server allows"
    )
    return {"ended": True, "refused": {"status": 422, "code": "worker_ended", "message": message}}


class Pool:
    """Workers and those who wait for them.

    Attributes
    ----------
    inside
        Requests that are being received, wait, or are worked on.
    busy
        Workers at work.
    restarts
        Workers that were replaced.
    """

    def __init__(self, models: Models, limits: Limits):
        self.limits = limits
        self.inside = self.busy = self.restarts = 0
        self._workers = [Worker(models, limits) for _ in range(limits.workers)]
        self._threads = ThreadPoolExecutor(limits.workers, "asr-worker")
        self._idle = asyncio.Queue[Worker]()
        self._tasks = set[asyncio.Task[Any]]()

    def start(self) -> None:
        """Start all workers, and wait until they are ready; Ctrl-C ends them.

        Raises
        ------
        ModelError
            The models cannot be loaded.
        """
        try:
            list(self._threads.map(Worker.start, self._workers))
        except BaseException:  # KeyboardInterrupt is one
            self._kill()
            raise
        for worker in self._workers:
            self._idle.put_nowait(worker)

    @property
    def is_ready(self) -> bool:
        """Whether a worker is alive."""
        return any(worker.is_alive for worker in self._workers)

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """Count a request in until it is answered.

        Raises
        ------
        Refusal
            There are too many.
        """
        if self.inside >= self.limits.workers + self.limits.queue:
            raise Refusal(429, "queue_full", f"{self.inside} requests are being worked on or wait: try again later")
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1

    async def run(self, job: Job, read: Callable[[], Awaitable[bytes]]) -> dict[str, Any]:
        """Wait for a worker and return its answer; `read` returns the recording when there is one.

        Raises
        ------
        Refusal
            As for `Worker.run`; or no worker became free in time.
        """
        try:
            async with asyncio.timeout(self.limits.work_seconds):
                worker = await self._idle.get()
        except TimeoutError as error:
            raise Refusal(429, "queue_time", "no worker became free in time: try again later") from error
        task = asyncio.create_task(self._run(worker, job, read))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)  # a worker ends its work though nobody waits for it any more

    async def _run(self, worker: Worker, job: Job, read: Callable[[], Awaitable[bytes]]) -> dict[str, Any]:
        self.busy += 1
        loop = asyncio.get_running_loop()
        try:
            content = await read()
            return await loop.run_in_executor(self._threads, worker.run, job, content)
        finally:
            self.busy -= 1
            if worker.is_alive:
                self._idle.put_nowait(worker)
            else:
                task = asyncio.create_task(self._replace(worker))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _replace(self, worker: Worker) -> None:
        """Start a worker's process anew, over and over until it works."""
        self.restarts += 1
        loop = asyncio.get_running_loop()
        while True:
            try:
                await loop.run_in_executor(self._threads, worker.start)
                break
            except (ModelError, OSError) as error:
                log.warning("a worker does not start: %s", error)
                await asyncio.sleep(5)
        self._idle.put_nowait(worker)

    async def close(self) -> None:
        """End all workers."""
        for task in self._tasks:
            task.cancel()
        await asyncio.to_thread(self._kill)

    def _kill(self) -> None:
        for worker in self._workers:
            worker.end()
        self._threads.shutdown(cancel_futures=True)
        for worker in self._workers:
            if worker.is_alive:
                worker.kill()
