"""Names from the glossary, written fidelity boundaries, and a tree that stands alone."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.tidy.tree import PACKAGES, ROOT, files, python_files, shown, tree

FORBIDDEN_WORDS = {
    "Action": "Effect", "Backend": "driver", "Broadcast": "advertise, gossip", "Callback": "Effect, completion",
    "Experiment": "scenario, run, sweep, trial", "Neighbor": "Peer", "Neighbour": "Peer",
    "Packet": "Frame, Message, Piece", "Provider": "driver", "Runtime": "host", "Switch": "Swap",
    "Worker": "Node, Agent",
}  # fmt: skip
"""Words of a class name that the glossary replaces, with what it uses. Words with a second meaning may stay: client."""

SIMULATES_NOTHING = {
    "__init__", "chart_data", "charts", "checkers", "commands", "headlines", "health", "metrics", "recording", "report",
    "link_charts", "people_charts", "people_checks", "route_charts", "trouble_charts",
    "people_model", "results", "rundir", "runner", "scenario", "scenario_checks", "scenario_model",
    "scenario_schema", "tables", "watch", "world", "check_words", "columns", "file_tables", "workload_checks",
    "distribution_charts", "distribution_data", "fit",
    "bounds/__init__", "faults/__init__", "faults/checks", "faults/explore", "faults/model", "faults/shrink",
}  # fmt: skip
"""Modules and folders of edgecoder_sim that stand for no part of the real world. Every other one says where its
likeness ends, so a new module must either say so or be added here."""

BOUNDARY = "Fidelity boundary:"
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home|Users|root|work|mnt)/\w")
CLIMB = re.compile(r"(?:\.\./)+")
BINARY = {".parquet", ".png", ".gguf", ".bin", ".gz"}


def forbidden_classes(module: ast.Module) -> list[str]:
    """Classes whose name contains a word that the glossary replaces."""
    errors = []
    for node in ast.walk(module):
        if isinstance(node, ast.ClassDef):
            words = re.findall(r"[A-Z][a-z]+", node.name)
            errors += [
                f"{node.lineno}: {node.name}: say {FORBIDDEN_WORDS[word]}" for word in words if word in FORBIDDEN_WORDS
            ]
    return errors


def lacks_boundary(module: ast.Module) -> bool:
    """Whether a simulated part does not say where its likeness to the real thing ends."""
    _, found, text = (ast.get_docstring(module) or "").partition(BOUNDARY)
    return not found or len(text.split()) < 5


def strangers(text: str, depth: int) -> list[str]:
    """Paths in a file, `depth` folders below the root, that lead out of the checkout or exist on one machine only."""
    errors = []
    for number, line in enumerate(text.splitlines(), start=1):
        climbs = [match[0].count("../") for match in CLIMB.finditer(line)]
        if MACHINE_PATH.search(line) or str(ROOT) in line or any(climb > depth for climb in climbs):
            errors.append(f"{number}: {line.strip()[:100]}")
    return errors


def simulated_parts() -> list[Path]:
    """The modules of edgecoder_sim that stand for a part of the real world."""
    package = ROOT / "sim/edgecoder_sim"
    modules = python_files("sim/edgecoder_sim")
    names = [(path, path.relative_to(package).with_suffix("")) for path in modules]
    return [path for path, name in names if not {name.parts[0], name.as_posix()} & SIMULATES_NOTHING]


@pytest.mark.parametrize("name", ["TaskWorker", "PacketQueue", "ModelSwitch"])
def test_the_glossary_rule_sees(name: str) -> None:
    assert forbidden_classes(ast.parse(f"class {name}: ..."))


def test_the_boundary_rule_sees() -> None:
    assert lacks_boundary(ast.parse('"""A radio."""'))
    assert lacks_boundary(ast.parse('"""A radio.\n\nFidelity boundary: none."""'))
    assert not lacks_boundary(ast.parse('"""A radio.\n\nFidelity boundary: no multipath and no interference."""'))


@pytest.mark.parametrize("path", ["/ho" + "me/ann/x", "see `/wo" + "rk/x`", "../elsewhere", "../" * 2 + "x"])
def test_the_path_rule_sees(path: str) -> None:
    assert strangers(path, depth=0)


def test_class_names_come_from_the_glossary() -> None:
    paths = python_files(*PACKAGES)
    errors = [f"{shown(path)}:{error}" for path in paths for error in forbidden_classes(tree(path))]
    assert not errors, "\n".join(errors)


def test_simulated_parts_say_where_their_likeness_ends() -> None:
    assert [shown(path) for path in simulated_parts() if lacks_boundary(tree(path))] == []


def test_no_file_points_out_of_the_checkout() -> None:
    errors = []
    for path in files():
        depth = len(path.relative_to(ROOT).parts) - 1
        if path.suffix in BINARY:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        errors += [f"{shown(path)}:{error}" for error in strangers(text, 99 if path.suffix == ".py" else depth)]
    assert not errors, "\n".join(errors)


def test_only_verifiers_make_verified_messages() -> None:
    makers = {
        shown(path)
        for path in python_files("edgecoder", "sim", "drivers")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Verified"
    }
    assert makers == {"edgecoder/wire/envelope.py", "sim/edgecoder_sim/crypto.py"}
