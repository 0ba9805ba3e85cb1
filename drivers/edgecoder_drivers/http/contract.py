"""What goes over the control port: requests and answers as they stand in JSON, and the contract that is made of them.

Field names are the seed's camelCase; `POST /model/swap` answers with exactly its four keys.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

MODEL_CHARS_MAX = 300
PROMPT_CHARS_MAX = 262_144
OPERATION_ID = r"^[0-9a-f]{16}$"

_PART = "[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
AskedModel = Annotated[
    str,
    msgspec.Meta(
        pattern=f"^{_PART}(/{_PART})?(:{_PART})?$", description="Id or alias of a model, known here or elsewhere."
    ),
]
Model = Annotated[str, msgspec.Meta(min_length=1, max_length=MODEL_CHARS_MAX, description="Id or alias of a model.")]


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
    active: str | None
    status: str
    param_size: float | None


class Accepted(Answer, frozen=True):
    """It goes on; see GET /model/operations/{id}."""

    active: str | None
    """What serves now."""
    status: str
    operation: str
    progress: float
    """From 0 to 1."""


class PullBody(Body, frozen=True):
    """POST /model/pull."""

    model: Model
    wait: bool | None = None


class Pulled(Answer, frozen=True):
    """The file is here and verified."""

    model: str
    status: str


class ImportBody(Body, frozen=True):
    """POST /model/import."""

    path: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
    """A file on this machine."""


class Removed(Answer, frozen=True):
    """The file is gone."""

    model: str
    status: str


class PullProgress(Answer, frozen=True):
    """A file on its way here."""

    model: str
    bytes_done: int
    size_bytes: int


class Status(Answer, frozen=True):
    """GET /model/status."""

    model: str | None
    param_size: float | None
    status: str
    current_load: int
    generation: int
    ollama_healthy: bool
    engine: str
    online: bool
    reason: str | None = None
    """Why the last change of the model did not come to what was asked for."""
    detail: str | None = None
    pull_progress: tuple[PullProgress, ...] = ()


class Row(Answer, frozen=True):
    """One model of GET /model/list."""

    model_id: str
    display_name: str
    param_size: float | None
    quantization: str
    file_size_bytes: int
    installed: bool
    active: bool
    compatible: bool
    source: str
    seeders: int
    """Nodes that are known to have it, this one included."""
    state: str


class Listed(Answer, frozen=True):
    """GET /model/list."""

    models: tuple[Row, ...]


class TaskBody(Body, frozen=True):
    """POST /task."""

    prompt: Annotated[str, msgspec.Meta(min_length=1, max_length=PROMPT_CHARS_MAX)]
    model: AskedModel | None = None
    min_param_size: Annotated[float, msgspec.Meta(ge=0, le=10_000)] = 0.0
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=65_536)] = 256
    deadline_ms: Annotated[int, msgspec.Meta(ge=1, le=86_400_000)] | None = None
    stream: bool = False


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


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """RFC 9457, with a code for programs and a hint for people."""

    title: str
    status: int
    code: str
    detail: str = ""
    hint: str = ""
    type: str = "about:blank"


class Operation(Answer, frozen=True):
    """GET /model/operations/{id}."""

    operation: str
    kind: str
    model: str
    status: str
    """running, done or failed."""
    progress: float
    swapped: Swapped | None = None
    pulled: Pulled | None = None
    problem: Problem | None = None
    size_bytes: int = 0
    """Of the file, where somebody knows it."""


class Health(Answer, frozen=True):
    """GET /healthz."""

    status: str
    node: str
    engine: str
    engine_healthy: bool
    version: str
