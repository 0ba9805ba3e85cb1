"""What happened to one task or one swap, told from a run's tables.

Decides what is worth saying and in which order; `why` finds the run and prints. A story is a list of moments, each with
its time, so that it reads the same as plain lines and as JSON.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from typing import Any, Final

import msgspec
import pandas as pd

from edgecoder.errors import REASONS, ConfigError
from edgecoder.mesh.router import Why
from edgecoder_sim.chart_data import PHASE_LABELS
from edgecoder_sim.results import Run, node_names, swap_numbers, task_names
from edgecoder_sim.tables import RESTARTED, UNFINISHED

INTERESTING: Final = 5
"""Tasks of each sort that are listed."""
_REASON_TEXT: Final = {
    **{reason.value: info.message for reason, info in REASONS.items()},
    UNFINISHED: "it was open when the run ended",
    RESTARTED: "the node restarted",
}
_VIA_TEXT: Final = {
    "self": "on the asking node itself",
    "peer": "by a peer in reach",
    "coordinator": "by a node that the coordinator found",
    "federation": "by a node that another coordinator found",
}
_PHASE_TEXT: Final = {
    "announcing_s": ("journalled the intent and told its peers", "journal the intent and tell its peers"),
    "draining_s": ("let running tasks end", "let running tasks end"),
    "unloading_s": ("freed the old model", "free the old model"),
    "loading_s": ("loaded the new model", "load the new model"),
    "rolling_back_s": ("loaded the old model again", "load the old model again"),
    "confirming_s": ("made the outcome durable", "make the outcome durable"),
}
"""What a phase is for: when it was done, and when it was tried."""
_QUEUE_MIN_S: Final = 1.0
"""A wait between the choice of a node and its engine's begin that is worth a word; a message takes less."""
_ROW_KINDS: Final = (
    ("swap", "swaps"),
    ("load at a start", "loads at a start"),
    ("engine recovery", "engine recoveries"),
    ("request that changed nothing", "requests that changed nothing"),
)
"""What a row of `swaps` can be, one and many, in the order in which they are counted."""


class Moment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that happened. `facts` are the row behind it."""

    at_s: float
    node: str
    text: str
    facts: dict[str, Any] = {}


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to one thing, in order."""

    title: str
    about: list[str]
    """What it is, in plain lines."""
    moments: list[Moment]
    end: str

    def lines(self) -> list[str]:
        """The story as plain lines."""
        width = max((len(moment.node) for moment in self.moments), default=0)
        told = []
        for (node, text), same in itertools.groupby(self.moments, lambda moment: (moment.node, moment.text)):
            run = list(same)
            lead = f"  {clock(run[0].at_s)}  {node:<{width}}  "
            told.append(f"{lead}{text}")
            if len(run) > 1:
                every = span((run[-1].at_s - run[0].at_s) / (len(run) - 1))
                told.append(f"{' ' * len(lead)}… {len(run) - 1} more, every {every}, to {clock(run[-1].at_s)}")
        return [self.title, *(f"  {line}" for line in self.about), *told, f"  {self.end}"]


def clock(at_s: float) -> str:
    """A simulated time: `00:12:31.204`."""
    whole_ms = round(at_s * 1000)
    seconds, ms = divmod(whole_ms, 1000)
    return f"{seconds // 3600:02}:{seconds % 3600 // 60:02}:{seconds % 60:02}.{ms:03}"


def span(value_s: float) -> str:
    """A duration: `23 ms`, `1.42 s`."""
    return f"{value_s * 1000:.3g} ms" if value_s < 1 else f"{value_s:.2f} s" if value_s < 100 else f"{value_s:.0f} s"


def reason_text(code: str) -> str:
    """A reason code with its meaning."""
    return f"{code} ({_REASON_TEXT[code]})" if code in _REASON_TEXT else code


# -- tasks -------------------------------------------------------------------------------------------------------------


def find_task(run: Run, wanted: str) -> pd.Series:
    """The task whose short name (see `results.task_names`) is `wanted`, or whose id begins or ends so, hexadecimal.
    Raises ConfigError where there is none, or more than one."""
    names, ids, digits = task_names(run), run.tasks["task_id"], wanted.lower()
    found = names == digits
    if not found.any():
        found = ids.str.startswith(digits) | ids.str.endswith(digits)
    where = f"{run.path} task {wanted}"
    if not found.any():
        some = f", such as {names.iloc[0]}" if len(names) else ""
        hint = f"give one that `edgecoder why task` lists{some}"
        raise ConfigError(where, None, "no task has such an id", hint)
    if found.sum() > 1:
        some = ", ".join(names[found].head(INTERESTING))
        more = ", …" if found.sum() > INTERESTING else ""
        raise ConfigError(where, None, f"{found.sum()} tasks have such an id", f"give one of {some}{more}")
    return run.tasks[found].iloc[0]


def task_story(run: Run, wanted: str) -> Story:
    """How a task was routed, who worked on it, and how it ended. Raises ConfigError as `find_task` does."""
    task = find_task(run, wanted)
    names = node_names(run)
    origin = names[task["origin"]]
    moments = [_moment(task["submitted_s"], origin, f"its user asked: {task['prompt_bytes']:,} bytes of prompt")]
    moments += _route_moments(run, task, names)
    moments += _work_moments(run, task, names)
    if pd.notna(task["ended_s"]):
        said = "its user got the answer" if _is_done(task) else "its user was told that there is no answer"
        moments.append(_moment(task["ended_s"], origin, said))
    moments.sort(key=lambda moment: moment.at_s)
    return Story(
        title=f"task {task['task_id']} ({task['kind']}) of {origin}",
        about=[f"wanted: {_wanted(task)}"],
        moments=moments,
        end=_task_end(task, names),
    )


def interesting_tasks(run: Run) -> dict[str, list[dict[str, Any]]]:
    """Some tasks of each sort: failed, slowest, routed most often."""
    tasks, names = run.tasks.assign(name=task_names(run)), node_names(run)
    done = tasks[tasks["reason"].isna()]
    order = ["task_id"]
    sorts = {
        "failed": tasks[tasks["ended_s"].notna() & tasks["reason"].notna()].sort_values(["ended_s", *order]),
        "slowest": done.sort_values(["latency_s", *order], ascending=[False, True]),
        "most often routed": tasks.sort_values(["routes", *order], ascending=[False, True]),
    }
    return {
        name: [
            {
                "task_id": task["task_id"],
                "name": task["name"],
                "kind": task["kind"],
                "origin": names[task["origin"]],
                "submitted_s": float(task["submitted_s"]),
                "latency_s": _plain(task["latency_s"]),
                "routes": int(task["routes"]),
                "reason": _plain(task["reason"]),
            }
            for _, task in frame.head(INTERESTING).iterrows()
        ]
        for name, frame in sorts.items()
    }


def _route_moments(run: Run, task: pd.Series, names: dict[Any, str]) -> Iterable[Moment]:
    """The decisions. Where a router decides once more on one request, whoever it had chosen did not do the task; the
    routers behind it get a new request then."""
    routes = run.routes[run.routes["task_id"] == task["task_id"]].sort_values("at_s", kind="stable")
    chosen: dict[Any, str] = {}
    for _, route in routes.iterrows():
        router = route["node"]
        text = _decision(route, names)
        if route["why"] == Why.HEDGED.value:
            text = f"{chosen.get(router, 'the first')} is late; {text}"
        elif router in chosen:
            text = f"{chosen[router]} refused, failed or was lost; {text}"
            routers = list(chosen)
            for further in routers[routers.index(router) :]:
                del chosen[further]
        to = None if pd.isna(route["to"]) else names[route["to"]]
        if to is not None:
            chosen[router] = "it itself" if route["to"] == router else to
        excluded = json.loads(route["excluded"])
        facts = {name: _plain(route[name]) for name in ("why", "cost", "eligible")}
        yield _moment(route["at_s"], names[router], text, to=to, excluded=excluded, **facts)


def _decision(route: pd.Series, names: dict[Any, str]) -> str:
    excluded = json.loads(route["excluded"])
    counts = ", ".join(f"{count} {why}" for why, count in sorted(excluded.items(), key=lambda item: -item[1]))
    ruled_out = f"; ruled out: {counts}" if counts else ""
    able = route["eligible"]
    to = None if pd.isna(route["to"]) else "itself" if route["to"] == route["node"] else names[route["to"]]
    if route["why"] == Why.CHEAPEST.value:
        return f"chose {to}: cheapest of {able} at cost {route['cost']:.1f}{ruled_out}"
    probed = f"; {route['answered']} of {route['probes']} probes answered" if route["probes"] else ""
    ruled_out = probed + ruled_out
    if route["why"] == Why.HERE.value:
        return f"chose {to}: idle, and none of {able - 1} others could be sooner{ruled_out}"
    if route["why"] == Why.SOONEST.value:
        return f"chose {to}: done soonest of {able}, in {span(route['cost'] / 1000)}{ruled_out}"
    if route["why"] == Why.HEDGED.value:
        return f"asked {to} too: whoever begins first keeps it{ruled_out}"
    knew = "nobody fitting in reach" if not able else f"{able} in reach could do it, none well enough"
    if route["why"] == Why.COORDINATOR.value:
        return f"asked {to}, its coordinator: {knew}{ruled_out}"
    if route["why"] == Why.FORWARDED.value:
        return f"passed it on to {to}, another coordinator: none of its own nodes can take it{ruled_out}"
    return f"{route['why']}{ruled_out}"


def _work_moments(run: Run, task: pd.Series, names: dict[Any, str]) -> Iterable[Moment]:
    routes = run.routes[run.routes["task_id"] == task["task_id"]]
    for _, work in run.work[run.work["task_id"] == task["task_id"]].iterrows():
        node = names[work["node"]]
        queued = _queued(routes, work)
        if pd.notna(work["started_s"]):
            yield _moment(work["started_s"], node, f"began to answer with {work['model']}{queued}")
        if pd.isna(work["stopped_s"]):
            continue
        tokens = f"{work['tokens']:,} tokens"
        if pd.isna(work["reason"]):
            text = f"done: {tokens} in {span(work['stopped_s'] - work['started_s'])}"
        elif pd.isna(work["started_s"]):
            text = f"took it off its queue{queued}: {reason_text(work['reason'])}"
        else:
            text = f"stopped after {tokens}: {reason_text(work['reason'])}"
        yield _moment(work["stopped_s"], node, text, reason=_plain(work["reason"]))


def _queued(routes: pd.DataFrame, work: pd.Series) -> str:
    """That a node had accepted a task and kept it waiting, where it did so for long."""
    until_s = work["started_s"] if pd.notna(work["started_s"]) else work["stopped_s"]
    chosen_s = routes[(routes["to"] == work["node"]) & (routes["at_s"] <= until_s)]["at_s"]
    if not len(chosen_s) or until_s - chosen_s.max() < _QUEUE_MIN_S:
        return ""
    return f"; it had accepted the task, which waited there for {span(until_s - chosen_s.max())}"


def _moment(at_s: float, node: str, text: str, **facts: Any) -> Moment:
    return Moment(at_s=float(at_s), node=node, text=text, facts=facts)


def _wanted(task: pd.Series) -> str:
    if pd.notna(task["model_asked"]):
        return str(task["model_asked"])
    size = task["min_param_size"]
    return f"any model of {size:g} B or more" if size > 0 else "any model"


def _task_end(task: pd.Series, names: dict[Any, str]) -> str:
    if not _is_done(task):
        after = f" after {span(task['latency_s'])}" if pd.notna(task["latency_s"]) else ""
        return f"not answered{after}: {reason_text(task['reason'])}"
    waited = f", of which {span(task['waited_s'])} until an engine began" if pd.notna(task["waited_s"]) else ""
    how = _VIA_TEXT.get(task["via"], "")
    return (
        f"answered by {names[task['served_by']]} with {task['model_served']}, {how}: {task['tokens']:,} tokens in"
        f" {span(task['latency_s'])}{waited}; attempts: {task['attempts']}"
    )


def _is_done(task: pd.Series) -> bool:
    return bool(pd.isna(task["reason"]))


# -- swaps -------------------------------------------------------------------------------------------------------------


def find_node(run: Run, wanted: str) -> int:
    """The index of the node with this name, index, or beginning of its id. Raises ConfigError."""
    nodes = run.nodes
    found = nodes[(nodes["name"] == wanted) | (nodes["node"].astype(str) == wanted)]
    if not len(found) and len(wanted) >= 4:
        found = nodes[nodes["node_id"].str.startswith(wanted.lower())]
    if len(found) == 1:
        return int(found.iloc[0]["node"])
    some = ", ".join(nodes.groupby("role", sort=False)["name"].head(2))
    problem = f"{len(found)} nodes are called so" if len(found) else "there is no such node"
    raise ConfigError(f"{run.path} node {wanted}", None, problem, f"give a node's name or index; there are {some}, …")


def node_swaps(run: Run, node: int) -> list[dict[str, Any]]:
    """The swaps of a node in order, one row each; `number` is that of `results.swap_numbers`."""
    rows = run.swaps.assign(number=swap_numbers(run.swaps))
    rows = rows[rows["node"] == node].sort_values(["started_s", "epoch", "swap"], kind="stable")
    return [{str(name): _plain(value) for name, value in row.items()} for _, row in rows.iterrows()]


def swap_counts(rows: list[dict[str, Any]]) -> str:
    """How many of each sort a node's rows are: `2 swaps, 1 load at a start`. The report counts the swaps alone."""
    kinds = [_row_kind(row) for row in rows]
    counts = [(kinds.count(kind), kind) for kind in range(len(_ROW_KINDS))]
    return ", ".join(f"{count} {_ROW_KINDS[kind][count != 1]}" for count, kind in counts if count)


def _row_kind(row: dict[str, Any]) -> int:
    """The position in `_ROW_KINDS`."""
    if not row["swap"]:
        return 3
    return {"boot": 1, "engine": 2}.get(row["cause"], 0)


def swap_line(row: dict[str, Any]) -> str:
    """One swap in one line."""
    number = f"swap {row['number']}" if row["swap"] else "refused" if row["reason"] else "no swap"
    done = "done" if row["swap"] else "it was active already"
    outcome = done if row["reason"] is None else row["reason"]
    what = f"{row['previous'] or 'no model'} → {row['model']} ({row['cause']})"
    return f"  {clock(row['started_s'])}  {number:<8} {what}: {outcome}, {span(row['total_s'])}"


def swap_story(run: Run, node: int, number: int) -> Story:
    """How swap `number` of a node, counted over all its lives, went, phase by phase. Raises ConfigError where there is
    none."""
    name = node_names(run)[node]
    rows = [row for row in node_swaps(run, node) if row["swap"] and row["number"] == number]
    if not rows:
        problem = f"{name} has no swap {number}"
        raise ConfigError(str(run.path), None, problem, f"leave the number out for a list: edgecoder why swap {name}")
    return _swap_story(name, rows[0])


def _phase_outcome(row: dict[str, Any], column: str) -> str:
    """Whether a phase that a swap went through was `done`, `failed`, or was `cut off` by a restart or the run's end."""
    reason, active = row["reason"], row["active"]
    columns = list(PHASE_LABELS)
    later = [each for each in columns[columns.index(column) + 1 :] if row[each] > 0]
    is_cut = reason in (UNFINISHED, RESTARTED)
    if is_cut and not later:
        return "cut off"
    if reason is None or column == "draining_s":
        return "done"
    if column == "confirming_s":
        has_failed = active == row["model"]  # it serves, and yet the swap has a reason
    elif column == "rolling_back_s":
        has_failed = active is None and not is_cut
    elif column == "loading_s":
        has_failed = "rolling_back_s" in later or (active != row["model"] and not is_cut)
    else:
        has_failed = not set(later) - {"confirming_s"}
    return "failed" if has_failed else "done"


def _phase_text(row: dict[str, Any], column: str, outcome: str) -> str:
    done, tried = _PHASE_TEXT[column]
    if outcome != "done":
        return f"tried to {tried}: {outcome} after {span(row[column])}"
    end = "" if column != "confirming_s" else ", serving" if row["active"] is not None else ", without a model"
    return f"{done}{end}: {span(row[column])}"


def _swap_story(name: str, row: dict[str, Any]) -> Story:
    moments, at_s = [], row["started_s"]
    for column in PHASE_LABELS:
        if row[column] > 0:
            outcome = _phase_outcome(row, column)
            facts = {"phase": PHASE_LABELS[column], "took_s": row[column], "outcome": outcome}
            moments.append(_moment(at_s, name, _phase_text(row, column, outcome), **facts))
            at_s += row[column]
    life = f" (life {row['epoch']})" if row["epoch"] != 1 else ""
    active = row["active"] or "no model"
    if row["reason"] is None:
        end = f"done in {span(row['total_s'])}: {active} serves"
    elif row["reason"] == UNFINISHED:
        end = f"unfinished after {span(row['total_s'])}: the run ended"
    else:
        end = f"not done: {reason_text(row['reason'])}; {active} serves"
    return Story(
        title=f"swap {row['number']} of {name}{life}: {row['previous'] or 'no model'} → {row['model']}",
        about=[f"wanted by: {row['cause']}; requests: {row['requests']}"],
        moments=moments,
        end=end,
    )


def _plain(value: Any) -> Any:
    """A value of a frame as Python's own, None where it is empty."""
    if pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value
