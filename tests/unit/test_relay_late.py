"""Answers that come late to a coordinator: overtaken by others, or of a request that was withdrawn."""

from __future__ import annotations

import pytest

from edgecoder.errors import Reason
from edgecoder.wire.messages import Cancel, ResponseStatus, TaskRequest
from tests.harness import Cluster
from tests.office import Office

ACCEPTED, CHUNK, DONE, REFUSED, FAILED = ResponseStatus


@pytest.fixture
def office(cluster: Cluster) -> Office:
    """A coordinator and who asks it."""
    return Office(cluster)


def test_a_part_that_was_overtaken_is_not_passed_on(office: Office) -> None:
    agent = office.agent("agent")
    office.ask()
    office.say(agent, ACCEPTED, 0)
    office.say(agent, CHUNK, 2, text="b", tokens=1)
    office.say(agent, CHUNK, 1, text="a", tokens=1)
    office.say(agent, DONE, 3, tokens=2)
    assert [answer.index for answer in office.answers] == [0, 2, 3], "the origin sees the gap and no way back"


def test_a_late_answer_to_an_earlier_request_is_no_news(office: Office) -> None:
    """An agent that failed says so late, when the coordinator has asked it again for the same task."""
    agent = office.agent("agent")
    office.ask(attempt=1)
    office.say(agent, ACCEPTED, 0)
    first = agent.last(TaskRequest).attempt
    task_id = agent.last(TaskRequest).task_id
    office.asker.say(office.links["asker"], Cancel(task_id=task_id, reason=Reason.NO_ANSWER, attempt=1))
    office.cluster.run_for(20)
    office.ask(attempt=2)
    assert agent.last(TaskRequest).attempt != first
    before = len(office.answers)
    office.say(agent, FAILED, 1, reason=Reason.NO_ANSWER, attempt=first)
    assert len(office.answers) == before
    office.say(agent, ACCEPTED, 0)
    assert [(answer.status, answer.attempt) for answer in office.answers[before:]] == [(ACCEPTED, 2)]
