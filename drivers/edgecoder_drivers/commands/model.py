"""Swap, pull, list, import and export the models of a running agent.

Decides what is asked and how it reads; all of it is asked of the agent's control port.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from edgecoder.errors import ConfigError
from edgecoder_drivers.commands.control import URL, Control, Json, Refusal, Token, Url, model_path

command = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)
Model = Annotated[str, typer.Argument(metavar="MODEL", help="Id or alias, such as qwen2.5-coder:7b.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Return at once; see `edgecoder model status`.")]


@command.callback()
def _group() -> None:
    """Swap, pull, list, import and export the models of a running agent."""


@command.command("list")
def list_models(url: Url = URL, token: Token = None, as_json: Json = False) -> None:
    """Print what is here and what could be."""
    with Control(url, token) as control:
        listed = control.get("/model/list")
    if as_json:
        typer.echo(json.dumps(listed))
        return
    table = Table(box=None, pad_edge=False)
    for name in ("", "model", "billions", "quantization", "GB", "state", "source"):
        table.add_column(name, justify="right" if name in ("billions", "GB") else "left")
    for row in listed["models"]:
        state = row["state"] if row["compatible"] or row["installed"] else "does not fit"
        size_gb, billions = f"{row['fileSizeBytes'] / 1e9:.2f}", _billions(row["paramSize"])
        mark = "*" if row["active"] else ""
        table.add_row(mark, row["modelId"], billions, row["quantization"], size_gb, state, row["source"])
    Console(highlight=False).print(table)


def _billions(param_size: float | None) -> str:
    """How many parameters; a model need not tell."""
    return "?" if param_size is None else f"{param_size:g}"


@command.command()
def status(url: Url = URL, token: Token = None, as_json: Json = False) -> None:
    """Print what is active, and how it is."""
    with Control(url, token) as control:
        shown = control.get("/model/status")
    if as_json:
        typer.echo(json.dumps(shown))
        return
    typer.echo(f"model        {shown['model'] or 'none'}")
    typer.echo(f"status       {shown['status']}")
    typer.echo(f"engine       {shown['engine']}")
    typer.echo(f"load         {'loading' if shown['currentLoad'] < 0 else shown['currentLoad']}")
    typer.echo(f"coordinator  {'online' if shown['online'] else 'none'}")
    if shown.get("reason"):
        typer.echo(f"last change  {shown['detail']} ({shown['reason']})")
    for pull in shown.get("pullProgress", ()):
        typer.echo(f"pulling      {pull['model']}: {100 * pull['bytesDone'] // pull['sizeBytes']} %")


@command.command()
def swap(
    model: Model,
    no_pull: Annotated[bool, typer.Option("--no-pull", help="Fail where the model is not here.")] = False,
    no_wait: NoWait = False,
    url: Url = URL,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Make a model the active one; one that is missing is fetched first."""
    with Control(url, token) as control:
        answer = control.post("/model/swap", {"model": model, "wait": False, "pull": not no_pull})
        ended = _follow(control, answer, model, is_waited_for=not no_wait)
    result = ended.get("swapped", ended)
    if as_json:
        typer.echo(json.dumps(result))
    elif "operation" in result:
        typer.echo(f"{model}: {result['status']}; see `edgecoder model status`")
    else:
        before = f", before it {result['previous']}" if result["previous"] else ""
        typer.echo(f"{result['active']} is active ({_billions(result['paramSize'])} B){before}")


@command.command()
def pull(model: Model, no_wait: NoWait = False, url: Url = URL, token: Token = None, as_json: Json = False) -> None:
    """Fetch and verify a model without making it active."""
    with Control(url, token) as control:
        answer = control.post("/model/pull", {"model": model, "wait": False})
        ended = _follow(control, answer, model, is_waited_for=not no_wait)
    result = ended.get("pulled", ended)
    said = f"{result.get('model', model)}: {result['status']}"
    typer.echo(json.dumps(result) if as_json else said)


@command.command()
def remove(model: Model, url: Url = URL, token: Token = None, as_json: Json = False) -> None:
    """Delete the file of a model."""
    with Control(url, token) as control:
        result = control.delete(model_path(model))
    typer.echo(json.dumps(result) if as_json else f"{result['model']}: {result['status']}")


@command.command("import")
def import_model(
    file: Annotated[Path, typer.Argument(help="A model file that the catalog knows by its SHA-256.")],
    url: Url = URL,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Take a model from a file on the agent's machine."""
    if not file.is_file():
        raise ConfigError(str(file), None, "there is no such file", "give the path of a model file")
    with Control(url, token) as control:
        result = control.post("/model/import", {"path": str(file.resolve())}, is_waited_for=True)
    typer.echo(json.dumps(result) if as_json else f"{result['model']}: {result['status']}")


@command.command()
def export(
    model: Model,
    file: Annotated[Path, typer.Argument(help="Where to write it.")],
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    url: Url = URL,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Write a model to one file."""
    if file.exists() and not force:
        raise ConfigError(str(file), None, "there is a file already", "give another path, or --force")
    part = file.with_name(f".{file.name}.part")
    size_bytes = 0
    try:
        with Control(url, token) as control, _progress() as progress, part.open("wb") as out:
            task = progress.add_task(model, total=None)
            for data, total in control.download(model_path(model, "/export")):
                out.write(data)
                size_bytes += len(data)
                progress.update(task, completed=size_bytes, total=total or None)
            out.flush()
            os.fsync(out.fileno())
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    value = {"model": model, "file": str(file), "sizeBytes": size_bytes}
    typer.echo(json.dumps(value) if as_json else f"{file}: {size_bytes / 1e9:.2f} GB")


def _follow(control: Control, answer: dict[str, Any], model: str, *, is_waited_for: bool) -> dict[str, Any]:
    """An answer, or the end of the operation that it names, which is shown as it goes on."""
    if "operation" not in answer or not is_waited_for:
        return answer
    path = f"/model/operations/{answer['operation']}/events"
    with _progress() as progress:
        task = progress.add_task(model, total=1.0)
        for event in control.events("GET", path):
            progress.update(task, completed=event.value["progress"])
            if event.name == "failed":
                raise Refusal(event.value["problem"])
            if event.name == "done":
                return dict(event.value)
    raise Refusal({"title": "the agent went away meanwhile", "hint": "see `edgecoder model status`"})


def _progress() -> Progress:
    """A bar on a terminal; nothing elsewhere."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    return Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not sys.stderr.isatty())
