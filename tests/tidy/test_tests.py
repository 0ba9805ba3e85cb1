"""What a test may not do: read a wall clock, or excuse itself."""

from __future__ import annotations

import ast

import pytest

from tests.tidy.tree import dotted, imports, python_files, shown, tree

CLOCKS = {
    f"time.{name}{unit}"
    for name in ("time", "monotonic", "perf_counter", "process_time", "thread_time")
    for unit in ("", "_ns")
} | {"datetime.datetime.now", "datetime.datetime.utcnow", "datetime.now", "datetime.utcnow", "timeit.timeit"}
EXCUSES = {"skip", "skipif", "skipIf", "skipUnless", "skipTest", "importorskip", "xfail", "expectedFailure"}


def clock_errors(module: ast.Module) -> list[str]:
    """Reads of a clock: a bound on them fails on a busy machine and passes on a fast one."""
    named = [(line, name) for line, name in imports(module) if name in CLOCKS]
    called = [(node.lineno, dotted(node)) for node in ast.walk(module) if isinstance(node, ast.Attribute)]
    return [f"{line}: reads {name}" for line, name in [*named, *called] if name in CLOCKS]


def excuse_errors(module: ast.Module) -> list[str]:
    """Tests that skip themselves or may fail."""
    return [
        f"{node.lineno}: {dotted(node)}"
        for node in ast.walk(module)
        if isinstance(node, ast.Attribute) and node.attr in EXCUSES and dotted(node).startswith(("pytest", "unittest"))
    ] + [
        f"{line}: {name}"
        for line, name in imports(module)
        if name.startswith(("pytest.", "unittest.")) and name.rpartition(".")[2] in EXCUSES
    ]


@pytest.mark.parametrize(
    "source",
    [
        "import time\nassert time.perf_counter() - t < 1",
        "from time import monotonic",
        "import datetime\ndatetime.datetime.now()",
    ],
)
def test_the_clock_rule_sees(source: str) -> None:
    assert clock_errors(ast.parse(source))


@pytest.mark.parametrize(
    "source",
    [
        "pytest.skip('no')",
        "@pytest.mark.skipif(x)\ndef f(): ...",
        "from pytest import importorskip",
        "pytest.mark.xfail",
    ],
)
def test_the_excuse_rule_sees(source: str) -> None:
    assert excuse_errors(ast.parse(source))


def test_no_test_reads_a_wall_clock() -> None:
    errors = [f"{shown(path)}:{error}" for path in python_files("tests") for error in clock_errors(tree(path))]
    assert not errors, "\n".join(errors)


def test_no_test_excuses_itself() -> None:
    errors = [f"{shown(path)}:{error}" for path in python_files("tests") for error in excuse_errors(tree(path))]
    assert not errors, "\n".join(errors)
