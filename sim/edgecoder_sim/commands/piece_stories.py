"""Why a byte came from there: the story of a file's pieces at one node, told from a run's table of pieces.

Decides what is worth saying of a piece; `why` finds the run and prints.
"""

from __future__ import annotations

from typing import Any, Final

import pandas as pd

from edgecoder.errors import ConfigError
from edgecoder.seeding.planner import Why
from edgecoder_sim.commands.stories import Moment, Story, clock, reason_text, span
from edgecoder_sim.distribution_data import SOURCE_NAMES, WHY_TEXT
from edgecoder_sim.results import Run, node_names

SHOWN: Final = 12
"""Pieces that a summary lists, those with the most events."""


def find_file(run: Run, node: int, wanted: str | None) -> str:
    """The model that is meant, of those that a node downloaded; nothing is said where there is one. Raises
    ConfigError where the run kept no pieces, or the node wanted no such file."""
    name = node_names(run)[node]
    if run.pieces.empty:
        kept = "no file came piece by piece" if run.transfers.empty else "the run kept no row a piece"
        hint = "run it again with --set record_pieces=true"
        raise ConfigError(str(run.path), None, kept, hint if len(run.transfers) else "choose a run with downloads")
    models = sorted(run.pieces.loc[run.pieces["node"] == node, "model"].unique())
    if not models:
        some = ", ".join(node_names(run)[each] for each in run.pieces["node"].unique()[:3])
        raise ConfigError("why", None, f"{name} downloaded nothing piece by piece", f"there are {some}, …")
    if wanted is None and len(models) == 1:
        return str(models[0])
    if wanted not in models:
        problem = f"{name} downloaded several files" if wanted is None else f"{name} did not download {wanted}"
        raise ConfigError("why", None, problem, f"give one of {', '.join(models)}")
    return str(wanted)


def piece_story(run: Run, node: int, model: str, piece: int) -> Story:
    """All that happened to one piece at a node. Raises ConfigError where nothing did."""
    rows = run.pieces
    rows = rows[(rows["node"] == node) & (rows["model"] == model)]
    rows = rows[(rows["piece"] <= piece) & (piece < rows["piece"] + rows["count"])]
    names = node_names(run)
    if rows.empty:
        most = run.files.set_index("model")["pieces"].get(model, 0)
        problem = f"nothing happened to piece {piece} of {model} at {names[node]}"
        raise ConfigError("why", None, problem, f"it has pieces 0 to {most - 1}")
    moments = [_moment(row, names) for _, row in rows.iterrows()]
    kept = rows[rows["event"] == "kept"]
    if kept.empty:
        end = "never here whole"
    else:
        row = kept.iloc[0]
        end = f"here after {span(row['at_s'] - rows['at_s'].iloc[0])}, from {_who(row, names)}"
    return Story(title=f"piece {piece} of {model} at {names[node]}", about=[], moments=moments, end=end)


def file_summary(run: Run, node: int, model: str) -> tuple[list[str], list[dict[str, Any]]]:
    """How the pieces of a file came to a node: counts by source and reason, and the pieces with the longest story."""
    rows = run.pieces[(run.pieces["node"] == node) & (run.pieces["model"] == model)]
    name = node_names(run)[node]
    kept, sought, lost = (rows[rows["event"] == event] for event in ("kept", "sought", "lost"))
    lines = [f"{model} at {name} in {run.path}: {len(kept):,} pieces came"]
    sums = kept.groupby("source")["bytes"].agg(["count", "sum"]).sort_values("count", ascending=False)
    lines += [
        f"  {count:,} from {_source(str(source))}, {size:,} bytes" for source, count, size in sums.itertuples(name=None)
    ]
    asked = sought.groupby("why")["count"].sum().sort_values(ascending=False)
    lines += [f"  {count:,} asked for as {_why(str(why))}" for why, count in asked.items()]
    losses = lost["why"].value_counts()
    lines += [f"  {count:,} lost: {reason_text(str(why))}" for why, count in losses.items()]
    marked = rows.assign(lost=rows["event"] == "lost")
    longest = marked.groupby("piece").agg(events=("event", "size"), lost=("lost", "sum"))
    longest = longest.sort_values(["lost", "events"], ascending=False, kind="stable").head(SHOWN)
    found = []
    for piece, (events, losses_of) in longest.iterrows():
        at = kept.loc[kept["piece"] == piece, "at_s"]
        came = float(at.iloc[0]) if len(at) else None
        found.append({"piece": int(str(piece)), "events": int(events), "lost": int(losses_of), "kept_s": came})
    lines.append("Pieces with the most to tell:")
    for each in found:
        when = "not here" if each["kept_s"] is None else f"here at {clock(each['kept_s'])}"
        lines.append(f"  piece {each['piece']}: {when}, lost {each['lost']} times")
    return [*lines, f"Tell one: edgecoder why {run.path} piece {name} {model} N"], found


def _moment(row: pd.Series, names: dict[int, str]) -> Moment:
    who = _who(row, names)
    extra = f" (with {row['count'] - 1} more)" if row["count"] > 1 else ""
    if row["event"] == "sought":
        text = f"asked {who}{extra}: {_why(str(row['why']))}"
    elif row["event"] == "kept":
        text = f"got it from {who}: {row['bytes']:,} bytes, verified"
    elif row["event"] == "twice":
        text = f"got it once more from {who}: {row['wasted_bytes']:,} bytes in vain"
    else:
        what = f"; {row['bytes']:,} bytes of it fit and stay" if row["bytes"] else ""
        waste = f"; {row['wasted_bytes']:,} bytes in vain" if row["wasted_bytes"] else ""
        text = f"{who} did not give it: {reason_text(str(row['why']))}{what}{waste}"
    facts = {"event": row["event"], "source": row["source"], "why": None if pd.isna(row["why"]) else row["why"]}
    return Moment(at_s=float(row["at_s"]), node=names[row["node"]], text=text, facts=facts)


def _who(row: pd.Series, names: dict[int, str]) -> str:
    if pd.isna(row["peer"]):
        return "the CDN"
    return f"{names[int(row['peer'])]} ({_source(str(row['source']))})"


def _source(source: str) -> str:
    return SOURCE_NAMES.get(source, source)


def _why(code: str) -> str:
    return f"{code} ({WHY_TEXT[Why(code)]})"
