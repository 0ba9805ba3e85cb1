"""What a scenario may say of faults: each kind has its fields, and names nodes that there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from edgecoder_sim.faults.draw import SHORTEST_S, node_names
from edgecoder_sim.faults.model import FAULTS_MAX, FIELDS, GROUPS, MOMENTARY, Fault, FaultKind
from edgecoder_sim.host import Disk

if TYPE_CHECKING:
    from edgecoder.yamlio.document import Document
    from edgecoder.yamlio.explain import Where
    from edgecoder_sim.scenario_model import Scenario

_COMMON: Final = frozenset({"kind", "name", "at_s"})


def check_faults(document: Document, scenario: Scenario) -> None:
    """Check every fault and the knobs of random ones. Raises ConfigError at the value that has to change."""
    plan = scenario.faults.plan
    if len(plan) > FAULTS_MAX:
        raise document.error(("faults", "plan"), f"the plan has {len(plan)} faults", f"it may have {FAULTS_MAX}")
    groups = node_names(scenario)
    known = {*GROUPS, *(name for members in groups.values() for name in members)}
    names: set[str] = set()
    for position, fault in enumerate(plan):
        where: Where = ("faults", "plan", position)
        _check_fields(document, where, fault)
        _check_times(document, scenario, where, fault)
        for number, name in enumerate(fault.nodes):
            if name not in known:
                hint = f"name a node such as phone-0, or one of {', '.join(GROUPS)}"
                raise document.error((*where, "nodes", number), f"there is no node {name}", hint)
            if not groups.get(name, [name]):
                problem = f"the group {name} is empty: {name}.count is 0"
                raise document.error((*where, "nodes", number), problem, "raise the count, or name others")
        if fault.name and fault.name in names:
            raise document.error((*where, "name"), f"two faults are called {fault.name}", "rename one")
        names.add(fault.name)
    _check_random(document, scenario)


def _check_fields(document: Document, where: Where, fault: Fault) -> None:
    kind = fault.kind
    needed, optional = FIELDS[kind]
    allowed = needed | optional | _COMMON | (frozenset() if kind in MOMENTARY else {"for_s"})
    for field in Fault.__struct_fields__:
        if document.has((*where, field)) and field not in allowed:
            hint = f"{kind.value} has {', '.join(sorted(allowed - {'kind'}))}"
            raise document.error((*where, field), f"a fault of kind {kind.value} has no {field}", hint)
    for field in sorted(needed):
        if not document.has((*where, field)):
            raise document.error(where, f"a fault of kind {kind.value} without {field}", f"add {field}")
    if kind is FaultKind.CRASH and (fault.disk is Disk.OLD_COPY) is not (fault.copied_at_s is not None):
        hint = "disk: old_copy and copied_at_s belong together"
        raise document.error((*where, "disk"), "an old copy of a disk was made at some time", hint)


def _check_times(document: Document, scenario: Scenario, where: Where, fault: Fault) -> None:
    if fault.at_s >= scenario.duration_s and document.place(("duration_s",)).line is not None:
        problem = f"{fault.kind.value} begins at {fault.at_s:g} s, and the run ends at {scenario.duration_s:g} s"
        raise document.error((*where, "at_s"), problem, "let it begin before that")
    if fault.for_s == 0:
        raise document.error((*where, "for_s"), "a fault lasts 0 s", "give it a duration, or remove it")
    if fault.copied_at_s is not None and fault.copied_at_s > fault.at_s:
        problem = f"the copy is of {fault.copied_at_s:g} s, and the crash at {fault.at_s:g} s"
        raise document.error((*where, "copied_at_s"), problem, "a copy is older than the crash")


def _check_random(document: Document, scenario: Scenario) -> None:
    knobs, where = scenario.faults.random, ("faults", "random")
    if knobs is None:
        return
    if knobs.count[0] > knobs.count[1]:
        problem = f"faults.random.count is [{knobs.count[0]}, {knobs.count[1]}]"
        raise document.error((*where, "count"), problem, "write the smaller count first")
    if knobs.kinds and not any(knobs.kinds.values()):
        raise document.error((*where, "kinds"), "the weights of faults.random.kinds are all 0", "raise one")
    until_s = scenario.duration_s / 2 if knobs.until_s is None else knobs.until_s
    if until_s < knobs.from_s + SHORTEST_S:
        problem = f"random faults begin from {knobs.from_s:g} s on and are over by {until_s:g} s"
        raise document.error((*where, "until_s"), problem, f"leave {SHORTEST_S:g} s or more between the two")
