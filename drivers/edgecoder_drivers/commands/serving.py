"""What `edgecoder agent` and `edgecoder device` have in common: options, configuration, logs, and the running."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, TextIO, cast

import msgspec
import platformdirs
import structlog
import typer

from edgecoder.config import NodeConfig
from edgecoder.core.ids import Role
from edgecoder.errors import ConfigError
from edgecoder.models.catalog import Catalog, Platform
from edgecoder.settings import default_file, load_settings
from edgecoder_drivers.addresses import Logins
from edgecoder_drivers.catalogs import check_address, check_cdn, load_catalog
from edgecoder_drivers.commands.giving import place_of
from edgecoder_drivers.commands.token import token_of
from edgecoder_drivers.commands.uplinks import coordinators_of, interfaces_of
from edgecoder_drivers.device import Plan, running
from edgecoder_drivers.ending import Ending
from edgecoder_drivers.heap import share_one_heap
from edgecoder_drivers.http.server import PORT, Binding
from edgecoder_drivers.origin_catalog import OriginCatalog
from edgecoder_drivers.otherlogs import take_in_others
from edgecoder_drivers.parts import Parts

Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="FOLDER",
        help="Where it keeps its key, its models and what it knows.",
        show_default=platformdirs.user_data_path("edgecoder", appauthor=False).as_posix(),
    ),
]
CatalogFile = Annotated[
    str | None,
    typer.Option(
        "--catalog",
        metavar="FILE|URL",
        help="The models that there are, as YAML or JSON; without it, those that come with EdgeCoder.",
    ),
]
Cdn = Annotated[str | None, typer.Option("--cdn", metavar="URL", help="The server of the catalog's `cdn:` addresses.")]
Host = Annotated[
    str, typer.Option("--host", metavar="ADDRESS", help="Where it listens; off loopback it needs token and TLS.")
]
Port = Annotated[
    int, typer.Option("--port", metavar="N", min=0, max=65535, help="The control port; 0 takes a free one.")
]
TokenFile = Annotated[
    Path | None, typer.Option("--token-file", metavar="FILE", help="A file with the token that requests must have.")
]
Certificate = Annotated[
    Path | None, typer.Option("--tls-certificate", metavar="FILE", help="PEM certificate of the control port.")
]
Key = Annotated[Path | None, typer.Option("--tls-key", metavar="FILE", help="Its PEM key.")]
Names = Annotated[
    list[str] | None, typer.Option("--name", metavar="NAME", help="A further host name that requests may be for.")
]
JournalFile = Annotated[
    Path | None,
    typer.Option(
        "--journal", metavar="FILE", help="Write down all that the node is told and does, for `edgecoder replay`."
    ),
]
Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Its configuration; see `edgecoder config show`.")
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set one value, such as node.slots=2.")
]
Level = Annotated[Literal["debug", "info", "warning", "error"], typer.Option("--log", help="What is logged.")]


class Where(NamedTuple):
    """Where a node listens, and who may ask."""

    host: str = "127.0.0.1"
    port: int = PORT
    token_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    names: Sequence[str] = ()

    def binding(self) -> Binding:
        """The same, read. Raises ConfigError."""
        token = None if self.token_file is None else read_token(self.token_file)
        binding = Binding(self.host, self.port, token, self.certificate, self.key, tuple(self.names))
        binding.validate()
        return binding


def read_token(path: Path) -> str:
    """The token in a file. Raises ConfigError."""
    try:
        return token_of(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        hint = "give a file with one line of text"
        raise ConfigError(str(path), None, f"no token: {error.strerror}", hint) from None
    except UnicodeDecodeError:
        raise ConfigError(str(path), None, "no token: this is no text", "give a text file") from None


class Kind(NamedTuple):
    """What sort of node it is."""

    role: Role
    platform: Platform
    preset: str
    slots: int | None = None
    """Tasks at once where no setting says how many; None: as the preset has it."""


def plan_of(
    kind: Kind,
    where: Where,
    *,
    data: Path | None,
    catalog: str | None,
    cdn: str | None,
    journal: Path | None,
    config: Path | None,
    overrides: Sequence[str],
    coordinators: Sequence[str] | None = None,
    join: Sequence[str] | None = None,
    transfer: tuple[str | None, int | None] = (None, None),
    discover: bool | None = None,
    discover_at: Sequence[str] | None = None,
) -> Plan:
    """What is to be put together. Raises ConfigError."""
    file = config or default_file(os.environ)
    preset = None if file is not None or "EDGECODER_PRESET" in os.environ else kind.preset
    settings = load_settings(preset=preset, file=file, environ=os.environ, overrides=overrides)
    node = msgspec.structs.replace(settings.node, has_radio=False)  # there is no driver of a radio yet
    if kind.slots is not None and settings.origins["node.slots"] in ("default", f"preset {settings.preset}"):
        node = msgspec.structs.replace(node, slots=kind.slots)
    node = coordinators_of(node, coordinators, discover)
    folder = data or platformdirs.user_data_path("edgecoder", appauthor=False)
    make_folder(folder)
    if journal is not None:
        make_folder(journal.parent)
    logins = Logins()
    return Plan(
        folder=folder,
        role=kind.role,
        platform=kind.platform,
        cluster=settings.cluster,
        config=node,
        catalog=catalog_of(catalog, cdn, folder, node, logins),
        logins=logins,
        binding=where.binding(),
        journal=journal,
        join=tuple(join or ()),
        discover_at=interfaces_of(discover_at),
        place=place_of(node, *transfer),
    )


def catalog_of(
    catalog: str | None, cdn: str | None, folder: Path, config: NodeConfig, logins: Logins
) -> Catalog | OriginCatalog:
    """The catalog of a file, or where it comes from; `logins` get those of its addresses. Raises ConfigError."""
    if catalog is None or "://" not in catalog:
        return load_catalog(None if catalog is None else Path(catalog), cdn, logins)
    check_address("--catalog", catalog, "give one such as https://models.example/catalog.yaml")
    if cdn is not None:
        check_cdn(cdn)
    return OriginCatalog(catalog, cdn, folder, config, logins=logins)


def make_folder(folder: Path) -> None:
    """Make a folder that is to be written to. Raises ConfigError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(str(folder), None, f"no folder: {error.strerror}", "choose another place") from None


def serve(plan: Plan, make_parts: Callable[[Plan, Catalog], Parts], level: str) -> None:
    """Run a node until it is told to end."""
    share_one_heap()
    configure_logs(level)

    async def life() -> None:
        async with running(plan, make_parts) as device:
            ending = Ending()
            if sys.stderr.isatty():
                typer.echo(f"{device.engine} on {plan.binding.url(device.port)}; Ctrl-C drains and ends", err=True)
            await device.until_told(ending)

    asyncio.run(life())


class _ErrorStream:
    """The error stream that there is when something is written. Where it cannot be written to, a line is lost and
    nothing else: its reader may be gone, its terminal closed, its disk full."""

    def write(self, text: str) -> None:
        """See `TextIO`."""
        with contextlib.suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        """See `TextIO`."""
        with contextlib.suppress(OSError):
            sys.stderr.flush()


def configure_logs(level: str) -> None:
    """Lines for people on a terminal, JSON elsewhere; all on the error stream."""
    is_terminal, lines = sys.stderr.isatty(), structlog.WriteLogger(cast("TextIO", _ErrorStream()))
    renderer = structlog.dev.ConsoleRenderer() if is_terminal else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=not is_terminal),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=False,
    )
    take_in_others(level)
