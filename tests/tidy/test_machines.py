"""The drawings of the state machines are those of the tables."""

from __future__ import annotations

import runpy

from tests.tidy.tree import ROOT


def test_drawings_are_up_to_date() -> None:
    draw = runpy.run_path(str(ROOT / "docs" / "draw_machines.py"))
    drawn = (ROOT / "docs" / "machines.md").read_text(encoding="utf-8")
    assert drawn == draw["document"](), "run: python docs/draw_machines.py"
