"""Which address of a coordinator is dialled: each once a round, whatever strangers announce."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgecoder.mesh.addresses import Addresses
from edgecoder.protocol import ENDPOINTS_MAX

endpoints = st.sampled_from([f"10.0.0.{number}:4301" for number in range(12)])
steps = st.lists(
    st.tuples(st.just("see"), endpoints)
    | st.tuples(st.just("tell"), st.lists(endpoints, max_size=6, unique=True).map(tuple))
    | st.tuples(st.sampled_from(["fail", "work"]), st.none()),
    max_size=60,
)


def known(*configured: str) -> Addresses:
    addresses = Addresses()
    for endpoint in configured:
        addresses.configure(endpoint)
    return addresses


def round_of(addresses: Addresses) -> list[str]:
    """What is dialled where nothing answers, up to the end of the round."""
    dialled = []
    while True:
        dialled.append(addresses.following)
        if addresses.tried(dialled[-1]):
            return dialled


def test_without_an_address_there_is_none() -> None:
    assert not known()
    assert known().following == ""


def test_the_users_word_comes_first_then_the_coordinators_then_a_strangers() -> None:
    addresses = known("mine", "other")
    assert addresses.see("seen")
    assert addresses.tell(("told",))
    assert round_of(addresses) == ["mine", "other", "told", "seen"]


def test_the_one_that_worked_last_comes_first() -> None:
    addresses = known("mine")
    addresses.see("seen")
    addresses.worked("seen")
    assert round_of(addresses) == ["seen", "mine"]


def test_what_a_coordinator_says_now_takes_the_place_of_what_it_said() -> None:
    addresses = known("mine")
    addresses.tell(("old",))
    assert not addresses.tell(("old",)), "no news"
    assert addresses.tell(("new",))
    assert round_of(addresses) == ["mine", "new"]
    addresses.see("here")
    addresses.tell(("here",))
    addresses.tell(())
    assert round_of(addresses) == ["mine"], "it has said itself that it is not there any more"


def test_one_that_has_no_room_waits_for_its_turn() -> None:
    addresses = known("mine")
    assert all(addresses.see(f"junk-{number}") for number in range(ENDPOINTS_MAX))
    assert not any(addresses.see(f"more-{number}") for number in range(1000))
    assert not addresses.see("more-999"), "it is known already"
    assert round_of(addresses) == ["mine"]
    assert round_of(addresses) == ["mine", *(f"more-{number}" for number in range(996, 1000))]


@given(steps)
def test_no_flood_keeps_the_configured_one_from_its_turn(said: list[tuple[str, object]]) -> None:
    addresses = known("mine:1")
    since = 0
    for step, what in said:
        if step == "see":
            addresses.see(str(what))
        elif step == "tell" and isinstance(what, tuple):
            addresses.tell(what)
        else:
            dialled = addresses.following
            since = 0 if dialled == "mine:1" else since + 1
            if step == "work":
                addresses.worked(dialled)
                since = 0
            else:
                addresses.tried(dialled)
        assert len(addresses._known) <= 1 + 2 * ENDPOINTS_MAX
        assert since <= 1 + 2 * ENDPOINTS_MAX
    assert "mine:1" in round_of(addresses) + round_of(addresses)
