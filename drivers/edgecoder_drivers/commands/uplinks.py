"""The options with which a node is told of its coordinators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer

from edgecoder.config import NodeConfig, check_coordinator
from edgecoder.errors import ConfigError

Coordinators = Annotated[
    list[str] | None,
    typer.Option(
        "--coordinator",
        metavar="ID@HOST:PORT",
        help="A coordinator to link to, as it names itself at its start; may stand often: the first is home.",
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


def coordinators_of(config: NodeConfig, said: Sequence[str] | None) -> NodeConfig:
    """A configuration in which flags have the last word. Raises ConfigError."""
    for address in said or ():
        try:
            check_coordinator(address)
        except ConfigError as error:
            raise ConfigError("--coordinator", None, error.problem, error.hint) from None
    return msgspec.structs.replace(config, coordinators=tuple(said)) if said else config
