"""The application: its paths, and what answers them."""

import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

import asr
from asr.core import config
from asr.models import model_folder
from asr.serving import forms, wyoming
from asr.serving.guard import PAGE, Guard
from asr.serving.metrics import Gauges, Metrics
from asr.serving.recognising import Job
from asr.serving.refusal import Refusal
from asr.serving.settings import Access, Models
from asr.serving.streaming import Streams
from asr.serving.transcription import language_of
from asr.serving.workers import Pool

TRANSCRIPTIONS, STREAM = "/v1/audio/transcriptions", "/v1/stream"
REMARK = "Asr-Remark"  # the header, percent-encoded, that says where a text does not fit its recording
FIRST_PAGE = "index.html"  # of the folder with the page's files
MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

Handler = Callable[[Request], Awaitable[Response]]


class Server:
    """What answers requests.

    Parameters
    ----------
    pool
        Workers that have started; the application ends them when it ends itself.
    models
        What they have loaded.
    stream_model
        A model for live speech, which gives the partial results of streams; None leaves them to the pool.
    home
        Where clients of the Wyoming protocol connect; None serves none.
    """

    def __init__(self, pool: Pool, models: Models, stream_model: str | None = None, home: socket.socket | None = None):
        folder = model_folder.find(models.model)
        self._pool, self._model, self._created = pool, model_folder.name_of(folder), int(folder.stat().st_mtime)
        self._language = language_of(config.load(folder / "config.yaml").data.labels)
        self._home = home
        self._streams = Streams(pool, pool.limits, stream_model, models.words)
        self._metrics = Metrics()
        files = resources.files("asr.serving")
        self._document = (files / "openapi.json").read_text("utf8")
        self._page_files = {each.name: each.read_text("utf8") for each in (files / "page").iterdir()}
        if models.words is None:
            self._page_files[FIRST_PAGE] = self._page_files[FIRST_PAGE].replace(' data-words="true"', "", 1)

    def application(self, access: Access) -> ASGIApp:
        """Return the application, for those who may use it."""
        answers: dict[str, Handler] = {
            "/": self._page,
            **dict.fromkeys((PAGE + name for name in self._page_files), self._page),
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/metrics": self._show_metrics,
            "/openapi.json": self._openapi,
            "/v1/models": self._models,
        }
        recordings = (TRANSCRIPTIONS, *forms.FORMS)
        routes: list[BaseRoute] = [Route(path, answer) for path, answer in answers.items()]
        routes += [Route(path, self._recording, methods=["POST"]) for path in recordings]
        routes += [Route("/v1/models/{name:path}", self._one_model), WebSocketRoute(STREAM, self._stream)]
        paths = {*answers, *recordings, STREAM}
        app: ASGIApp = Starlette(
            routes=routes,
            exception_handlers={HTTPException: _refuse_http, Refusal: _refuse, Exception: _fail},
            lifespan=self._lifespan,
        )
        app = Guard(app, access, self._metrics, paths)
        if access.origins:
            app = CORSMiddleware(
                app, allow_origins=access.origins, allow_methods=["GET", "POST"], allow_headers=["Authorization"]
            )
        return app

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        try:
            if self._home is None:
                yield
            else:
                info = wyoming.info_of(self._model, ["en"] if self._language == "english" else [])
                async with wyoming.serving(self._home, self._pool, info):
                    yield
        finally:
            await self._pool.close()

    async def _recording(self, request: Request) -> Response:
        """Do what a form asks for with the recording in it."""
        try:
            async with self._pool.admitted():
                form = await forms.read_form(request, self._pool.limits)
                try:
                    return await self._answer(request, form)
                finally:
                    await form.close()
        except Refusal as refusal:
            if refusal.code != "too_slow":
                await forms.drain(request, self._pool.limits)
            raise

    async def _answer(self, request: Request, form: FormData) -> Response:
        path = request.url.path
        if path == TRANSCRIPTIONS:
            job = forms.transcription_of(form, self._model, self._language)
        else:
            job = forms.job_of(path, form)
        answer = await self._run(request, job, form)
        self._metrics.sound_seconds += answer["seconds"]
        media = forms.MEDIA_TYPES.get(job.options["response_format"], "text/plain")
        headers = {} if answer["remark"] is None else {REMARK: quote(answer["remark"], safe=" '")}
        return Response(answer["text"], media_type=media, headers=headers)

    async def _run(self, request: Request, job: Job, form: FormData) -> dict[str, Any]:
        async def read() -> bytes:
            if await request.is_disconnected():  # while it waited for a worker
                raise Refusal(499, "disconnected", "the client is gone")
            return await forms.recording_of(form).read()

        return await self._pool.run(job, read)

    async def _stream(self, websocket: WebSocket) -> None:
        try:
            await self._streams(websocket)
        except Refusal as refusal:
            await websocket.send_denial_response(_response(refusal))

    async def _page(self, request: Request) -> Response:
        name = request.url.path.removeprefix(PAGE).lstrip("/") or FIRST_PAGE
        media = MEDIA_TYPES[PurePath(name).suffix]
        return Response(self._page_files[name], media_type=media, headers={"Content-Security-Policy": POLICY})

    async def _healthz(self, request: Request) -> Response:
        return Response("ok\n", media_type="text/plain")

    async def _readyz(self, request: Request) -> Response:
        if not self._pool.is_ready:
            raise Refusal(503, "not_ready", "no worker is ready")
        return Response("ready\n", media_type="text/plain")

    async def _show_metrics(self, request: Request) -> Response:
        pool = self._pool
        gauges: Gauges = {
            "asr_workers": ("Processes that recognise.", pool.limits.workers),
            "asr_workers_busy": ("Processes at work.", pool.busy),
            "asr_workers_replaced": ("Processes that were ended and replaced.", pool.restarts),
            "asr_requests_inside": ("Requests that arrive, wait or are worked on.", pool.inside),
            "asr_streams": ("Streams that are open.", self._streams.num_open),
        }
        return Response(self._metrics.text(gauges), media_type="text/plain; version=0.0.4")

    async def _openapi(self, request: Request) -> Response:
        values = json.loads(self._document)
        values["info"]["version"] = asr.__version__
        return _json(values)

    async def _models(self, request: Request) -> Response:
        return _json({"object": "list", "data": [self._model_row]})

    async def _one_model(self, request: Request) -> Response:
        if request.path_params["name"] != self._model:
            raise Refusal(404, "model_not_found", f"this server has {self._model!r} and no other model", "model")
        return _json(self._model_row)

    @property
    def _model_row(self) -> dict[str, Any]:
        return {"id": self._model, "object": "model", "created": self._created, "owned_by": "asr"}


def _json(values: Any) -> Response:
    return Response(json.dumps(values, ensure_ascii=False), media_type="application/json")


def _response(refusal: Refusal) -> Response:
    return Response(refusal.to_json(), refusal.status, refusal.headers, "application/json")


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return _response(error)


async def _refuse_http(request: Request, error: Exception) -> Response:
    """Answer where there is no such path or method, in the form of all refusals."""
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
    message = f"{error.detail}: /openapi.json says what there is"
    response = _response(Refusal(error.status_code, code, message))
    response.headers.update(error.headers or {})
    return response


async def _fail(request: Request, error: Exception) -> Response:
    return _response(Refusal(500, "internal", "this server has a fault, which its log describes"))
