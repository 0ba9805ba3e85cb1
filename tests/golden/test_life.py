"""The golden life, compared line by line: a change of any event, effect, time or trace of the core shows here.

`python -m tests.golden.test_life` writes it anew; the difference is what a reviewer reads.
"""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path

import pytest

from tests.golden.life import lines, live

FILE = Path(__file__).with_name("life.txt")


@pytest.mark.parametrize("encoded", [False, True], ids=["reference", "encoded"])
def test_the_life_is_the_same_line_by_line(encoded: bool) -> None:
    golden = FILE.read_text(encoding="utf-8").splitlines()
    for number, (kept, made) in enumerate(zip_longest(golden, lines(live(encoded=encoded))), start=1):
        assert made == kept, f"line {number}"


def test_the_life_has_what_it_is_for() -> None:
    golden = FILE.read_text(encoding="utf-8")
    for moment in (
        "OUT_OF_MEMORY",
        "phase='rollingBack'",
        "phase='draining'",
        "Started(epoch, inventory, receipt/0, swap)",
        "TaskDone",
        "UnloadModel",
        "DeleteFile",
        "IN_USE",
        "Reply",
    ):
        assert moment in golden


if __name__ == "__main__":
    FILE.write_text("\n".join(lines(live(encoded=False))) + "\n", encoding="utf-8")
