"""Show the configuration and where each value comes from.

Prints what `settings` merged; decides nothing itself.
"""

from __future__ import annotations

import json
import os
from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer

from edgecoder.settings import Settings, default_file, load_settings

command = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)


@command.callback()
def _group() -> None:
    """Show the configuration and where each value comes from."""


@command.command()
def show(
    preset: Annotated[
        Literal["phone", "laptop", "server"] | None, typer.Option(help="Start from these values.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Read this YAML file, not EDGECODER_CONFIG or the user's config.yaml."),
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set one value, such as node.slots=4.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print every field, its value and its origin: preset, then file, then EDGECODER_*, then --set; the later wins."""
    settings = load_settings(
        preset=preset, file=file or default_file(os.environ), environ=os.environ, overrides=overrides or ()
    )
    typer.echo(_json(settings) if as_json else _lines(settings))


def _rows(settings: Settings) -> list[tuple[str, object, str]]:
    """Key, plain value and origin of every field."""
    values = {"cluster": settings.cluster, "node": settings.node}
    rows: list[tuple[str, object, str]] = []
    for key, origin in settings.origins.items():
        section, _, name = key.partition(".")
        value = getattr(values[section], name)
        rows.append((key, value.value if isinstance(value, Enum) else value, origin))
    return rows


def _json(settings: Settings) -> str:
    fields = {key: {"value": value, "origin": origin} for key, value, origin in _rows(settings)}
    return msgspec.json.encode({"preset": settings.preset, "fields": fields}).decode()


def _lines(settings: Settings) -> str:
    rows = [(key, _yaml(value), origin) for key, value, origin in _rows(settings)]
    key_width = max(len(key) for key, _, _ in rows)
    value_width = max(len(value) for _, value, _ in rows)
    return "\n".join(f"{key:<{key_width}}  {value:<{value_width}}  {origin}" for key, value, origin in rows)


def _yaml(value: object) -> str:
    """A value as a file would say it."""
    if isinstance(value, tuple):
        return json.dumps(list(value))
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)
