"""The command `edgecoder`: finds commands, loads the one that is asked for, turns what goes wrong into an exit code.

What a command does is its own; this module knows none of them. A command is an entry point in the group
`edgecoder.commands`, in this distribution or in another:

- It points to a function with typer annotations, or to a `typer.Typer` for a command with subcommands, by convention
  called `command`.
- The first line of its *module's* docstring is its line in `edgecoder --help`. It is read from the source, so that help
  imports no command and works while an extra is missing.
- An extra that it needs stands behind the entry point: `run = "edgecoder_sim.commands.run:command [sim]"`.
- It raises an EdgeCoderError for a user's mistake and `typer.Exit(code)` for any other end than success.
"""

from __future__ import annotations

import ast
import errno
import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any, Final, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from edgecoder import __version__
from edgecoder.cli.completion import COMPLETE, whole_words
from edgecoder.cli.terminal import printable
from edgecoder.errors import EdgeCoderError
from edgecoder.health import target

GROUP: Final = "edgecoder.commands"
EXIT_FAILED: Final = 1
EXIT_OUTSIDE: Final = 3
"""A driver, an extra or the disk is missing or broken."""
EXIT_INTERRUPTED: Final = 130
_OUTSIDE_HINTS: Final = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some of your quota",
    errno.EROFS: "choose a place that can be written",
    errno.EACCES: "choose another place, or ask for the right to use this one",
    errno.EPERM: "choose another place, or ask for the right to use this one",
}
"""What the operating system may refuse without a fault of ours, and the next step."""


class _LazyCommand(TyperCommand):
    """Stands for a command until it is used: knows its name and its line of help, and loads the rest on demand."""

    def __init__(self, entry_point: EntryPoint) -> None:
        super().__init__(name=entry_point.name, rich_markup_mode=None)
        self.entry_point = entry_point
        self.started = False

    def get_short_help_str(self, limit: int = 45) -> str:  # noqa: ARG002 - the line is never cut
        """The first line of the module's docstring."""
        return help_line(self.entry_point)

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Called when the command is about to run or to complete its arguments: time to load it."""
        self.started = True
        return _load(self.entry_point).make_context(info_name, args, parent, **extra)


def help_line(entry_point: EntryPoint) -> str:
    """The first line of the docstring of an entry point's module; empty when the module cannot be found."""
    try:
        spec = importlib.util.find_spec(entry_point.module)
        if spec is None or spec.origin is None:
            return ""
        with open(spec.origin, encoding="utf-8") as source:  # noqa: PTH123 - an import system's origin is a string
            tree = ast.parse(source.read())
    except (ImportError, OSError, SyntaxError, ValueError):
        return ""
    return (ast.get_docstring(tree) or "").partition("\n")[0]


def _load(entry_point: EntryPoint) -> Any:
    """Import a command and make it one that can run."""
    loaded = entry_point.load()
    if not isinstance(loaded, typer.Typer):
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(entry_point.name)(loaded)
        loaded = single
    return typer.main.get_command(loaded)


def _needs(group: TyperGroup, missing: str) -> str | None:
    """The line for a user whose command found the module `missing` missing; None when that module is our own, a bug."""
    used = next((each for each in group.commands.values() if isinstance(each, _LazyCommand) and each.started), None)
    package = missing.partition(".")[0]
    if used is None or package in {"", "edgecoder", "edgecoder_sim", "edgecoder_drivers"}:
        return None
    extras = ",".join(used.entry_point.extras)
    if not extras:
        return f"edgecoder {used.name} needs the package '{package}': pip install {package}"
    return f"edgecoder {used.name} needs the extra '{extras}': pip install {target(extras)}"


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"edgecoder {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """A mesh of phones and laptops that hot-swap and share small coding models."""


def build() -> TyperGroup:
    """The whole command line, with no command loaded yet."""
    app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
    app.callback()(_options)
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    for entry_point in sorted(entry_points(group=GROUP), key=lambda entry_point: entry_point.name):
        group.add_command(_LazyCommand(entry_point))
    return group


def run(args: Sequence[str] | None = None) -> int:
    """Run one command line (without the program's name; None means sys.argv) and answer its exit code."""
    group = build()
    try:
        with whole_words(os.environ):
            group.main(args=args, prog_name="edgecoder")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except EdgeCoderError as error:
        _complain(str(error) or type(error).__name__)
        return error.exit_code
    except ModuleNotFoundError as error:
        if (line := _needs(group, error.name or "")) is None:
            raise
        _complain(line)
        return EXIT_OUTSIDE
    except OSError as error:
        if error.errno not in _OUTSIDE_HINTS:
            raise
        _complain(f"{error.filename or 'edgecoder'}: {error.strerror}; {_OUTSIDE_HINTS[error.errno]}")
        return EXIT_OUTSIDE
    return 0


def main() -> NoReturn:
    """The console script."""
    code = run()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        # The reader has gone, as in `edgecoder … | head`. Python would flush, and complain, once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = code or EXIT_FAILED
    sys.exit(code)


def _complain(message: str) -> None:
    """One line on stderr, which may have others' words in it; nothing while a shell completes a line of its own."""
    if COMPLETE not in os.environ:
        typer.echo(printable(" ".join(message.split("\n"))), err=True)
