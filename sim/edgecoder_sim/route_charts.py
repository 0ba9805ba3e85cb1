"""The route view of the report: how tasks went, why routers decided so, what probing and hedging did.

Decides what counts as a way and which charts there are; marks and looks are those of `charts`.
"""

from __future__ import annotations

from typing import Final

import altair as alt
import pandas as pd

from edgecoder_sim.charts import Figure, Spec, as_spec, count_axis, number_tip, rounded, text_tip
from edgecoder_sim.results import Run

WAYS: Final = ("here", "phone in reach", "agent in reach", "own coordinator", "another coordinator")
"""Where answers come from, nearest first."""
ROUTERS: Final = ("asking node", "coordinator")
_ROW_PX: Final = 24
_PROBES_SHOWN: Final = 9
"""Tasks with more probes stand together."""


def route_figures(run: Run) -> list[Figure]:
    """The charts of a run; none where nobody asked anything. Raises ConfigError where a table cannot be read."""
    if not len(run.routes):
        return []
    figures = [_decisions(decisions(run.routes, run.nodes))]
    if len(came := ways(run.tasks, run.nodes)):
        figures.insert(0, _ways(came))
    if len(asked := probes(run.tasks)):
        figures.append(_probes(asked))
    if len(late := hedges(run.tasks)):
        figures.append(_hedges(late))
    return figures


def ways(tasks: pd.DataFrame, nodes: pd.DataFrame) -> pd.DataFrame:
    """Answered tasks by kind and by the way their answer came: `kind`, `way`, `tasks`."""
    done = tasks[tasks["reason"].isna() & tasks["via"].notna()]
    role = done["served_by"].map(nodes.set_index("node")["role"])
    way = done["via"].map({"self": WAYS[0], "coordinator": WAYS[3], "federation": WAYS[4]})
    way = way.fillna(role.map({"phone": WAYS[1], "agent": WAYS[2]}))
    return _counted(done["kind"], way.rename("way"), "tasks")


def decisions(routes: pd.DataFrame, nodes: pd.DataFrame) -> pd.DataFrame:
    """Tasks by reason code and by who decided so, once or again: `why`, `router`, `tasks`."""
    routes = routes.drop_duplicates(["task_id", "node", "why"])
    is_hub = routes["node"].map(nodes.set_index("node")["role"]) == "coordinator"
    router = is_hub.map({False: ROUTERS[0], True: ROUTERS[1]})
    return _counted(routes["why"], router.rename("router"), "tasks")


def probes(tasks: pd.DataFrame) -> pd.DataFrame:
    """Tasks that have ended by the probes that they took, in all rounds: `probes`, `tasks`; empty where nobody was
    probed at all."""
    taken = tasks.loc[tasks["ended_s"].notna(), "probes"]
    if not taken.any():
        return pd.DataFrame(columns=["probes", "tasks"])
    labels = [str(number) for number in range(_PROBES_SHOWN)] + [f"{_PROBES_SHOWN}+"]
    counts = taken.clip(upper=_PROBES_SHOWN).value_counts().reindex(range(_PROBES_SHOWN + 1), fill_value=0)
    return pd.DataFrame({"probes": labels, "tasks": counts.to_numpy()})


def hedges(tasks: pd.DataFrame) -> pd.DataFrame:
    """Tasks of which a second node was asked, by kind and by who won: `kind`, `winner`, `tasks`."""
    second = tasks[tasks["hedge"].notna()]
    winner = second["hedge"].where(second["reason"].isna(), "nobody")
    winner = winner.map({"won": "the second", "lost": "the first", "nobody": "nobody"})
    return _counted(second["kind"], winner.rename("winner"), "tasks")


def _counted(first: pd.Series, second: pd.Series, name: str) -> pd.DataFrame:
    return pd.concat([first, second], axis=1).value_counts(sort=False).rename(name).reset_index()


def _ways(frame: pd.DataFrame) -> Figure:
    return Figure(
        key="routes-ways",
        title="Who answered",
        caption="Answered tasks. Here: the asking node. In reach: over a link of its own. Own coordinator: one of its "
        "other nodes. Another coordinator: passed on once.",
        spec=_bars(frame, "kind", "way", "tasks", list(WAYS)),
    )


def _decisions(frame: pd.DataFrame) -> Figure:
    return Figure(
        key="routes-why",
        title="Why routers decided so",
        caption="Tasks by the reasons of the decisions about them; one that is routed again for the same reason does "
        "not count again.",
        spec=_bars(frame, "why", "router", "tasks", list(ROUTERS)),
    )


def _probes(frame: pd.DataFrame) -> Figure:
    chart = (
        alt.Chart(rounded(frame))
        .mark_bar()
        .encode(
            x=alt.X("probes:N", sort=list(frame["probes"]), title="probes", axis=alt.Axis(grid=False, labelAngle=0)),
            y=alt.Y("tasks:Q", title="tasks", axis=count_axis(4)),
            tooltip=[text_tip("probes"), number_tip("tasks", "tasks")],
        )
    )
    return Figure(
        key="routes-probes",
        title="Probes that a task took",
        caption="In all its rounds. None: the asking node was idle and as fast as any other could be, or nobody in "
        "reach had a model that fits.",
        spec=as_spec(chart, 160),
    )


def _hedges(frame: pd.DataFrame) -> Figure:
    return Figure(
        key="routes-hedges",
        title="Two were asked: who won",
        caption="Tasks that were late to be taken up and were asked of a second node. Whoever showed a part of the "
        "answer first kept it.",
        spec=_bars(frame, "kind", "winner", "tasks", ["the first", "the second", "nobody"]),
    )


def _bars(frame: pd.DataFrame, by: str, split: str, value: str, order: list[str]) -> Spec:
    """Stacked bars, one a value of `by`, the longest first."""
    rows = list(frame.groupby(by)[value].sum().sort_values(ascending=False, kind="stable").index)
    ranks = {name: number for number, name in enumerate(order)}
    chart = (
        alt.Chart(rounded(frame.assign(order=frame[split].map(ranks))))
        .mark_bar(size=13)
        .encode(
            y=alt.Y(
                f"{by}:N",
                sort=rows,
                title=None,
                axis=alt.Axis(grid=False, ticks=False, domain=False, labelLimit=220),
            ),
            x=alt.X(f"{value}:Q", title=value, axis=count_axis(5)),
            color=alt.Color(f"{split}:N", title=None, scale=alt.Scale(domain=order)),
            order=alt.Order("order:Q"),
            tooltip=[text_tip(by), text_tip(split), number_tip(value, value)],
        )
    )
    return as_spec(chart, 40 + _ROW_PX * len(rows))
