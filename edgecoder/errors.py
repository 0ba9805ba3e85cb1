"""The exceptions of EdgeCoder and the table of failure reasons.

Exceptions are for misuse and for edges (a broken file, a missing driver). A failure in operation is no exception: it
enters the core as a completion with a `Reason`, and leaves it as a reply with the same `Reason`. What a reason means
to a user, to HTTP and to the metrics stands in one table here.
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar, Final, NamedTuple

import msgspec

UNREADABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError)
"""What msgspec raises over bytes that do not hold what they should: other values, no UTF-8, nesting without end."""


class EdgeCoderError(Exception):
    """Whatever EdgeCoder raises on purpose. `exit_code` is what a command ends with."""

    exit_code: ClassVar[int] = 1


class ConfigError(EdgeCoderError):
    """A configuration or scenario is wrong. Reads `path:line: problem; hint`."""

    exit_code = 2

    def __init__(self, path: str, line: int | None, problem: str, hint: str) -> None:
        self.path, self.line, self.problem, self.hint = path, line, problem, hint
        where = path if line is None else f"{path}:{line}"
        super().__init__(f"{where}: {problem}; {hint}" if hint else f"{where}: {problem}")


class ProtocolError(EdgeCoderError):
    """The rules of the protocol were broken."""


class LocalProtocolError(ProtocolError):
    """You misused the core: a bug on this side."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the rules; `reason` says which."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        self.reason = reason
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)


class ModelError(EdgeCoderError):
    """A model cannot be used as asked."""


class UnknownModel(ModelError):
    """No catalog entry has this id or alias."""


class DriverError(EdgeCoderError):
    """Something outside the program is missing or broken: an extra, a radio, a server, a disk."""

    exit_code = 3


class DiskFull(DriverError):
    """The disk has no room for what has to be written."""


class SimulationError(EdgeCoderError):
    """A simulation could not be carried out, or showed a fault."""


class InvariantViolated(SimulationError):
    """A checker saw a broken invariant. `str()` is the one line that says what, and how to see it again."""

    def __init__(self, checker: str, rng_seed: int, at_us: int, problem: str, reproduce: str = "") -> None:
        self.checker, self.rng_seed, self.at_us, self.problem = checker, rng_seed, at_us, problem
        line = f"invariant {checker} violated at {at_us / 1e6:.3f} s (rng_seed {rng_seed}): {problem}"
        super().__init__(f"{line}; reproduce: {reproduce}" if reproduce else line)


class Reason(Enum):
    """Why something did not happen. The values travel on the wire and label metrics: never rename one. One comes from
    hosts alone: `ADVERTISE_FAILED`."""

    UNKNOWN_MODEL = "unknown_model"
    INCOMPATIBLE = "incompatible"
    NOT_INSTALLED = "not_installed"
    INSUFFICIENT_MEMORY = "insufficient_memory"
    QUARANTINED = "quarantined"
    SUPERSEDED = "superseded"
    RESIDENT = "resident"
    IN_USE = "in_use"
    REMOVED = "removed"
    LOAD_FAILED = "load_failed"
    LOAD_TIMEOUT = "load_timeout"
    UNLOAD_FAILED = "unload_failed"
    ENGINE_CRASHED = "engine_crashed"
    OUT_OF_MEMORY = "out_of_memory"
    CHECKSUM_MISMATCH = "checksum_mismatch"
    NO_SOURCE = "no_source"
    NO_PROOFS = "no_proofs"
    DISK_FULL = "disk_full"
    STORE_FAILED = "store_failed"
    ADVERTISE_FAILED = "advertise_failed"
    CANCELLED = "cancelled"
    RESTARTED = "restarted"
    SHUTTING_DOWN = "shutting_down"
    LOADING = "loading"
    NO_MODEL = "no_model"
    BUSY = "busy"
    LOW_POWER = "low_power"
    NO_ROUTE = "no_route"
    DEADLINE = "deadline"
    DRAINED = "drained"
    PEER_LOST = "peer_lost"
    NO_ANSWER = "no_answer"
    DUPLICATE = "duplicate"
    TOO_LARGE = "too_large"
    INVALID = "invalid"
    UNAVAILABLE = "unavailable"
    OTHER_ROLE = "other_role"
    BAD_FRAME = "bad_frame"
    BAD_SIGNATURE = "bad_signature"
    WRONG_NETWORK = "wrong_network"
    UNKNOWN_SENDER = "unknown_sender"
    REPLAYED = "replayed"
    VERSION_MISMATCH = "version_mismatch"
    UNKNOWN_TYPE = "unknown_type"
    PIECE_CORRUPT = "piece_corrupt"
    NOT_HELD = "not_held"
    NO_TICKET = "no_ticket"
    NOT_SEEDING = "not_seeding"
    TOO_SLOW = "too_slow"
    BANNED = "banned"
    OVERFLOW = "overflow"
    CATALOG_STALE = "catalog_stale"
    CATALOG_OLD = "catalog_old"
    CATALOG_CHANGED = "catalog_changed"
    CLONED = "cloned"
    NO_ADDRESS = "no_address"


class ReasonInfo(NamedTuple):
    """What a reason means outside the core."""

    message: str
    hint: str
    http_status: int


REASONS: dict[Reason, ReasonInfo] = {
    Reason.UNKNOWN_MODEL: ReasonInfo("no such model in the catalog", "list what there is with `model list`", 404),
    Reason.INCOMPATIBLE: ReasonInfo("the model does not run on this platform", "choose a model for this platform", 422),
    Reason.CATALOG_STALE: ReasonInfo(
        "the catalog's origin was not heard for too long, and nothing new may be fetched",
        "see that the origin can be reached, or raise node.catalog_stale_ms; what is here may run",
        503,
    ),
    Reason.CATALOG_OLD: ReasonInfo("the catalog is older than the one that is held", "raise its version", 409),
    Reason.CATALOG_CHANGED: ReasonInfo("the catalog changed, and its version did not", "raise its version", 409),
    Reason.NOT_INSTALLED: ReasonInfo("the model is not on this node", "pull it first, or swap with pull", 404),
    Reason.INSUFFICIENT_MEMORY: ReasonInfo(
        "the model needs more memory than this node has left",
        "choose a smaller one; beside Ollama, `ollama ps` says what other programs have loaded",
        422,
    ),
    Reason.QUARANTINED: ReasonInfo("the model is quarantined on this node", "pull it again, or remove it", 409),
    Reason.SUPERSEDED: ReasonInfo("a later one took its place", "nothing to do, or ask again", 409),
    Reason.RESIDENT: ReasonInfo("the active model has not served long enough", "ask again later", 409),
    Reason.IN_USE: ReasonInfo("the model is active, or about to be", "swap to another one first", 409),
    Reason.REMOVED: ReasonInfo("the model is being removed from this node", "pull it again", 409),
    Reason.LOAD_FAILED: ReasonInfo("the engine could not load the model", "see the engine's log", 500),
    Reason.LOAD_TIMEOUT: ReasonInfo("the engine did not load the model in time", "raise load_timeout_ms", 504),
    Reason.UNLOAD_FAILED: ReasonInfo("the engine could not free the model", "restart the engine", 500),
    Reason.ENGINE_CRASHED: ReasonInfo("the engine crashed", "see the engine's log", 500),
    Reason.OUT_OF_MEMORY: ReasonInfo("the engine ran out of memory", "choose a smaller model or context", 507),
    Reason.CHECKSUM_MISMATCH: ReasonInfo("the file is not what the catalog says", "pull it again", 502),
    Reason.NO_SOURCE: ReasonInfo(
        "no source has the file", "check the network and the agent's log, then pull again", 503
    ),
    Reason.NO_PROOFS: ReasonInfo("no source has the hashes of the file's parts", "nothing to do, it comes whole", 503),
    Reason.DISK_FULL: ReasonInfo("the disk has no room for it", "remove a model, or free some space", 507),
    Reason.STORE_FAILED: ReasonInfo("the store could not write", "check the disk", 500),
    Reason.ADVERTISE_FAILED: ReasonInfo("the radio did not take the advertisement", "check Bluetooth", 503),
    Reason.CANCELLED: ReasonInfo("it was cancelled", "nothing to do", 499),
    Reason.RESTARTED: ReasonInfo("the node restarted meanwhile", "ask again", 503),
    Reason.SHUTTING_DOWN: ReasonInfo("the node is shutting down", "ask another node", 503),
    Reason.LOADING: ReasonInfo("the node is changing its model", "ask again in a moment", 503),
    Reason.NO_MODEL: ReasonInfo("no fitting model is active there", "swap to one first", 503),
    Reason.BUSY: ReasonInfo("the queue is full", "ask again later", 503),
    Reason.LOW_POWER: ReasonInfo("the node saves its battery", "ask another node, or for less", 503),
    Reason.NO_ROUTE: ReasonInfo("nobody reachable can do it", "lower minParamSize, or wait", 503),
    Reason.DEADLINE: ReasonInfo("the deadline passed", "allow more time", 504),
    Reason.DRAINED: ReasonInfo("it was cut off, as the node changed its model or ended", "ask again", 503),
    Reason.PEER_LOST: ReasonInfo("the node that served it went away", "ask again", 502),
    Reason.NO_ANSWER: ReasonInfo("the node did not answer in time", "ask again", 504),
    Reason.DUPLICATE: ReasonInfo("this task is already known there", "nothing to do", 409),
    Reason.TOO_LARGE: ReasonInfo("it is larger than the limit", "send less", 413),
    Reason.INVALID: ReasonInfo("a value is out of its range, or no text", "correct the request", 400),
    Reason.UNAVAILABLE: ReasonInfo(
        "the engine does not answer", "start Ollama if this is an agent; see `edgecoder doctor`", 503
    ),
    Reason.OTHER_ROLE: ReasonInfo("a node of this role does not do that", "ask a coordinator", 404),
    Reason.BAD_FRAME: ReasonInfo("the bytes are no envelope", "check the peer's version", 400),
    Reason.BAD_SIGNATURE: ReasonInfo("the signature is wrong", "check the peer's key", 401),
    Reason.WRONG_NETWORK: ReasonInfo("the envelope is of another network", "check networkId", 403),
    Reason.UNKNOWN_SENDER: ReasonInfo("the sender is not enrolled", "enrol it", 403),
    Reason.REPLAYED: ReasonInfo("the envelope was seen before", "nothing to do", 409),
    Reason.VERSION_MISMATCH: ReasonInfo("the versions do not meet", "update the older node", 426),
    Reason.UNKNOWN_TYPE: ReasonInfo("no message of that type is known", "update this node", 400),
    Reason.PIECE_CORRUPT: ReasonInfo("a sender's bytes do not fit the file's tree", "nothing to do, it is banned", 502),
    Reason.NOT_HELD: ReasonInfo("the node does not have the piece", "ask another", 404),
    Reason.NO_TICKET: ReasonInfo("no valid ticket came with the request", "ask the broker for one", 403),
    Reason.NOT_SEEDING: ReasonInfo("the node gives nothing now", "ask another", 503),
    Reason.TOO_SLOW: ReasonInfo("the sender was too slow", "nothing to do, another is asked", 504),
    Reason.BANNED: ReasonInfo("the sender gave wrong bytes before", "nothing to do, another is asked", 403),
    Reason.OVERFLOW: ReasonInfo("a bound was reached", "see the limits in the configuration", 503),
    Reason.NO_ADDRESS: ReasonInfo(
        "it has not been seen on this network",
        "see that it runs and announces itself (`edgecoder coordinator find`), or give ID@HOST:PORT",
        503,
    ),
    Reason.CLONED: ReasonInfo(
        "another machine runs with this node's key", "delete node.key in one of the two, and start it again", 409
    ),
}
