"""Who is doubted, and on whose word."""

from __future__ import annotations

import pytest

from edgecoder.coordinator.repute import ACCUSERS_MIN, DEALINGS_MAX, FAULTS, Repute
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


def test_who_was_good_to_many_and_turns_is_doubted(repute: Repute) -> None:
    """Whoever had pleased as many as are remembered could not be doubted any more."""
    for number in range(DEALINGS_MAX):
        repute.praise(b"early %d" % number, SENDER)
    for number in range(2 * DEALINGS_MAX):
        repute.praise(b"late %d" % number, b"other")
        repute.accuse(b"late %d" % number, SENDER, Reason.PIECE_CORRUPT)
    assert repute.is_doubted(SENDER)


def test_who_praised_many_and_accuses_all_since_is_not_believed(repute: Repute) -> None:
    for receiver in RECEIVERS[:ACCUSERS_MIN]:
        for number in range(DEALINGS_MAX):
            repute.praise(receiver, b"early %d" % number)
        for number in range(2 * DEALINGS_MAX):
            repute.accuse(receiver, b"late %d" % number, Reason.PIECE_CORRUPT)
        repute.accuse(receiver, SENDER, Reason.PIECE_CORRUPT)
    assert not repute.is_doubted(SENDER)


def test_who_is_always_busy_is_doubted(repute: Repute) -> None:
    for receiver in RECEIVERS[:ACCUSERS_MIN]:
        assert not repute.is_doubted(SENDER)
        repute.praise(receiver, b"other")
        repute.accuse(receiver, SENDER, Reason.BUSY)
    assert repute.is_doubted(SENDER)


def test_who_is_busy_now_and_then_is_not(repute: Repute) -> None:
    """A node that serves a task, or that many ask at once, was blamed."""
    repute.praise(RECEIVERS[50], SENDER)
    for receiver in RECEIVERS[:20]:
        repute.praise(receiver, b"other")
        repute.accuse(receiver, SENDER, Reason.BUSY)
    assert not repute.is_doubted(SENDER)


def test_many_that_were_put_off_make_no_accuser_unbelievable(repute: Repute) -> None:
    for receiver in RECEIVERS[:ACCUSERS_MIN]:
        for number in range(20):
            repute.accuse(receiver, b"busy %d" % number, Reason.BUSY)
        repute.praise(receiver, b"other")
        repute.accuse(receiver, SENDER, Reason.PIECE_CORRUPT)
    assert repute.is_doubted(SENDER)


@pytest.mark.parametrize("reason", sorted(set(Reason) - FAULTS - {Reason.BUSY}, key=str), ids=str)
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
        large.praise(receiver, b"other")
        large.accuse(receiver, SENDER, Reason.TOO_SLOW)
    assert large.is_doubted(SENDER)
    for number in range(DEALINGS_MAX):
        large.praise(b"late %d" % number, SENDER)
    assert not large.is_doubted(SENDER)
    assert len(RECEIVERS) > DEALINGS_MAX
