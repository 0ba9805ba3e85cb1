"""What a terminal is given: text of others without what would steer it, and tables that nothing cuts off.

Decides how things look, not what is said.
"""

from __future__ import annotations

from collections.abc import Sequence


def printable(text: str) -> str:
    """Text of others, its control characters spelled out; lines and tabs stay."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else repr(letter)[1:-1] for letter in text)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[str] = ()) -> str:
    """Columns below their heads, as wide as what is in them; those in `numbers` stand to the right."""
    lines = [tuple(head), *(tuple(printable(cell) for cell in row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    shown = [
        [
            cell.rjust(width) if name in numbers else cell.ljust(width)
            for name, cell, width in zip(head, line, widths, strict=True)
        ]
        for line in lines
    ]
    return "\n".join("  ".join(cells).rstrip() for cells in shown)
