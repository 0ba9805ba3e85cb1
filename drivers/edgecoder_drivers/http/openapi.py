"""The contract, as OpenAPI 3.1: made of the types that the routes read and write."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from edgecoder import __version__
from edgecoder_drivers.http import contract
from edgecoder_drivers.http.contract import Problem

_REF = "#/components/schemas/{name}"
_MODEL = {"name": "model", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
_OPERATION = {
    "name": "operation",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": contract.OPERATION_ID},
}


class Route(NamedTuple):
    """One route as the contract shows it."""

    path: str
    method: str
    summary: str
    answers: dict[int, Any]
    """By status: a type, or a media type where it is no JSON."""
    body: type | None = None
    parameters: tuple[dict[str, Any], ...] = ()
    problems: tuple[int, ...] = ()


_ASKED = (400, 413, 415)
ROUTES: tuple[Route, ...] = (
    Route(
        "/model/swap",
        "post",
        "Make a model active; one that is missing is fetched first",
        {200: contract.Swapped, 202: contract.Accepted},
        contract.SwapBody,
        problems=(*_ASKED, 404, 409, 422, 500, 502, 503, 504, 507),
    ),
    Route("/model/status", "get", "What is active, and how it is", {200: contract.Status}, problems=(503,)),
    Route("/model/list", "get", "What is here, and what could be", {200: contract.Listed}, problems=(503,)),
    Route(
        "/model/pull",
        "post",
        "Fetch a model without activating it",
        {200: contract.Pulled, 202: contract.Accepted},
        contract.PullBody,
        problems=(*_ASKED, 404, 409, 422, 500, 502, 503, 507),
    ),
    Route(
        "/model/import",
        "post",
        "Take a model from a file on this machine",
        {200: contract.Pulled},
        contract.ImportBody,
        problems=(*_ASKED, 404, 409, 422, 500, 502, 503, 507),
    ),
    Route(
        "/model/{model}/export",
        "get",
        "The bytes of a model",
        {200: "application/octet-stream"},
        parameters=(_MODEL,),
        problems=(404, 409, 500, 503),
    ),
    Route(
        "/model/{model}",
        "delete",
        "Delete the file of a model",
        {200: contract.Removed},
        parameters=(_MODEL,),
        problems=(404, 409, 422, 500, 503),
    ),
    Route(
        "/model/operations/{operation}",
        "get",
        "How far a swap or pull is",
        {200: contract.Operation},
        parameters=(_OPERATION,),
        problems=(404,),
    ),
    Route(
        "/model/operations/{operation}/events",
        "get",
        "The same as server-sent events: progress, then done or failed",
        {200: "text/event-stream"},
        parameters=(_OPERATION,),
        problems=(404,),
    ),
    Route(
        "/task",
        "post",
        "Have the mesh answer a prompt; part by part where `stream`",
        {200: contract.Answered},
        contract.TaskBody,
        problems=(*_ASKED, 404, 409, 422, 500, 502, 503, 504),
    ),
    Route("/healthz", "get", "Whether the node is up", {200: contract.Health}),
    Route("/metrics", "get", "Counters of the trace, for Prometheus", {200: "text/plain"}),
    Route("/openapi.json", "get", "This contract", {200: "application/json"}),
    Route("/", "get", "A page for people", {200: "text/html"}),
)


def contract_of(*, has_token: bool) -> dict[str, Any]:
    """The document; with a token it says so."""
    types = {kind for route in ROUTES for kind in (route.body, *route.answers.values()) if isinstance(kind, type)}
    ordered = sorted({*types, Problem}, key=lambda kind: kind.__name__)
    _, components = msgspec.json.schema_components(ordered, ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method] = _operation(route)
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "EdgeCoder agent", "version": __version__, "summary": "The control port of one node"},
        "paths": paths,
        "components": {"schemas": components},
    }
    if has_token:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def _operation(route: Route) -> dict[str, Any]:
    answers = {str(status): _answer(kind) for status, kind in route.answers.items()}
    if route.path == "/task":
        answers["200"]["content"]["text/event-stream"] = {}
    problem = {"application/problem+json": {"schema": _ref(Problem)}}
    for status in (401, 403, 421, *route.problems):
        answers[str(status)] = {"description": "refused", "content": problem}
    shown: dict[str, Any] = {"summary": route.summary, "responses": answers}
    if route.parameters:
        shown["parameters"] = list(route.parameters)
    if route.body is not None:
        shown["requestBody"] = {"required": True, "content": {"application/json": {"schema": _ref(route.body)}}}
    return shown


def _answer(kind: Any) -> dict[str, Any]:
    if isinstance(kind, str):
        return {"description": "as asked", "content": {kind: {}}}
    return {"description": "as asked", "content": {"application/json": {"schema": _ref(kind)}}}


def _ref(kind: type) -> dict[str, str]:
    return {"$ref": _REF.format(name=kind.__name__)}
