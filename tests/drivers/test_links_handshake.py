"""The handshake of links: it works once, for the two that hold it, over the socket that they hold it on."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecoder.core.ids import Role
from edgecoder.errors import Reason
from edgecoder_drivers.links.handshake import (
    CLOSE_CODES,
    MESSAGE_BYTES_MAX,
    REASONS_BY_CODE,
    VERSION,
    Answerer,
    Caller,
    Guest,
    Peer,
    Self,
    Unwelcome,
)
from tests.drivers.mesh_rig import identity

AGENT, HUB, OTHER = identity(1), identity(2), identity(3)
BINDING = b"c" * 32
MESSAGES = st.sampled_from(["hello", "challenge", "proof"])


class Heard(NamedTuple):
    """What was said, and what came of it."""

    hello: bytes
    challenge: bytes
    proof: bytes
    peer: Peer
    guest: Guest


def me(key: object = AGENT, role: Role = Role.AGENT, network: str = "edgecoder") -> Self:
    return Self(key, role, network)  # type: ignore[arg-type]  # it is an identity


def caller(
    who: Self | None = None, nonce: bytes = b"1" * 32, binding: bytes = BINDING, token: str | None = None
) -> Caller:
    return Caller(who or me(), HUB.node_id, nonce, binding, () if token is None else ("other", token))


def answerer(who: Self | None = None, nonce: bytes = b"2" * 32, binding: bytes = BINDING) -> Answerer:
    return Answerer(who or me(HUB, Role.COORDINATOR), nonce, binding)


def talk(dials: Caller, answers: Answerer) -> Heard:
    """A whole handshake. Raises Unwelcome, of either."""
    hello = dials.hello()
    challenge = answers.challenge(hello)
    proof, peer = dials.prove(challenge)
    return Heard(hello, challenge, proof, peer, answers.guest(proof))


def test_both_know_who_the_other_is() -> None:
    heard = talk(caller(), answerer())
    assert heard.peer == Peer(HUB.node_id, Role.COORDINATOR, HUB.public_bytes)
    assert heard.guest.peer == Peer(AGENT.node_id, Role.AGENT, AGENT.public_bytes)
    assert max(map(len, heard[:3])) <= MESSAGE_BYTES_MAX
    assert not heard.guest.has("a token")


def test_a_token_is_shown_and_never_said() -> None:
    heard = talk(caller(token="0123456789abcdef"), answerer())
    assert heard.guest.has("0123456789abcdef")
    assert not heard.guest.has("0123456789abcdee")
    assert not any(b"0123456789abcdef" in message for message in heard[:3])


@pytest.mark.parametrize(
    ("dials", "answers", "reason"),
    [
        (caller(me(network="another")), answerer(), Reason.WRONG_NETWORK),
        (caller(binding=b""), answerer(), Reason.BAD_SIGNATURE),
        (caller(binding=b"x" * 32), answerer(), Reason.BAD_SIGNATURE),
        (caller(), answerer(me(OTHER, Role.COORDINATOR)), Reason.UNKNOWN_SENDER),
        (caller(), answerer(me(HUB, Role.AGENT)), Reason.INVALID),
        (caller(me(HUB)), answerer(), Reason.UNKNOWN_SENDER),
    ],
    ids=["network", "no certificate", "another certificate", "another node", "no coordinator", "itself"],
)
def test_who_does_not_fit_is_refused(dials: Caller, answers: Answerer, reason: Reason) -> None:
    with pytest.raises(Unwelcome) as refused:
        talk(dials, answers)
    assert refused.value.reason is reason


def test_another_version_is_told_apart_from_garbage() -> None:
    fields = msgspec.msgpack.decode(caller().hello())
    for hello in ([VERSION + 1, *fields[1:]], [VERSION + 1], [VERSION + 1, "of another shape", {}]):
        with pytest.raises(Unwelcome) as refused:
            answerer().challenge(msgspec.msgpack.encode(hello))
        assert refused.value.reason is Reason.VERSION_MISMATCH


def test_a_replayed_handshake_proves_nothing() -> None:
    heard = talk(caller(token="t"), answerer())
    again = answerer(nonce=b"3" * 32)
    again.challenge(heard.hello)
    with pytest.raises(Unwelcome) as refused:
        again.guest(heard.proof)
    assert refused.value.reason is Reason.BAD_SIGNATURE
    with pytest.raises(Unwelcome) as refused:
        caller(nonce=b"4" * 32).prove(heard.challenge)
    assert refused.value.reason is Reason.BAD_SIGNATURE


def test_a_signature_of_one_direction_is_none_of_the_other() -> None:
    """Two coordinators: what one has signed when it was dialled does not prove it when it dials."""
    answers = answerer()
    challenge = answers.challenge(Caller(me(OTHER, Role.COORDINATOR), HUB.node_id, b"1" * 32, BINDING).hello())
    signature = msgspec.msgpack.decode(challenge)[1]
    with pytest.raises(Unwelcome):
        answers.guest(msgspec.msgpack.encode([signature, b""]))


def test_a_key_that_it_does_not_have_is_no_identity() -> None:
    class Thief:
        node_id = AGENT.node_id
        public_bytes = AGENT.public_bytes
        sign = staticmethod(OTHER.sign)

    with pytest.raises(Unwelcome) as refused:
        talk(caller(me(Thief())), answerer())
    assert refused.value.reason is Reason.BAD_SIGNATURE


def test_nobody_between_can_change_the_role() -> None:
    """An agent's hello, rewritten on its way into a coordinator's."""
    dials, answers = caller(), answerer()
    hello = dials.hello().replace(b"agent", b"phone")
    challenge = answers.challenge(hello)
    with pytest.raises(Unwelcome):
        dials.prove(challenge)


@given(which=MESSAGES, place=st.integers(0, 400), bit=st.integers(0, 7))
def test_any_bit_that_is_changed_ends_it(which: str, place: int, bit: int) -> None:
    dials, answers = caller(token="t"), answerer()

    def bent(name: str, message: bytes) -> bytes:
        if name != which:
            return message
        changed = bytearray(message)
        changed[place % len(changed)] ^= 1 << bit
        return bytes(changed)

    with pytest.raises(Unwelcome):
        answers.guest(bent("proof", dials.prove(bent("challenge", answers.challenge(bent("hello", dials.hello()))))[0]))


def assert_unwelcome(message: bytes) -> None:
    """Whatever a message is taken for."""
    fresh = answerer()
    answers = answerer()
    answers.challenge(caller().hello())
    for take in (fresh.challenge, answers.guest, caller().prove):
        with pytest.raises(Unwelcome):
            take(message)


shaped = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


@given(message=st.binary(max_size=2 * MESSAGE_BYTES_MAX))
def test_hostile_bytes_end_as_unwelcome(message: bytes) -> None:
    assert_unwelcome(message)


@given(value=shaped)
def test_hostile_values_end_as_unwelcome(value: object) -> None:
    assert_unwelcome(msgspec.msgpack.encode(value))


def test_every_refusal_can_be_told() -> None:
    assert len(REASONS_BY_CODE) == len(CLOSE_CODES)
    assert all(4000 <= code < 5000 for code in REASONS_BY_CODE), "those that RFC 6455 leaves to applications"
