"""What goes over the control port: requests and answers as they stand in JSON, and the contract that is made of them.

Field names are the seed's camelCase; `POST /model/swap` answers with exactly its four keys.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from edgecoder.models.inventory import DownloadState

MODEL_CHARS_MAX = 300
PROMPT_CHARS_MAX = 1_000_000
"""No node can be configured to take more bytes."""
OPERATION_ID = r"^[0-9a-f]{16}$"

_PART = "[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
AskedModel = Annotated[
    str,
    msgspec.Meta(
        pattern=f"^{_PART}(/{_PART})?(:{_PART})?$", description="Id or alias of a model, known here or elsewhere."
    ),
]
Model = Annotated[str, msgspec.Meta(min_length=1, max_length=MODEL_CHARS_MAX, description="Id or alias of a model.")]


def _one_of(*values: str) -> msgspec.Meta:
    return msgspec.Meta(extra_json_schema={"enum": list(values)})


Way = Annotated[str, _one_of("pulling", "loading")]
NodeStatus = Annotated[str, _one_of("ready", "loading", "pulling", "error", "no_model")]
Kind = Annotated[str, _one_of("swap", "pull")]
JobStatus = Annotated[str, _one_of("running", "done", "failed")]
Source = Annotated[str, _one_of("local", "peer", "agent", "cdn", "ollama", "none")]
FileState = Annotated[str, _one_of(*(state.value for state in DownloadState))]
Big = Annotated[int, msgspec.Meta(extra_json_schema={"format": "int64"})]


class Body(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True):
    """What comes in."""


class Answer(msgspec.Struct, rename="camel", frozen=True, omit_defaults=True):
    """What goes out."""


class SwapBody(Body, frozen=True):
    """POST /model/swap."""

    model: Model
    wait: bool | None = None
    """True: until it is done; false: not at all; without it for `swapWaitS` seconds."""
    pull: bool = True
    """Whether a model that is not here is fetched first."""


class Swapped(Answer, frozen=True):
    """The new model is loaded and serves."""

    previous: str | None
    """The id of the model that served before; null where none did."""
    active: str | None
    """The id of the one that serves now."""
    status: Literal["ready"]
    param_size: float | None
    """Billions of parameters; null where nobody knows it."""


class Accepted(Answer, frozen=True):
    """It goes on; see GET /model/operations/{id}."""

    active: str | None
    """What serves now."""
    status: Way
    operation: str
    """Its id."""
    progress: float
    """From 0 to 1."""


class PullBody(Body, frozen=True):
    """POST /model/pull."""

    model: Model
    wait: bool | None = None
    """As for a swap."""


class Pulled(Answer, frozen=True):
    """The file is here and verified."""

    model: str
    status: Literal["installed"]


class ImportBody(Body, frozen=True):
    """POST /model/import."""

    path: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
    """A file on this machine."""


class Removed(Answer, frozen=True):
    """The file is gone."""

    model: str
    status: Literal["removed"]


class PullProgress(Answer, frozen=True):
    """A file on its way here."""

    model: str
    bytes_done: int
    size_bytes: int


class UplinkStatus(Answer, frozen=True):
    """A coordinator that the node was told of."""

    coordinator_id: str
    endpoint: str
    state: str
    """waiting, dialling or up."""
    home: bool
    """Whether the node reports to this one."""
    reason: str | None = None
    """Why the last dial brought no link."""
    detail: str | None = None
    told: bool = False
    """Whether another coordinator named it as its federation's; it is not in the configuration."""


class Status(Answer, frozen=True):
    """GET /model/status."""

    model: str | None
    """The id of the active model."""
    param_size: float | None
    """Billions of parameters; null where nobody knows it."""
    status: NodeStatus
    current_load: int
    """Tasks under way; -1 while the model changes."""
    generation: Big
    """Grows with each change. Larger than 2^53, so not to be read as a floating-point number."""
    ollama_healthy: bool
    """Whether this node's engine is Ollama, and answers."""
    engine: str
    online: bool
    """Whether there is a coordinator."""
    reason: str | None = None
    """Why the last change of the model did not come to what was asked for."""
    detail: str | None = None
    """The same in words."""
    pull_progress: tuple[PullProgress, ...] = ()
    coordinators: tuple[UplinkStatus, ...] = ()
    catalog_stale: bool = False
    """Whether the catalog's origin was not heard for so long that nothing new may be fetched."""
    catalog_age_s: float | None = None
    """Time since it was heard; null where the catalog is a file."""
    catalog_version: int | None = None


class Row(Answer, frozen=True):
    """One model of GET /model/list."""

    model_id: str
    display_name: str
    param_size: float | None
    """Billions of parameters; null where nobody knows it."""
    quantization: str
    file_size_bytes: int
    installed: bool
    active: bool
    compatible: bool
    """Whether it runs here: platform and memory."""
    source: Source
    """Where it is or would come from; none where nobody is known to have it."""
    seeders: int
    """Nodes that are known to have it, this one included."""
    state: FileState
    """Of its file here."""


class Listed(Answer, frozen=True):
    """GET /model/list."""

    models: tuple[Row, ...]


class TaskBody(Body, frozen=True):
    """POST /task."""

    prompt: Annotated[str, msgspec.Meta(min_length=1, max_length=PROMPT_CHARS_MAX)]
    """What to answer; in UTF-8 no more bytes than nodes take, which is 262,144 if they are not configured otherwise."""
    model: AskedModel | None = None
    min_param_size: Annotated[float, msgspec.Meta(ge=0, le=10_000)] = 0.0
    """Billions of parameters that the model must have at least."""
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=65_536)] = 256
    deadline_ms: Annotated[int, msgspec.Meta(ge=1, le=86_400_000)] | None = None
    """When it is given up."""
    stream: bool = False
    """Whether the answer comes as server-sent events: part, then done or failed."""


class Answered(Answer, frozen=True):
    """The answer of the mesh."""

    text: str
    tokens: int
    model: str | None
    served_by: str | None
    """Hexadecimal id of the node that wrote it."""


class TaskPart(Answer, frozen=True):
    """A part of an answer that is streamed."""

    text: str
    tokens: int


class Problem(msgspec.Struct, frozen=True):
    """RFC 9457, with a code for programs and a hint for people. All of it is always there."""

    title: str
    """What is wrong; the same for the same code."""
    status: int
    code: str
    detail: str = ""
    """What of it is special to this request; may be empty."""
    hint: str = ""
    """The next step; may be empty."""
    type: str = "about:blank"


class Operation(Answer, frozen=True):
    """GET /model/operations/{id}."""

    operation: str
    """Its id."""
    kind: Kind
    model: str
    """As it was asked for."""
    status: JobStatus
    progress: float
    """Of the file, from 0 to 1."""
    swapped: Swapped | None = None
    pulled: Pulled | None = None
    problem: Problem | None = None
    size_bytes: int = 0
    """Of the file, where somebody knows it."""


class Health(Answer, frozen=True):
    """GET /healthz."""

    status: Literal["ok"]
    node: str
    """Its id in hexadecimal."""
    engine: str
    engine_healthy: bool
    version: str
    catalog_stale: bool = False
    """Whether the catalog's origin was not heard for so long that nothing new may be fetched."""
