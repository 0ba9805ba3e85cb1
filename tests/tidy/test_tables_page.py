"""The page of the tables is that of their definitions."""

from __future__ import annotations

from edgecoder_sim.tables import TABLES, page
from tests.tidy.tree import ROOT


def test_the_page_is_up_to_date() -> None:
    written = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8")
    assert written == page(), "run: python -m edgecoder_sim.tables > docs/tables.md"


def test_the_page_has_every_column() -> None:
    rows = [line.split("`")[1] for line in page().splitlines() if line.startswith("| `")]
    columns = [column.name for table in TABLES.values() for column in table.columns]
    assert rows[: len(columns)] == columns
