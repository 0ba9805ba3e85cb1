"""Swap, pull, list, import and export models of a running agent.

Decides what is asked and how it reads; all of it is asked of the agent's control port.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from edgecoder.cli.terminal import printable, table
from edgecoder.errors import ConfigError, Reason
from edgecoder.models.catalog import show_param_size
from edgecoder_drivers.commands.control import (
    URL,
    AgentSilent,
    Authority,
    Control,
    Download,
    Json,
    Refusal,
    Token,
    Url,
    asking,
    model_path,
    print_json,
)
from edgecoder_drivers.commands.names import Model
from edgecoder_drivers.http.contract import Accepted, Listed, Operation, Problem, Pulled, Removed, Status, Swapped
from edgecoder_drivers.store.files import RealFiles
from edgecoder_drivers.store.saving import OtherFileError, save

command = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)
SPEED_S = 120.0
"""Speed is that of the last so many seconds, in which a slow source gives a piece or two."""
NoWait = Annotated[bool, typer.Option("--no-wait", help="Return at once; see `edgecoder model status`.")]


@command.callback()
def _group() -> None:
    """Swap, pull, list, import and export the models of a running agent."""


@command.command("list")
def list_models(url: Url = URL, token: Token = None, cacert: Authority = None, as_json: Json = False) -> None:
    """Print what is here and what could be."""
    with asking(url, token, cacert, as_json=as_json) as control:
        listed = control.get("/model/list", Listed)
    if as_json:
        print_json(listed)
        return
    head = ("", "model", "billions", "quantization", "GB", "state", "source")
    rows = [
        (
            "*" if row.active else "",
            row.model_id,
            _billions(row.param_size),
            row.quantization,
            f"{row.file_size_bytes / 1e9:.2f}",
            row.state if row.compatible or row.installed else "does not fit",
            row.source,
        )
        for row in listed.models
    ]
    typer.echo(table(head, rows, numbers=("billions", "GB")))


def _billions(param_size: float | None) -> str:
    """How many parameters; a model need not tell."""
    return "?" if param_size is None else f"{param_size:g}"


@command.command()
def status(url: Url = URL, token: Token = None, cacert: Authority = None, as_json: Json = False) -> None:
    """Print what is active, and how it is."""
    with asking(url, token, cacert, as_json=as_json) as control:
        shown = control.get("/model/status", Status)
    if as_json:
        print_json(shown)
        return
    is_away = shown.engine == "ollama" and not shown.ollama_healthy
    typer.echo(f"model        {shown.model or 'none'}")
    typer.echo(f"status       {shown.status}")
    typer.echo(f"engine       {shown.engine}{', which does not answer; see `edgecoder doctor`' if is_away else ''}")
    typer.echo(f"load         {'loading' if shown.current_load < 0 else shown.current_load}")
    typer.echo(f"coordinator  {'online' if shown.online else 'none'}")
    if shown.catalog_age_s is not None:
        stale = ", stale: nothing new is fetched" if shown.catalog_stale else ""
        typer.echo(f"catalog      version {shown.catalog_version}, heard {shown.catalog_age_s:.0f} s ago{stale}")
    for each in shown.coordinators:
        marks = f"{', home' if each.home else ''}{', named by another' if each.told else ''}"
        state = f"{each.state}{marks}{f': {each.detail}' if each.detail else ''}"
        where = f"@{each.endpoint}" if each.endpoint else ""
        typer.echo(printable(f"  {each.coordinator_id[:8]}{where}  {state}"))
    if shown.reason:
        typer.echo(printable(f"last change  {shown.detail or 'failed'} ({shown.reason})"))
    for pull in shown.pull_progress:
        share = f"{100 * pull.bytes_done // max(1, pull.size_bytes)} % of {pull.size_bytes / 1e9:.2f} GB"
        typer.echo(f"pulling      {pull.model}: {share}")


@command.command()
def swap(
    model: Model,
    no_pull: Annotated[bool, typer.Option("--no-pull", help="Fail where the model is not here.")] = False,
    no_wait: NoWait = False,
    url: Url = URL,
    token: Token = None,
    cacert: Authority = None,
    as_json: Json = False,
) -> None:
    """Make a model the active one; one that is missing is fetched first."""
    with asking(url, token, cacert, model=model, as_json=as_json) as control:
        answer = control.begin("/model/swap", {"model": model, "wait": False, "pull": not no_pull}, Swapped)
        if isinstance(answer, Accepted) and not no_wait:
            answer = follow(control, answer.operation, model).swapped or answer
    if as_json:
        print_json(answer)
    elif isinstance(answer, Accepted):
        _tell_begun(model, answer)
    else:
        before = f", before it {answer.previous}" if answer.previous else ""
        typer.echo(f"{answer.active} is active ({show_param_size(answer.param_size) or '?'}){before}")


@command.command()
def pull(
    model: Model,
    no_wait: NoWait = False,
    url: Url = URL,
    token: Token = None,
    cacert: Authority = None,
    as_json: Json = False,
) -> None:
    """Fetch and verify a model without making it active."""
    with asking(url, token, cacert, model=model, as_json=as_json) as control:
        answer = control.begin("/model/pull", {"model": model, "wait": False}, Pulled)
        if isinstance(answer, Accepted) and not no_wait:
            answer = follow(control, answer.operation, model).pulled or answer
    if as_json:
        print_json(answer)
    elif isinstance(answer, Accepted):
        _tell_begun(model, answer)
    else:
        typer.echo(f"{answer.model}: {answer.status}")


def _tell_begun(model: str, begun: Accepted) -> None:
    """It goes on, and nobody waits for it."""
    typer.echo(f"{model}: {begun.status}; see `edgecoder model status`")


@command.command()
def remove(model: Model, url: Url = URL, token: Token = None, cacert: Authority = None, as_json: Json = False) -> None:
    """Delete the file of a model; one that is being pulled comes no further."""
    with asking(url, token, cacert, model=model, as_json=as_json) as control:
        removed = control.delete(model_path(model), Removed)
    if as_json:
        print_json(removed)
    else:
        typer.echo(f"{removed.model}: {removed.status}")


@command.command("import")
def import_model(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A model file that the catalog knows by its SHA-256.")],
    url: Url = URL,
    token: Token = None,
    cacert: Authority = None,
    as_json: Json = False,
) -> None:
    """Take a model from a file on the agent's machine."""
    with asking(url, token, cacert, as_json=as_json) as control, _progress() as progress:
        if control.is_here and not file.is_file():
            raise ConfigError(str(file), None, "there is no such file", "give the path of a model file")
        progress.add_task(file.name, total=None)
        pulled = control.post("/model/import", {"path": str(file.resolve() if control.is_here else file)}, Pulled)
    if as_json:
        print_json(pulled)
    else:
        typer.echo(f"{pulled.model}: {pulled.status}")


@command.command()
def export(
    model: Model,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it.")],
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    url: Url = URL,
    token: Token = None,
    cacert: Authority = None,
    as_json: Json = False,
) -> None:
    """Write a model to one file."""
    try:
        if file.exists() and not file.is_file():
            raise ConfigError(str(file), None, "it is no file", "give another path")
        if file.exists() and not force:
            raise ConfigError(str(file), None, "there is a file already", "give another path, or --force")
        asked = asking(url, token, cacert, model=model, as_json=as_json)
        with asked as control, control.download(model_path(model, "/export")) as coming:
            size_bytes = _save(file, model, coming)
    except OSError as error:
        raise ConfigError(str(file), None, error.strerror or str(error), "give another path, or make room") from None
    value = {"model": model, "file": str(file), "sizeBytes": size_bytes}
    if as_json:
        print_json(value)
    else:
        typer.echo(f"{file}: {size_bytes / 1e9:.2f} GB")


def _save(file: Path, model: str, coming: Download) -> int:
    """Write what comes, shown as it does, if it is the model; how many bytes. Raises OSError, Refusal."""

    def shown() -> Iterator[bytes]:
        with _progress() as progress:
            task = progress.add_task(model, total=coming.size_bytes or None)
            for data in coming.parts:
                progress.advance(task, len(data))
                yield data

    try:
        return save(RealFiles(), file, shown(), coming.sha256)
    except OtherFileError as error:
        title, hint = "the agent's file is not the model any more", "remove the model, and pull it again"
        raise Refusal(Problem(title, 502, Reason.CHECKSUM_MISMATCH.value, f"SHA-256 {error}", hint)) from None


def follow(control: Control, operation: str, model: str) -> Operation:
    """The end of an operation, which is shown as it goes on. Raises Refusal where it fails."""
    try:
        with _progress() as progress:
            task = progress.add_task(model, total=None)
            for event in control.events("GET", f"/model/operations/{operation}/events"):
                told = control.read(event.content, Operation)
                if told.problem is not None:
                    raise Refusal(told.problem)
                if told.status == "done":
                    return told
                if told.progress:
                    bytes_done = int(told.progress * told.size_bytes)
                    progress.update(task, total=told.size_bytes or None, completed=bytes_done)
    except KeyboardInterrupt:
        hint = "see `edgecoder model status`; `edgecoder model remove` ends a pull"
        typer.echo(f"{model}: it goes on; {hint}", err=True)
        raise
    raise AgentSilent("the agent went away meanwhile; see `edgecoder model status`")


def _progress() -> Progress:
    """A bar on a terminal; nothing elsewhere. It moves to and fro where nobody knows how much is to come."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        speed_estimate_period=SPEED_S,
        transient=True,
        disable=not sys.stderr.isatty(),
    )
