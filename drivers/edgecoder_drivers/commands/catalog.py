"""Build, serve and verify catalogs of model files.

Decides what is asked and how it reads: how a file becomes an entry is `catalog_entries`', how a catalog is written is
`catalog_files`'.
"""

from __future__ import annotations

import asyncio
import errno
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from edgecoder.cli.terminal import printable
from edgecoder.errors import ConfigError
from edgecoder.models.catalog import CatalogEntry, Platform, show_param_size
from edgecoder.yamlio.document import load
from edgecoder_drivers.bare.server import listen
from edgecoder_drivers.catalogs import load_catalog, read_edition
from edgecoder_drivers.commands.catalog_checks import Finding, check_files, check_urls
from edgecoder_drivers.commands.catalog_entries import Wish, entry_of, models_in
from edgecoder_drivers.commands.catalog_files import Change, Draft
from edgecoder_drivers.commands.control import Json, print_json
from edgecoder_drivers.commands.serving import Cdn, Level, configure_logs
from edgecoder_drivers.ending import Ending
from edgecoder_drivers.origin.folder import Folder
from edgecoder_drivers.origin.server import PORT, OriginServer

command = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)
DEFAULT_NAME = "catalog.yaml"
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="FILE",
        help="The catalog; one that exists keeps its entries. Without it, catalog.yaml in the folder, or here.",
    ),
]
ModelId = Annotated[
    str | None, typer.Option("--id", metavar="ID", help="The model's id; without it, made of the file's name.")
]
Name = Annotated[str | None, typer.Option("--name", metavar="TEXT", help="Its name for people.")]
Aliases = Annotated[list[str] | None, typer.Option("--alias", metavar="NAME", help="Another name of it.")]
Languages = Annotated[list[str] | None, typer.Option("--language", metavar="NAME", help="One it writes.")]
Licence = Annotated[str | None, typer.Option("--licence", "--license", metavar="NAME", help="Its licence.")]
Urls = Annotated[
    list[str] | None,
    typer.Option("--url", metavar="URL", help="Where the file lies; without it, beside the catalog."),
]
Platforms = Annotated[
    list[Platform] | None,
    typer.Option("--platform", help="Where it runs: ios is llama.cpp, node Ollama; without it, both."),
]
ParamSize = Annotated[
    float | None, typer.Option("--param-size", metavar="N", help="Billions of parameters, where the file is wrong.")
]
Quantization = Annotated[str | None, typer.Option("--quantization", metavar="NAME", help="Likewise.")]
MinMemory = Annotated[
    int | None, typer.Option("--min-memory-mb", metavar="N", help="What it takes at least; without it, the file.")
]
Leaves = Annotated[bool, typer.Option("--leaves/--no-leaves", help="Write each file's leaf hashes beside it.")]
Replace = Annotated[bool, typer.Option("--replace", help="Let a file take the place of the one that has its id.")]
_UNBOUND = {
    errno.EADDRINUSE: ("--port", "something else listens there; stop it, or choose another port with --port"),
    errno.EADDRNOTAVAIL: ("--host", "this machine has no such address; give one of its own with --host"),
    errno.EACCES: ("--port", "ports below 1024 are the system's; choose another one with --port"),
}


class Built(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What was built."""

    catalog: str
    version: int
    added: list[str]
    changed: list[str]
    unchanged: list[str]
    warnings: list[str]


@command.callback()
def _group() -> None:
    """Build, serve and verify catalogs of model files."""


@command.command()
def build(
    files: Annotated[list[Path], typer.Argument(metavar="FILES…", help="GGUF files, or one folder of them.")],
    out: Out = None,
    model_id: ModelId = None,
    name: Name = None,
    alias: Aliases = None,
    language: Languages = None,
    licence: Licence = None,
    url: Urls = None,
    platform: Platforms = None,
    param_size: ParamSize = None,
    quantization: Quantization = None,
    min_memory_mb: MinMemory = None,
    leaves: Leaves = True,
    replace: Replace = False,
    as_json: Json = False,
) -> None:
    """Write what GGUF files are into a catalog: SHA-256, Merkle root, sizes, parameters, quantisation."""
    found, folder = models_in(files)
    wish = Wish(
        model_id=model_id,
        display_name=name,
        aliases=alias,
        languages=language,
        license=licence,
        urls=url,
        platforms=platform,
        param_size=param_size,
        quantization=quantization,
        min_memory_mb=min_memory_mb,
    )
    wish.check(found)
    path = out or (folder or Path()) / DEFAULT_NAME
    draft = Draft(path, replace=replace)
    built: dict[Change, list[str]] = {change: [] for change in Change}
    warnings: list[str] = []
    for file in found:
        if sys.stderr.isatty():
            typer.echo(f"hashing {file}", err=True)
        entry = entry_of(file, path.parent, wish, leaves=leaves)
        if not entry.download_urls:
            warnings.append(f"{file}: it has no address, as it lies outside {path.parent}; give one with --url")
        built[draft.put(entry, wish.given)].append(entry.model_id)
    version = draft.save()
    told = Built(
        catalog=str(path),
        version=version,
        added=built[Change.ADDED],
        changed=built[Change.CHANGED],
        unchanged=built[Change.NONE],
        warnings=warnings,
    )
    if as_json:
        print_json(told)
        return
    _tell(told, draft.entries)


def _tell(built: Built, entries: tuple[CatalogEntry, ...]) -> None:
    by_id = {entry.model_id: entry for entry in entries}
    for word, ids in (("added", built.added), ("changed", built.changed), ("unchanged", built.unchanged)):
        for model_id in ids:
            entry = by_id[model_id]
            size = show_param_size(entry.param_size) or "?"
            what = f"{size} {entry.quantization}, {entry.file_size_bytes / 1e6:,.1f} MB, sha256 {entry.sha256[:12]}…"
            typer.echo(f"{word:9} {model_id}: {what}")
    for warning in built.warnings:
        typer.echo(warning, err=True)
    typer.echo(f"{built.catalog}: version {built.version}, {len(entries)} {'model' if len(entries) == 1 else 'models'}")


class Checked(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a catalog was found to be."""

    catalog: str
    version: int
    models: int
    ok: bool
    findings: list[Finding]


@command.command()
def verify(
    catalog: Annotated[Path, typer.Argument(metavar="CATALOG", help="The catalog, as YAML or JSON.")],
    files: Annotated[
        Path | None, typer.Option("--files", metavar="FOLDER", help="Hash each model file in this folder.")
    ] = None,
    urls: Annotated[bool, typer.Option("--urls", help="Ask each address for size, range, leaf hashes.")] = False,
    cdn: Cdn = None,
    as_json: Json = False,
) -> None:
    """Check a catalog, and on request its files and addresses. Ends with 1 where one of them is wrong."""
    edition, addressed = read_edition(load(catalog)), load_catalog(catalog, cdn).entries
    if files is not None and not files.is_dir():
        raise ConfigError("--files", None, f"{files} is no folder", "name the folder with the model files")
    findings = [] if files is None else list(check_files(edition.entries, files))
    findings += check_urls(addressed) if urls else []
    wrong = sum(not finding.ok for finding in findings)
    models = len(edition.entries)
    if as_json:
        told = Checked(catalog=str(catalog), version=edition.version, models=models, ok=not wrong, findings=findings)
        print_json(told)
    else:
        for finding in findings:
            detail = f": {finding.detail}" if finding.detail else ""
            typer.echo(printable(f"{'ok   ' if finding.ok else 'WRONG'} {finding.model} {finding.what}{detail}"))
        what = f"version {edition.version}" if edition.version else "no version"
        verdict = f", {wrong} wrong" if wrong else ""
        typer.echo(f"{catalog}: {what}, {models} {'model' if models == 1 else 'models'}{verdict}")
    if wrong:
        raise typer.Exit(1)


@command.command()
def serve(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder with the catalog and its files.")],
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Where it listens; put TLS before it for other machines.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", metavar="N", min=0, max=65535, help="0 takes a free one.")] = PORT,
    log: Level = "info",
) -> None:
    """Give a folder's catalog and files to nodes, until Ctrl-C."""
    try:
        opened = Folder(folder)
    except OSError as error:
        problem = f"this is no folder that can be served: {error.strerror}"
        raise ConfigError(str(folder), None, problem, "name the folder with the catalog and its files") from None
    if not any(folder.iterdir()):
        opened.close()
        raise ConfigError(str(folder), None, "this folder is empty", "put models in it: edgecoder catalog build FILES…")
    try:
        listening = listen(host, port)
    except OSError as error:
        what, hint = _UNBOUND.get(error.errno or 0, ("--host", "give an address of this machine"))
        raise ConfigError(what, None, f"{host}:{port}: {error.strerror}", hint) from None
    configure_logs(log)
    asyncio.run(_serve(OriginServer(opened, listening), folder, host))
    opened.close()


async def _serve(server: OriginServer, folder: Path, host: str) -> None:
    ending = Ending()
    server.start()
    url = f"http://{f'[{host}]' if ':' in host else host}:{server.port}"
    typer.echo(f"{folder} on {url}; Ctrl-C ends", err=True)
    if (folder / DEFAULT_NAME).is_file():
        typer.echo(f"nodes: edgecoder device --catalog {url}/{DEFAULT_NAME}", err=True)
    else:
        typer.echo(f"there is no {DEFAULT_NAME} in it yet: edgecoder catalog build {folder}", err=True)
    await ending.first.wait()
    await server.stop()
