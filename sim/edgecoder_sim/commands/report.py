"""Write the report of a run again.

What stands in it is `report`'s; a newer EdgeCoder may show more of the same tables.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from edgecoder_sim.report import write_report
from edgecoder_sim.results import Run


def command(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="Run directories; without one, or with `last`, the newest in ./runs that has ended.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write report.html into run directories."""
    paths = [write_report(Run(run)) for run in runs or ["last"]]
    if as_json:
        typer.echo(msgspec.json.encode({"reports": [path.as_posix() for path in paths]}).decode())
    else:
        typer.echo("\n".join(path.as_posix() for path in paths))
