"""Make a scenario of the journals of a real mesh.

Decides what is printed and written; what is read from journals, and how, stands in `edgecoder_sim.fit`.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from edgecoder import __version__
from edgecoder.errors import ConfigError
from edgecoder_sim.fit.figures import Basis, Figure
from edgecoder_sim.fit.record import Record, read
from edgecoder_sim.fit.scenario import Fitted, figures, fitted
from edgecoder_sim.fit.writing import yaml_of
from edgecoder_sim.scenario import load_scenario


def command(
    journals: Annotated[
        list[Path],
        typer.Argument(
            metavar="JOURNAL...",
            help="Files that agents, devices and coordinators of one mesh wrote with --journal. One will do; those of "
            "all nodes tell the most.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write the scenario to this file, which is not there yet."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: each figure, and where it comes from.")] = False,
) -> None:
    """Read from journals how fast links, uplinks, the origin and engines were, what users did and who left, and make a
    scenario of it, which `edgecoder run` runs. What journals do not tell is left at the simulator's figure; a comment
    says so. Without --out the scenario is printed."""
    if out is not None and out.exists():
        raise ConfigError(str(out), None, "this file is there already", "name another one, or delete it first")
    record = read(journals)
    made = fitted(record, _name(out))
    text = yaml_of(made.tree, _head(record, made, len(journals)))
    _check(text)
    if out is not None:
        out.write_text(text, encoding="utf-8")
    if as_json:
        typer.echo(msgspec.json.encode(_plain(record, made, out)).decode())
    elif out is None:
        typer.echo(text, nl=False)
    else:
        typer.echo("\n".join(_summary(record, made, out)))


def _name(out: Path | None) -> str:
    """The scenario's name: of its file, as far as that is one."""
    name = re.sub(r"[^a-z0-9_-]+", "-", "" if out is None else out.stem.lower()).strip("-_")
    return name[:64] or "fitted"


def _check(text: str) -> None:
    """Raises ConfigError where a run would refuse the scenario."""
    with tempfile.TemporaryDirectory(prefix="edgecoder-fit-") as folder:
        path = Path(folder) / "fitted.yaml"
        path.write_text(text, encoding="utf-8")
        try:
            load_scenario(path)
        except ConfigError as error:
            problem = f"no scenario can be made of these journals: {error.problem}"
            raise ConfigError("edgecoder fit", None, problem, error.hint) from None


def _head(record: Record, made: Fitted, files: int) -> list[str]:
    return [
        f"Made by EdgeCoder {__version__} (edgecoder fit) of {_what(record, files)}.",
        "",
        "measured: read from the journals. set: what the nodes were told. default: not in the journals, so it is the",
        "simulator's own figure; so is all that is not here.",
        *([""] if made.notes else []),
        *(f"Note: {note}." for note in made.notes),
    ]


def _what(record: Record, files: int) -> str:
    nodes, lives = len(record.machines), len(record.lives)
    return (
        f"{files} journal{'s' * (files != 1)}: {nodes} node{'s' * (nodes != 1)} in {lives} "
        f"li{'ves' if lives != 1 else 'fe'}, {record.length_s:.1f} s"
    )


def _summary(record: Record, made: Fitted, out: Path) -> list[str]:
    found = figures(made.tree)
    counts = {basis: sum(figure.basis is basis for _, figure in found) for basis in Basis}
    told = ", ".join(f"{count} {basis.value}" for basis, count in counts.items())
    width = max(len(key) for key, _ in found)
    rows = [
        f"  {key:<{width}}  {msgspec.json.encode(figure.value).decode()}  {figure.basis.value}: {figure.says}"
        for key, figure in found
        if figure.basis is not Basis.SET
    ]
    notes = [f"  note: {note}" for note in made.notes]
    return [f"{out}: of {_what(record, len(record.lives))}; {told}", *rows, *notes, f"edgecoder run {out}"]


def _plain(record: Record, made: Fitted, out: Path | None) -> dict[str, Any]:
    def told(key: str, figure: Figure) -> dict[str, Any]:
        plain = {"key": key, "value": figure.value, "basis": figure.basis.value, "says": figure.says}
        return plain if figure.samples is None else {**plain, "samples": figure.samples}

    return {
        "scenario": None if out is None else str(out),
        "nodes": len(record.machines),
        "lives": len(record.lives),
        "seconds": record.length_s,
        "figures": [told(key, figure) for key, figure in figures(made.tree)],
        "notes": made.notes,
    }
