"""The page of the seed's sentences names tests that exist, and counts what is open."""

from __future__ import annotations

import ast
import re

from tests.tidy.tree import ROOT, tree

OPEN = 2
"""Sentences that nothing shows yet; whoever builds one takes it off here."""
_TEST = re.compile(r"^`(tests/[\w/]+\.py)::(\w+)`$")


def rows() -> list[list[str]]:
    """The cells of the table, without its head."""
    lines = [line for line in (ROOT / "docs/seed.md").read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def functions_of(path: str) -> set[str]:
    """The names of a file's test functions."""
    return {node.name for node in ast.walk(tree(ROOT / path)) if isinstance(node, ast.FunctionDef)}


def test_each_sentence_has_a_test_that_exists_or_says_that_it_is_open() -> None:
    found = rows()
    assert len(found) >= 40
    errors = []
    for sentence, _, shown in found:
        match = _TEST.match(shown)
        if shown == "not built yet":
            continue
        if match is None or not (ROOT / match[1]).is_file() or match[2] not in functions_of(match[1]):
            errors.append(f"{sentence}: {shown}")
    assert not errors, "\n".join(errors)


def test_what_is_open_is_counted() -> None:
    assert sum(shown == "not built yet" for _, _, shown in rows()) == OPEN
