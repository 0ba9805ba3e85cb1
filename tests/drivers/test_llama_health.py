"""What `edgecoder doctor` says of llama.cpp."""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from edgecoder_drivers.llamacpp import health, port
from edgecoder_drivers.llamacpp.health import MEMORY_MIN_MB, check_library, check_memory, checks
from edgecoder_drivers.llamacpp.port import LIBRARIES, installed_library

MIB = 1 << 20


def test_what_is_here_is_well() -> None:
    assert [(check.scope, check.name) for check in checks()] == [("llama", "library"), ("llama", "memory")]
    library = checks()[0]
    assert library.ok, library.detail
    assert library.detail.startswith(f"{installed_library().rpartition('with_')[2]} starts")


def test_who_has_built_a_library_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port, "find_spec", lambda name: ModuleSpec(name, None))
    assert installed_library() == LIBRARIES["llama_cpp"]
    monkeypatch.setattr(port, "find_spec", lambda name: ModuleSpec(name, None) if name == "xllamacpp" else None)
    assert installed_library() == LIBRARIES["xllamacpp"]


@pytest.fixture
def starting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a library is started by."""
    started = [sys.executable, "-c", "pass"]
    monkeypatch.setattr(health, "command", lambda library: started)
    return started


def test_the_library_that_is_used_and_the_other_are_named(starting: list[str]) -> None:
    built, wheel = LIBRARIES["llama_cpp"], LIBRARIES["xllamacpp"]
    assert check_library(built, [built]).detail == "llama_cpp starts"
    assert check_library(built, [built, wheel]).detail == "llama_cpp starts, and is used in place of xllamacpp"
    starting[2] = "raise SystemExit(7)"
    assert check_library(wheel, [wheel]).hint.endswith("install 'edgecoder[llama-source]', which is used then")
    assert check_library(built, [built]).hint.endswith(" llama-cpp-python")
    assert "uninstall" not in check_library(built, [built]).hint
    assert check_library(built, [built, wheel]).hint.endswith(" -m pip uninstall llama-cpp-python")


@pytest.mark.parametrize("fault", ["raise ImportError('a part of it is missing')", "import os; os.abort()"])
def test_a_library_that_does_not_start_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    (tmp_path / "broken_llama.py").write_text(fault, encoding="utf-8")
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    check = check_library("broken_llama", ["broken_llama"])
    assert not check.ok
    assert check.detail.startswith("broken_llama ends with ")
    assert check.hint.endswith("-m pip install 'edgecoder[llama-source]', which is used then")


def test_too_little_memory_is_seen() -> None:
    assert check_memory(MEMORY_MIN_MB * MIB).ok
    assert check_memory(None).ok
    little = check_memory(MEMORY_MIN_MB * MIB - 1)
    assert (little.ok, little.detail, little.hint) == (
        False,
        "699 MB free (a small model needs 700)",
        "close other programs",
    )
