"""Who is doubted, and on whose word."""

from __future__ import annotations

import pytest

from edgecoder.coordinator.repute import ACCUSERS_MIN, DEALINGS_MAX, NO_FAULT, Repute
from edgecoder.errors import Reason

SENDER = b"s"
RECEIVERS = [bytes([number]) for number in range(100)]


@pytest.fixture
def repute() -> Repute:
    return Repute(1000)


def test_one_receiver_is_not_enough(repute: Repute) -> None:
    for _ in range(50):
        repute.accuse(RECEIVERS[0], SENDER, Reason.PIECE_CORRUPT)
    assert not repute.is_doubted(SENDER)


def test_three_that_have_got_nothing_are(repute: Repute) -> None:
    for receiver in RECEIVERS[:ACCUSERS_MIN]:
        assert not repute.is_doubted(SENDER)
        repute.praise(receiver, b"other")
        repute.accuse(receiver, SENDER, Reason.TOO_SLOW)
    assert repute.is_doubted(SENDER)


def test_as_many_who_were_served_weigh_as_much(repute: Repute) -> None:
    for receiver in RECEIVERS[:5]:
        repute.praise(receiver, b"other")
        repute.accuse(receiver, SENDER, Reason.NOT_HELD)
    for receiver in RECEIVERS[10:14]:
        repute.praise(receiver, SENDER)
    assert repute.is_doubted(SENDER)
    repute.praise(RECEIVERS[14], SENDER)
    assert not repute.is_doubted(SENDER)


def test_who_accuses_all_is_not_believed(repute: Repute) -> None:
    for receiver in RECEIVERS[:5]:
        for other in range(5):
            repute.accuse(receiver, bytes([200 + other]), Reason.PIECE_CORRUPT)
        repute.accuse(receiver, SENDER, Reason.PIECE_CORRUPT)
    assert not repute.is_doubted(SENDER)


@pytest.mark.parametrize("reason", sorted(NO_FAULT, key=str), ids=str)
def test_some_reasons_are_nobodys_fault(repute: Repute, reason: Reason) -> None:
    for receiver in RECEIVERS[:9]:
        repute.praise(receiver, b"other")
        repute.accuse(receiver, SENDER, reason)
    assert not repute.is_doubted(SENDER)


def test_what_is_remembered_is_bounded() -> None:
    small = Repute(3)
    for receiver in RECEIVERS:
        small.accuse(receiver, SENDER, Reason.TOO_SLOW)
    assert not small.is_doubted(SENDER)  # only two receivers had room
    large = Repute(1000)
    for receiver in RECEIVERS:
        large.praise(receiver, SENDER)
    for receiver in RECEIVERS:
        large.praise(receiver, b"other")
        large.accuse(receiver, SENDER, Reason.TOO_SLOW)
    assert not large.is_doubted(SENDER)
    assert len(RECEIVERS) > DEALINGS_MAX
