"""Run a coordinator, to which agents and devices link.

Decides what belongs to a coordinator's command line; what is put together is `coordinator`'s.
"""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import platformdirs
import typer

from edgecoder.errors import ConfigError
from edgecoder.settings import Settings, default_file, load_settings
from edgecoder_drivers.addresses import Logins
from edgecoder_drivers.commands.find import command as find
from edgecoder_drivers.commands.serving import (
    CatalogFile,
    Config,
    JournalFile,
    Level,
    Names,
    Overrides,
    TokenFile,
    catalog_of,
    configure_logs,
    make_folder,
    read_token,
)
from edgecoder_drivers.commands.uplinks import Coordinators, Discover, DiscoverAt, coordinators_of, interfaces_of
from edgecoder_drivers.coordinator import Coordinator, CoordinatorPlan, coordinating
from edgecoder_drivers.ending import Ending
from edgecoder_drivers.heap import share_one_heap
from edgecoder_drivers.links.address import PORT
from edgecoder_drivers.links.admission import Admission, Kind

command = typer.Typer(rich_markup_mode=None, add_completion=False, invoke_without_command=True)

FOLDER = platformdirs.user_data_path("edgecoder", appauthor=False) / "coordinator"
"""Not an agent's: both may run on one machine."""
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="FOLDER",
        help="Where it keeps its key, who is enrolled and what it knows.",
        show_default=FOLDER.as_posix(),
    ),
]


@command.callback()
def serve(
    context: typer.Context,
    data: Data = None,
    catalog: CatalogFile = None,
    coordinator: Coordinators = None,
    discover: Discover = None,
    discover_at: DiscoverAt = None,
    members: Annotated[
        Path | None,
        typer.Option(
            "--members", metavar="FILE", help="Who may link: lines `member NODE-ID`; without it, members.txt in --data."
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            "--host", metavar="ADDRESS", help="Where it listens, such as 0.0.0.0; off loopback it speaks TLS."
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", metavar="N", min=0, max=65535, help="0 takes a free one.")] = PORT,
    announce: Annotated[
        bool | None,
        typer.Option(
            "--announce/--no-announce",
            help="Announce it on the networks that it listens at; without either, unless that is loopback.",
            show_default=False,
        ),
    ] = None,
    token_file: TokenFile = None,
    tls_certificate: Annotated[
        Path | None, typer.Option("--tls-certificate", metavar="FILE", help="PEM certificate; without it, its own.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", metavar="FILE", help="Its PEM key.")] = None,
    name: Names = None,
    journal: JournalFile = None,
    config: Config = None,
    overrides: Overrides = None,
    log: Level = "info",
) -> None:
    """Run a coordinator. `edgecoder coordinator invite` lets a node in."""
    if context.invoked_subcommand is not None:
        return
    settings = _settings(config, overrides or ())
    folder = data or FOLDER
    make_folder(folder)
    node = coordinators_of(msgspec.structs.replace(settings.node, has_radio=False), coordinator, discover)
    plan = CoordinatorPlan(
        folder=folder,
        cluster=settings.cluster,
        config=node,
        catalog=catalog_of(catalog, None, folder, node, Logins()),
        host=host,
        port=port,
        names=tuple(name or ()),
        certificate=tls_certificate,
        key=tls_key,
        token=None if token_file is None else read_token(token_file),
        members=members,
        journal=journal,
        announce=announce,
        discover_at=interfaces_of(discover_at),
    )
    configure_logs(log)

    share_one_heap()
    asyncio.run(_life(plan))


def _settings(config: Path | None, overrides: Sequence[str]) -> Settings:
    """What files, environment and flags say; where they name no preset it is a server's."""
    file = config or default_file(os.environ)
    preset = None if file is not None or "EDGECODER_PRESET" in os.environ else "server"
    return load_settings(preset=preset, file=file, environ=os.environ, overrides=overrides)


async def _life(plan: CoordinatorPlan) -> None:
    async with coordinating(plan) as running:
        ending = Ending()
        _greet(plan, running)
        await running.until_told(ending)


@command.command()
def invite(
    data: Data = None,
    kind: Annotated[Kind, typer.Option("--as", help="What the node may come as.")] = Kind.MEMBER,
) -> None:
    """Print a token that lets one node in, once, within seven days: for its `--join`."""
    folder = data or FOLDER
    if not (folder / "node.key").exists():
        hint = "start `edgecoder coordinator` first, or give its --data"
        raise ConfigError(str(folder), None, "there is no coordinator here", hint)
    typer.echo(Admission(folder).invite(kind))


command.command("find")(find)


def _greet(plan: CoordinatorPlan, running: Coordinator) -> None:
    address = plan.addresses[0]
    where = f"[{address}]" if ":" in address else address
    scheme = "http" if running.is_plain else "https"
    typer.echo(f"coordinator on {scheme}://{where}:{running.port}; Ctrl-C drains and ends", err=True)
    typer.echo(f"members: edgecoder agent --coordinator {running.node_id.hex()}@{where}:{running.port}", err=True)
    typer.echo("         (or device), and --join TOKEN the first time, with a token of", err=True)
    at = "" if plan.folder == FOLDER else f" --data {shlex.quote(str(plan.folder))}"
    typer.echo(f"         edgecoder coordinator invite{at}", err=True)
