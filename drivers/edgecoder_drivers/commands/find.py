"""Show which coordinators announce themselves on this machine's networks, for somebody to copy."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated

import typer

from edgecoder.settings import default_file, load_settings
from edgecoder_drivers.commands.control import Json, print_json
from edgecoder_drivers.commands.serving import Config, Overrides
from edgecoder_drivers.commands.uplinks import DiscoverAt, interfaces_of
from edgecoder_drivers.lan.find import FIND_S, find


def command(
    seconds: Annotated[float, typer.Option("--seconds", metavar="S", min=0.1, max=60, help="So long it listens.")] = (
        FIND_S
    ),
    discover_at: DiscoverAt = None,
    config: Config = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Print the coordinators that announce themselves on this machine's networks, as `--coordinator` takes them."""
    settings = load_settings(file=config or default_file(os.environ), environ=os.environ, overrides=overrides or ())
    network = settings.cluster.network_id
    found = asyncio.run(find(network, interfaces_of(discover_at), seconds))
    if as_json:
        rows = [{"coordinatorId": each.node.hex(), "endpoints": each.endpoints} for each in found]
        print_json({"networkId": network, "coordinators": rows})
    else:
        for each in found:
            for endpoint in each.endpoints:
                typer.echo(f"{each.node.hex()}@{endpoint}")
    if found and not as_json:
        typer.echo("anybody can announce any id: compare it with the one that the coordinator prints itself", err=True)
    if not found:
        problem = f"no coordinator of the network {network!r} announces itself here"
        hint = (
            "one does off loopback (`edgecoder coordinator --host 0.0.0.0`), and routers may keep guests apart; on one "
            "machine it takes --announce there, and --discover-at 127.0.0.1 here"
        )
        typer.echo(f"{problem}; {hint}", err=True)
        raise typer.Exit(1)
