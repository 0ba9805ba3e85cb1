"""Who is served when, and who is not: slots, limits, order, and the reasons to give nothing."""

from __future__ import annotations

import pytest

from edgecoder.config import NodeConfig
from edgecoder.core.effects import RefusePiece, ServePiece
from edgecoder.core.events import AccessChanged, PowerChanged, ShutDown
from edgecoder.core.giving import PieceAsked
from edgecoder.core.ids import LinkId, Medium, Wanted
from edgecoder.errors import Reason
from edgecoder.models.catalog import Catalog
from edgecoder.seeding.uploads import FEWER_AFTER
from edgecoder_sim.crypto import node_id
from tests.catalogs import SMALL
from tests.harness import Cluster
from tests.hosts import Host
from tests.uploading import DIGEST, FILE, NOW_MS, PIECE_BITS, SECOND, UploadBench

PEERS = tuple(node_id(f"peer {number}") for number in range(8))
MINUTE = 60 * SECOND


@pytest.fixture
def bench() -> UploadBench:
    """Two slots, a queue of three, two requests a peer."""
    return UploadBench(upload_slots=2, upload_queue_max=3, uploads_per_peer_max=2)


# -- slots and limits --------------------------------------------------------------------------------------------------


def test_requests_are_served_in_their_order_as_many_at_once_as_there_are_slots(bench: UploadBench) -> None:
    asked = [bench.near(peer) for peer in PEERS[:4]]
    assert list(bench.serving) == asked[:2]
    bench.served(asked[1])
    assert list(bench.serving) == [asked[0], asked[2]]
    bench.served(asked[0], reason=Reason.PEER_LOST)
    assert list(bench.serving) == asked[2:4]


def test_what_is_sent_is_what_was_asked_for(bench: UploadBench) -> None:
    effect = bench.serving[bench.near(piece=2, first_leaf=3)]
    assert (effect.entry, effect.piece, effect.first_leaf) == (FILE, 2, 3)
    assert effect.have == FILE.layout.all_pieces


def test_the_queue_has_an_end(bench: UploadBench) -> None:
    asked = [bench.near(peer) for peer in PEERS[:6]]
    assert bench.refused == {asked[5]: Reason.BUSY}
    assert len(bench.uploads) == 5
    bench.served(asked[0])
    bench.near(PEERS[6])
    assert len(bench.refused) == 1


def test_no_peer_has_more_than_its_share(bench: UploadBench) -> None:
    first, second, third = bench.near(), bench.near(piece=1), bench.near(piece=2)
    assert bench.refused == {third: Reason.BUSY}
    bench.near(PEERS[1])
    assert len(bench.refused) == 1
    bench.served(first)
    bench.withdraw(second)
    assert bench.near(piece=3) not in bench.refused


@pytest.mark.parametrize(
    ("piece", "first_leaf", "reason"),
    [(4, 0, Reason.NOT_HELD), (-1, 0, Reason.NOT_HELD), (0, 4, Reason.INVALID), (0, -1, Reason.INVALID)],
)
def test_what_the_file_has_not_is_refused(piece: int, first_leaf: int, reason: Reason, bench: UploadBench) -> None:
    assert bench.refused == {bench.near(piece=piece, first_leaf=first_leaf): reason}


def test_what_is_not_here_is_refused(bench: UploadBench) -> None:
    bench.holdings.by_file[DIGEST].have = 0b0101
    assert bench.refused == {bench.near(piece=1): Reason.NOT_HELD}
    other = bench.request(file=bytes(32), link=1)
    assert bench.refused[other] is Reason.NOT_HELD
    assert bench.near(piece=2) in bench.serving


def test_hashes_and_a_look_are_for_whoever_may_have_a_piece_of_what_is_here() -> None:
    bench = UploadBench()
    ticket = bench.ticket(expires_ms=NOW_MS)
    for wanted in (Wanted.HASHES, Wanted.NOTHING):
        bench.holdings.by_file[DIGEST].have = 0b1000
        request = bench.request(ticket=ticket, wanted=wanted)
        assert (bench.serving[request].wanted, bench.serving[request].have) == (wanted, 0b1000)
        bench.served(request)
        assert bench.refused[bench.request(wanted=wanted)] is Reason.NO_TICKET
        bench.holdings.by_file[DIGEST].have = 0
        assert bench.refused[bench.request(ticket=ticket, wanted=wanted)] is Reason.NOT_HELD


def test_hashes_say_nothing_of_the_uplink() -> None:
    bench = UploadBench(upload_kbit_per_s=PIECE_BITS // 1000, upload_slots=3)
    bench.served(bench.request(link=1, wanted=Wanted.HASHES), 4 * SECOND)
    assert bench.uploads.at_once == 1


def test_a_whole_file_is_not_given_where_its_user_does_not_want_that() -> None:
    bench = UploadBench(seed_whole_files=False)
    assert bench.refused == {bench.near(): Reason.NOT_SEEDING}
    bench.holdings.by_file[DIGEST].have = 0b0111
    assert bench.near() in bench.serving


# -- an uplink that is known -------------------------------------------------------------------------------------------


def test_more_are_served_at_once_where_receivers_are_slower_than_the_uplink() -> None:
    bench = UploadBench(upload_kbit_per_s=PIECE_BITS // 1000, upload_slots=3)
    assert bench.uploads.at_once == 1
    for expected in (2, 3, 3):
        for request in list(bench.serving) or [bench.near()]:
            bench.served(request, 4 * SECOND)
        while len(bench.serving) < bench.uploads.at_once:
            bench.near(PEERS[len(bench.serving)])
        assert bench.uploads.at_once == expected


def test_one_fewer_is_tried_now_and_then() -> None:
    bench = UploadBench(upload_kbit_per_s=PIECE_BITS // 1000, upload_slots=3)
    bench.served(bench.near(), 4 * SECOND)
    assert bench.uploads.at_once == 2
    for number in range(FEWER_AFTER):
        assert bench.uploads.at_once == 2, f"after {number}"
        bench.served(bench.near(), SECOND)
    assert bench.uploads.at_once == 1
    for _ in range(2 * FEWER_AFTER):
        bench.served(bench.near(), SECOND)
    assert bench.uploads.at_once == 1


def test_uploads_that_broke_off_or_took_no_time_say_nothing_of_the_uplink() -> None:
    bench = UploadBench(upload_kbit_per_s=PIECE_BITS // 1000, upload_slots=3)
    bench.served(bench.near(), 4 * SECOND, Reason.PEER_LOST)
    bench.served(bench.near())
    assert bench.uploads.at_once == 1


def test_the_end_of_a_piece_counts_as_what_it_is() -> None:
    """One leaf of four in a quarter of a second fills the uplink."""
    bench = UploadBench(upload_kbit_per_s=PIECE_BITS // 1000, upload_slots=3)
    bench.served(bench.near(first_leaf=3), SECOND // 4)
    assert bench.uploads.at_once == 1
    bench.served(bench.near(first_leaf=3), SECOND)
    assert bench.uploads.at_once == 2


def test_an_uplink_that_is_not_known_has_all_slots() -> None:
    bench = UploadBench(upload_slots=3)
    bench.served(bench.near(), 4 * SECOND)
    assert bench.uploads.at_once == 3


# -- giving way --------------------------------------------------------------------------------------------------------


def test_tasks_come_first(bench: UploadBench) -> None:
    first = bench.near()
    bench.giver.busy = True
    second = bench.near(PEERS[1])
    assert list(bench.serving) == [first]
    bench.served(first)
    assert not bench.serving
    bench.giver.busy = False
    bench.pump()
    assert list(bench.serving) == [second]


def test_unless_its_user_wants_both() -> None:
    bench = UploadBench(seed_while_busy=True)
    bench.giver.busy = True
    assert bench.near() in bench.serving


def test_whom_a_broker_sent_is_refused_while_tasks_run_and_the_broker_hears_of_it(bench: UploadBench) -> None:
    """They waited without a word, and said that this node was too slow."""
    ticket = bench.ticket(expires_ms=NOW_MS)
    sent = [bench.near(PEERS[1]), bench.near(PEERS[2])]
    waits, near = bench.request(ticket=ticket), bench.near(PEERS[1])
    bench.giver.busy = True
    bench.pump()
    late = bench.request(ticket=ticket)
    assert bench.refused == {waits: Reason.NOT_SEEDING, late: Reason.NOT_SEEDING}
    assert bench.giver.pauses_told
    for request in sent:
        bench.served(request)
    assert not bench.serving
    bench.giver.busy = False
    bench.pump()
    assert list(bench.serving) == [near]


def test_who_waits_is_told_when_nothing_is_given_any_more(bench: UploadBench) -> None:
    """But for those in reach, where only the network is dear."""
    bench.giver.busy = True
    ticket = bench.ticket(expires_ms=NOW_MS)
    far, near = bench.request(ticket=ticket), bench.near()
    bench.giver.reason = Reason.NOT_SEEDING
    bench.pump()
    assert bench.refused == {far: Reason.NOT_SEEDING}
    bench.giver.busy = False
    bench.pump()
    assert list(bench.serving) == [near]
    bench.giver.reason_near = Reason.LOW_POWER
    assert bench.refused[bench.near()] is Reason.LOW_POWER
    assert near in bench.serving, "what is being sent goes on"


def test_who_waits_no_more_is_not_served(bench: UploadBench) -> None:
    asked = [bench.near(peer) for peer in PEERS[:4]]
    bench.withdraw(asked[2])
    bench.withdraw(asked[0])  # it is being sent: that ends by itself
    bench.withdraw(99)
    bench.served(asked[0])
    assert list(bench.serving) == [asked[1], asked[3]]
    assert asked[2] not in bench.refused


def test_a_file_that_is_removed_while_somebody_waits(bench: UploadBench) -> None:
    asked = [bench.near(peer) for peer in PEERS[:4]]
    bench.holdings.forget(FILE)
    bench.served(asked[0], SECOND)
    assert bench.refused == {asked[2]: Reason.NOT_HELD, asked[3]: Reason.NOT_HELD}
    assert len(bench.uploads) == 1


def test_links_that_carry_pieces_are_known(bench: UploadBench) -> None:
    first = bench.request(PEERS[0], link=5)
    bench.request(PEERS[1], link=6)
    third = bench.request(PEERS[2], link=7)
    assert [bench.uploads.serves(link) for link in (5, 6, 7, 8)] == [True, True, True, False]
    bench.withdraw(third)
    bench.served(first)
    assert [bench.uploads.serves(link) for link in (5, 6, 7)] == [False, True, False]


# -- on the battery ----------------------------------------------------------------------------------------------------


def test_on_its_battery_it_sends_for_a_share_of_the_time() -> None:
    bench = UploadBench(upload_slots=1)
    bench.giver.duty = 50
    bench.wait(MINUTE)
    bench.served(bench.near(), 30 * SECOND - 1)
    second = bench.near()
    bench.served(second, 10 * SECOND)  # what has begun is not broken off
    third = bench.near()
    assert not bench.serving
    bench.wait(20 * SECOND)
    assert not bench.serving
    bench.wait(SECOND)
    assert list(bench.serving) == [third]


def test_whom_a_broker_sent_is_refused_until_it_may_send_again(bench: UploadBench) -> None:
    bench.giver.duty = 50
    ticket = bench.ticket(expires_ms=NOW_MS)
    bench.wait(MINUTE)
    bench.served(bench.request(ticket=ticket), 30 * SECOND)
    assert bench.uploads.is_paused()
    assert bench.ask(ticket) is Reason.NOT_SEEDING
    told = bench.giver.pauses_told
    bench.wait(30 * SECOND)
    assert not bench.uploads.is_paused()
    assert bench.giver.pauses_told == told + 1
    assert bench.request(ticket=ticket) in bench.serving


def test_two_at_once_are_one_time_on_the_air() -> None:
    bench = UploadBench(upload_slots=2)
    bench.giver.duty = 50
    bench.wait(MINUTE)
    first, second = bench.near(), bench.near()
    bench.served(first, 20 * SECOND)
    bench.served(second)
    assert bench.near() in bench.serving


def test_on_the_mains_it_does_not_rest() -> None:
    bench = UploadBench(upload_slots=1)
    for _ in range(4):
        bench.served(bench.near(), MINUTE)
    assert bench.near() in bench.serving


# -- the node around ---------------------------------------------------------------------------------------------------


class Seed:
    """A whole node that has the file, and a peer that asks over the network, or over a radio link."""

    def __init__(self, **config: object) -> None:
        self.cluster = Cluster(catalog=Catalog([FILE, SMALL]))
        files = {"installed": [FILE, SMALL], "active": SMALL}
        settings = NodeConfig(**config)  # type: ignore[arg-type]
        self.host: Host = self.cluster.add("seed", config=settings, **files)  # type: ignore[arg-type]
        self.cluster.drive()
        self._requests = 0

    def ask(self, link: LinkId | None) -> Reason | None:
        """Why it gives nothing; None: it does. Over the network nobody here has a ticket."""
        self._requests += 1
        effects = self.host.take(PieceAsked(self._requests, PEERS[0], DIGEST, 0, 0, None, link))
        (answer,) = [effect for effect in effects if isinstance(effect, RefusePiece | ServePiece)]
        self.cluster.drive()
        return answer.reason if isinstance(answer, RefusePiece) else None

    def answers(self) -> tuple[Reason | None, Reason | None]:
        """What it says to one without a ticket, and to one over a radio link."""
        return self.ask(None), self.ask(self.cluster.link(self.host, self.cluster.puppet("near"), Medium.BLE))


GIVES = (Reason.NO_TICKET, None)


def test_a_node_on_the_mains_gives() -> None:
    assert Seed().answers() == GIVES


@pytest.mark.parametrize(("wants", "expected"), [(False, (Reason.NOT_SEEDING, None)), (True, GIVES)])
def test_what_its_user_pays_for_it_gives_to_nobody_but_those_in_reach(
    wants: bool, expected: tuple[Reason | None, Reason | None]
) -> None:
    seed = Seed(seed_when_metered=wants)
    seed.host.take(AccessChanged(is_metered=True))
    assert seed.answers() == expected
    seed.host.take(AccessChanged(is_metered=False))
    assert seed.answers() == GIVES


@pytest.mark.parametrize(("battery_pct", "on_power", "low"), [(20, False, True), (21, False, False), (1, True, False)])
def test_a_low_battery_gives_to_nobody(battery_pct: int, on_power: bool, low: bool) -> None:
    seed = Seed()
    seed.host.take(PowerChanged(battery_pct, on_power))
    assert seed.answers() == ((Reason.LOW_POWER, Reason.LOW_POWER) if low else GIVES)


def test_who_does_not_seed_gives_to_nobody() -> None:
    assert Seed(seeding=False).answers() == (Reason.NOT_SEEDING, Reason.NOT_SEEDING)


def test_who_shuts_down_gives_to_nobody() -> None:
    seed = Seed()
    seed.host.ask(ShutDown)
    assert seed.ask(None) is seed.ask(1) is Reason.SHUTTING_DOWN
