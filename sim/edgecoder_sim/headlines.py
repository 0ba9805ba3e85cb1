"""What a run says of itself on a terminal: a dozen lines with units, and where to look next."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from edgecoder_sim.tables import BELIEF_NAMES

_Figures = Mapping[str, float]
FILES_MAX: Final = 3
"""Files that have a line."""
_WAYS: Final = {
    "tasks_via_self_share": "on the asking node",
    "tasks_via_peer_share": "by a peer",
    "tasks_via_coordinator_share": "through the coordinator",
    "tasks_via_federation_share": "through another coordinator",
}
"""How answers come, as the terminal says it."""


def outcome_lines(
    summary: Mapping[str, Any], *, has_report: bool, files: Sequence[Mapping[str, Any]] = ()
) -> list[str]:
    """The lines for a run's summary (see `rundir`) and its files (see `distribution_data.files_table`)."""
    figures: _Figures = summary["metrics"]
    sim_s, wall_s = summary["sim_s"], summary["wall_s"]
    head = f"{summary['scenario']}: {summary['nodes']} nodes, {sim_s:,.0f} s simulated in {wall_s:.1f} s"
    lines = [f"{head} ({speed(sim_s / max(wall_s, 1e-3))} × real time), {summary['events']:,} events"]
    lines += [*_tasks(figures), *_swaps(figures), *_knowledge(figures), *_receipts(figures)]
    lines += [*_distribution(figures), *_compared(files), *_messages(figures)]
    lines.append(_invariants(summary["invariants"]))
    lines.append(_row("digest", f"{summary['digest']}, rng_seed {summary['rng_seed']}"))
    directory = summary["run_dir"]
    if directory is not None:
        lines.append(_row("run", directory))
        if has_report:
            lines.append(_row("report", f"{directory}/report.html"))
    return lines


def speed(factor: float) -> str:
    """Simulated seconds a second: `228`, `0.41`."""
    return f"{factor:,.0f}" if factor >= 9.5 else f"{factor:.2g}"


def _row(name: str, text: str) -> str:
    return f"  {name:<11} {text}"


def _tasks(figures: _Figures) -> list[str]:
    if not figures.get("tasks_submitted"):
        return [_row("tasks", "none asked")]
    asked, done, failed, still_open = (
        figures.get(f"tasks_{name}", 0) for name in ("submitted", "done", "failed", "unfinished")
    )
    where = ", ".join(
        f"{share} {name}"
        for share, name in zip(percents([figures.get(key, 0) for key in _WAYS]), _WAYS.values(), strict=True)
    )
    lines = [
        _row(
            "tasks",
            f"{asked:,.0f} asked, {done:,.0f} answered, {failed:,.0f} failed, {still_open:,.0f} open at the end",
        )
    ]
    if done:
        lines.append(_row("", where))
    lines += _spread(figures, "latency", "task_latency", ("p50", "p90", "p99"))
    return lines


def _swaps(figures: _Figures) -> list[str]:
    done, failed, refused = (figures.get(f"swaps_{name}", 0) for name in ("done", "failed", "refused"))
    kept, empty = (figures.get(f"swaps_failed_{name}", 0) for name in ("kept", "empty"))
    ends = {"kept a model": kept, "left none": empty, "cut off by a restart": failed - kept - empty}
    how = ", ".join(f"{count:,.0f} {end}" for end, count in ends.items() if count)
    why = f" ({how})" if how else ""
    lines = [_row("swaps", f"{done:,.0f} done, {failed:,.0f} failed{why}, {refused:,.0f} refused")]
    lines += _spread(figures, "whole swap", "swap_total", ("p50", "p99"))
    if figures.get("no_model_nodes"):
        starts = f"{figures.get('boot_loads_failed', 0):,.0f} of {figures.get('boot_loads', 0):,.0f} loads at a start"
        spell = f"up to {figures['no_model_longest_s']:,.0f} s"
        lines.append(_row("no model", f"{figures['no_model_nodes']:,.0f} nodes at some time, {spell}; {starts} failed"))
    return lines


def _knowledge(figures: _Figures) -> list[str]:
    parts = [
        f"{BELIEF_NAMES.get(kind, kind)} {_percent(figures[f'{kind}_wrong_share'])}"
        for kind in (key.removesuffix("_wrong_share") for key in figures if key.endswith("_wrong_share"))
    ]
    if not parts:
        return []
    lines = [_row("wrong rows", f"share of time: {', '.join(parts)}")]
    if "summaries_wrong_share" in figures:
        lines.append(_row("", "(a summary is wrong from the first change of one of its counts to the next summary)"))
    if "online_share" in figures:
        text = f"{_percent(figures['online_share'])} of node-time; who is offline has no row that could be wrong"
        lines.append(_row("online", text))
    return lines


def _receipts(figures: _Figures) -> list[str]:
    """What nodes owe for answers that they got offline; nothing where nobody was."""
    if not figures.get("receipts_signed"):
        return []
    signed, taken, waiting = (figures.get(f"receipts_{step}", 0) for step in ("signed", "taken", "waiting"))
    text = f"{signed:,.0f} signed offline, {taken:,.0f} at coordinators, {waiting:,.0f} wait where they were earned"
    return [_row("receipts", text)]


def _distribution(figures: _Figures) -> list[str]:
    """Files that came piece by piece; nothing where none did."""
    if "transfers_done" not in figures:
        return []
    done, failed = figures["transfers_done"], figures["transfers_failed"]
    lines = [_row("downloads", f"{done:,.0f} done piece by piece, {failed:,.0f} given up")]
    if "transfer_p50_s" in figures:
        text = f"p50 {figures['transfer_p50_s']:,.0f} s, p99 {figures['transfer_p99_s']:,.0f} s"
        if "finish_over_bound" in figures:
            text += f"; the last was there after {figures['finish_over_bound']:.3f} times the fluid bound"
            pieces = figures.get("finish_over_piece_bound")
            text += ", no piece bound applies" if pieces is None else f", {pieces:.3f} times that of whole pieces"
        lines.append(_row("", text))
    parts = []
    if "offload_share" in figures:
        parts.append(f"{_percent(figures['offload_share'])} of the bytes from peers")
        if figures["offload_bound_share"] < 1:
            parts[-1] += f" (at most {_percent(figures['offload_bound_share'])})"
    if "origin_copies" in figures:
        parts.append(f"the origin sent {figures['origin_copies']:.3f} copies")
    if "upload_gini" in figures:
        parts.append(f"Gini of what nodes gave {figures['upload_gini']:.2f}")
    return [*lines, _row("", ", ".join(parts))] if parts else lines


def _compared(files: Sequence[Mapping[str, Any]]) -> list[str]:
    """The files that most nodes wanted, beside what else could have come of them."""
    lines: list[str] = []
    for file in sorted(files, key=lambda file: file["wanted"], reverse=True)[:FILES_MAX]:
        parts = []
        if not math.isnan(file["last_over_oracle"]):
            parts.append(f"last finish {file['last_over_oracle']:.3f} × the oracle's")
        if not math.isnan(file["copies_oracle"]):
            parts.append(f"{file['copies']:.3f} copies from the origin, by the oracle {file['copies_oracle']:.3f}")
        if not math.isnan(file["over_alone"]):
            parts.append(f"slowest {file['over_alone']:.3g} × the CDN alone")
        if not math.isnan(file["radio_pct"]):
            parts.append(f"{file['radio_pct']:.1f} % of what those who met could have carried")
        if parts:
            lines.append(_row("" if lines else "compared", f"{file['model']}: {'; '.join(parts)}"))
    return lines


def percents(shares: Sequence[float]) -> list[str]:
    """Shares (0 to 1, 1 in all) as whole percent that add up to 100; below 1 % a share says so in place of 0."""
    floors = [int(100 * share) for share in shares]
    by_rest = sorted(range(len(shares)), key=lambda number: floors[number] - 100 * shares[number])
    for number in [number for number in by_rest if floors[number]][: round(100 * sum(shares)) - sum(floors)]:
        floors[number] += 1
    texts = zip(floors, shares, strict=True)
    return [f"{floor} %" if floor or not share else "below 1 %" for floor, share in texts]


def _percent(share: float) -> str:
    percent = 100 * share
    return "0 %" if percent == 0 else "below 0.01 %" if percent < 0.01 else f"{percent:.2f} %"


def _messages(figures: _Figures) -> list[str]:
    if not figures.get("messages"):
        return []
    rate, size = figures["messages_per_node_per_min"], figures["message_bytes_per_node_per_min"]
    return [
        _row("messages", f"{figures['messages']:,.0f}; {rate:.1f} envelopes, {size / 1000:.2f} kB a node and minute")
    ]


def _spread(figures: _Figures, name: str, key: str, quantiles: tuple[str, ...]) -> list[str]:
    """Quantiles of a duration on one line."""
    known = [(quantile, figures.get(f"{key}_{quantile}_s")) for quantile in quantiles]
    text = ", ".join(f"{quantile} {value:.2f} s" for quantile, value in known if value is not None)
    return [_row("", f"{name} {text}")] if text else []


def _invariants(invariants: Mapping[str, int]) -> str:
    if not invariants["checked"]:
        return _row("invariants", "not checked")
    violated = invariants["violated"]
    verdict = "none violated" if not violated else f"{violated} VIOLATED"
    return _row("invariants", f"{verdict} in {invariants['checked']:,} events")
