"""The options that say where a node gives pieces of its models to others."""

from __future__ import annotations

import ipaddress
from typing import Annotated

import typer

from edgecoder.config import NodeConfig
from edgecoder_drivers.exchange import Place
from edgecoder_drivers.links.address import split
from edgecoder_drivers.transfer.wire import PORT

TransferHost = Annotated[
    str | None,
    typer.Option(
        "--transfer-host",
        metavar="ADDRESS",
        help="Where others fetch pieces of its models; without it, every address, or loopback beside its coordinator.",
    ),
]
TransferPort = Annotated[
    int | None,
    typer.Option(
        "--transfer-port",
        metavar="N",
        min=0,
        max=65535,
        help=f"The port for that; without it {PORT}, or a free one where another node has that.",
    ),
]


def place_of(config: NodeConfig, host: str | None, port: int | None) -> Place | None:
    """Where a node gives pieces; None where it has no coordinator, who alone could send others to it."""
    if not config.coordinators:
        return None
    endpoints = [address.partition("@")[2] for address in config.coordinators]
    known = next(filter(None, endpoints), "")
    towards = split(known)[0] if known else ""
    return Place(host=host or _all_towards(towards), port=port, towards=towards)


def _all_towards(host: str) -> str:
    """All addresses of this machine; its own where the coordinator is here too."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "127.0.0.1" if host == "localhost" else "0.0.0.0"  # noqa: S104 - others are to reach it
    if address.version == 6:
        return "::1" if address.is_loopback else "::"
    return "127.0.0.1" if address.is_loopback else "0.0.0.0"  # noqa: S104 - others are to reach it
