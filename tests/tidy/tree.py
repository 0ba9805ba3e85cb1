"""The checkout as the tidy tests see it: its files, its syntax trees, and what is wrong with them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("edgecoder", "sim/edgecoder_sim", "drivers/edgecoder_drivers")
PURE: Final = ("core", "wire", "models", "mesh", "seeding", "coordinator")
"""The folders of `edgecoder` that do no I/O; those that exist already."""

_NOT_OURS: Final = {"__pycache__", "build", "dist", "runs", "node_modules"}


def _walk(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        hidden = path.name.startswith(".") and path.name not in {".ci", ".gitignore"}
        if hidden or path.name in _NOT_OURS or path.name.endswith(".egg-info"):
            continue
        if path.is_dir():
            yield from _walk(path)
        else:
            yield path


@cache
def files() -> tuple[Path, ...]:
    """Every file that belongs to the project."""
    return tuple(_walk(ROOT))


def python_files(*under: str) -> list[Path]:
    """The Python files below some folders of the checkout; of all of it when none is named."""
    folders = [ROOT / folder for folder in under] or [ROOT]
    return [path for path in files() if path.suffix == ".py" and any(path.is_relative_to(each) for each in folders)]


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def shown(path: Path) -> str:
    """A path for a message, from the root of the checkout."""
    return path.relative_to(ROOT).as_posix()


def imports(module: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything a module imports, inside functions too; `from a import b` counts as `a.b`."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def dotted(node: ast.expr) -> str:
    """`a.b.c` for the expression of that form, else the empty string."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (owner := dotted(node.value)):
        return f"{owner}.{node.attr}"
    return ""
