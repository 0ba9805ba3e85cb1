"""How a demo looks: a table that changes while it runs, and lines where there is no terminal.

Decides how things look; what is so is the board's.
"""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.spinner import Spinner
from rich.table import Table
from rich.terminal_theme import MONOKAI
from rich.text import Text

from edgecoder.cli.terminal import printable
from edgecoder_drivers.demo.board import AgentRow, Board, HubRow, Step
from edgecoder_drivers.demo.mesh import ORIGIN_KBIT_PER_S, PERIOD_MS

WIDTH: Final = 110
BAR_CHARS: Final = 16
HONEST: Final = (
    "Every node is real: a process of the command that you would start, on this machine's own network. The models have "
    "random weights, so what they answer is noise. Ollama is a stand-in, which speaks its protocol over llama.cpp. "
    f"Heartbeats and summaries come every {PERIOD_MS / 1000:g} s, and nodes are told that the origin gives "
    f"{ORIGIN_KBIT_PER_S / 1000:g} Mbit/s."
)
_MODELS: Final = {"acorn": "yellow", "birch": "cyan", "cedar": "magenta", "oak": "green"}
_STATES: Final = {"ready": "green", "up": "green", "killed": "red", "error": "red"}
_FONTS: Final = re.compile(r"@font-face\s*{[^}]*}\s*")


def picture(board: Board) -> RenderableType:
    """The whole of it; while it goes on, as low as most terminals are."""
    parts: list[RenderableType] = [_steps(board), Text(), _agents(board), Text(), _hubs(board)]
    if board.is_over:
        parts += [Text(), Text(HONEST, style="dim")]
    title = Text.assemble(" ", ("EdgeCoder", "bold"), ": a mesh on this machine ")
    return Panel(Group(*parts), title=title, subtitle=f"{board.now_s:.1f} s", border_style="blue", padding=(0, 2))


def line(step: Step) -> str:
    """A step that has ended, where there is no terminal."""
    mark = "ok" if step.ok else "NO"
    detail = step.detail.replace("\n", "\n" + " " * 25)
    return f"{mark}  {step.name:<13}{step.took_s or 0:5.1f} s  {detail}"


def save_picture(board: Board, path: Path) -> None:
    """Write an SVG of it, which needs no font from elsewhere. Raises OSError."""
    console = Console(record=True, width=WIDTH, file=StringIO(), force_terminal=True, color_system="truecolor")
    console.print(picture(board))
    svg = console.export_svg(title="edgecoder demo", theme=MONOKAI)
    path.write_text(_FONTS.sub("", svg), encoding="utf-8")


def _steps(board: Board) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    table.add_column(width=1)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    table.add_column(justify="right", no_wrap=True)
    for step in board.steps:
        said = _said(step) if board.is_over else _said(step).split("\n")[0]
        table.add_row(_mark(step), Text(step.name, style=_name_style(step)), said, _took(board, step))
    return table


def _mark(step: Step) -> RenderableType:
    if step.ok is None:
        return Spinner("dots", style="cyan") if step.began_s is not None else Text("·", style="dim")
    return Text("✔", style="bold green") if step.ok else Text("✘", style="bold red")


def _name_style(step: Step) -> str:
    return "dim" if step.began_s is None else "bold"


def _said(step: Step) -> Text:
    if step.ok is None:
        return Text(step.what, style="dim" if step.began_s is None else "cyan")
    return Text(printable(step.detail), style="" if step.ok else "red")


def _took(board: Board, step: Step) -> Text:
    if step.began_s is None:
        return Text()
    took = board.now_s - step.began_s if step.took_s is None else step.took_s
    return Text(f"{took:.1f} s", style="dim")


def _table(*columns: str) -> Table:
    """The last column gives way where there is little room."""
    table = Table(box=None, header_style="bold blue", expand=True, pad_edge=False)
    for column in columns[:-1]:
        table.add_column(column, no_wrap=True)
    table.add_column(columns[-1], no_wrap=True, ratio=1, overflow="crop")
    return table


def _agents(board: Board) -> Table:
    table = _table("agent", "runs on", "reports to", "model", "state", "release: from origin + peers")
    for row in board.agents.values():
        state = Text(row.status, style=_STATES.get(row.status, "yellow"))
        table.add_row(Text(row.name, style="bold"), row.runs_on, row.home, _model(row.model), state, _bar(board, row))
    return table


def _bar(board: Board, row: AgentRow) -> Text:
    """Where the bytes of the release came from."""
    size = board.release_bytes
    if not size or not row.origin_bytes + row.peer_bytes:
        return Text("–", style="dim")
    origin = min(BAR_CHARS, round(BAR_CHARS * row.origin_bytes / size))
    peers = min(BAR_CHARS - origin, round(BAR_CHARS * row.peer_bytes / size))
    bar = Text("█" * origin, style="blue") + Text("█" * peers, style="green")
    bar += Text("░" * (BAR_CHARS - origin - peers), style="dim")
    said = Text(f"{row.origin_bytes / 1e6:4.1f}", style="blue") + Text(f" + {row.peer_bytes / 1e6:4.1f} MB ", "green")
    return said + bar


def _hubs(board: Board) -> Table:
    table = _table("coordinator", "state", "its agents have", "others have, as it heard")
    for row in board.hubs.values():
        state = Text(row.state, style=_STATES.get(row.state, "yellow"))
        table.add_row(Text(row.name, style="bold"), state, _counts(row.own), _heard(board, row))
    return table


def _heard(board: Board, row: HubRow) -> Text:
    """Of one that was killed what it said last stands for a while."""
    killed = {hub.name for hub in board.hubs.values() if hub.state == "killed"}
    parts = [
        Text(f"{name}, before it was killed: " if name in killed else f"{name}: ") + _counts(models)
        for name, models in row.heard.items()
        if models
    ]
    return Text("; ").join(parts)


def _counts(models: dict[str, int]) -> Text:
    parts = [_model(name) + Text(f" ×{count}" if count > 1 else "") for name, count in sorted(models.items())]
    return Text(", ").join(parts)


def _model(name: str) -> Text:
    return Text(name, style=_MODELS.get(name, ""))
