"""What pyproject.toml declares is what the code imports: no package too few, none for nothing."""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from edgecoder.health import BASE
from tests.tidy.tree import ROOT, imports, python_files, tree

OURS = {"edgecoder", "edgecoder_sim", "edgecoder_drivers", "tests", "benchmarks"}
USED_UNSEEN = {"vl-convert-python"}
"""Packages that no import of ours names: altair puts the chart library into the report with this one."""
SOURCE_ONLY = {"llama_cpp": "llama-cpp-python"}
"""Modules of packages that most installations do without, since they are built from source."""

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
OF_DRIVERS = sorted(EXTRAS.keys() - {"sim", "dev", "all"})


def declared(*scopes: str) -> set[str]:
    lines = [line for scope in scopes for line in (PROJECT["dependencies"] if scope == BASE else EXTRAS[scope])]
    return {canonicalize_name(Requirement(line).name) for line in lines}


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
    assert imported("sim") <= declared(BASE, "sim")
    assert imported("drivers") <= declared(BASE, *OF_DRIVERS)


@pytest.mark.parametrize("package", sorted(declared("sim")))
def test_no_package_of_the_simulator_is_for_nothing(package: str) -> None:
    assert package in imported("sim") | USED_UNSEEN


@pytest.mark.parametrize("package", sorted(declared(*OF_DRIVERS)))
def test_no_package_of_the_drivers_is_for_nothing(package: str) -> None:
    assert package in imported("drivers")


@pytest.mark.parametrize("package", sorted(declared(BASE)))
def test_no_package_of_the_base_is_for_nothing(package: str) -> None:
    assert package in imported("edgecoder") | imported("sim")


def test_tests_and_benchmarks_import_what_dev_installs() -> None:
    assert imported("tests") | imported("benchmarks") <= declared(BASE, "sim", "dev", *OF_DRIVERS)
