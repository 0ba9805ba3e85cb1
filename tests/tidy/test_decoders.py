"""Whatever turns bytes into values is in a list here, with the test that gives it hostile ones."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

from tests.tidy.tree import ROOT, python_files, tree

READS: Final = {"json.loads", "msgspec.json.decode", "msgspec.msgpack.decode", "msgspec.convert"}
"""Functions, by their whole names;"""
METHODS: Final = {"unpack", "unpack_from"}
"""methods of whatever;"""
DECODERS: Final = ("decoder", "from_child", "to_child", "yaml")
"""and `decode` and `load` of what is called so."""
DISK: Final = "tests/properties/test_decoders.py::test_a_node_begins_its_life_whatever_its_disk_says"
READ: Final = "tests/properties/test_decoders.py::test_it_is_read_or_refused"
FILE: Final = "tests/drivers/test_hostile_decoders.py::test_a_file_is_read_or_refused"
CHILD: Final = "tests/drivers/test_hostile_decoders.py::test_what_a_process_says_is_a_message_or_none"
TESTED: Final = {
    "drivers/edgecoder_drivers/commands/catalog_files.py": (
        "tests/drivers/test_hostile_answers.py::test_a_catalog_that_is_to_be_changed_is_read_or_refused"
    ),
    "drivers/edgecoder_drivers/commands/control.py": (
        "tests/drivers/test_hostile_answers.py::test_an_agent_is_understood_or_named_as_something_else"
    ),
    "drivers/edgecoder_drivers/http/wire.py": (
        "tests/drivers/test_hostile_decoders.py::test_a_body_is_taken_or_refused"
    ),
    "drivers/edgecoder_drivers/links/admission.py": FILE,
    "drivers/edgecoder_drivers/links/handshake.py": (
        "tests/drivers/test_links_handshake.py::test_hostile_bytes_end_as_unwelcome"
    ),
    "drivers/edgecoder_drivers/llamacpp/child.py": CHILD,
    "drivers/edgecoder_drivers/llamacpp/header.py": (
        "tests/drivers/test_gguf_header.py::test_whatever_follows_the_magic_is_read_or_refused"
    ),
    "drivers/edgecoder_drivers/llamacpp/process.py": CHILD,
    "drivers/edgecoder_drivers/ollama/copies.py": FILE,
    "drivers/edgecoder_drivers/ollama/noted.py": FILE,
    "drivers/edgecoder_drivers/ollama/wire.py": (
        "tests/drivers/test_hostile_answers.py::test_an_ollama_is_understood_or_refused"
    ),
    "drivers/edgecoder_drivers/origin_catalog.py": FILE,
    "drivers/edgecoder_drivers/transfer/wire.py": "tests/drivers/test_transfer_wire.py::test_what_is_no_ticket_is_none",
    "edgecoder/coordinator/ledger.py": DISK,
    "edgecoder/coordinator/withdrawn.py": DISK,
    "edgecoder/journal/replay.py": (
        "tests/drivers/test_hostile_decoders.py::test_a_journal_that_somebody_has_sealed_anew_is_replayed_or_refused"
    ),
    "edgecoder/mesh/spares.py": DISK,
    "edgecoder/models/held.py": READ,
    "edgecoder/models/inventory.py": READ,
    "edgecoder/models/swap.py": DISK,
    "edgecoder/seeding/holdings.py": READ,
    "edgecoder/seeding/receipts.py": DISK,
    "edgecoder/wire/codec.py": ("tests/properties/test_wire.py::test_arbitrary_bodies_are_a_message_or_the_one_error"),
    "edgecoder/wire/envelope.py": "tests/properties/test_wire.py::test_arbitrary_bytes_are_refused",
    "edgecoder/yamlio/document.py": READ,
    "sim/edgecoder_sim/fit/life.py": (
        "tests/sim/test_fit_command.py::test_journals_that_somebody_has_sealed_anew_are_fitted_or_refused"
    ),
}
OWN: Final = {
    "edgecoder/health.py": "what pip wrote of this installation",
}
"""Those that read nothing of others."""
STAGE: Final = "drivers/edgecoder_drivers/demo/"
"""The demo's nodes and origin are its own, begun by it."""


def is_reading(call: ast.Call) -> bool:
    if not isinstance(call.func, ast.Attribute):
        return False
    said, whose = ast.unparse(call.func), ast.unparse(call.func.value).lower()
    return (
        said in READS
        or call.func.attr in METHODS
        or (call.func.attr in ("decode", "load") and whose.endswith(DECODERS))
    )


def reading() -> set[str]:
    """The modules of the core and of drivers that decode something, and of what reads real nodes' journals."""
    found = set()
    for folder in ("edgecoder", "drivers", "sim/edgecoder_sim/fit"):
        for path in python_files(folder):
            name = path.relative_to(ROOT).as_posix()
            calls = (node for node in ast.walk(tree(path)) if isinstance(node, ast.Call))
            if not name.startswith(STAGE) and any(map(is_reading, calls)):
                found.add(name)
    return found


def test_whatever_decodes_is_tested_with_hostile_bytes() -> None:
    assert reading() == TESTED.keys() | OWN.keys()


def test_the_tests_are_there_and_draw_their_bytes() -> None:
    for test in sorted(set(TESTED.values())):
        path, _, name = test.partition("::")
        functions = [node for node in tree(ROOT / Path(path)).body if isinstance(node, ast.FunctionDef)]
        (found,) = (function for function in functions if function.name == name)
        assert any("given" in ast.unparse(decorator) for decorator in found.decorator_list), test
