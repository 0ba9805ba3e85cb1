"""The control server's application: all routes behind the guard, and every end of a request as JSON."""

from __future__ import annotations

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from edgecoder import __version__
from edgecoder_drivers.http.contract import Health, Problem
from edgecoder_drivers.http.guard import Guard
from edgecoder_drivers.http.models import ModelRoutes
from edgecoder_drivers.http.openapi import contract_of
from edgecoder_drivers.http.page import PAGE
from edgecoder_drivers.http.problems import Rejected, respond
from edgecoder_drivers.http.served import ServedNode
from edgecoder_drivers.http.tasks import TaskRoutes
from edgecoder_drivers.http.watch import Watch
from edgecoder_drivers.http.wire import answer


def make_app(
    node: ServedNode,
    metrics: Callable[[], bytes],
    *,
    hosts: frozenset[str],
    token: str | None = None,
    swap_wait_s: float = 30.0,
    deadline_ms_max: int = 600_000,
) -> ASGIApp:
    """The application of one node; `metrics` gives the text for Prometheus. See `guard.Guard` for hosts and token."""
    document = contract_of(has_token=token is not None)

    async def healthz(request: Request) -> Response:  # noqa: ARG001
        is_healthy = node.is_engine_healthy()
        return answer(Health("ok", node.node_id.hex(), node.engine, is_healthy, __version__))

    async def exposition(request: Request) -> Response:  # noqa: ARG001
        return Response(metrics(), media_type="text/plain; version=0.0.4")

    async def openapi(request: Request) -> Response:  # noqa: ARG001
        return answer(document)

    async def page(request: Request) -> Response:  # noqa: ARG001
        return HTMLResponse(PAGE, headers={"content-security-policy": "default-src 'self' 'unsafe-inline'"})

    routes = [
        *ModelRoutes(node, swap_wait_s).routes(),
        *TaskRoutes(node, deadline_ms_max).routes(),
        Route("/healthz", healthz),
        Route("/metrics", exposition),
        Route("/openapi.json", openapi),
        Route("/", page),
    ]
    handlers = {Rejected: _rejected, HTTPException: _http_error}
    middleware = [Middleware(Watch), Middleware(Guard, hosts, token)]
    app = Starlette(routes=routes, exception_handlers=handlers, middleware=middleware)  # type: ignore[arg-type]
    app.router.redirect_slashes = False
    return app


async def _rejected(request: Request, error: Rejected) -> Response:  # noqa: ARG001
    return respond(error.problem)


async def _http_error(request: Request, error: HTTPException) -> Response:
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid")
    title = f"{request.method} {request.url.path[:200]}: {error.detail.lower()}"
    response = respond(Problem(title, error.status_code, code, hint="see /openapi.json"))
    response.headers.update(error.headers or {})
    return response
