"""Live a journalled life of a node again and compare its answers.

Decides what is printed; the life is lived in `replay`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from edgecoder.cli.app import EXIT_FAILED
from edgecoder.errors import ConfigError
from edgecoder_drivers.replay import replay


def command(
    journal: Annotated[
        Path, typer.Argument(metavar="JOURNAL", help="The file that an agent or device wrote with --journal.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Feed the core with the events of a journal and compare each answer with the one of then. Exits with 1 at the
    first that differs."""
    if not journal.is_file():
        raise ConfigError(str(journal), None, "there is no such file", "give the journal of an agent or device")
    replayed = replay(journal)
    difference = replayed.difference
    if as_json:
        told = None if difference is None else {"event": type(difference.event).__name__, "atUs": difference.now}
        value = {"events": replayed.events, "lastUs": replayed.last, "difference": told}
        typer.echo(msgspec.json.encode(value).decode())
    elif difference is None:
        typer.echo(f"{replayed.events} events over {replayed.last / 1e6:.3f} s: every answer is the same")
    else:
        typer.echo(f"event {difference.number}, {difference.now / 1e6:.3f} s: another answer than then")
        typer.echo(f"  event   {difference.event!r}")
        typer.echo("\n".join(f"  today   {effect!r}" for effect in difference.effects) or "  today   nothing")
    if difference is not None:
        raise typer.Exit(EXIT_FAILED)
