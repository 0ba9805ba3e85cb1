"""What `edgecoder doctor` says of llama.cpp."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgecoder_drivers.llamacpp.health import MEMORY_MIN_MB, check_library, check_memory, checks

MIB = 1 << 20


def test_what_is_here_is_well() -> None:
    assert [(check.scope, check.name) for check in checks()] == [("llama", "library"), ("llama", "memory")]
    library = checks()[0]
    assert library.ok, library.detail
    assert library.detail.endswith("llamacpp starts")


@pytest.mark.parametrize("fault", ["raise ImportError('a part of it is missing')", "import os; os.abort()"])
def test_a_library_that_does_not_start_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    (tmp_path / "broken_llama.py").write_text(fault, encoding="utf-8")
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    check = check_library("broken_llama")
    assert not check.ok
    assert check.detail.startswith("broken_llama ends with ")
    assert check.hint.endswith("-m pip install 'edgecoder[llama-source]'")


def test_too_little_memory_is_seen() -> None:
    assert check_memory(MEMORY_MIN_MB * MIB).ok
    assert check_memory(None).ok
    little = check_memory(MEMORY_MIN_MB * MIB - 1)
    assert (little.ok, little.detail, little.hint) == (
        False,
        "699 MB free (a small model needs 700)",
        "close other programs",
    )
