"""Whether this installation has what it needs: the checks behind `edgecoder doctor`.

Compares the packages that are installed with the distribution's own metadata, extra by extra, and collects the checks
that other parts bring: an entry point in the group `edgecoder.checks` is a function without arguments that returns
`Check`s about its part. What to do about a failed check is the caller's.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
from importlib.metadata import EntryPoint, PackageNotFoundError, distribution, entry_points, version
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

DISTRIBUTION: Final = "edgecoder"
GROUP: Final = "edgecoder.checks"
BASE: Final = "base"
"""The scope of what every installation needs; the other scopes are the names of the extras."""

_REQUIREMENT: Final = re.compile(
    r"(?P<package>[A-Za-z0-9._-]+)\s*(?P<bounds>(?:(?:>=|<)[0-9.]+,?)*)(?:\s*;\s*extra == ['\"](?P<extra>[\w-]+)['\"])?"
)
_BOUND: Final = re.compile(r"(>=|<)([0-9.]+)")


class Check(NamedTuple):
    """One thing that was looked at."""

    scope: str
    """`base`, or the extra that needs it."""
    name: str
    ok: bool
    detail: str
    hint: str = ""
    """The next step when it is not ok."""


class Requirement(NamedTuple):
    """One package that the base or an extra needs, as the distribution's metadata say."""

    package: str
    bounds: str
    """Such as `>=2.2,<3`; empty when any version will do."""
    scope: str

    def admits(self, installed: str) -> bool:
        """Whether a version is within the bounds. Only the numbers count: 3.1rc1 is taken for 3.1."""
        have = _release(installed)
        return all(
            have >= _release(bound) if operator == ">=" else have < _release(bound)
            for operator, bound in _BOUND.findall(self.bounds)
        )


def parse_requirement(line: str) -> Requirement:
    """One `Requires-Dist` line of our own metadata. Raises ValueError for a form that pyproject.toml does not use."""
    match = _REQUIREMENT.fullmatch(line)
    if match is None:
        raise ValueError(f"{line!r} is not of the form `name>=1,<2; extra == 'x'`")
    return Requirement(match["package"], match["bounds"], match["extra"] or BASE)


def requirements() -> list[Requirement]:
    """Everything the distribution requires, the base first."""
    return [parse_requirement(line) for line in distribution(DISTRIBUTION).requires or []]


def extras() -> list[str]:
    """The names of the extras, sorted."""
    return sorted(distribution(DISTRIBUTION).metadata.get_all("Provides-Extra") or [])


def check_python() -> Check:
    """Whether this Python is new enough."""
    bounds = distribution(DISTRIBUTION).metadata["Requires-Python"]
    ok = Requirement("python", bounds, BASE).admits(platform.python_version())
    return Check(
        BASE, "python", ok, f"{platform.python_version()} (needs {bounds})", "" if ok else "install a newer one"
    )


def target(scope: str) -> str:
    """What to give pip for the base or some extras (comma between two): the checkout where it was installed from one
    with `-e`, else the package's name."""
    origin = json.loads(distribution(DISTRIBUTION).read_text("direct_url.json") or "{}")
    is_checkout = origin.get("dir_info", {}).get("editable", False)
    name = unquote(urlsplit(origin["url"]).path) if is_checkout else DISTRIBUTION
    chosen = shlex.quote(name if scope == BASE else f"{name}[{scope}]")
    return f"-e {chosen}" if is_checkout else chosen


def check_package(requirement: Requirement) -> Check:
    """Whether a required package is installed in a version that will do."""
    name, scope = requirement.package, requirement.scope
    needs = f"needs {requirement.bounds}" if requirement.bounds else "any version"
    try:
        installed = version(name)
    except PackageNotFoundError:
        return Check(scope, name, ok=False, detail=f"missing ({needs})", hint=f"pip install {target(scope)}")
    ok = requirement.admits(installed)
    return Check(scope, name, ok, f"{installed} ({needs})", "" if ok else f"pip install --upgrade {target(scope)}")


def check_all() -> list[Check]:
    """Every check, the base first, then extra by extra; an extra's own checks run only when its packages are there."""
    checks = [check_python(), *(check_package(requirement) for requirement in requirements())]
    broken = {check.scope for check in checks if not check.ok}
    for entry_point in sorted(entry_points(group=GROUP), key=lambda entry_point: entry_point.name):
        if broken.isdisjoint({BASE, *entry_point.extras}):
            checks += _run(entry_point)
    scopes = [BASE, *extras()]
    return sorted(checks, key=lambda check: scopes.index(check.scope))


def _run(entry_point: EntryPoint) -> list[Check]:
    """The checks of one part. A part that cannot even be imported, whatever the reason, is what a doctor looks for."""
    try:
        checks: list[Check] = entry_point.load()()
    except Exception as error:  # noqa: BLE001
        scope = next(iter(entry_point.extras), BASE)
        detail = f"{type(error).__name__}: {error}".partition("\n")[0]
        hint = f"pip install --force-reinstall {target(scope)}" if entry_point.extras else ""
        return [Check(scope, entry_point.name, ok=False, detail=detail, hint=hint)]
    return checks


def _release(text: str) -> tuple[int, ...]:
    """The numbers of a version without trailing zeros: 3.1.0rc1 is (3, 1)."""
    numbers = re.match(r"\d+(?:\.\d+)*", text)
    parts = [int(number) for number in numbers[0].split(".")] if numbers else []
    while parts and parts[-1] == 0:
        parts.pop()
    return tuple(parts)


def check_writable(scope: str, name: str, folder: Path, hint: str) -> Check:
    """Whether something can be kept in a folder, which need not be there yet."""
    there = _existing(folder)
    ok = there.is_dir() and os.access(there, os.R_OK | os.W_OK | os.X_OK)
    detail = f"{folder.absolute()} {'can be written' if ok else 'cannot be written'}"
    return Check(scope, name, ok, detail, "" if ok else hint)


def check_room(scope: str, folder: Path, free_bytes_min: int, what: str, hint: str) -> Check:
    """Whether the disk of a folder has room for `what`."""
    free_bytes = shutil.disk_usage(_existing(folder)).free
    ok = free_bytes >= free_bytes_min
    detail = f"{free_bytes / 1e9:.1f} GB free ({what} needs {free_bytes_min / 1e9:.1f})"
    return Check(scope, "disk", ok, detail, "" if ok else hint)


def _existing(path: Path) -> Path:
    """The path itself, or the closest folder above it that exists."""
    return next(each for each in (path, *path.absolute().parents) if each.exists())
