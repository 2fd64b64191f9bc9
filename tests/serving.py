"""A real server in a thread of the test's process, with workers in processes of their own."""

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass

from asr.serving import run
from asr.serving.app import Server
from asr.serving.settings import Access
from asr.serving.workers import Pool


@dataclass(frozen=True)
class Served:
    host: str
    port: int
    pool: Pool

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
    server = run.server(Server(pool, models, stream_model).application(access or Access()))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield Served(*listening.getsockname(), pool)
    finally:
        server.should_exit = True
        thread.join()
        listening.close()
