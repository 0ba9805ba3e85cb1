"""What a coordinator answers over HTTP: who in the federation has agents with a model, its health, its counters."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from edgecoder import __version__
from edgecoder.core.effects import Clones, CoordinatorRow, MeshCapabilities, Progress, Result
from edgecoder.core.events import Command, QueryClones, QueryMesh
from edgecoder.core.ids import CommandId, NodeId
from edgecoder.errors import REASONS, Reason
from edgecoder_drivers.http.base import application, for_programs_and_people
from edgecoder_drivers.http.contract import MODEL_CHARS_MAX, Answer
from edgecoder_drivers.http.mesh_page import PAGE
from edgecoder_drivers.http.problems import problem_of, reject, respond
from edgecoder_drivers.http.wire import answer

C = TypeVar("C", bound=Command)
LIMIT_MAX: Final = 1024
LIMIT: Final = 20
PARAM_SIZE_MAX: Final = 10_000
ANSWER_S: Final = 10.0
_HINT: Final = "ask such as /mesh/capabilities?model=qwen2.5-coder:7b&minParamSize=7&limit=5"


class ServedCoordinator(Protocol):
    """A coordinator."""

    @property
    def node_id(self) -> NodeId:
        """Who it is."""
        ...

    @property
    def links(self) -> tuple[int, int]:
        """Links to members, and to coordinators."""
        ...

    def begin(
        self, kind: type[C], *, on_progress: Callable[[Progress], None] | None = None, **fields: Any
    ) -> tuple[CommandId, asyncio.Future[Result]]:
        """Give the node a command. Its id, and its reply when there is one."""
        ...


class Available(Answer, frozen=True):
    """A model at a coordinator's agents."""

    agent_count: int
    total_param_capacity: float
    """Billions of parameters, over all those agents."""
    avg_load: float
    """Running and waiting tasks, on average."""
    free_slots: int


class CoordinatorAnswer(Answer, frozen=True):
    """One coordinator."""

    coordinator_id: str
    agent_count: int
    model_availability: dict[str, Available]
    age_ms: int


class CapabilitiesAnswer(Answer, frozen=True):
    """GET /mesh/capabilities: best first."""

    coordinators: list[CoordinatorAnswer]


class CloneAnswer(Answer, frozen=True):
    """A node's key with which two machines came."""

    node_id: str
    stays: str
    """Address of the one that is kept."""
    other: str
    times: int
    """How often the other came."""
    age_ms: int
    detail: str


class CoordinatorHealth(Answer, frozen=True):
    """GET /healthz."""

    status: str
    node_id: str
    role: str
    members: int
    """Links to phones and agents."""
    coordinators: int
    """Links to other coordinators."""
    version: str
    clones: tuple[CloneAnswer, ...] = ()
    """Keys that several machines had in the last hour."""


def make_mesh_app(
    node: ServedCoordinator, metrics: Callable[[], bytes], *, hosts: frozenset[str], token: str | None = None
) -> ASGIApp:
    """The application of a coordinator; see `guard.Guard` for hosts and token."""

    async def capabilities(request: Request) -> Response:
        _, reply = node.begin(QueryMesh, **_asked(request))
        try:
            result = await asyncio.wait_for(asyncio.shield(reply), ANSWER_S)
        except TimeoutError:
            return respond(problem_of(Reason.NO_ANSWER))
        if isinstance(result, MeshCapabilities) and result.reason is None:
            return answer(CapabilitiesAnswer([_shown(row) for row in result.coordinators]))
        reason = result if isinstance(result, Reason) else getattr(result, "reason", None)
        return respond(problem_of(reason or Reason.UNAVAILABLE))

    async def healthz(request: Request) -> Response:  # noqa: ARG001
        members, coordinators = node.links
        clones = await _clones(node)
        return answer(
            CoordinatorHealth("ok", node.node_id.hex(), "coordinator", members, coordinators, __version__, clones)
        )

    routes = [
        Route("/mesh/capabilities", capabilities),
        Route("/healthz", healthz),
        *for_programs_and_people(metrics, PAGE),
    ]
    return application(routes, hosts=hosts, token=token, hint=_HINT)


async def _clones(node: ServedCoordinator) -> tuple[CloneAnswer, ...]:
    """What the node has seen of keys that are copies; nothing where it does not answer."""
    _, reply = node.begin(QueryClones)
    try:
        result = await asyncio.wait_for(asyncio.shield(reply), ANSWER_S)
    except TimeoutError:
        return ()
    if not isinstance(result, Clones):
        return ()
    info = REASONS[Reason.CLONED]
    detail = f"two machines run with this key; {info.hint}"
    return tuple(
        CloneAnswer(row.node.hex(), row.stays, row.other, row.times, row.age_ms, detail) for row in result.rows
    )


def _asked(request: Request) -> dict[str, Any]:
    """The fields of a query. Raises Rejected."""
    given = request.query_params.multi_items()
    names = [name for name, _ in given]
    wrong = sorted(set(names) - {"model", "minParamSize", "limit"})
    if wrong:
        raise reject(400, "invalid", f"there is no parameter {wrong[0][:50]!r}", _HINT)
    if len(names) != len(set(names)):
        raise reject(400, "invalid", "a parameter stands twice", _HINT)
    said = dict(given)
    model = said.get("model")
    if model is not None and not (0 < len(model) <= MODEL_CHARS_MAX and model.isprintable()):
        raise reject(400, "invalid", "model is no name of a model", _HINT)
    size = _number(said.get("minParamSize", "0"), "minParamSize")
    limit = _number(said.get("limit", str(LIMIT)), "limit")
    if not 0 <= size <= PARAM_SIZE_MAX:
        raise reject(400, "invalid", f"minParamSize is from 0 to {PARAM_SIZE_MAX}, billions", _HINT)
    if not (1 <= limit <= LIMIT_MAX and limit.is_integer()):
        raise reject(400, "invalid", f"limit is from 1 to {LIMIT_MAX}", _HINT)
    return {"model": model, "min_param_size": size, "limit": int(limit)}


def _number(text: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or len(text) > 20:
        raise reject(400, "invalid", f"{name} is no number", _HINT)
    return value


def _shown(row: CoordinatorRow) -> CoordinatorAnswer:
    models = {
        model: Available(**msgspec.structs.asdict(available)) for model, available in row.model_availability.items()
    }
    return CoordinatorAnswer(row.coordinator_id.hex(), row.agent_count, models, row.age_ms)
