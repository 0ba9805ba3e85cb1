"""What pyproject.toml declares is what the code imports: no package too few, none for nothing."""

from __future__ import annotations

import sys
from importlib.metadata import packages_distributions

import pytest
from packaging.utils import canonicalize_name

from edgecoder.health import BASE, requirements
from tests.tidy.tree import imports, python_files, tree

OURS = {"edgecoder", "edgecoder_sim", "edgecoder_drivers", "tests", "benchmarks"}
USED_UNSEEN = {"vl-convert-python"}
"""Packages that no import of ours names: altair puts the chart library into the report with this one."""


SOURCE_ONLY = {"llama_cpp": "llama-cpp-python"}
"""Modules of packages that most installations do without, since they are built from source."""


def declared(scope: str) -> set[str]:
    return {canonicalize_name(requirement.package) for requirement in requirements() if requirement.scope == scope}


def of_drivers() -> set[str]:
    return declared("agent") | declared("llama") | declared("llama-source")


def imported(folder: str) -> set[str]:
    """The distributions whose modules the code in a folder imports."""
    tops = {name.partition(".")[0] for path in python_files(folder) for _, name in imports(tree(path))}
    owners = {**packages_distributions(), **{module: [package] for module, package in SOURCE_ONLY.items()}}
    return {
        canonicalize_name(owners[top][0]) if top in owners else f"{top}, which is not installed"
        for top in tops - OURS - sys.stdlib_module_names
    }


def test_each_part_declares_what_it_imports() -> None:
    assert imported("edgecoder") <= declared(BASE)
    assert imported("sim") <= declared(BASE) | declared("sim")
    assert imported("drivers") <= declared(BASE) | of_drivers()


@pytest.mark.parametrize("package", sorted(declared("sim")))
def test_no_package_of_the_simulator_is_for_nothing(package: str) -> None:
    assert package in imported("sim") | USED_UNSEEN


@pytest.mark.parametrize("package", sorted(of_drivers()))
def test_no_package_of_the_drivers_is_for_nothing(package: str) -> None:
    assert package in imported("drivers")


@pytest.mark.parametrize("package", sorted(declared(BASE)))
def test_no_package_of_the_base_is_for_nothing(package: str) -> None:
    assert package in imported("edgecoder") | imported("sim")


def test_tests_and_benchmarks_import_what_dev_installs() -> None:
    everything = declared(BASE) | of_drivers() | declared("sim") | declared("dev")
    assert imported("tests") | imported("benchmarks") <= everything
