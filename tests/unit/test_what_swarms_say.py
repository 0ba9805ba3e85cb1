"""What a node tells brokers and neighbours of its files, and when that changes."""

from __future__ import annotations

from edgecoder.config import NodeConfig
from edgecoder.core.effects import AllocateFile, DialPeer, FetchPiece, PullResult, RefusePiece, RunTask
from edgecoder.core.events import PullModel
from edgecoder.core.giving import PieceAsked
from edgecoder.core.ids import Role
from edgecoder.errors import Reason
from edgecoder.models.catalog import Catalog
from edgecoder.seeding.tickets import issue
from edgecoder.wire.messages import Announce, DialRequest
from tests.catalogs import MIB, entry
from tests.harness import Cluster
from tests.hosts import Host, Outcome, fails

SHARED = entry("shared", 0.5, file_size_bytes=MIB, piece_root="ab" * 32, piece_size_bytes=MIB // 8)


def said(cluster: Cluster, source: Host) -> list[tuple[bool, int]]:
    """Whether more was wanted, and the slots, in each announcement."""
    return [(message.wants, message.slots) for message in cluster.sent(Announce, source=source)]


def test_nothing_is_wanted_before_there_is_room_for_it() -> None:
    """What a broker granted while the disk made room was refused as cancelled."""
    cluster = Cluster(catalog=Catalog((SHARED,)))
    hub, phone = cluster.add("hub", Role.COORDINATOR), cluster.add("phone")
    phone.plan(AllocateFile, Outcome(after_us=5_000_000))
    phone.ask(PullModel, model="shared")
    cluster.run_for(1_000)
    cluster.link(phone, hub)
    cluster.run_for(3_000)
    assert {wants for wants, _ in said(cluster, phone)} <= {False}
    cluster.run_for(2_000)
    assert (True, 4) in said(cluster, phone)


def test_brokers_hear_of_a_pause_for_tasks_when_somebody_comes_in_vain_and_of_its_end() -> None:
    """Slots were announced while nothing was sent, and those who were told to ask blamed the node."""
    cluster = Cluster(catalog=Catalog((SHARED,)))
    hub = cluster.add("hub", Role.COORDINATOR)
    agent = cluster.add("agent", Role.AGENT, installed=[SHARED], active=SHARED)
    agent.plan(RunTask, Outcome(after_us=4_000_000))
    cluster.link(agent, hub)
    cluster.run_for(1_000)
    agent.submit()
    cluster.run_for(1_000)
    assert said(cluster, agent)[-1] == (False, 4)
    peer, file, signer = bytes(32), bytes.fromhex(SHARED.sha256), hub.alive.context.signer
    swarms = agent.member.swarms
    ticket = issue("edgecoder", signer, peer, agent.node_id, file, swarms.broker_epoch(file), swarms.unix_ms())
    agent.take(PieceAsked(1, peer, file, 0, 0, ticket))
    assert [refusal.reason for refusal in agent.did(RefusePiece)] == [Reason.NOT_SEEDING]
    cluster.run_for(1_000)
    assert said(cluster, agent)[-1] == (False, 0)
    cluster.run_for(4_000)
    assert said(cluster, agent)[-1] == (False, 4)


def test_a_sender_is_asked_to_dial_no_longer_than_its_file_is_wanted() -> None:
    """The pieces of a download that was over were waited for, and the broker asked for them."""
    cluster = Cluster(catalog=Catalog((SHARED,)))
    hub = cluster.add("hub", Role.COORDINATOR)
    hidden = cluster.add("agent", Role.AGENT, installed=[SHARED], config=NodeConfig(transfer_dialable=False))
    hidden.plan(DialPeer, *[fails(Reason.PEER_LOST)] * 9)
    phone = cluster.add("phone", config=NodeConfig(transfer_endpoint="192.0.2.7:4303"))
    cluster.link(hidden, hub)
    cluster.link(phone, hub)
    cluster.run_for(1_000)
    phone.plan(FetchPiece, *[Outcome(after_us=700_000)] * 9)
    command = phone.ask(PullModel, model="shared")
    cluster.run_for(1_000)
    assert len(cluster.sent(DialRequest, source=phone)) == 1
    cluster.run_for(10_000)
    assert phone.result(command, PullResult).reason is None
    assert len(cluster.sent(DialRequest, source=phone)) == 1
