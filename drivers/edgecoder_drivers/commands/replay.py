"""Live a journalled life of a node again and compare its answers.

Decides what is printed; the life is lived in `replay`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from edgecoder import __version__
from edgecoder.cli.app import EXIT_FAILED
from edgecoder.errors import ConfigError
from edgecoder.journal.replay import Replayed, Turn, replay


def command(
    journal: Annotated[
        Path, typer.Argument(metavar="JOURNAL", help="The file that an agent or device wrote with --journal.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Feed the core with the events of a journal, life by life, and compare each answer with the one of then. Exits
    with 1 where one differs, where an event ended the node, and where nothing could be replayed."""
    if not journal.is_file():
        raise ConfigError(str(journal), None, "there is no such file", "give the journal of an agent or device")
    replayed = []
    for number, life in enumerate(replay(journal), start=1):
        replayed.append(life)
        if not as_json:
            _print(f"life {number}: ", life)
    if as_json:
        typer.echo(msgspec.json.encode({"lives": [_plain(life) for life in replayed]}).decode())
    is_good = all(life.difference is None and life.end is None for life in replayed)
    if not is_good or not any(life.events for life in replayed):
        raise typer.Exit(EXIT_FAILED)


def _print(name: str, life: Replayed) -> None:
    turn = life.difference or life.end
    if life.version != __version__:
        typer.echo(f"{name}of EdgeCoder {life.version}; replay it with that")
    elif turn is None:
        same = "every answer is the same" if life.events else "nothing was answered"
        typer.echo(f"{name}{life.events} events over {life.last / 1e6:.3f} s: {same}")
    else:
        what = "another answer than then" if life.end is None else "it ended the node, then as today"
        typer.echo(f"{name}event {turn.number}, {turn.now / 1e6:.3f} s: {what}")
        typer.echo(f"  event   {turn.event!r}")
        for effect in turn.effects:
            typer.echo(f"  today   {effect!r}")
        if turn.error is not None:
            typer.echo(f"  today   {type(turn.error).__name__}: {turn.error}")
        elif not turn.effects:
            typer.echo("  today   nothing")
    if life.rest:
        typer.echo(f"{name}it broke off there: {life.rest} bytes are left of an event that was not written whole")


def _plain(life: Replayed) -> dict[str, object]:
    def told(turn: Turn | None) -> object:
        return None if turn is None else {"event": type(turn.event).__name__, "number": turn.number, "atUs": turn.now}

    return {
        "events": life.events,
        "lastUs": life.last,
        "difference": told(life.difference),
        "endedBy": told(life.end),
        "bytesLeft": life.rest,
        "version": life.version,
    }
