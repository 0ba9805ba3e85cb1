"""A node and the brokers of its files: what it tells whom, and where it goes when one is lost."""

from __future__ import annotations

from typing import Any

import pytest

from edgecoder.config import ClusterConfig, NodeConfig
from edgecoder.core.context import Context
from edgecoder.core.effects import DialCoordinator, Send, Trace
from edgecoder.core.events import Connected, ConnectFailed
from edgecoder.core.ids import FileId, LinkId, Medium, NodeId, Role
from edgecoder.errors import Reason
from edgecoder.mesh.gate import Link
from edgecoder.protocol import CDN_ID, PIECES_PER_MESSAGE
from edgecoder.seeding.client import DIALS_MAX, BrokerClient
from edgecoder.seeding.holdings import Holding, Holdings
from edgecoder.trace import Dropped
from edgecoder.wire.messages import Announce, Grant, Have, Message, Redirect
from edgecoder_sim.crypto import crypto, node_id
from tests.catalogs import MIB, entry

HOME, OTHER, THIRD = node_id("home"), node_id("other"), node_id("third")
PEER = node_id("peer")
SECOND = 1_000_000
PIECES = 600
ENDPOINT = "192.0.2.7:4303"


class Bench:
    """A node with some files and links to coordinators. A Files of the client."""

    def __init__(self, **config: Any) -> None:
        signer, self._verifier = crypto(node_id("here"), "edgecoder", encoded=False)
        settings = NodeConfig(upload_kbit_per_s=8000, transfer_endpoint=ENDPOINT, **config)
        self.context = Context(ClusterConfig(), settings, signer, 1)
        self.context.epoch = self.context.ops.epoch = 1
        self.links: dict[LinkId, Link] = {}
        self.home: LinkId | None = None
        self.holdings = Holdings(self.context)
        self.gives = 4
        self.client = BrokerClient(self.context, self.links, lambda: self.home, self)

    def announced(self) -> list[Holding]:
        return list(self.holdings.by_file.values())

    def wants(self, file: FileId) -> bool:
        return not self.holdings.by_file[file].is_whole

    def slots(self, holding: Holding) -> int:  # noqa: ARG002
        return self.gives

    def file(self, name: str = "shared") -> Holding:
        size = PIECES * MIB // 16
        return self.holdings.begin(entry(name, 0.5, file_size_bytes=size, piece_root="ab" * 32))

    def link(self, number: int, peer: NodeId, *, is_home: bool = False) -> Link:
        link = self.links[number] = Link(number, Medium.LAN, peer=peer, role=Role.COORDINATOR)
        if is_home:
            self.home = number
        self.client.link_bound(link)
        return link

    def drop_link(self, number: int) -> None:
        del self.links[number]
        self.home = None if self.home == number else self.home
        self.client.link_down(number)

    def sent(self) -> list[tuple[LinkId, Message]]:
        """What was sent since it was asked last."""
        found = [(effect.link, effect.frame) for effect in self.context.out if isinstance(effect, Send)]
        self.context.out[:] = [effect for effect in self.context.out if not isinstance(effect, Send)]
        return [(link, self._verifier.open(frame).message) for link, frame in found]

    def dials(self) -> list[DialCoordinator]:
        return [effect for effect in self.context.out if isinstance(effect, DialCoordinator)]

    def drops(self) -> list[tuple[str, Reason]]:
        found = [effect.record for effect in self.context.out if isinstance(effect, Trace)]
        return [(record.what, record.reason) for record in found if isinstance(record, Dropped)]

    def pass_s(self, seconds: float) -> None:
        self.context.now += round(seconds * SECOND)
        self.context.timers.fire_due(self.context.now)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def announcements(bench: Bench) -> list[tuple[LinkId, bool]]:
    return [(link, message.redirected) for link, message in bench.sent() if isinstance(message, Announce)]


def test_an_announcement_says_what_is_here_and_what_is_given(bench: Bench) -> None:
    bench.link(1, HOME, is_home=True)
    holding = bench.file()
    holding.have = 0b101
    bench.client.announce(holding)
    ((link, message),) = bench.sent()
    assert isinstance(message, Announce)
    assert (link, message.wants, message.slots, message.up_kbit_per_s) == (1, True, 4, 8000)
    assert message.endpoint == ENDPOINT
    assert int.from_bytes(message.have, "little") == 0b101
    assert bench.client.has_broker(holding.file)


def test_without_a_home_nothing_is_said_until_there_is_one(bench: Bench) -> None:
    holding = bench.file()
    bench.client.announce(holding)
    assert not bench.client.has_broker(holding.file)
    bench.client.got(holding.file, 1, PEER, MIB)
    assert bench.sent() == []
    bench.link(1, HOME, is_home=True)
    bench.client.announce_all()
    assert announcements(bench) == [(1, False)]


def test_an_announcement_is_repeated_until_a_grant_comes(bench: Bench) -> None:
    link = bench.link(1, HOME, is_home=True)
    holding = bench.file()
    bench.client.announce(holding)
    for after_s in (1, 2, 4, 8, 16, 32, 64, 64):
        bench.pass_s(after_s)
    assert len(announcements(bench)) == 9
    bench.context.now += 70_000
    assert bench.client.granted(link, Grant(file=holding.file, broker_epoch=1, receivers=1))
    assert bench.client.rtt == 200_000, "nobody knows which one was answered"
    bench.client.announce(holding)
    bench.context.now += 70_000
    assert bench.client.granted(link, Grant(file=holding.file, broker_epoch=1, receivers=1))
    assert bench.client.rtt == 70_000
    assert len(announcements(bench)) == 1
    bench.pass_s(60)
    assert bench.sent() == []


def test_news_go_out_together_and_in_parts_that_fit(bench: Bench) -> None:
    bench.link(1, HOME, is_home=True)
    holding = bench.file()
    bench.client.announce(holding)
    bench.sent()
    bench.client.taking(holding.file, range(PIECES_PER_MESSAGE + 1))
    bench.client.lost(holding.file, 7, PEER, Reason.BUSY, 16_384)
    assert bench.sent() == []
    bench.client.got(holding.file, 3, CDN_ID, MIB)
    first, second = (message for _, message in bench.sent())
    assert isinstance(first, Have)
    assert isinstance(second, Have)
    assert (len(first.got), len(first.taking), len(first.lost)) == (1, PIECES_PER_MESSAGE, 1)
    assert (len(second.got), len(second.taking), len(second.lost)) == (0, 1, 0)
    bench.pass_s(0.5)
    assert bench.sent() == []


def test_a_grant_counts_from_the_broker_alone_and_of_its_newest_epoch(bench: Bench) -> None:
    link, other = bench.link(1, HOME, is_home=True), bench.link(2, OTHER)
    holding = bench.file()
    bench.client.announce(holding)
    assert bench.client.granted(link, Grant(file=holding.file, broker_epoch=4, receivers=1))
    assert bench.client.granted(link, Grant(file=holding.file, broker_epoch=4, receivers=1))
    assert not bench.client.granted(link, Grant(file=holding.file, broker_epoch=3, receivers=1))
    assert not bench.client.granted(other, Grant(file=holding.file, broker_epoch=9, receivers=1))
    assert not bench.client.granted(link, Grant(file=bytes(32), broker_epoch=9, receivers=1))
    assert bench.drops() == [("grant", Reason.REPLAYED)] * 3
    assert bench.client.broker_epoch(holding.file) == 4


def test_a_redirect_to_a_link_that_is_up_moves_the_file_there(bench: Bench) -> None:
    home = bench.link(1, HOME, is_home=True)
    bench.link(2, OTHER)
    holding = bench.file()
    bench.client.announce(holding)
    bench.client.redirected(home, Redirect(file=holding.file, coordinator=OTHER, endpoint="other"))
    assert announcements(bench) == [(1, False), (2, True)]
    assert bench.dials() == []
    bench.client.got(holding.file, 0, PEER, MIB)
    assert [link for link, _ in bench.sent()] == [2]
    assert bench.client.trusts(OTHER, holding.file)


def test_a_redirect_elsewhere_dials_once_and_moves_all_that_wait(bench: Bench) -> None:
    home = bench.link(1, HOME, is_home=True)
    holdings = [bench.file("one"), bench.file("two")]
    for holding in holdings:
        bench.client.announce(holding)
        bench.client.redirected(home, Redirect(file=holding.file, coordinator=OTHER, endpoint="other"))
    (dial,) = bench.dials()
    assert (dial.coordinator, dial.endpoint) == (OTHER, "other")
    bench.sent()
    bench.context.ops.complete(Connected(dial.op, 2))
    bench.link(2, OTHER)
    assert announcements(bench) == [(2, True), (2, True)]


def test_who_cannot_be_reached_is_replaced_by_the_home(bench: Bench) -> None:
    home = bench.link(1, HOME, is_home=True)
    holding = bench.file()
    bench.client.announce(holding)
    bench.client.redirected(home, Redirect(file=holding.file, coordinator=OTHER, endpoint="other"))
    bench.sent()
    bench.context.ops.complete(ConnectFailed(bench.dials()[0].op, Reason.PEER_LOST))
    assert announcements(bench) == [(1, True)]


@pytest.mark.parametrize("endpoint", ["", "no address", "host:0"])
def test_who_has_no_address_is_replaced_by_the_home_at_once(endpoint: str) -> None:
    """A node whose coordinators have addresses was made to dial nothing."""
    bench = Bench(coordinators=(f"{HOME.hex()}@home.example:4301",))
    home = bench.link(1, HOME, is_home=True)
    holding = bench.file()
    bench.client.announce(holding)
    bench.sent()
    bench.client.redirected(home, Redirect(file=holding.file, coordinator=OTHER, endpoint=endpoint))
    assert bench.dials() == []
    assert announcements(bench) == [(1, True)]
    assert bench.drops() == [("redirect", Reason.NO_ADDRESS)]


def test_who_does_not_say_who_it_is_is_replaced_by_the_home(bench: Bench) -> None:
    home = bench.link(1, HOME, is_home=True)
    holding = bench.file()
    bench.client.announce(holding)
    bench.client.granted(home, Grant(file=holding.file, broker_epoch=1, receivers=1))
    bench.client.redirected(home, Redirect(file=holding.file, coordinator=OTHER, endpoint="other"))
    bench.sent()
    bench.pass_s(19)
    assert announcements(bench) == []
    bench.pass_s(1)
    assert announcements(bench) == [(1, True)]


def test_the_newest_redirect_counts(bench: Bench) -> None:
    home = bench.link(1, HOME, is_home=True)
    holding = bench.file()
    bench.client.announce(holding)
    for broker in (OTHER, THIRD):
        bench.client.redirected(home, Redirect(file=holding.file, coordinator=broker, endpoint=""))
    bench.sent()
    bench.link(2, OTHER)
    assert announcements(bench) == []
    bench.link(3, THIRD)
    assert announcements(bench) == [(3, True)]


@pytest.mark.parametrize("case", ["not from the home", "to itself", "of another file"])
def test_redirects_that_make_no_sense_change_nothing(bench: Bench, case: str) -> None:
    home, other = bench.link(1, HOME, is_home=True), bench.link(2, OTHER)
    holding = bench.file()
    bench.client.announce(holding)
    bench.sent()
    file = bytes(32) if case == "of another file" else holding.file
    to = HOME if case == "to itself" else THIRD
    bench.client.redirected(other if case == "not from the home" else home, Redirect(file, to, ""))
    assert bench.dials() == []
    assert bench.sent() == []
    assert bench.drops() == [("redirect", Reason.UNKNOWN_SENDER)]


def test_so_many_brokers_are_dialled_at_once_and_no_more(bench: Bench) -> None:
    home = bench.link(1, HOME, is_home=True)
    for number in range(DIALS_MAX + 1):
        holding = bench.file(f"file-{number}")
        bench.client.announce(holding)
        bench.client.redirected(home, Redirect(holding.file, node_id(f"broker {number}"), ""))
    assert len(bench.dials()) == DIALS_MAX
    assert bench.drops() == [("redirect", Reason.OVERFLOW)]


def test_a_broker_that_is_lost_is_asked_for_at_home_which_may_name_another(bench: Bench) -> None:
    """It had said that it was sent: then the home of each node took the file itself, and there were as many brokers as
    homes."""
    home = bench.link(1, HOME, is_home=True)
    bench.link(2, OTHER)
    holding = bench.file()
    bench.client.announce(holding)
    bench.client.redirected(home, Redirect(holding.file, OTHER, ""))
    bench.sent()
    bench.drop_link(2)
    assert announcements(bench) == [(1, False)]
    bench.link(3, THIRD)
    bench.client.redirected(home, Redirect(holding.file, THIRD, ""))
    assert announcements(bench) == [(3, True)]


def test_a_home_that_is_lost_leaves_its_files_without_a_broker(bench: Bench) -> None:
    bench.link(1, HOME, is_home=True)
    holding = bench.file()
    bench.client.announce(holding)
    bench.sent()
    bench.drop_link(1)
    assert not bench.client.has_broker(holding.file)
    assert bench.sent() == []
    assert bench.client.trusts(HOME, holding.file)  # its tickets are still of use
    bench.link(2, OTHER, is_home=True)
    bench.client.announce_all()
    assert announcements(bench) == [(2, False)]


def test_other_slots_are_told_and_the_same_are_not(bench: Bench) -> None:
    bench.link(1, HOME, is_home=True)
    bench.client.announce(bench.file())
    bench.sent()
    bench.client.changed()
    assert bench.sent() == []
    bench.gives = 0
    bench.client.changed()
    ((_, message),) = bench.sent()
    assert isinstance(message, Announce)
    assert message.slots == 0


def test_a_file_that_is_gone_is_said_to_be(bench: Bench) -> None:
    bench.link(1, HOME, is_home=True)
    holding = bench.file()
    holding.have = 0b1
    bench.client.announce(holding)
    bench.sent()
    bench.client.forget(holding)
    ((_, message),) = bench.sent()
    assert isinstance(message, Announce)
    assert not any(message.have)
    assert not message.wants
    assert not bench.client.has_broker(holding.file)


def test_who_has_nothing_and_wants_nothing_says_so_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker answers a node that leaves with nothing, so an ended download was announced for ever; and one that is
    not first for the file named another in place of forgetting the node."""
    bench.link(1, HOME, is_home=True)
    holding = bench.file()
    monkeypatch.setattr(bench, "wants", lambda _: False)
    bench.client.announce(holding)
    bench.pass_s(600)
    assert announcements(bench) == [(1, True)]
    holding.have = 0b1
    bench.client.announce(holding)
    assert announcements(bench) == [(1, False)]
    bench.client.forget(holding)
    assert announcements(bench) == [(1, True)]


def test_what_did_not_come_is_told_before_all_is_told_anew(bench: Bench) -> None:
    bench.link(1, HOME, is_home=True)
    holding = bench.file()
    bench.client.announce(holding)
    bench.sent()
    bench.client.lost(holding.file, 3, PEER, Reason.PIECE_CORRUPT, 65_536)
    bench.client.announce(holding)
    news, anew = (message for _, message in bench.sent())
    assert isinstance(news, Have)
    assert [(lost.piece, lost.reason) for lost in news.lost] == [(3, Reason.PIECE_CORRUPT)]
    assert isinstance(anew, Announce)


def test_a_broker_that_answers_the_dial_and_no_more_is_given_up(bench: Bench) -> None:
    """The file was announced at home again and again meanwhile, and each redirect pushed the end of the wait on."""
    home = bench.link(1, HOME, is_home=True)
    holding = bench.file()
    bench.client.announce(holding)
    redirect = Redirect(holding.file, OTHER, "")
    bench.client.redirected(home, redirect)
    bench.context.ops.complete(Connected(bench.dials()[0].op, 2))
    bench.sent()
    for _ in range(3):
        bench.pass_s(6)
        bench.client.redirected(home, redirect)
    assert announcements(bench) == []
    assert len(bench.dials()) == 1
    bench.pass_s(2)
    assert announcements(bench) == [(1, True)]


def test_a_file_that_has_moved_elsewhere_does_not_wait_for_its_earlier_broker(bench: Bench) -> None:
    home, third = bench.link(1, HOME, is_home=True), bench.link(3, THIRD)
    holding = bench.file()
    bench.client.announce(holding)
    bench.client.redirected(home, Redirect(holding.file, OTHER, ""))
    (dial,) = bench.dials()
    bench.client.redirected(home, Redirect(holding.file, THIRD, ""))
    bench.client.granted(third, Grant(file=holding.file, broker_epoch=1, receivers=1))
    bench.sent()
    bench.context.ops.complete(ConnectFailed(dial.op, Reason.NO_ANSWER))
    assert bench.sent() == []
