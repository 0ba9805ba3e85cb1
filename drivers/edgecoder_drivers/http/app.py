"""The control server's application: all routes behind the guard, and every end of a request as JSON."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from edgecoder import __version__
from edgecoder_drivers.http.base import application, for_programs_and_people
from edgecoder_drivers.http.contract import Health
from edgecoder_drivers.http.jobs import Jobs
from edgecoder_drivers.http.models import ModelRoutes
from edgecoder_drivers.http.openapi import contract_of
from edgecoder_drivers.http.page import PAGE
from edgecoder_drivers.http.registry import RegistryRoutes
from edgecoder_drivers.http.served import ServedNode
from edgecoder_drivers.http.tasks import TaskRoutes
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
    document, jobs = contract_of(has_token=token is not None), Jobs(node)

    async def healthz(request: Request) -> Response:  # noqa: ARG001
        is_healthy = node.is_engine_healthy()
        return answer(Health("ok", node.node_id.hex(), node.engine, is_healthy, __version__, node.is_catalog_stale()))

    async def openapi(request: Request) -> Response:  # noqa: ARG001
        return answer(document)

    routes = [
        *ModelRoutes(node, jobs, swap_wait_s).routes(),
        *RegistryRoutes(node, jobs).routes(),
        *TaskRoutes(node, deadline_ms_max).routes(),
        Route("/healthz", healthz),
        Route("/openapi.json", openapi),
        *for_programs_and_people(metrics, PAGE),
    ]
    return application(routes, hosts=hosts, token=token, hint="see /openapi.json")
