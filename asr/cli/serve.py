"""The verb `asr serve`."""

import signal
import sys
from contextlib import ExitStack
from typing import Annotated

import typer

from asr.cli.options import ModelOption, note
from asr.core.errors import AsrError

NO_WORDS = "none"
HOME = "127.0.0.1"  # where the Wyoming protocol is served, since it has no token


def serve(
    host: Annotated[str, typer.Option(help="The address; any but this machine's own needs a --token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 8000,
    model: ModelOption = "en-us-phones",
    words: Annotated[
        str, typer.Option(help="A language model over words: a name, folder or ARPA file; none for phones alone.")
    ] = "en-us-words",
    stream_model: Annotated[
        str | None,
        typer.Option(
            help="A model for live speech, such as en-us-phones-stream, for the partial results of streams.",
            show_default="the model hears each phrase anew",
        ),
    ] = None,
    wyoming: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="A second port, of this machine alone, for Home Assistant; 0 takes a free one.",
            show_default="none",
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="ASR_TOKEN",
            show_envvar=False,
            help="What clients must send as a bearer; better in the variable ASR_TOKEN, which others cannot read.",
            show_default="none",
        ),
    ] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(help="A site whose pages may use the server, such as https://example.org.", show_default="none"),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Recordings that are worked on at a time.")] = 2,
    queue: Annotated[int, typer.Option(min=1, help="Requests that may wait; more get the status 429.")] = 32,
    streams: Annotated[int, typer.Option(min=1, help="Streams at a time.")] = 16,
    max_size: Annotated[int, typer.Option(min=1, help="Megabytes of a request.")] = 128,
    max_duration: Annotated[float, typer.Option(min=1, help="Seconds of a recording or a stream.")] = 3600,
    max_wait: Annotated[float, typer.Option(min=1, help="Seconds in which a request has to arrive.")] = 60,
    max_time: Annotated[float, typer.Option(min=1, help="Seconds of work on a recording.")] = 300,
    max_memory: Annotated[int, typer.Option(min=1, help="Megabytes of a worker, its models included.")] = 4096,
) -> None:
    """Serve recognition to browsers and programs: a page, OpenAI's transcriptions, phones, alignment, streams.

    Recordings are kept in memory or a temporary file until they are answered, and nothing is kept afterwards.

    asr serve
    asr serve --port 9000 --model runs/mini_librispeech/blstm_ctc --words none
    asr serve --host 0.0.0.0 --workers 4 --max-duration 600
    asr serve --wyoming 10300
    """
    try:
        from asr.serving import run
        from asr.serving.app import Server
        from asr.serving.settings import MEGABYTE, Access, Limits, Models, is_loopback
        from asr.serving.workers import Pool
    except ModuleNotFoundError as error:
        package = (error.name or "asr").partition(".")[0]
        if package == "asr":
            raise
        raise AsrError(f'asr serve needs {package}: in a checkout, pip install ".[serve]"') from error

    if token is None and not is_loopback(host):
        raise AsrError(f"{host} lets others in: give a --token that they need, or leave --host out")
    access = Access(token, tuple(origin or ()))
    limits = Limits(
        upload_bytes=max_size * MEGABYTE,
        upload_seconds=max_wait,
        sound_seconds=max_duration,
        work_seconds=max_time,
        memory_bytes=max_memory * MEGABYTE,
        workers=workers,
        queue=queue,
        streams=streams,
    )
    models = Models(model, None if words == NO_WORDS else words)
    with run.bind(host, port) as listening, ExitStack() as stack:
        address = listening.getsockname()
        shown = f"[{address[0]}]" if ":" in address[0] else address[0]
        places = [f"http://{shown}:{address[1]}"]
        home = None if wyoming is None else stack.enter_context(run.bind(HOME, wyoming))
        if home is not None:
            places.append(f"tcp://{HOME}:{home.getsockname()[1]}")
        # Also while models load: what workers have written is removed, as when a server ends.
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
        pool = Pool(models, limits)
        app = Server(pool, models, stream_model, home).application(access)
        pool.start()
        run.server(app, lambda: note(f"serving at {' and '.join(places)}")).run(sockets=[listening])
