"""`edgecoder doctor`: what it knows about requirements, and what it says of a broken installation."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import EntryPoint, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement as Oracle

from edgecoder import health
from edgecoder.cli import app
from edgecoder.health import Check, Requirement, check_all, check_package, extras, parse_requirement
from edgecoder_sim.health import check_disk, check_runs, check_scenarios

LINES = requires("edgecoder") or []
MAY_LACK = {("llama-source", "llama-cpp-python"), ("ollama", "server")}
"""What a newcomer need not have: a package that is built from source, and a server that runs beside us."""


def lacking(checks: list[Check]) -> list[str]:
    """The names of what is wrong with an installation."""
    return [check.name for check in checks if not check.ok and (check.scope, check.name) not in MAY_LACK]


@pytest.mark.parametrize("line", LINES)
def test_our_requirements_read_as_pip_reads_them(line: str) -> None:
    ours, oracle = parse_requirement(line), Oracle(line)
    assert ours.package == oracle.name
    assert (oracle.marker is None) == (ours.scope == health.BASE)
    if oracle.marker is not None:
        assert oracle.marker.evaluate({"extra": ours.scope})
    for version in ("0.0.1", "1", "3.1", "3.6.1", "3.7", "0.22.0", "0.29.2", "99.1", "2026.6.1", "1.9.0.post1"):
        assert ours.admits(version) == oracle.specifier.contains(version, prereleases=True), version


@pytest.mark.parametrize(
    "line", ["x~=1.0", "x>=1; python_version < '3.12'", "x @ https://example.org/x.whl", "x[y]>=1"]
)
def test_other_forms_are_refused(line: str) -> None:
    with pytest.raises(ValueError, match="is not of the form"):
        parse_requirement(line)


@pytest.mark.parametrize(
    ("bounds", "installed", "admitted"),
    [
        (">=3.1", "3.1.0", True),
        (">=3.1", "3.0.9", False),
        (">=3.1", "3.10", True),
        (">=3.6.1,<3.7", "3.6.9", True),
        (">=3.6.1,<3.7", "3.7", False),
        ("", "anything", True),
        (">=1", "unknown", False),
    ],
)
def test_bounds(bounds: str, installed: str, admitted: bool) -> None:
    assert Requirement("x", bounds, "base").admits(installed) is admitted


def test_what_is_here_is_whole() -> None:
    checks = check_all()
    assert lacking(checks) == []
    assert {check.scope for check in checks} == {"base", *extras()}


def test_a_missing_and_an_old_package() -> None:
    missing = check_package(Requirement("nowhere-to-be-found", ">=1", "sim"))
    assert (missing.ok, missing.detail) == (False, "missing (needs >=1)")
    assert missing.hint == f"pip install {health.target('sim')}"
    old = check_package(Requirement("msgspec", ">=999", "base"))
    assert not old.ok
    assert old.hint == f"pip install --upgrade {health.target('base')}"


def test_doctor_prints_and_ends_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["doctor", "--extra", "sim"]) == 0
    out = capsys.readouterr().out
    assert "base: complete" in out
    assert "simpy" in out
    assert "dev: complete" in out
    assert "pytest-xdist" not in out


def test_doctor_says_what_an_extra_lacks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    real = health.requirements()
    monkeypatch.setattr(health, "requirements", lambda: [*real, Requirement("nowhere-to-be-found", ">=1", "sim")])
    assert app.run(["doctor"]) == 0
    assert app.run(["doctor", "--extra", "dev"]) == 0
    capsys.readouterr()
    assert app.run(["doctor", "--extra", "sim"]) == 3
    out = capsys.readouterr().out
    assert "MISS  nowhere-to-be-found  missing (needs >=1)" in out
    assert f"-> pip install {health.target('sim')}" in out

    assert app.run(["doctor", "--extra", "sim", "--json"]) == 3
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert lacking([Check(**check) for check in report["checks"]]) == ["nowhere-to-be-found"]


def test_a_broken_base_always_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "requirements", lambda: [Requirement("nowhere-to-be-found", "", "base")])
    assert app.run(["doctor"]) == 3


def test_an_unknown_extra_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["doctor", "--extra", "simm"]) == 2
    assert f"there is no extra simm; the extras are {', '.join(extras())}" in capsys.readouterr().err


def planted() -> list[Check]:
    """A part's own check, found through an entry point."""
    return [Check("sim", "planted", ok=True, detail="fine")]


def test_a_part_brings_checks_that_run_only_when_it_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("planted", f"{__name__}:planted [sim]", health.GROUP)
    monkeypatch.setattr(health, "entry_points", lambda group: [point])
    assert planted()[0] in check_all()
    monkeypatch.setattr(health, "requirements", lambda: [Requirement("nowhere-to-be-found", "", "sim")])
    assert planted()[0] not in check_all()


def broken() -> list[Check]:
    """A part that cannot be checked."""
    raise OSError("a library does not fit\nand more")


def test_a_part_that_breaks_is_told_and_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("broken", f"{__name__}:broken [sim]", health.GROUP)
    monkeypatch.setattr(health, "entry_points", lambda group: [point])
    check = next(check for check in check_all() if check.name == "broken")
    assert (check.scope, check.ok, check.detail) == ("sim", False, "OSError: a library does not fit")
    assert check.hint == f"pip install --force-reinstall {health.target('sim')}"


@pytest.mark.parametrize(
    ("origin", "base", "extra"),
    [
        (None, "edgecoder", "'edgecoder[sim]'"),
        ('{"url": "file:///here/edgecoder", "dir_info": {}}', "edgecoder", "'edgecoder[sim]'"),
        (
            '{"url": "file:///my%20work/edgecoder", "dir_info": {"editable": true}}',
            "-e '/my work/edgecoder'",
            "-e '/my work/edgecoder[sim]'",
        ),
    ],
)
def test_a_hint_installs_from_where_it_came(
    monkeypatch: pytest.MonkeyPatch, origin: str | None, base: str, extra: str
) -> None:
    class Installed:
        def read_text(self, name: str) -> str | None:
            return origin if name == "direct_url.json" else None

    monkeypatch.setattr(health, "distribution", lambda name: Installed())
    assert (health.target("base"), health.target("sim")) == (base, extra)


def test_the_simulator_s_scenarios_are_found() -> None:
    check = check_scenarios()
    assert check.ok
    assert "office" in check.detail


def test_runs_need_a_folder_that_can_be_written(tmp_path: Path) -> None:
    assert check_runs(tmp_path / "not" / "yet" / "there").ok
    (tmp_path / "file").write_text("", encoding="utf-8")
    check = check_runs(tmp_path / "file" / "runs")
    assert not check.ok
    assert "--out DIR" in check.hint


def test_runs_need_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_disk(tmp_path / "not" / "yet").ok == (shutil.disk_usage(tmp_path).free >= 200_000_000)
    full = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: full)
    assert not check_disk(tmp_path).ok
