"""Run a device: llama.cpp, its models, and the control port.

Decides what belongs to a device; what agents and devices share is `serving`'s.
"""

from __future__ import annotations

from typing import Annotated

import typer

from edgecoder.core.ids import Role
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
from edgecoder_drivers.llama_parts import LlamaParts

KIND = Kind(Role.PHONE, Platform.IOS, "phone")


def command(
    data: Data = None,
    catalog: CatalogFile = None,
    cdn: Cdn = None,
    threads: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Threads of llama.cpp; without it, one a core.")
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
    """Run models with llama.cpp on this machine, swap them over HTTP, and answer tasks."""
    where = Where(host, port, token_file, tls_certificate, tls_key, name or ())
    plan = plan_of(
        KIND,
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
        plan,
        lambda plan, catalog: LlamaParts(plan.folder, catalog, plan.config, threads=threads, logins=plan.logins),
        log,
    )
