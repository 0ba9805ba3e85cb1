"""What the documents show as code runs."""

from __future__ import annotations

import contextlib
import io
import re
from typing import Any

from tests.tidy.tree import ROOT


def test_the_smallest_host_of_the_core_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/core.md").read_text(encoding="utf-8"), re.DOTALL)
    said, names = io.StringIO(), dict[str, Any]()
    with contextlib.redirect_stdout(said):
        exec(compile(code, "docs/core.md", "exec"), names)
    assert "NodeReady(epoch=1)" in said.getvalue()
    assert said.getvalue().count("CapabilitiesChanged") >= 1
    assert names["disk"]["epoch"] == (1).to_bytes(4, "big")
    assert names["now_us"] >= 60_000_000
