"""What the applications of the control port and of a coordinator have in common: the guard before all routes, every end
of a request as JSON, and the routes that both have."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from edgecoder_drivers.http.contract import Problem
from edgecoder_drivers.http.guard import Guard
from edgecoder_drivers.http.problems import Rejected, respond
from edgecoder_drivers.http.watch import Watch


def application(routes: Sequence[Route], *, hosts: frozenset[str], token: str | None, hint: str) -> ASGIApp:
    """Routes behind the guard; see `guard.Guard` for hosts and token. `hint` is what an unknown path is told."""

    async def http_error(request: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid")
        title = f"{request.method} {request.url.path[:200]}: {error.detail.lower()}"
        response = respond(Problem(title, error.status_code, code, hint=hint))
        response.headers.update(error.headers or {})
        return response

    handlers = {Rejected: _rejected, HTTPException: http_error}
    middleware = [Middleware(Watch), Middleware(Guard, hosts, token)]
    app = Starlette(routes=routes, exception_handlers=handlers, middleware=middleware)  # type: ignore[arg-type]
    app.router.redirect_slashes = False
    return app


def for_programs_and_people(metrics: Callable[[], bytes], page: str) -> list[Route]:
    """The counters for Prometheus, whose text `metrics` gives, and the page."""

    async def exposition(request: Request) -> Response:  # noqa: ARG001
        return Response(metrics(), media_type="text/plain; version=0.0.4")

    async def shown(request: Request) -> Response:  # noqa: ARG001
        return HTMLResponse(page, headers={"content-security-policy": "default-src 'self' 'unsafe-inline'"})

    return [Route("/metrics", exposition), Route("/", shown)]


async def _rejected(request: Request, error: Rejected) -> Response:  # noqa: ARG001
    return respond(error.problem)
