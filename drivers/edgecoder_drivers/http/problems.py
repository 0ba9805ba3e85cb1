"""Refusals as RFC 9457 problems: one for each reason of the core, and those of HTTP itself."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from edgecoder.errors import REASONS, Reason
from edgecoder_drivers.http.contract import Problem

MEDIA_TYPE = "application/problem+json"
BUG = Problem("the agent has failed", 500, "internal", hint="see the agent's log")


class Rejected(Exception):
    """A request that is answered with a problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.title)
        self.problem = problem


class BrokenOff(Exception):
    """An answer that has begun and cannot be ended: whoever reads it sees that it is cut short."""


def problem_of(reason: Reason, detail: str = "") -> Problem:
    """The problem that a reason of the core is."""
    info = REASONS[reason]
    return Problem(info.message, info.http_status, reason.value, detail, info.hint)


def reject(status: int, code: str, title: str, hint: str = "", detail: str = "") -> Rejected:
    """A problem of the request itself."""
    return Rejected(Problem(title, status, code, detail, hint))


def respond(problem: Problem) -> Response:
    """The response that tells it. 499 is no status that a server sends: what was cancelled is a conflict."""
    status = 409 if problem.status == 499 else problem.status
    shown = msgspec.structs.replace(problem, status=status)
    headers = {"cache-control": "no-store", **({"www-authenticate": "Bearer"} if status == 401 else {})}
    return Response(msgspec.json.encode(shown), status, media_type=MEDIA_TYPE, headers=headers)
