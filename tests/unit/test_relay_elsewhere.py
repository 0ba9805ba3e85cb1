"""Handing tasks to other coordinators: to whom, when, and not twice; and attempts that take the place of others."""

from __future__ import annotations

import pytest

from edgecoder.errors import Reason
from edgecoder.wire.messages import Cancel, ResponseStatus, TaskRequest
from tests.harness import Cluster
from tests.office import Office

ACCEPTED, _, _, REFUSED, _ = ResponseStatus


@pytest.fixture
def office(cluster: Cluster) -> Office:
    """The coordinator, and nobody who could answer."""
    return Office(cluster)


def test_tasks_spread_over_the_other_coordinators_by_the_nodes_they_have(office: Office) -> None:
    """Not to the one that was idlest a minute ago, or all coordinators would send it theirs."""
    hubs = [office.coordinator(f"hub-{number}", free) for number, free in enumerate((1, 9, 1))]
    for number in range(60):
        office.ask(task_id=bytes([number]) * 16)
    asked = [len(hub.all(TaskRequest)) for hub in hubs]
    assert sum(asked) == 60
    assert min(asked) > 8


def test_too_busy_here_means_elsewhere(office: Office) -> None:
    agents = [office.agent(f"agent-{number}", load=9) for number in range(4)]
    other = office.coordinator("other", 50)
    office.ask(deadline_ms=60_000)
    for number in range(2):
        assert not other.all(TaskRequest)
        asked = [agent for agent in agents if agent.all(TaskRequest)]
        assert len(asked) == number + 1
        newest = max(asked, key=lambda agent: agent.last(TaskRequest).attempt)
        office.say(newest, REFUSED, 0, reason=Reason.BUSY)
    assert len(other.all(TaskRequest)) == 1


def test_a_coordinator_that_falls_silent_may_have_run_it(office: Office) -> None:
    first, second = office.coordinator("first"), office.coordinator("second")
    office.ask(deadline_ms=30_000)
    office.cluster.drop(Cancel, 5)
    office.cluster.run_for(3_000)
    assert len([hub for hub in (first, second) if hub.all(TaskRequest)]) == 1
    assert office.answers[-1].status is REFUSED
    office.ask(deadline_ms=27_000, attempt=1)
    assert len(first.all(TaskRequest)) + len(second.all(TaskRequest)) == 1


def test_a_newer_attempt_takes_the_place_of_one_that_was_given_up(office: Office) -> None:
    """The word that it was given up got lost."""
    first, second = office.agent("first"), office.agent("second", load=1)
    office.ask(deadline_ms=60_000)
    attempt = first.last(TaskRequest).attempt
    office.say(first, ACCEPTED, 0, served_by=first.node_id, model="small", attempt=attempt)
    office.ask(deadline_ms=50_000, attempt=1)
    assert first.last(Cancel).attempt == attempt
    assert not any(answer.reason is Reason.DUPLICATE for answer in office.answers)
    assert len(first.all(TaskRequest)) + len(second.all(TaskRequest)) == 2
