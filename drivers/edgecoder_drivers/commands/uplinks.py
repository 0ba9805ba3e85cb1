"""The options with which a node is told of its coordinators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer

from edgecoder.config import NodeConfig, check_coordinator
from edgecoder.errors import ConfigError
from edgecoder_drivers.lan.networks import own_interfaces

Coordinators = Annotated[
    list[str] | None,
    typer.Option(
        "--coordinator",
        metavar="ID@HOST:PORT",
        help="A coordinator to link to, as it names itself at its start; may stand often: the first is home. "
        "ID alone: it is looked for on this machine's networks.",
    ),
]
Join = Annotated[
    list[str] | None,
    typer.Option(
        "--join",
        metavar="TOKEN",
        envvar="EDGECODER_JOIN",
        help="A token of `edgecoder coordinator invite`, for the first time; one a coordinator.",
    ),
]


Discover = Annotated[
    bool | None,
    typer.Option(
        "--discover/--no-discover",
        help="Look on this machine's networks for coordinators of the list that have an address, too.",
        show_default=False,
    ),
]
DiscoverAt = Annotated[
    list[str] | None,
    typer.Option(
        "--discover-at",
        metavar="ADDRESS",
        help="An address of this machine, at whose network it looks; without it all but loopback.",
    ),
]


def interfaces_of(said: Sequence[str] | None) -> tuple[str, ...]:
    """Where to look. Raises ConfigError."""
    own = [str(each.ip) for each in own_interfaces()]
    for address in said or ():
        if address not in own:
            hint = f"give one of {', '.join(own)}"
            raise ConfigError("--discover-at", None, f"{address[:64]!r} is no address of this machine", hint)
    return tuple(said or ())


def coordinators_of(config: NodeConfig, said: Sequence[str] | None, discover: bool | None = None) -> NodeConfig:
    """A configuration in which flags have the last word. Raises ConfigError."""
    if discover is not None:
        config = msgspec.structs.replace(config, discover=discover)
    for address in said or ():
        try:
            check_coordinator(address)
        except ConfigError as error:
            raise ConfigError("--coordinator", None, error.problem, error.hint) from None
    return msgspec.structs.replace(config, coordinators=tuple(said)) if said else config
