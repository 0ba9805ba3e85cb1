"""Whoever follows an operation or an answer hears how it ended, whenever that is."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from edgecoder.core.effects import PullResult, Result
from edgecoder.core.events import SubmitTask
from edgecoder.errors import Reason
from edgecoder_drivers.http.contract import Problem, TaskBody
from edgecoder_drivers.http.jobs import Job
from edgecoder_drivers.http.problems import problem_of
from edgecoder_drivers.http.served import ServedNode
from edgecoder_drivers.http.tasks import TaskRoutes


def test_an_operation_that_ends_in_the_turn_of_whoever_follows_is_told_to_its_end() -> None:
    async def test() -> list[str]:
        job, told = Job("pull", "small", None), list[str]()
        async for shown in job.follow():
            told.append(shown.status)
            if not job.is_done:
                job.ended(PullResult("small", Reason.NO_SOURCE), problem_of(Reason.NO_SOURCE))
        return told

    assert asyncio.run(test()) == ["running", "failed"]


class Ending:
    """A node that takes no command any more."""

    def begin(self, kind: Any, **_: Any) -> tuple[int, asyncio.Future[Result]]:
        assert kind is SubmitTask
        reply = asyncio.get_running_loop().create_future()
        reply.set_result(Reason.SHUTTING_DOWN)
        return 1, reply


def test_a_stream_that_is_refused_says_so() -> None:
    async def test() -> list[tuple[str, Any]]:
        routes = TaskRoutes(cast("ServedNode", Ending()), 1000)
        return [event async for event in routes._parts(TaskBody(prompt="hi", stream=True))]

    ((name, problem),) = asyncio.run(test())
    assert name == "failed"
    assert isinstance(problem, Problem)
    assert problem.code == "shutting_down"
