"""The types of faults in a scenario. What each kind may say stands in `FIELDS`; what it does, in `schedule`."""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta

from edgecoder.core.ids import Medium
from edgecoder_sim.host import Disk

if TYPE_CHECKING:
    from collections.abc import Mapping

TIME_S_MAX: Final = 31_536_000
FAULTS_MAX: Final = 10_000
"""Faults of one run."""

Moment = Annotated[float, Meta(ge=0, le=TIME_S_MAX, extra={"noun": "a time in s"})]
Share = Annotated[float, Meta(gt=0, le=100, extra={"noun": "a share in percent"})]
DelayMs = Annotated[float, Meta(gt=0, le=600_000, extra={"noun": "a delay in ms"})]
Name = Annotated[
    str, Meta(pattern=r"^[a-z0-9_-]{0,64}$", extra={"noun": "a name", "form": "lower-case letters, digits, `_`, `-`"})
]
Count = Annotated[int, Meta(ge=1, le=FAULTS_MAX, extra={"noun": "a count"})]
Weight = Annotated[float, Meta(ge=0, le=1e9, extra={"noun": "a weight"})]


class FaultKind(Enum):
    """What goes wrong."""

    LOSS = "loss"
    DUPLICATION = "duplication"
    REORDERING = "reordering"
    DELAY = "delay"
    PARTITION = "partition"
    CRASH = "crash"
    ENGINE_CRASH = "engine_crash"
    CLOCK_JUMP = "clock_jump"
    SLOW_DISK = "slow_disk"
    FAILING_WRITES = "failing_writes"
    FAILING_LOADS = "failing_loads"
    CDN_OUTAGE = "cdn_outage"


class Direction(Enum):
    """Which frames of the nodes a fault takes."""

    BOTH = "both"
    OUT = "out"
    IN = "in"


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One thing that goes wrong."""

    kind: FaultKind
    """loss, duplication, reordering and delay of frames; partition: nothing passes between the nodes and the others,
    though links stay up; crash and restart of nodes; engine_crash: the engine loses its model; clock_jump: the wall
    clock is wrong from then on; slow_disk, failing_writes, failing_loads; cdn_outage."""
    name: Name = ""
    """What results call it; kind and number where it is not given. Its random draws hang on it."""
    at_s: Moment
    """When it begins, s."""
    for_s: Moment | None = None
    """How long it lasts, s; to the end where it is not given. A crashed node is down so long."""
    nodes: tuple[str, ...] = ()
    """Whom it strikes: names such as phone-3, and the groups phones, agents, coordinators; all where it is empty."""
    count: Count | None = None
    """How many of them, drawn; all where it is not given."""
    media: tuple[Medium, ...] = ()
    """Over which media: ble and wifi_direct, between phones and agents in reach; lan, between them and coordinators,
    whatever `network` says; wan, between coordinators. All where it is empty."""
    direction: Direction = Direction.BOTH
    """Whether frames to the nodes, from them, or both."""
    share_pct: Share | None = None
    """Share of the frames, writes or loads that it strikes, percent."""
    delay_ms: DelayMs | None = None
    """delay: how much later a frame comes; reordering and duplication: the most that the frame or its copy comes later;
    slow_disk: how long a write takes. ms."""
    disk: Disk = Disk.KEPT
    """What a crashed node finds when it comes back: kept, lost, old_copy."""
    copied_at_s: Moment | None = None
    """When the old copy was made, s."""
    silent: bool = False
    """Whether peers have to notice a crash by themselves, as when the power goes; else their links go down at once."""
    by_s: Annotated[float, Meta(ge=-TIME_S_MAX, le=TIME_S_MAX, extra={"noun": "a jump in s"})] | None = None
    """How far the clock jumps, s; back where it is below 0. Nodes read the wall clock when they start."""


_FRAMES: Final = frozenset({"nodes", "count", "media", "direction"})
_NODES: Final = frozenset({"nodes", "count"})
FIELDS: Final[Mapping[FaultKind, tuple[frozenset[str], frozenset[str]]]] = MappingProxyType(
    {
        FaultKind.LOSS: (frozenset({"share_pct"}), _FRAMES),
        FaultKind.DUPLICATION: (frozenset({"share_pct"}), _FRAMES | {"delay_ms"}),
        FaultKind.REORDERING: (frozenset({"share_pct", "delay_ms"}), _FRAMES),
        FaultKind.DELAY: (frozenset({"delay_ms"}), _FRAMES),
        FaultKind.PARTITION: (frozenset({"nodes"}), _FRAMES),
        FaultKind.CRASH: (frozenset(), _NODES | {"disk", "copied_at_s", "silent"}),
        FaultKind.ENGINE_CRASH: (frozenset(), _NODES),
        FaultKind.CLOCK_JUMP: (frozenset({"by_s"}), _NODES),
        FaultKind.SLOW_DISK: (frozenset({"delay_ms"}), _NODES),
        FaultKind.FAILING_WRITES: (frozenset(), _NODES | {"share_pct"}),
        FaultKind.FAILING_LOADS: (frozenset(), _NODES | {"share_pct"}),
        FaultKind.CDN_OUTAGE: (frozenset(), frozenset()),
    }
)
"""Beside kind, name, at_s and for_s: the fields that a kind needs, and those that it may have."""
MOMENTARY: Final = frozenset({FaultKind.ENGINE_CRASH, FaultKind.CLOCK_JUMP})
"""Kinds that have no duration."""
GROUPS: Final = ("phones", "agents", "coordinators")


class RandomFaults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A schedule that is drawn from the seed. Every drawn fault is over by `until_s`."""

    count: tuple[Count, Count] = (2, 8)
    """At least and at most so many."""
    kinds: dict[FaultKind, Weight] = {}
    """Which kinds, and how common each is; all alike where it is empty."""
    from_s: Moment = 5.0
    """None begins before, s."""
    until_s: Moment | None = None
    """All are over by then, s; half of the run where it is not given."""
    longest_s: Annotated[float, Meta(ge=0.1, le=TIME_S_MAX, extra={"noun": "a duration in s"})] = 30.0
    """None lasts longer, s."""


class Faults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What goes wrong: a plan, faults that are drawn, or both. `faults: random` is short for `faults: {random: {}}`."""

    plan: tuple[Fault, ...] = ()
    """Faults that are written down."""
    random: RandomFaults | None = None
    """Faults that the seed decides. The scenario in a run directory has them in its plan."""
