"""Run an agent beside Ollama: its models, and the control port.

Decides what belongs to an agent; what agents and devices share is `serving`'s.
"""

from __future__ import annotations

import os
from typing import Annotated

import typer

from edgecoder.core.ids import Role
from edgecoder.errors import ConfigError
from edgecoder.models.catalog import Platform
from edgecoder_drivers.commands.giving import TransferHost, TransferPort
from edgecoder_drivers.commands.serving import (
    CatalogFile,
    Cdn,
    Certificate,
    Config,
    Data,
    Host,
    JournalFile,
    Key,
    Kind,
    Level,
    Names,
    Overrides,
    Port,
    TokenFile,
    Where,
    plan_of,
    serve,
)
from edgecoder_drivers.commands.uplinks import Coordinators, Discover, DiscoverAt, Join
from edgecoder_drivers.http.server import PORT
from edgecoder_drivers.ollama.address import address
from edgecoder_drivers.ollama_parts import OllamaParts


def check_address(ollama: str | None) -> None:
    """Raises ConfigError where Ollama could not be there."""
    try:
        address(ollama)
    except ValueError as error:
        raise ConfigError("--ollama", None, str(error), "give one such as 127.0.0.1:11434") from None


def kind() -> Kind:
    """What an agent is. Ollama answers so many prompts of a model at once, and lets others wait."""
    parallel = os.environ.get("OLLAMA_NUM_PARALLEL", "").strip()
    slots = int(parallel) if parallel.isdecimal() and len(parallel) <= 2 else 0
    return Kind(Role.AGENT, Platform.NODE, "laptop", slots or 1)


def command(
    data: Data = None,
    catalog: CatalogFile = None,
    cdn: Cdn = None,
    ollama: Annotated[
        str | None,
        typer.Option("--ollama", envvar="OLLAMA_HOST", metavar="HOST", help="Where Ollama listens, as it writes it."),
    ] = None,
    coordinator: Coordinators = None,
    join: Join = None,
    discover: Discover = None,
    discover_at: DiscoverAt = None,
    transfer_host: TransferHost = None,
    transfer_port: TransferPort = None,
    host: Host = "127.0.0.1",
    port: Port = PORT,
    token_file: TokenFile = None,
    tls_certificate: Certificate = None,
    tls_key: Key = None,
    name: Names = None,
    journal: JournalFile = None,
    config: Config = None,
    overrides: Overrides = None,
    log: Level = "info",
) -> None:
    """Run models with the Ollama of this machine, swap them over HTTP, and answer tasks."""
    check_address(ollama)
    where = Where(host, port, token_file, tls_certificate, tls_key, name or ())
    plan = plan_of(
        kind(),
        where,
        data=data,
        catalog=catalog,
        cdn=cdn,
        journal=journal,
        config=config,
        overrides=overrides or (),
        coordinators=coordinator,
        join=join,
        discover=discover,
        discover_at=discover_at,
        transfer=(transfer_host, transfer_port),
    )
    serve(
        plan, lambda plan, catalog: OllamaParts(plan.folder, catalog, plan.config, host=ollama, logins=plan.logins), log
    )
