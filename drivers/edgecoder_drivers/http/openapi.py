"""The contract, as OpenAPI 3.1: made of the types that the routes read and write."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from edgecoder import __version__
from edgecoder.describing import field_docs
from edgecoder_drivers.http import contract
from edgecoder_drivers.http.contract import Problem
from edgecoder_drivers.http.manifests import MANIFEST_TYPE

_REF = "#/components/schemas/{name}"
_MODEL = {"name": "model", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
_OPERATION = {
    "name": "operation",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": contract.OPERATION_ID},
}

_NAME = {
    "name": "name",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[a-z0-9._-]+/[a-z0-9._-]+$"},
    "description": "Namespace and model; `library` is the namespace of those that have none.",
}
_TAG = {"name": "reference", "in": "path", "required": True, "schema": {"type": "string", "pattern": "^[a-z0-9._-]+$"}}
_DIGEST = {
    "name": "digest",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"},
}


class Route(NamedTuple):
    """One route as the contract shows it."""

    path: str
    method: str
    name: str
    summary: str
    answers: dict[int, Any]
    """By status: a type, or a media type where it is no JSON."""
    body: type | None = None
    parameters: tuple[dict[str, Any], ...] = ()
    problems: tuple[int, ...] = ()
    events: tuple[tuple[str, type], ...] = ()
    """Server-sent events: names, and what their data is."""
    links: tuple[tuple[int, str, str, str], ...] = ()
    """Where it goes on: the status, an operation, and its parameter with where in the answer it stands."""


_ALWAYS = (400, 401, 403, 421, 431)
_ASKED = (413, 415)
_FOLLOWED = tuple((202, name, "operation", "/operation") for name in ("operation", "events"))
_CHANGES = (("progress", contract.Operation), ("done", contract.Operation), ("failed", contract.Operation))
ROUTES: tuple[Route, ...] = (
    Route(
        "/model/swap",
        "post",
        "swap",
        "Make a model active; one that is missing is fetched first",
        {200: contract.Swapped, 202: contract.Accepted},
        contract.SwapBody,
        problems=(*_ASKED, 404, 409, 422, 500, 502, 503, 504, 507),
        links=_FOLLOWED,
    ),
    Route("/model/status", "get", "status", "What is active, and how it is", {200: contract.Status}, problems=(503,)),
    Route(
        "/model/list",
        "get",
        "list",
        "What is here, and what could be",
        {200: contract.Listed},
        problems=(503,),
        links=tuple((200, name, "model", "/models/0/modelId") for name in ("export", "remove")),
    ),
    Route(
        "/model/pull",
        "post",
        "pull",
        "Fetch a model without activating it",
        {200: contract.Pulled, 202: contract.Accepted},
        contract.PullBody,
        problems=(*_ASKED, 404, 409, 422, 500, 502, 503, 507),
        links=_FOLLOWED,
    ),
    Route(
        "/model/import",
        "post",
        "import",
        "Take a model from a file on this machine",
        {200: contract.Pulled},
        contract.ImportBody,
        problems=(*_ASKED, 404, 409, 422, 500, 502, 503, 507),
    ),
    Route(
        "/model/{model}/export",
        "get",
        "export",
        "The bytes of a model",
        {200: "application/octet-stream"},
        parameters=(_MODEL,),
        problems=(404, 409, 500, 502, 503),
    ),
    Route(
        "/model/{model}",
        "delete",
        "remove",
        "Delete the file of a model",
        {200: contract.Removed},
        parameters=(_MODEL,),
        problems=(404, 409, 422, 500, 503),
    ),
    Route(
        "/model/operations/{operation}",
        "get",
        "operation",
        "How far a swap or pull is",
        {200: contract.Operation},
        parameters=(_OPERATION,),
        problems=(404,),
    ),
    Route(
        "/model/operations/{operation}/events",
        "get",
        "events",
        "The same as server-sent events: progress, then done or failed",
        {},
        parameters=(_OPERATION,),
        problems=(404,),
        events=_CHANGES,
    ),
    Route(
        "/task",
        "post",
        "task",
        "Have the mesh answer a prompt; part by part where `stream`",
        {200: contract.Answered},
        contract.TaskBody,
        problems=(*_ASKED, 404, 409, 422, 500, 502, 503, 504),
        events=(("part", contract.TaskPart), ("done", contract.Answered), ("failed", Problem)),
    ),
    Route(
        "/v2/{name}/manifests/{reference}",
        "get",
        "manifest",
        "For `ollama pull`, on this machine alone: what a model is made of",
        {200: MANIFEST_TYPE},
        parameters=(_NAME, _TAG),
        problems=(404, 409, 503),
    ),
    Route(
        "/v2/{name}/blobs/{digest}",
        "get",
        "blob",
        "The bytes of it, whole or in a range; what is not here is fetched",
        {200: "application/octet-stream", 206: "application/octet-stream"},
        parameters=(_NAME, _DIGEST),
        problems=(404, 409, 416, 422, 500, 502, 503, 507),
    ),
    Route("/healthz", "get", "health", "Whether the node is up", {200: contract.Health}),
    Route("/metrics", "get", "metrics", "Counters of the trace, for Prometheus", {200: "text/plain"}),
    Route("/openapi.json", "get", "contract", "This contract", {200: "application/json"}),
    Route("/", "get", "page", "A page for people", {200: "text/html"}),
)


def contract_of(*, has_token: bool) -> dict[str, Any]:
    """The document; with a token it says so."""
    components = _components()
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


def _components() -> dict[str, Any]:
    """The schemas of all types, with what the docstrings of their fields say."""
    types: set[type] = {Problem}
    for route in ROUTES:
        types |= {kind for kind in (route.body, *route.answers.values()) if isinstance(kind, type)}
        types |= {kind for _, kind in route.events}
    ordered = sorted(types, key=lambda kind: kind.__name__)
    _, components = msgspec.json.schema_components(ordered, ref_template=_REF)
    for name, schema in components.items():
        struct = getattr(contract, name)
        docs = field_docs(struct)
        for field in msgspec.structs.fields(struct):
            if field.name in docs:
                schema["properties"][field.encode_name]["description"] = docs[field.name]
    return components


def _operation(route: Route) -> dict[str, Any]:
    answers = {str(status): _answer(kind) for status, kind in route.answers.items()}
    if route.events:
        stream = {"schema": {"oneOf": [_event(name, kind) for name, kind in route.events]}}
        answers.setdefault("200", {"description": "as asked", "content": {}})["content"]["text/event-stream"] = stream
    for status, name, parameter, pointer in route.links:
        link = {"operationId": name, "parameters": {parameter: f"$response.body#{pointer}"}}
        answers[str(status)].setdefault("links", {})[name] = link
    problem = {"application/problem+json": {"schema": _ref(Problem)}}
    for status in (*_ALWAYS, *route.problems):
        answers[str(status)] = {"description": "refused", "content": problem}
    shown: dict[str, Any] = {"operationId": route.name, "summary": route.summary, "responses": answers}
    if route.parameters:
        shown["parameters"] = list(route.parameters)
    if route.body is not None:
        shown["requestBody"] = {"required": True, "content": {"application/json": {"schema": _ref(route.body)}}}
    return shown


def _event(name: str, kind: type) -> dict[str, Any]:
    """One server-sent event."""
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": _ref(kind)}
    properties = {"event": {"const": name}, "data": data}
    return {"type": "object", "properties": properties, "required": ["event", "data"]}


def _answer(kind: Any) -> dict[str, Any]:
    if isinstance(kind, str):
        return {"description": "as asked", "content": {kind: {}}}
    return {"description": "as asked", "content": {"application/json": {"schema": _ref(kind)}}}


def _ref(kind: type) -> dict[str, str]:
    return {"$ref": _REF.format(name=kind.__name__)}
