"""Draws the state machines of the core from their tables: `python docs/draw_machines.py` writes docs/machines.md.

The tables are the machines; the drawings cannot differ from them (a test compares).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from edgecoder.coordinator.clones import CLONE_TABLE
from edgecoder.coordinator.relay import RELAY_TABLE
from edgecoder.mesh.dial_table import DIAL_TABLE
from edgecoder.mesh.executor import WORK_TABLE
from edgecoder.mesh.heartbeat import ONLINE_TABLE
from edgecoder.mesh.task_table import TASK_TABLE
from edgecoder.mesh.uplinks import UPLINK_TABLE
from edgecoder.models import swap
from edgecoder.models.inventory import DOWNLOAD_TABLE
from edgecoder.seeding.transfer_table import TRANSFER_TABLE

Table = Mapping[tuple[Enum, Enum], Enum]

MACHINES: list[tuple[str, str, Table]] = [
    (
        "The active model",
        "`edgecoder/models/swap.py`. *Bare* means that no model is in the engine, or none is there to go back to.",
        {key: row[0] for key, row in swap.TABLE.items()},
    ),
    ("A model file", "`edgecoder/models/inventory.py`.", DOWNLOAD_TABLE),
    ("A file that comes in pieces", "`edgecoder/seeding/transfer_table.py`.", TRANSFER_TABLE),
    ("Online or offline", "`edgecoder/mesh/heartbeat.py`.", ONLINE_TABLE),
    ("The link to a coordinator", "`edgecoder/mesh/uplinks.py`.", UPLINK_TABLE),
    ("A node's key at a coordinator", "`edgecoder/coordinator/clones.py`.", CLONE_TABLE),
    ("A device that the radio hears", "`edgecoder/mesh/dial_table.py`.", DIAL_TABLE),
    ("A task where it was asked", "`edgecoder/mesh/task_table.py`.", TASK_TABLE),
    ("A task where it is answered", "`edgecoder/mesh/executor.py`.", WORK_TABLE),
    ("A task on its way through a coordinator", "`edgecoder/coordinator/relay.py`.", RELAY_TABLE),
]


def draw(table: Table) -> str:
    """A Mermaid state diagram: one arrow a pair of states, with all steps between them."""
    steps: dict[tuple[str, str], list[str]] = {}
    for (state, step), following in table.items():
        steps.setdefault((state.value, following.value), []).append(step.value)
    first = next(iter(table))[0].value
    arrows = [f"    {a} --> {b}: {', '.join(names)}" for (a, b), names in steps.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", f"    [*] --> {first}", *arrows, "```"])


def document(machines: list[tuple[str, str, Any]] | None = None) -> str:
    """The whole of docs/machines.md."""
    parts = ["# The state machines\n\nDrawn from the tables in the code by `python docs/draw_machines.py`."]
    for title, where, table in machines or MACHINES:
        parts.append(f"## {title}\n\n{where} A step that has no arrow changes nothing.\n\n{draw(table)}")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("machines.md").write_text(document(), encoding="utf-8")
