"""The gate: only verified, fresh messages of a link's own peer come through; everything else is dropped and counted."""

from __future__ import annotations

import msgspec
import pytest

from edgecoder.config import DeviceType, NodeConfig, server
from edgecoder.core.effects import Disconnect
from edgecoder.core.events import FrameReceived, LinkDown, LinkUp
from edgecoder.core.ids import Medium, Role
from edgecoder.errors import Reason
from edgecoder.protocol import FRAME_BYTES_MAX, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN, SIGNATURE_TAG
from edgecoder.trace import Dropped
from edgecoder.wire.codec import encode_body
from edgecoder.wire.envelope import Frame
from edgecoder.wire.messages import Capabilities, Identity, Load, Message, Versions
from edgecoder_sim.crypto import IdealKey
from tests.harness import Cluster, Puppet
from tests.hosts import Host
from tests.strategies import capabilities, full_heartbeat

IDENTITY = Identity(role=Role.PHONE, device_type=DeviceType.PHONE, cluster_config_hash=b"")


class Door:
    """A phone, a peer that it knows, and what it dropped."""

    def __init__(self, cluster: Cluster, **config: object) -> None:
        self.cluster = cluster
        self.phone: Host = cluster.add("phone", config=NodeConfig(**config))  # type: ignore[arg-type]  # by name
        self.peer: Puppet = cluster.puppet("peer")
        cluster.drive()
        self.link = cluster.link(self.peer, self.phone)
        cluster.drive()

    def dropped(self) -> list[Dropped]:
        """Everything that was dropped so far."""
        return self.phone.traced(Dropped)

    def hand(self, frame: Frame, link: int | None = None) -> None:
        """Put a frame into the node."""
        self.phone.take(FrameReceived(self.link if link is None else link, frame))

    def generation(self) -> int | None:
        """What is known of the peer."""
        row = self.phone.member.peers.rows[self.peer.node_id]
        return None if row.capabilities is None else row.capabilities.generation

    def news(self, generation: int) -> Capabilities:
        """Something that changes what is known."""
        return capabilities(self.peer.node_id, generation, Load.of(generation))


@pytest.fixture
def door(both: Cluster) -> Door:
    """With each way to pass messages."""
    return Door(both)


def refused(door: Door, reason: Reason) -> None:
    """The last frame was dropped for this reason, and nothing was learned from it."""
    assert door.dropped() == [Dropped("frame", reason)]
    assert door.generation() is None


def test_a_fresh_message_of_the_peer_comes_through(door: Door) -> None:
    door.hand(door.peer.seal(door.news(1)))
    assert door.generation() == 1
    assert door.dropped() == []


def test_a_replay_is_refused(door: Door) -> None:
    frame = door.peer.seal(door.news(1))
    door.hand(frame)
    door.hand(frame)
    assert door.dropped() == [Dropped("frame", Reason.REPLAYED)]


def test_a_message_that_was_overtaken_still_counts(door: Door) -> None:
    older, newer = door.peer.seal(door.news(1)), door.peer.seal(door.news(2))
    door.hand(newer)
    door.hand(older)
    assert door.dropped() == []
    assert door.generation() == 2


def test_an_earlier_life_is_refused(door: Door) -> None:
    door.hand(door.peer.seal(door.news(1), epoch=2, seq=1))
    door.hand(door.peer.seal(door.news(2), epoch=1, seq=900))
    assert door.dropped() == [Dropped("frame", Reason.REPLAYED)]
    assert door.generation() == 1


def test_a_sender_that_is_not_the_links_peer_is_refused(door: Door) -> None:
    stranger = door.cluster.puppet("stranger")
    door.hand(stranger.seal(door.news(1)))
    refused(door, Reason.UNKNOWN_SENDER)


def test_a_signature_for_another_sender_is_refused(door: Door) -> None:
    """The forger signs with its own key and writes the peer's name."""
    forger = door.cluster.puppet("forger")
    door.hand(forger.seal(door.news(1), sender=door.peer.node_id))
    refused(door, Reason.BAD_SIGNATURE)


def test_another_network_is_refused(door: Door) -> None:
    door.hand(door.peer.seal(door.news(1), network_id="elsewhere"))
    refused(door, Reason.WRONG_NETWORK)


def test_before_its_identity_a_link_says_nothing(door: Door) -> None:
    quiet = door.cluster.puppet("quiet")
    link = door.cluster.link(quiet, door.phone, identify=False)
    door.hand(quiet.seal(capabilities(quiet.node_id)), link)
    assert door.dropped() == [Dropped("frame", Reason.UNKNOWN_SENDER)]
    door.hand(quiet.seal(IDENTITY), link)
    door.hand(quiet.seal(capabilities(quiet.node_id)), link)
    assert quiet.node_id in door.phone.member.peers.rows


def test_a_link_keeps_its_first_identity(door: Door) -> None:
    other = door.cluster.puppet("other")
    door.hand(other.seal(IDENTITY))
    refused(door, Reason.UNKNOWN_SENDER)
    door.hand(door.peer.seal(Identity(role=Role.COORDINATOR, device_type=DeviceType.PHONE, cluster_config_hash=b"")))
    assert door.phone.member.heartbeat.link is None, "a peer cannot become a coordinator"


def test_a_node_does_not_talk_to_itself(door: Door) -> None:
    link = 77
    door.phone.take(LinkUp(link, Medium.LAN))
    before = len(door.phone.effects)
    mirror = door.cluster.puppet("phone")
    door.hand(mirror.seal(IDENTITY), link)
    assert door.dropped() == [Dropped("frame", Reason.UNKNOWN_SENDER)]
    assert len(door.phone.effects) == before + 1


def test_frames_over_an_unknown_link_are_dropped(door: Door) -> None:
    door.hand(door.peer.seal(door.news(1)), link=1234)
    refused(door, Reason.UNKNOWN_SENDER)
    door.phone.take(LinkDown(1234))


def test_a_message_that_is_not_for_this_role_is_dropped(door: Door) -> None:
    door.hand(door.peer.seal(full_heartbeat()))
    assert door.dropped() == [Dropped("message", Reason.OTHER_ROLE)]


def test_every_link_begins_with_an_identity(door: Door) -> None:
    first, *_ = door.peer.heard
    assert first == Identity(
        role=Role.PHONE, device_type=DeviceType.PHONE, cluster_config_hash=door.cluster.config.digest()
    )


def test_where_the_host_knows_who_is_there_nobody_else_can_identify(door: Door) -> None:
    other, link = door.cluster.puppet("other"), 90
    door.phone.take(LinkUp(link, Medium.LAN, peer=door.cluster.puppet("sure").node_id, role=Role.AGENT))
    door.hand(other.seal(IDENTITY), link)
    assert door.dropped() == [Dropped("frame", Reason.UNKNOWN_SENDER)]
    assert door.phone.alive.gate.links[link].peer is None


def test_who_has_proved_one_role_cannot_take_another(door: Door) -> None:
    liar, link = door.cluster.puppet("liar"), 90
    door.phone.take(LinkUp(link, Medium.LAN, peer=liar.node_id, role=Role.AGENT))
    door.hand(liar.seal(Identity(role=Role.COORDINATOR, device_type=DeviceType.PHONE, cluster_config_hash=b"")), link)
    assert door.dropped() == [Dropped("identity", Reason.UNKNOWN_SENDER)]
    assert door.phone.effects[-1] == Disconnect(link)
    assert door.phone.member.heartbeat.link is None
    door.hand(liar.seal(Identity(role=Role.AGENT, device_type=DeviceType.PHONE, cluster_config_hash=b"")), link)
    assert door.phone.alive.gate.links[link].peer == liar.node_id


def test_a_coordinator_closes_a_link_too_many(cluster: Cluster) -> None:
    hub = cluster.add("hub", Role.COORDINATOR, config=msgspec.structs.replace(server(), links_max=1))
    cluster.drive()
    cluster.link(cluster.puppet("first"), hub)
    link = cluster.link(cluster.puppet("second"), hub)
    assert Disconnect(link) in hub.effects
    cluster.run_for(1_000)
    assert len(cluster.cables) == 1


def test_links_are_bounded(cluster: Cluster) -> None:
    door = Door(cluster, links_max=2)
    extra = cluster.puppet("extra")
    cluster.link(door.cluster.puppet("second"), door.phone)
    link = cluster.link(extra, door.phone)
    cluster.drive()
    assert Dropped("link", Reason.OVERFLOW) in door.dropped()
    assert link not in door.phone.alive.gate.links
    assert extra.heard == []
    door.phone.take(LinkUp(door.link, Medium.LAN))
    assert door.dropped().count(Dropped("link", Reason.OVERFLOW)) == 2


def test_remembered_senders_are_bounded_and_linked_ones_are_kept(cluster: Cluster) -> None:
    """However many come and go: who is linked cannot be impersonated with what it said before."""
    door = Door(cluster, senders_max=2)
    recorded = [carried.frame for carried in cluster.carried if carried.source == "peer"]
    for name in ("a", "b", "c"):
        passing = cluster.puppet(name)
        link = cluster.link(passing, door.phone)
        cluster.drive()
        cluster.unlink(link)
    forger = cluster.puppet("forger")
    link = cluster.link(forger, door.phone, identify=False)
    door.hand(recorded[0], link)
    assert door.phone.alive.gate.links[link].peer is None
    assert door.dropped()[-1] == Dropped("frame", Reason.REPLAYED)
    assert len(door.phone.alive.gate._windows) == 2


# -- bytes -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def bytes_door() -> Door:
    """A door that only takes bytes."""
    return Door(Cluster(encoded=True))


def raw(
    puppet: Puppet,
    *,
    version: int = PROTOCOL_VERSION,
    kind: str = "versions",
    body: object = None,
    fields: tuple[object, ...] = (),
) -> bytes:
    """A signed envelope with anything in it."""
    puppet.seq += 1
    signed = msgspec.msgpack.encode(
        [version, kind, "edgecoder", puppet.node_id, puppet.epoch, puppet.seq, 1_000, body, *fields]
    )
    return msgspec.msgpack.encode([signed, IdealKey(puppet.node_id).sign(SIGNATURE_TAG + signed)])


@pytest.mark.parametrize("version", [0, 2, 255])
def test_a_foreign_version_is_told_once_what_is_spoken(version: int, bytes_door: Door) -> None:
    for _ in range(3):
        bytes_door.hand(raw(bytes_door.peer, version=version))
    bytes_door.cluster.drive()
    spoken: list[Message] = [message for message in bytes_door.peer.heard if isinstance(message, Versions)]
    assert spoken == [Versions(version_min=PROTOCOL_VERSION_MIN, version_max=PROTOCOL_VERSION)]
    assert bytes_door.dropped() == [Dropped("frame", Reason.VERSION_MISMATCH)] * 3


def test_a_foreign_version_may_have_another_shape(bytes_door: Door) -> None:
    signed = msgspec.msgpack.encode([9, {"all": "new"}])
    bytes_door.hand(msgspec.msgpack.encode([signed, b"x" * 96]))
    assert bytes_door.dropped() == [Dropped("frame", Reason.VERSION_MISMATCH)]


def test_each_link_is_told_for_itself(bytes_door: Door) -> None:
    bytes_door.hand(raw(bytes_door.peer, version=2))
    other = bytes_door.cluster.puppet("other")
    link = bytes_door.cluster.link(other, bytes_door.phone, identify=False)
    bytes_door.hand(raw(other, version=2), link)
    bytes_door.cluster.drive()
    assert len(bytes_door.peer.all(Versions)) == len(other.all(Versions)) == 1


def test_a_version_that_was_told_is_not_answered(bytes_door: Door) -> None:
    """Else two nodes of different versions would answer each other for ever."""
    bytes_door.hand(bytes_door.peer.seal(Versions(version_min=1, version_max=9)))
    assert bytes_door.dropped() == [Dropped("message", Reason.OTHER_ROLE)]


def test_an_unknown_type_is_counted_and_dropped(bytes_door: Door) -> None:
    bytes_door.hand(raw(bytes_door.peer, kind="pieceRequest", body={}))
    assert bytes_door.dropped() == [Dropped("frame", Reason.UNKNOWN_TYPE)]


def test_unknown_fields_are_kept_out(bytes_door: Door) -> None:
    body = msgspec.msgpack.decode(encode_body(bytes_door.news(3))) | {"colour": "red"}
    bytes_door.hand(raw(bytes_door.peer, kind="capabilities", body=body, fields=("later", 5)))
    assert bytes_door.generation() == 3


@pytest.mark.parametrize(
    "frame",
    [b"", b"\x00", b"no envelope", b"\x92\xc4\x00\xc4\x00", b"\xc1" * 40, bytes(range(256))],
)
def test_noise_is_dropped(frame: bytes, bytes_door: Door) -> None:
    bytes_door.hand(frame)
    assert bytes_door.dropped() == [Dropped("frame", Reason.BAD_FRAME)]


def test_a_frame_beyond_the_limit_is_not_read(bytes_door: Door) -> None:
    bytes_door.hand(bytes(FRAME_BYTES_MAX + 1))
    assert bytes_door.dropped() == [Dropped("frame", Reason.TOO_LARGE)]


def test_an_envelope_object_is_no_bytes(bytes_door: Door) -> None:
    bytes_door.hand(Cluster().puppet("peer").seal(bytes_door.news(1)))
    assert bytes_door.dropped() == [Dropped("frame", Reason.BAD_FRAME)]
