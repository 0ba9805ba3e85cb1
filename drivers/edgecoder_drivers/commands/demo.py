"""See a whole mesh at work on this machine, within a minute.

An origin, two coordinators and four agents, all real processes with tiny models: they swap, gossip, share a release,
answer each other's tasks, and survive the death of a coordinator. What is to be seen is `demo`'s.
"""

from __future__ import annotations

import asyncio
import importlib.util
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from edgecoder.errors import ConfigError
from edgecoder_drivers.commands.control import Json, print_json
from edgecoder_drivers.demo.board import Board
from edgecoder_drivers.demo.screen import HONEST, line, picture, save_picture
from edgecoder_drivers.demo.story import run

LOOKS_PER_S = 4
ENGINE = "xllamacpp"


def command(
    as_json: Json = False,
    svg: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", help="Keep the last picture of the table as SVG.")
    ] = None,
) -> None:
    """Start a whole mesh on this machine, watch it at work, and end it. Your own nodes and Ollama are left alone."""
    if importlib.util.find_spec(ENGINE) is None:
        raise ModuleNotFoundError(name=ENGINE)  # said now, and not by a node's log
    if svg is not None and not svg.parent.is_dir():
        raise ConfigError("--svg", None, f"there is no folder {svg.parent}", "name a file in one that there is")
    board = Board()
    try:
        with _shown(board):
            asyncio.run(_life(board))
    except (asyncio.CancelledError, KeyboardInterrupt):
        typer.echo("interrupted; all processes of the demo have ended, and their folder is gone", err=True)
        raise KeyboardInterrupt from None
    if svg is not None:
        save_picture(board, svg)
    if as_json:
        print_json(board.report())
    failed = [step for step in board.steps if step.ok is False]
    for step in failed:
        typer.echo(f"{step.name}: {step.detail}", err=True)
    if failed:
        raise typer.Exit(1)


async def _life(board: Board) -> None:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await run(board)


@contextmanager
def _shown(board: Board) -> Iterator[None]:
    """Show it as it goes, on the error stream: a table on a terminal, else lines."""
    console = Console(stderr=True)
    if not console.is_terminal:
        sys.stderr.write(HONEST + "\n")
        board.on_end = lambda step: typer.echo(line(step), err=True)
        yield
        return
    with Live(get_renderable=lambda: picture(board), console=console, refresh_per_second=LOOKS_PER_S):
        yield
