"""Modules stay below 500 lines and functions below 70, so that each fits a head and most fit a screen."""

from __future__ import annotations

import ast

from tests.tidy.tree import python_files, shown, tree

MODULE_LINES = 500
FUNCTION_LINES = 70


def long_functions(module: ast.Module) -> list[str]:
    """Functions of FUNCTION_LINES or more, decorators not counted."""
    errors = []
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length >= FUNCTION_LINES:
                errors.append(f"{node.lineno}: {node.name} has {length} lines")
    return errors


def test_the_rule_sees_a_long_function() -> None:
    body = "    x = 1\n"
    assert long_functions(ast.parse("def f():\n" + body * (FUNCTION_LINES - 1)))
    assert not long_functions(ast.parse("def f():\n" + body * (FUNCTION_LINES - 2)))


def test_modules_are_short() -> None:
    sizes = {shown(path): len(path.read_text(encoding="utf-8").splitlines()) for path in python_files()}
    assert {path: lines for path, lines in sizes.items() if lines >= MODULE_LINES} == {}


def test_functions_are_short() -> None:
    errors = [f"{shown(path)}:{error}" for path in python_files() for error in long_functions(tree(path))]
    assert not errors, "\n".join(errors)
