"""Tickets at the sender: what each of its rules lets through, one at a time."""

from __future__ import annotations

import pytest

from edgecoder.config import NodeConfig
from edgecoder.errors import Reason
from edgecoder_sim.crypto import node_id
from tests.uploading import NOW_MS, UploadBench

SKEW_MS = NodeConfig().clock_skew_ms


@pytest.fixture
def bench() -> UploadBench:
    return UploadBench()


def test_a_ticket_for_just_that_is_good(bench: UploadBench) -> None:
    assert bench.ask(bench.ticket(expires_ms=NOW_MS)) is None


@pytest.mark.parametrize("wrong", [{"receiver": node_id("other")}, {"broker": node_id("other")}, {"epoch": 0}])
def test_a_ticket_for_another_by_another_or_of_before_is_not(bench: UploadBench, wrong: dict[str, object]) -> None:
    assert bench.ask(bench.ticket(expires_ms=NOW_MS, **wrong)) is Reason.NO_TICKET  # type: ignore[arg-type]


def test_a_ticket_holds_as_long_as_clocks_may_differ(bench: UploadBench) -> None:
    assert bench.ask(bench.ticket(expires_ms=NOW_MS - SKEW_MS)) is None
    assert bench.ask(bench.ticket(expires_ms=NOW_MS - SKEW_MS - 1)) is Reason.NO_TICKET


def test_without_a_broker_a_ticket_that_has_run_out_counts(bench: UploadBench) -> None:
    bench.giver.is_told = False
    assert bench.ask(bench.ticket(expires_ms=0)) is None


def test_a_ticket_that_was_good_is_not_when_its_broker_has_a_newer_epoch(bench: UploadBench) -> None:
    ticket = bench.ticket(expires_ms=NOW_MS)
    assert bench.ask(ticket) is None
    bench.giver.epoch = 2
    assert bench.ask(ticket) is Reason.NO_TICKET
