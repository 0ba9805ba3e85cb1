"""What `GET /model/status` says of a swap that did not come to what was asked for."""

from __future__ import annotations

import pytest

from edgecoder.core.effects import ModelStatus
from edgecoder.core.events import QueryStatus, SwapCause
from edgecoder.errors import Reason
from tests.catalogs import HUGE, LARGE, SMALL
from tests.harness import Cluster
from tests.hosts import Host


@pytest.fixture
def phone(cluster: Cluster) -> Host:
    """Serves `small`, and has more."""
    phone = cluster.add("phone", installed=[SMALL, LARGE, HUGE], active=SMALL)
    cluster.drive()
    return phone


def shown_reason(phone: Host) -> Reason | None:
    return phone.result(phone.ask(QueryStatus), ModelStatus).reason


def test_the_status_says_why_a_users_swap_was_refused_until_one_is_done(phone: Host) -> None:
    phone.swap("huge")
    assert shown_reason(phone) is Reason.INSUFFICIENT_MEMORY
    phone.swap("small")
    assert shown_reason(phone) is None, "what is active is what was asked for"


def test_the_status_says_nothing_of_what_tasks_wish_nor_of_a_refusal_beside_a_swap(
    cluster: Cluster, phone: Host
) -> None:
    phone.swap("huge", cause=SwapCause.TASK)
    assert shown_reason(phone) is None
    phone.swap("large")
    cluster.run_for(1)
    phone.swap("huge")
    cluster.drive()
    assert phone.member.swap.serving is LARGE
    assert shown_reason(phone) is None, "the change that was under way came to what was asked for"
