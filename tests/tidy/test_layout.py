"""Source roots, import rules that import-linter cannot express, and what `import edgecoder` may load."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from typing import Any

import pytest

from tests.tidy.tree import PACKAGES, PURE, ROOT, imports, python_files, shown, tree

IMPURE = {
    "asyncio", "datetime", "logging", "os", "pathlib", "random", "secrets", "socket", "threading", "time", "uuid",
}  # fmt: skip
IMPURE_BUILTINS = {"open", "print", "input", "breakpoint", "__import__", "exec", "eval", "hash", "id"}
"""Beside I/O: `hash` and `id` differ from one process to the next."""
DRIVERS = ("ble", "llamacpp", "ollama", "http", "cdn", "store", "links", "transfer", "origin", "lan")
ASSEMBLY = (
    "commands", "coordinator.py", "demo", "device.py", "exchange.py", "llama_parts.py", "ollama_parts.py",
    "origin_catalog.py", "parts.py", "shelf.py",
)  # fmt: skip
"""Where drivers are put together."""
HEAVY = {
    "asyncio", "concurrent", "email", "http", "logging", "multiprocessing", "selectors", "socket", "sqlite3", "ssl",
    "subprocess", "tempfile", "threading", "urllib", "xml",
}  # fmt: skip
"""Standard modules that a small device does not pay for unless it uses them."""


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def import_errors(module: ast.Module, banned: set[str]) -> list[str]:
    """Imports whose top package is banned."""
    return [f"{line}: imports {name}" for line, name in imports(module) if name.partition(".")[0] in banned]


def builtin_errors(module: ast.Module) -> list[str]:
    """Calls of builtins that are I/O or differ from process to process."""
    return [
        f"{node.lineno}: calls {node.func.id}"
        for node in ast.walk(module)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_BUILTINS
    ]


def driver_errors(folder: str, module: ast.Module) -> list[str]:
    """Imports of another driver from the driver in `folder`."""
    others = tuple(f"edgecoder_drivers.{name}" for name in DRIVERS if name != folder)
    return [f"{line}: imports {name}" for line, name in imports(module) if name.startswith(others)]


@pytest.mark.parametrize(
    "source",
    ["import time", "from os import path", "import os.path as p", "def f():\n    from random import Random"],
)
def test_the_import_rule_sees_a_banned_import(source: str) -> None:
    assert import_errors(ast.parse(source), IMPURE)


def test_the_builtin_rule_sees_a_call() -> None:
    assert builtin_errors(ast.parse("def f(x):\n    return hash(x)"))


def test_the_driver_rule_sees_another_driver() -> None:
    source = ast.parse("from edgecoder_drivers.ollama import client")
    assert driver_errors("ble", source)
    assert not driver_errors("ollama", source)


@pytest.mark.parametrize("root", ["sim", "drivers"])
def test_source_roots_are_no_packages(root: str) -> None:
    assert not (ROOT / root / "__init__.py").exists()


def test_nothing_imports_a_source_root() -> None:
    errors = [f"{shown(path)}:{e}" for path in python_files() for e in import_errors(tree(path), {"sim", "drivers"})]
    assert not errors, "\n".join(errors)


def test_the_wheel_has_the_three_packages_and_the_scenarios() -> None:
    wheel = project()["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert tuple(wheel["packages"]) == PACKAGES
    assert wheel["force-include"] == {
        "scenarios": "edgecoder_sim/scenarios",
        "scenarios/catalogs": "edgecoder_drivers/packaged_catalogs",
    }
    assert (ROOT / "scenarios").is_dir()


def test_every_package_is_typed() -> None:
    assert [package for package in PACKAGES if not (ROOT / package / "py.typed").is_file()] == []


def test_pure_folders_import_nothing_impure() -> None:
    pure = python_files(*(f"edgecoder/{folder}" for folder in PURE))
    errors = [f"{shown(path)}:{e}" for path in pure for e in import_errors(tree(path), IMPURE)]
    errors += [f"{shown(path)}:{e}" for path in pure for e in builtin_errors(tree(path))]
    assert pure
    assert not errors, "\n".join(errors)


def test_the_import_contract_names_every_pure_folder() -> None:
    contracts = {contract["id"]: contract for contract in project()["tool"]["importlinter"]["contracts"]}
    there = [f"edgecoder.{folder}" for folder in PURE if (ROOT / "edgecoder" / folder).is_dir()]
    assert sorted(contracts["pure-folders"]["source_modules"]) == sorted(there)
    assert set(contracts["pure-folders"]["forbidden_modules"]) == IMPURE


def test_drivers_know_nothing_of_each_other() -> None:
    folder = ROOT / "drivers/edgecoder_drivers"
    errors = [
        f"{shown(path)}:{error}"
        for path in python_files("drivers/edgecoder_drivers")
        for part in path.relative_to(folder).parts[:1]
        if part not in ASSEMBLY
        for error in driver_errors(part, tree(path))
    ]
    assert not errors, "\n".join(errors)


def loaded_by(statement: str) -> set[str]:
    """The modules that a statement loads in a fresh interpreter."""
    code = f"import json, sys; before = set(sys.modules); {statement}; loaded = set(sys.modules) - before; "
    code += "print(json.dumps(sorted(loaded)))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return set(json.loads(ran.stdout))


def test_importing_the_core_loads_nothing_heavy() -> None:
    core = [path for path in python_files(*(f"edgecoder/{folder}" for folder in PURE)) if path.name != "__init__.py"]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in core]
    imported = ["edgecoder", "edgecoder.config", "edgecoder.errors", "edgecoder.protocol", *names]
    loaded = loaded_by(f"import {', '.join(imported)}") - loaded_by("import msgspec")
    tops = {name.partition(".")[0] for name in loaded}
    third_party = tops - sys.stdlib_module_names - {"edgecoder", "msgspec"}
    assert "edgecoder" in tops
    assert not third_party
    assert not tops & HEAVY
