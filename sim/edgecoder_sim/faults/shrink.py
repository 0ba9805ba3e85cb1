"""Shrinking: from a schedule that breaks an invariant to a small one that breaks the same.

Faults are left out in halves, then one by one (Zeller's ddmin), then those that are left are made shorter and strike
fewer nodes, for as long as the same checker complains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from edgecoder_sim.faults.draw import resolve
from edgecoder_sim.faults.explore import Verdict, run_seed
from edgecoder_sim.faults.model import Fault
from edgecoder_sim.scenario_model import Scenario

RUNS_MAX: Final = 400
"""Runs that one reduction may take."""
SHORTEST_S: Final = 0.05
"""No fault is made shorter."""
Plan = tuple[Fault, ...]


class Shrunk(msgspec.Struct, frozen=True):
    """A reduced schedule."""

    scenario: Scenario
    before: int
    """Faults that there were."""
    runs: int
    verdict: Verdict


class _Judge:
    """Runs plans, and remembers the smallest that fails as the first did."""

    def __init__(self, scenario: Scenario, first: Verdict) -> None:
        self._scenario = scenario
        self._checker = first.checker
        self.runs = 1
        self.best = scenario.faults.plan
        self.verdict = first

    def fails(self, plan: Plan) -> bool:
        """Whether the same checker complains under this plan; then it is the best so far."""
        if self.runs >= RUNS_MAX:
            return False
        self.runs += 1
        verdict = run_seed(with_plan(self._scenario, plan), "")
        if verdict.checker != self._checker:
            return False
        self.best, self.verdict = plan, verdict
        return True


def with_plan(scenario: Scenario, plan: Plan) -> Scenario:
    """The scenario under another plan."""
    return msgspec.structs.replace(scenario, faults=msgspec.structs.replace(scenario.faults, plan=plan, random=None))


def shrink(scenario: Scenario, told: Callable[[int, int], None] = lambda *_: None) -> Shrunk | None:
    """The smallest schedule that could be found; None where nothing is violated. `told` hears of the runs so far and
    the faults that are left."""
    scenario = resolve(scenario)
    first = run_seed(scenario, "")
    if first.checker is None:
        return None
    judge = _Judge(scenario, first)
    _leave_out(judge, told)
    for _ in range(3):  # a shorter fault may make another one needless
        before = judge.best
        for position in range(len(judge.best)):
            _simplify(judge, position)
            told(judge.runs, len(judge.best))
        _leave_out(judge, told)
        if judge.best == before:
            break
    return Shrunk(with_plan(scenario, judge.best), len(scenario.faults.plan), judge.runs, judge.verdict)


def _leave_out(judge: _Judge, told: Callable[[int, int], None]) -> None:
    """Leave out as many faults as can be, in ever smaller parts."""
    parts = 2
    while len(judge.best) >= 1 and parts <= 2 * len(judge.best):
        size = max(1, len(judge.best) // parts)
        for start in range(0, len(judge.best), size):
            if judge.fails(judge.best[:start] + judge.best[start + size :]):
                parts = max(2, parts - 1)
                break
        else:
            if size == 1:
                return
            parts *= 2
        told(judge.runs, len(judge.best))


def _simplify(judge: _Judge, position: int) -> None:
    """Make one fault smaller, step by step, for as long as it still does it."""
    if position >= len(judge.best):
        return
    while True:
        fault = judge.best[position]
        if not any(judge.fails(_with(judge.best, position, smaller)) for smaller in _smaller(fault)):
            return


def _with(plan: Plan, position: int, fault: Fault) -> Plan:
    return (*plan[:position], fault, *plan[position + 1 :])


def _smaller(fault: Fault) -> Iterator[Fault]:
    """Faults that are a step smaller than this one, the largest steps first."""
    replace = msgspec.structs.replace
    count = len(fault.nodes)
    if count > 1:
        yield replace(fault, nodes=fault.nodes[: count // 2])
        yield replace(fault, nodes=fault.nodes[count // 2 :])
        for left_out in range(count):
            yield replace(fault, nodes=fault.nodes[:left_out] + fault.nodes[left_out + 1 :])
    if fault.for_s is not None and fault.for_s > 2 * SHORTEST_S:
        yield replace(fault, for_s=round(fault.for_s / 2, 3))
    if fault.silent:
        yield replace(fault, silent=False)
