"""Mistakes in what a scenario says of faults."""

from __future__ import annotations

from tests.sim.broken_scenarios.base import Broken, broken, flag


def fault(name: str, written: str, line: int, problem: str, hint: str) -> Broken:
    """A case with one fault, of which each field stands on a line of its own: line 6 and on."""
    fields = "\n      ".join(written.split("; "))
    return broken(name, "devices:\n", f"faults:\n  plan:\n    - {fields}\ndevices:\n", line, problem, hint)


CASES = [
    fault(
        "unknown kind of fault",
        "kind: fire; at_s: 5",
        6,
        'faults.plan[0].kind is "fire"',
        "it is one of loss, duplication, reordering, delay, partition, crash, engine_crash, clock_jump, slow_disk, "
        "failing_writes, failing_loads, cdn_outage",
    ),
    fault(
        "a fault lacks what its kind needs",
        "kind: loss; at_s: 5",
        6,
        "a fault of kind loss without share_pct",
        "add share_pct",
    ),
    fault(
        "a fault has what is another kind's",
        "kind: crash; at_s: 5; share_pct: 5",
        8,
        "a fault of kind crash has no share_pct",
        "crash has at_s, copied_at_s, count, disk, for_s, name, nodes, silent",
    ),
    fault(
        "nobody is struck",
        "kind: crash; at_s: 5; nodes: [phone-0, phone-3]",
        8,
        "there is no node phone-3",
        "name a node such as phone-0, or one of phones, agents, coordinators",
    ),
    broken(
        "a group without nodes is struck",
        "coordinators:\n  count: 2\n",
        "faults:\n  plan:\n    - {kind: crash, at_s: 5, nodes: [coordinators]}\ncoordinators:\n  count: 0\n",
        20,
        "the group coordinators is empty: coordinators.count is 0",
        "raise the count, or name others",
    ),
    fault(
        "a copy without a time",
        "kind: crash; at_s: 5; disk: old_copy",
        8,
        "an old copy of a disk was made at some time",
        "disk: old_copy and copied_at_s belong together",
    ),
    fault(
        "a copy from the future",
        "kind: crash; at_s: 5; disk: old_copy; copied_at_s: 6",
        9,
        "the copy is of 6 s, and the crash at 5 s",
        "a copy is older than the crash",
    ),
    fault(
        "a fault after the end",
        "kind: crash; at_s: 60",
        7,
        "crash begins at 60 s, and the run ends at 60 s",
        "let it begin before that",
    ),
    fault(
        "a fault of no length",
        "kind: slow_disk; at_s: 5; delay_ms: 9; for_s: 0",
        9,
        "a fault lasts 0 s",
        "give it a duration, or remove it",
    ),
    fault(
        "a moment with a length",
        "kind: clock_jump; at_s: 5; by_s: 9; for_s: 3",
        9,
        "a fault of kind clock_jump has no for_s",
        "clock_jump has at_s, by_s, count, name, nodes",
    ),
    broken(
        "two faults of one name",
        "devices:\n",
        "faults: {plan: [{kind: crash, name: a, at_s: 5},\n  {kind: crash, name: a, at_s: 6}]}\ndevices:\n",
        5,
        "two faults are called a",
        "rename one",
    ),
    flag(
        "counts the wrong way round",
        "faults={random: {count: [5, 2]}}",
        problem="faults.random.count is [5, 2]",
        hint="write the smaller count first",
        label="--set faults={random: {count: [5, 2]}}",
    ),
    flag(
        "kinds that never come",
        "faults={random: {kinds: {loss: 0}}}",
        problem="the weights of faults.random.kinds are all 0",
        hint="raise one",
        label="--set faults={random: {kinds: {loss: 0}}}",
    ),
    flag(
        "no time for faults",
        "faults={random: {from_s: 20, until_s: 20.05}}",
        problem="random faults begin from 20 s on and are over by 20.05 s",
        hint="leave 0.1 s or more between the two",
        label="--set faults={random: {from_s: 20, until_s: 20.05}}",
    ),
    flag(
        "faults that are too short",
        "faults.random={longest_s: 0.01}",
        problem="faults.random.longest_s is 0.01",
        hint="a duration in s is 0.1 or more",
        label="--set faults.random={longest_s: 0.01}",
    ),
]
