"""What a node keeps of another is the newest that it heard, in whatever order and however often it heard it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from edgecoder.core.events import FrameReceived
from edgecoder.core.ids import Role
from edgecoder.mesh.whereabouts import Book, statement
from edgecoder.protocol import WHEREABOUTS_MS_MAX
from edgecoder.wire.envelope import Frame
from edgecoder.wire.messages import Heartbeat, Load, Message, ModelAvailability, Summary, Whereabouts
from edgecoder_sim.crypto import IdealKey, node_id
from tests.harness import Cluster, Puppet
from tests.hosts import Host
from tests.strategies import capabilities, full_heartbeat

orders = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 100)), min_size=1, max_size=40)
"""(epoch, seq) of what arrives, in the order in which it does; repeated ones are replays."""


def meet(role: Role, target: Role) -> tuple[Host, Puppet, int]:
    """A node, and a puppet of some role that is linked to it, and which said so in its epoch 0."""
    cluster = Cluster()
    host = cluster.add("host", target)
    puppet = cluster.puppet("puppet", role)
    puppet.epoch = 0
    cluster.drive()
    link = cluster.link(puppet, host)
    cluster.run_for(25)
    return host, puppet, link


def deliver(host: Host, link: int, frames: Sequence[Frame]) -> None:
    """Hand frames to a node in this order."""
    for frame in frames:
        host.take(FrameReceived(link, frame))


def sealed(puppet: Puppet, message: Message, order: tuple[int, int]) -> Frame:
    """A message with its place in the sender's order."""
    return puppet.seal(message, epoch=order[0], seq=order[1], ttl_ms=180_000)


def number(order: tuple[int, int]) -> int:
    """A number that grows with the order."""
    return order[0] * 1_000 + order[1]


@given(orders)
def test_the_newest_heartbeat_wins(arrivals: list[tuple[int, int]]) -> None:
    hub, agent, link = meet(Role.AGENT, Role.COORDINATOR)
    beats = [
        full_heartbeat(f"m{number(order)}", 1.5, slots=number(order), generation=number(order)) for order in arrivals
    ]
    deliver(hub, link, [sealed(agent, beat, order) for beat, order in zip(beats, arrivals, strict=True)])
    row = hub.hub.registry.rows[agent.node_id]
    newest = max(arrivals)
    assert (row.epoch, row.seq) == newest
    assert (row.heartbeat.active_model, row.slots) == (f"m{number(newest)}", number(newest))


@given(orders, st.data())
def test_the_newest_heartbeat_wins_among_deltas(arrivals: list[tuple[int, int]], data: st.DataObject) -> None:
    hub, agent, link = meet(Role.AGENT, Role.COORDINATOR)
    deliver(hub, link, [sealed(agent, full_heartbeat("first"), (1, 0))])
    arrivals = [(1, seq) for _, seq in arrivals]
    for order in arrivals:
        beat: Heartbeat = full_heartbeat(f"m{number(order)}", load=Load.of(order[1]), generation=number(order))
        if data.draw(st.booleans()):
            beat = Heartbeat(
                generation=number(order),
                active_model=f"m{number(order)}",
                active_model_param_size=1.5,
                current_load=Load.of(order[1]),
                model_swap_in_progress=False,
                full=False,
            )
        deliver(hub, link, [sealed(agent, beat, order)])
    row = hub.hub.registry.rows[agent.node_id]
    newest = max(arrivals)
    assert (row.heartbeat.active_model, row.load) == (f"m{number(newest)}", Load.of(newest[1]))


@given(orders)
def test_the_newest_summary_wins(arrivals: list[tuple[int, int]]) -> None:
    hub, other, link = meet(Role.COORDINATOR, Role.COORDINATOR)
    for order in arrivals:
        offer = {"small": ModelAvailability(number(order), 1.0, 0.0, 1)}
        summary = Summary(coordinator_id=other.node_id, agent_count=number(order), model_availability=offer)
        deliver(hub, link, [sealed(other, summary, order)])
    row = hub.hub.summaries.rows[other.node_id]
    newest = max(arrivals)
    assert (row.epoch, row.seq, row.summary.agent_count) == (*newest, number(newest))


@given(orders)
def test_the_newest_capabilities_win(arrivals: list[tuple[int, int]]) -> None:
    phone, peer, link = meet(Role.PHONE, Role.PHONE)
    frames = [sealed(peer, capabilities(peer.node_id, number(order)), order) for order in arrivals]
    deliver(phone, link, frames)
    known = phone.member.peers.rows[peer.node_id].capabilities
    assert known is not None
    assert known.generation == number(max(arrivals))


@given(orders, st.randoms(use_true_random=False))
def test_any_order_gives_the_same_row(arrivals: list[tuple[int, int]], random: object) -> None:
    """Within the replay window: what is older than that is lost, and is never the newest."""
    rows = []
    for shuffle in (False, True):
        hub, agent, link = meet(Role.AGENT, Role.COORDINATOR)
        frames = [sealed(agent, full_heartbeat(f"m{number(order)}"), order) for order in arrivals]
        if shuffle:
            random.shuffle(frames)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
        deliver(hub, link, frames)
        row = hub.hub.registry.rows[agent.node_id]
        rows.append((row.epoch, row.seq, row.heartbeat))
    assert rows[0] == rows[1]


claims = st.builds(
    Whereabouts,
    coordinator=st.just(node_id("hub")),
    public_key=st.just(b""),
    endpoints=st.lists(st.sampled_from(["a:1", "b:2", "no address"]), max_size=2).map(tuple),
    sequence=st.integers(0, 3),
    expires_ms=st.integers(1, 3),
    signature=st.sampled_from([bytes(64), b"x" * 64]),
)


def signed(claim: Whereabouts) -> Whereabouts:
    """The same, signed by its coordinator where it was to be."""
    is_signed = claim.signature == bytes(64)
    key = IdealKey(claim.coordinator)
    return msgspec.structs.replace(claim, signature=key.sign(statement("edgecoder", claim))) if is_signed else claim


@given(st.lists(claims.map(signed), max_size=12), st.randoms(use_true_random=False))
def test_any_order_of_rows_gives_one_word_of_a_coordinator(rows: list[Whereabouts], random: Any) -> None:
    """Repeated, or forged, too: two rows of one sequence are two words of it, and all nodes take the same."""
    shuffled = [*rows, *rows]
    random.shuffle(shuffled)
    books = []
    for order in (rows, shuffled):
        host = Cluster().add("host")
        books.append(Book(host.alive.context, host.alive.gate.verifier, lambda: 0))
        for each in order:
            books[-1].learn(each)
    valid = [each for each in rows if "no address" not in each.endpoints and each.endpoints and each == signed(each)]
    assert books[0].rows == books[1].rows
    assert bool(books[0].rows) is any(each.signature != b"x" * 64 for each in valid)
    for held in books[0].rows.values():
        assert held.sequence == max(each.sequence for each in valid if each.signature != b"x" * 64)


steps_ms = st.sampled_from([0, 1, WHEREABOUTS_MS_MAX // 2, WHEREABOUTS_MS_MAX])
ends_ms = st.sampled_from([1, WHEREABOUTS_MS_MAX, 1 << 50])


@given(st.lists(st.tuples(claims, steps_ms, ends_ms), max_size=12))
def test_no_word_of_a_coordinator_holds_for_longer_than_a_week_unless_it_says_it_anew(
    told: list[tuple[Whereabouts, int, int]],
) -> None:
    """However long it says that it does, and however often others repeat it."""
    now_ms = 0
    host = Cluster().add("host")
    book = Book(host.alive.context, host.alive.gate.verifier, lambda: now_ms)
    heard_ms: dict[bytes, int] = {}
    skew_ms = host.setup.config.clock_skew_ms
    for claim, passed_ms, expires_ms in told:
        now_ms += passed_ms
        row = signed(msgspec.structs.replace(claim, expires_ms=expires_ms))
        if book.learn(row):
            heard_ms[row.signature] = now_ms
        book.forget_old()
        for held in book.rows.values():
            assert now_ms < min(heard_ms[held.signature] + WHEREABOUTS_MS_MAX, held.expires_ms) + skew_ms
