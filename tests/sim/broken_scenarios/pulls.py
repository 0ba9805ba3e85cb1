"""Mistakes in downloads and in what is kept of them; see `base`."""

from __future__ import annotations

from tests.sim.broken_scenarios.base import flag

CASES = [
    flag(
        "pulls steady and at once",
        "workload.pulls=[{name: crowd, source: phones, at_s: 1, per_node_per_hour: 1}]",
        label="--set workload.pulls=…",
        problem="crowd has both per_node_per_hour and at_s",
        hint="give per_node_per_hour for a steady stream, or at_s for a crowd",
    ),
    flag(
        "pulls at no time",
        "workload.pulls=[{name: crowd, source: phones, to: {qwen2.5-coder-3b: 1}}]",
        label="--set workload.pulls=[{name: crowd, source: phones, to: {qwen2.5-coder-3b: 1}}]",
        problem="crowd has neither per_node_per_hour nor at_s",
        hint="give per_node_per_hour for a steady stream, or at_s for a crowd",
    ),
    flag(
        "a share of pulls that are steady",
        "workload.pulls=[{name: crowd, source: phones, per_node_per_hour: 1, share_pct: 50}]",
        label="--set workload.pulls=…",
        problem="crowd has share_pct without at_s",
        hint="remove share_pct, or make it a crowd with at_s",
    ),
    flag(
        "pulls after the end",
        "workload.pulls=[{name: crowd, source: phones, at_s: 60}]",
        label="--set workload.pulls=[{name: crowd, source: phones, at_s: 60}]",
        problem="crowd begins at 60 s, and the run ends at 60 s",
        hint="let it begin before duration_s",
    ),
    flag(
        "a pull of an unknown model",
        "workload.pulls=[{name: crowd, source: phones, at_s: 1, to: {qwen2.5-coder-1.5: 1}}]",
        label="--set workload.pulls=…",
        problem="qwen2.5-coder-1.5 is not in the catalog",
        hint="did you mean qwen2.5-coder-1.5b or qwen2.5-coder-0.5b?",
    ),
    flag(
        "a pull of what no phone can run",
        "workload.pulls=[{name: crowd, source: phones, at_s: 1, to: {qwen2.5-coder-7b: 1}}]",
        label="--set workload.pulls=…",
        problem="crowd pulls qwen2.5-coder-7b, which runs on none of phone_mid",
        hint="choose a model that fits one of them",
    ),
    flag(
        "a pull of what all have",
        "workload.pulls=[{name: crowd, source: phones, at_s: 1, to: {qwen2.5-coder-0.5b: 1}}]",
        label="--set workload.pulls=…",
        problem="crowd pulls qwen2.5-coder-0.5b, which all nodes of phones have from the beginning",
        hint="install it on fewer of phones, or choose another",
    ),
    flag(
        "pulls without a weight",
        "workload.pulls=[{name: crowd, source: phones, at_s: 1, to: {qwen2.5-coder-3b: 0}}]",
        label="--set workload.pulls=…",
        problem="the weights of workload.pulls[0].to are all 0",
        hint="give at least one a weight above 0",
    ),
    flag(
        "a pull by a typo",
        "workload.pulls=[{name: crowd, source: phones, at: 1}]",
        label="--set workload.pulls=[{name: crowd, source: phones, at: 1}]",
        problem="unknown key workload.pulls[0].at",
        hint="did you mean at_s?",
    ),
    flag(
        "one name, two pulls",
        "workload.pulls=[{name: crowd, at_s: 1}, {name: crowd, at_s: 2}]",
        label="--set workload.pulls=[{name: crowd, at_s: 1}, {name: crowd, at_s: 2}]",
        problem="pulls has crowd twice",
        hint="give each its own name",
    ),
    flag(
        "pulls of nobody",
        "agents.count=0",
        "workload.tasks=[]",
        "workload.pulls=[{name: crowd, source: agents, at_s: 1}]",
        label="--set workload.pulls=[{name: crowd, source: agents, at_s: 1}]",
        problem="crowd comes from agents, and there are none",
        hint="raise the group's count, or remove this load",
    ),
    flag(
        "pulls where nothing is lacked",
        "phones.installed={qwen2.5-coder-0.5b: 1, qwen2.5-coder-1.5b: 1, qwen2.5-coder-3b: 1}",
        "workload.pulls=[{name: crowd, source: phones, at_s: 1}]",
        label="--set workload.pulls=[{name: crowd, source: phones, at_s: 1}]",
        problem="crowd finds no model that a node of phones could run and lacks",
        hint="add one to the catalog that fits, or leave this load out",
    ),
    flag(
        "rows of pieces by a word",
        "record_pieces=some",
        label="--set record_pieces=some",
        problem='record_pieces is "some"',
        hint="it is true or false or null",
    ),
]
