"""Check this installation and say how to mend it.

Prints what `health` found; ends with 3 when the base, or an extra that was asked for, lacks something.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from edgecoder import __version__
from edgecoder.health import BASE, Check, check_all, extras


def command(
    wanted: Annotated[
        list[str] | None, typer.Option("--extra", metavar="NAME", help="Fail unless this extra is complete.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check Python, the installed packages and what each extra needs, and say how to mend what is missing."""
    needed = {BASE, *(wanted or ())}
    if unknown := sorted(needed - {BASE, *extras()}):
        raise typer.BadParameter(f"there is no extra {', '.join(unknown)}; the extras are {', '.join(extras())}")
    checks = check_all()
    ok = all(check.ok for check in checks if check.scope in needed)
    if as_json:
        report = {"version": __version__, "ok": ok, "checks": [check._asdict() for check in checks]}
        typer.echo(msgspec.json.encode(report).decode())
    else:
        typer.echo("\n".join([f"edgecoder {__version__}", *_lines(checks, needed)]))
    if not ok:
        raise typer.Exit(3)


def _lines(checks: list[Check], needed: set[str]) -> list[str]:
    """A heading for each scope, its checks, of one that is not needed those that failed, and how to mend it."""
    width = max(len(check.name) for check in checks)
    lines: list[str] = []
    for scope in dict.fromkeys(check.scope for check in checks):
        mine = [check for check in checks if check.scope == scope]
        bad = [check for check in mine if not check.ok]
        lines.append(f"{scope}: " + ("complete" if not bad else f"{len(bad)} of {len(mine)} checks failed"))
        shown = mine if scope in needed else bad
        lines += [f"  {'ok  ' if check.ok else 'MISS'}  {check.name:<{width}}  {check.detail}" for check in shown]
        lines += [f"  -> {hint}" for hint in dict.fromkeys(check.hint for check in bad)]
    return lines
