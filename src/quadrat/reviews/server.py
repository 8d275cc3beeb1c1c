"""The page on loopback: who may ask for what. The only home of Starlette and uvicorn.

Only this machine is listened to. Every address starts with a token that is made anew at each start;
requests under another host's name are refused, so that no page from elsewhere reaches in by a name
that leads to loopback. The page's policy lets it load nothing but itself. It does not know what
answers mean.
"""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Callable
from importlib import resources
from typing import TYPE_CHECKING, Any

from quadrat.errors import InputError, QuadratError, StorageError
from quadrat.reviews.session import ReviewSession
from quadrat.reviews.views import Views

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOST = "127.0.0.1"
HOSTS = (HOST, "localhost")
MOST_BYTES = 64 << 10  # of an answer
POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
SCRIPTS = ("keeping.js", "views.js", "form.js", "page.js")  # in the order in which they are run
FILES = {"page.css": "text/css"} | dict.fromkeys(SCRIPTS, "text/javascript")


def page_file(name: str) -> str:
    """The text of a file of the page."""
    return resources.files("quadrat.reviews").joinpath(name).read_text("utf-8")


class _Guarded:
    """Adds the headers to every answer, and refuses requests that another site's page sends."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from starlette.datastructures import Headers, MutableHeaders
        from starlette.responses import PlainTextResponse

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        asked = Headers(scope=scope)
        origin = asked.get("origin", "")
        own = origin in ("", f"http://{asked.get('host', '')}")
        if not own or asked.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            refusal = PlainTextResponse("Another site's page may not ask here.", 403)
            await refusal(scope, receive, with_headers)
            return
        await self.app(scope, receive, with_headers)


def application(
    session: ReviewSession, views: Views, token: str, finish: Callable[[], None]
) -> Starlette:
    """The page and what it asks for, below `/<token>/`.

    Args:
        finish: called when the interpreter ends the session.
    """
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Mount, Route

    def page(_: Request) -> Response:
        return Response(page_file("page.html"), media_type="text/html")

    def file(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in FILES:
            return Response("There is no such file.", 404)
        return Response(page_file(name), media_type=FILES[name])

    def describe(_: Request) -> Response:
        return JSONResponse(session.describe())

    def plot(request: Request) -> Response:
        return JSONResponse(session.plot(request.path_params["number"]))

    def picture(request: Request) -> Response:
        number, date = request.path_params["number"], request.path_params["date"]
        if date >= len(session.listed.dates):
            raise InputError(f"there is no date {date}")
        return Response(views.jpeg(session.listed.plot(number), date), media_type="image/jpeg")

    async def answer(request: Request) -> Response:
        from starlette.concurrency import run_in_threadpool

        data = await _json(request)
        return JSONResponse(await run_in_threadpool(session.keep, data))

    def undo(_: Request) -> Response:
        return JSONResponse(session.undo())

    def end(_: Request) -> Response:
        finish()
        return JSONResponse({"ended": True})

    def failed(_: Request, error: Exception) -> Response:
        code = 500 if isinstance(error, StorageError) else 400
        return JSONResponse({"error": str(error)}, code)

    routes = [
        Route("/", page),
        Route("/{name:str}", file),
        Route("/api/session", describe),
        Route("/api/plots/{number:int}", plot),
        Route("/api/plots/{number:int}/pictures/{date:int}.jpg", picture),
        Route("/api/answers", answer, methods=["POST"]),
        Route("/api/undo", undo, methods=["POST"]),
        Route("/api/end", end, methods=["POST"]),
    ]
    return Starlette(
        routes=[Mount(f"/{token}", routes=routes)],
        middleware=[
            Middleware(_Guarded),
            Middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS), www_redirect=False),
        ],
        exception_handlers={QuadratError: failed},
    )


async def _json(request: Request) -> Any:
    """The JSON values of a request's body; InputError when it is none, or too long."""
    if request.headers.get("content-type", "").split(";")[0] != "application/json":
        raise InputError("an answer is sent as application/json")
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_BYTES:
            raise InputError(f"an answer of more than {MOST_BYTES:,} bytes is none")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise InputError("this is no JSON") from None


def serve(
    session: ReviewSession, views: Views, on_address: Callable[[str], None], port: int = 0
) -> None:
    """Serve the page until the interpreter ends the session, or the process is interrupted.

    Args:
        on_address: told the page's address when it answers.
        port: 0 takes a free one.

    Raises:
        StorageError: the port is taken.
    """
    import uvicorn

    token = secrets.token_urlsafe(24)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError:
            raise StorageError(f"port {port} is taken; choose another --port") from None
        listener.listen(128)

        def finish() -> None:
            server.should_exit = True

        app = application(session, views, token, finish)
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", ws="none",
            server_header=False, proxy_headers=False, timeout_graceful_shutdown=5,
        )  # fmt: skip
        server = uvicorn.Server(config)
        on_address(f"http://{HOST}:{listener.getsockname()[1]}/{token}/")
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:  # the usual end at a terminal; nothing is unsaved
            return
