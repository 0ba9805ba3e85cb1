"""The report of a run: one HTML file that opens without a network, in a light and in a dark theme.

Decides which figures, words and charts stand in it; what the charts show is left to `charts`, the looks to the
template. The chart library travels in the file, once.
"""

from __future__ import annotations

import ast
import datetime as dt
import json
import math
import shlex
from functools import cache
from pathlib import Path
from typing import Any, Final

import jinja2
import markupsafe
import msgspec
import vl_convert

from edgecoder_sim import chart_data, rundir
from edgecoder_sim.charts import gallery
from edgecoder_sim.distribution_charts import distribution_figures
from edgecoder_sim.distribution_data import files_table
from edgecoder_sim.link_charts import radio_figures
from edgecoder_sim.metrics import METRICS
from edgecoder_sim.people_charts import people_figures
from edgecoder_sim.results import Run, task_names
from edgecoder_sim.route_charts import route_figures
from edgecoder_sim.trouble_charts import trouble_figures

TEMPLATE: Final = "report.html.j2"
BOUNDARY: Final = "Fidelity boundary:"
CLOSER_LOOKS: Final = 3
"""Tasks that the report suggests to look into."""
NOTHING: Final = "–"


class Tile(msgspec.Struct, frozen=True):
    """A headline figure: the number, what it is, and what stands beside it."""

    value: str
    label: str
    note: str


def write_report(run: Run) -> Path:
    """Write `report.html` into the run's directory and return its path. Raises ConfigError where the run lacks what the
    report needs, and DiskFull."""
    charts = gallery(run)
    routes, people, radio, trouble = route_figures(run), people_figures(run), radio_figures(run), trouble_figures(run)
    distribution = distribution_figures(run)
    drawn = [*charts.figures(), *routes, *people, *radio, *trouble, *distribution]
    specs = {figure.key: figure.spec for figure in drawn}
    summary = run.summary
    scenario = run.scenario_values
    page = _template().render(
        name=scenario["name"].replace("_", " "),
        description=scenario.get("description", ""),
        lede=lede(summary),
        tiles=tiles(summary),
        charts=charts,
        routes=routes,
        people=people,
        radio=radio,
        trouble=trouble,
        distribution=distribution,
        files=files_table(run) if distribution else [],
        outcomes=chart_data.outcomes(run.tasks).to_dict("records"),
        groups=figures(summary["metrics"]),
        summary=summary,
        interrupted=summary["partial"] and not summary["invariants"]["violated"],
        provenance=run.provenance,
        argv=shlex.join(run.provenance["argv"]),
        scenario_text=run.scenario_text,
        run_dir=run.path.as_posix(),
        reproduce=f"edgecoder run {shlex.quote(f'{run.path.as_posix()}/{rundir.SCENARIO}')}",
        closer=[f"edgecoder why {shlex.quote(run.path.as_posix())} task {name}" for name in _worth_a_look(run)],
        boundaries=boundaries(scenario),
        specs=_for_script(json.dumps(specs, separators=(",", ":"), allow_nan=False)),
        library=_library(),
    )
    path = run.path / rundir.REPORT
    rundir.write_text(path, page)
    return path


def lede(summary: dict[str, Any]) -> str:
    """The run in a sentence or two."""
    metrics = summary["metrics"]
    theirs, ours = duration(summary["sim_s"]), duration(summary["wall_s"])
    text = f"{summary['nodes']:,} nodes, {theirs} of their time, in {ours} of ours."
    if "tasks_done_share" in metrics:
        ended = metrics["tasks_done"] + metrics["tasks_failed"]
        text += f" {percent(metrics['tasks_done_share'])} of the {ended:,.0f} tasks that ended were answered"
        if "task_latency_p50_s" in metrics:
            text += f", half of them within {seconds(metrics['task_latency_p50_s'])}"
        text += "."
    if metrics.get("swaps_done"):
        text += (
            f" {metrics['swaps_done']:,.0f} times a node changed its model, and was out of service for"
            f" {seconds(metrics['swap_away_p50_s'])} (median)."
        )
    return text


def tiles(summary: dict[str, Any]) -> list[Tile]:
    """The headline figures; those without a value are left out."""
    metrics, invariants = summary["metrics"], summary["invariants"]
    rows = []
    if "tasks_done_share" in metrics:
        ended = metrics["tasks_done"] + metrics["tasks_failed"]
        rows.append(Tile(percent(metrics["tasks_done_share"]), "tasks answered", f"of {ended:,.0f} that ended"))
    if "task_latency_p50_s" in metrics:
        tail = f"99 % within {seconds(metrics['task_latency_p99_s'])}"
        rows.append(Tile(seconds(metrics["task_latency_p50_s"]), "median latency of an answer", tail))
    if "swap_away_p50_s" in metrics:
        note = f"{metrics['swaps_done']:,.0f} swaps done, {metrics['swaps_failed']:,.0f} failed"
        rows.append(Tile(seconds(metrics["swap_away_p50_s"]), "out of service for a swap", note))
    if "registry_wrong_p50_s" in metrics:
        online = percent(metrics["online_share"])
        note = f"99 % within {seconds(metrics['registry_wrong_p99_s'])}; nodes were online {online} of the time"
        rows.append(Tile(seconds(metrics["registry_wrong_p50_s"]), "until a coordinator knows of a change", note))
    if "offload_share" in metrics:
        most = percent(metrics["offload_bound_share"])
        rows.append(Tile(percent(metrics["offload_share"]), "of the files' bytes from peers", f"at most {most}"))
    if "origin_copies" in metrics:
        done, failed = metrics["transfers_done"], metrics["transfers_failed"]
        note = f"{done:,.0f} downloads done, {failed:,.0f} given up"
        rows.append(Tile(f"{metrics['origin_copies']:.3f}", "copies from the origin", note))
    if "finish_over_bound" in metrics:
        pieces = metrics.get("finish_over_piece_bound")
        note = "of a crowd that wants a file at once" if pieces is None else f"{pieces:.3f} times that of whole pieces"
        rows.append(Tile(f"{metrics['finish_over_bound']:.3f}", "last finish, times the fluid bound", note))
    if "message_bytes_per_node_per_min" in metrics:
        note = f"{metrics['messages_per_node_per_min']:.3g} envelopes"
        rows.append(Tile(size(metrics["message_bytes_per_node_per_min"]), "per node and minute", note))
    if invariants["checked"] or invariants["violated"]:
        checked = f"{invariants['checked']:,} events checked"
        rows.append(Tile(f"{invariants['violated']:,}", "invariants violated", checked))
    return rows


def figures(metrics: dict[str, float]) -> dict[str, list[tuple[str, str, str, str]]]:
    """All figures by heading: label, value, unit, help. One that `metrics.METRICS` does not know stands under Other."""
    groups: dict[str, list[tuple[str, str, str, str]]] = {}
    for key, metric in METRICS.items():
        if key in metrics:
            value, unit = number(metrics[key], metric.unit)
            groups.setdefault(metric.group, []).append((metric.label, value, unit, metric.help))
    for key in metrics.keys() - METRICS.keys():
        groups.setdefault("Other", []).append((key, f"{metrics[key]:.4g}", "", ""))
    return groups


def boundaries(scenario: dict[str, Any]) -> list[tuple[str, str]]:
    """Where the likeness of each simulated part ends that this scenario uses: module and text, from the docstrings of
    this package."""
    unused = _unused(scenario)
    return [(name, text) for name, text in _all_boundaries() if name.partition(".")[0] not in unused]


def _unused(scenario: dict[str, Any]) -> set[str]:
    """Modules that a complete scenario makes no use of; a package by its name."""
    radio, people = scenario["radio"], scenario["presence"].values()
    is_still = set(map(scenario["mobility"].get, ("phones", "agents"))) == {"still"}
    uses = {
        ("mobility", "walks", "floor"): not is_still,
        ("traces", "replay"): scenario["contacts"] is not None,
        ("contact_log",): not is_still or scenario["contacts"] is not None,
        ("presence",): any(each["session_s"] or each["by_day"] or each["charging"] for each in people),
        ("faults",): bool(scenario["faults"]["plan"]),
        ("radio", "ble_timing"): radio is not None,
        ("contacts",): radio is not None and not radio["scanning"],
        ("scanning",): radio is not None and radio["scanning"],
        ("wifi_direct",): radio is not None and radio["wifi_direct"] is not None,
    }
    return {module for modules, is_used in uses.items() if not is_used for module in modules}


@cache
def _all_boundaries() -> list[tuple[str, str]]:
    package = Path(__file__).parent
    found = []
    for path in sorted(package.rglob("*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        _, _, text = docstring.partition(BOUNDARY)
        if text:
            name = ".".join(path.relative_to(package).with_suffix("").parts).removesuffix(".__init__")
            found.append((name, " ".join(text.partition("\n\n")[0].split())))
    return found


def seconds(value_s: float) -> str:
    """A duration for people: `3 ms`, `1.4 s`, `2 min 5 s`. Nothing is finer than a millisecond, the usual tick."""
    if value_s == 0:
        return "0 s"
    if value_s < 0.001:
        return "below 1 ms"
    if value_s < 0.9995:
        return f"{value_s * 1e3:.0f} ms"
    if value_s < 120:
        return f"{value_s:.3g} s"
    return duration(value_s)


def duration(value_s: float) -> str:
    """A long duration for people: `45 s`, `20 min`, `1 h`, `1 h 30 min`."""
    whole = round(value_s)
    if whole < 120:
        return f"{value_s:.3g} s"
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    parts = [(hours, "h"), (minutes, "min"), (rest if not hours else 0, "s")]
    return " ".join(f"{count} {unit}" for count, unit in parts if count)


def percent(share: float) -> str:
    """A share of 0 to 1: `97.3 %`, `0.013 %`; never rounded to 0 or 100 from another value."""
    value = 100 * share
    if value > 99 and share < 1:
        digits = min(6, max(1, math.ceil(-math.log10(100 - value))))
        return f"{value:.{digits}f} %"
    return f"{value:.3g} %"


def size(size_bytes: float) -> str:
    """Bytes for people: `4.68 kB`."""
    for scale, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size_bytes >= scale:
            return f"{size_bytes / scale:.3g} {unit}"
    return f"{size_bytes:.3g} bytes"


def number(value: float, unit: str) -> tuple[str, str]:
    """A figure as text, and the unit in which it stands there."""
    if unit == "s":
        text, _, scaled = seconds(value).rpartition(" ") if value < 120 else (f"{value:,.4g}", "", "s")
        return text, scaled
    if unit == "share":
        return percent(value).removesuffix(" %"), "%"
    return f"{value:,.0f}" if value == int(value) or value >= 1000 else f"{value:,.4g}", unit


def _worth_a_look(run: Run) -> list[str]:
    """Tasks whose story may teach something: failed ones first, then the slowest."""
    tasks = run.tasks[run.tasks["ended_s"].notna()]
    ranked = tasks.assign(failed=tasks["reason"].notna(), name=task_names(run)).sort_values(
        ["failed", "routes", "latency_s", "task_id"], ascending=[False, False, False, True]
    )
    return [str(name) for name in ranked["name"].head(CLOSER_LOOKS)]


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["cell"] = _cell
    environment.filters["when"] = _when
    environment.filters["size"] = size
    environment.filters["seconds"] = lambda value: NOTHING if math.isnan(value) else seconds(value)
    environment.filters["code"] = _code
    return environment.get_template(TEMPLATE)


def _cell(value: float | None, text: str = "{:.3g}") -> str:
    """A number in a table, a dash where there is none."""
    return NOTHING if value is None or math.isnan(value) else text.format(value)


def _when(iso: str) -> str:
    return dt.datetime.fromisoformat(iso).strftime("%Y-%m-%d %H:%M UTC")


@cache
def _library() -> str:
    """Vega, Vega-Lite and vega-embed as one script, which defines `vegaEmbed`."""
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    assert "</script" not in bundle.lower(), "the chart library would end its own script element"
    return bundle


def _for_script(text: str) -> str:
    """JSON that cannot end the script element it stands in."""
    return text.replace("<", "\\u003c")


def _code(text: str) -> markupsafe.Markup:
    """Plain text with `names` in backticks as HTML."""
    parts = text.split("`")
    marked = (
        markupsafe.Markup("<code>{}</code>").format(part) if number % 2 else markupsafe.escape(part)
        for number, part in enumerate(parts)
    )
    return markupsafe.Markup("").join(marked)
