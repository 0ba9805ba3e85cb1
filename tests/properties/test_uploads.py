"""A node that gives pieces, whatever happens around it: no request is lost or ends twice, and no count leaks."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edgecoder.core.ids import Micros, NodeId, RequestId, Wanted
from edgecoder.errors import Reason
from edgecoder_sim.crypto import node_id
from tests.strategies import examples
from tests.uploading import FILE, NOW_MS, PIECE_BITS, SECOND, UploadBench

PEERS = tuple(node_id(f"peer {number}") for number in range(4))
SLOTS, QUEUE, PER_PEER = 3, 4, 3
picks = st.integers(0, 11)
delays = st.sampled_from([0, SECOND // 4, SECOND, 5 * SECOND, 40 * SECOND])
reasons = st.sampled_from([None, None, Reason.NOT_SEEDING, Reason.LOW_POWER])


class Giver(RuleBasedStateMachine):
    """Peers ask, wait no more, and get what they asked for; the node has better things to do, or none."""

    @initialize(is_known=st.booleans())
    def begin(self, is_known: bool) -> None:
        kbit_per_s = PIECE_BITS // 1000 if is_known else 0
        limits = {"upload_slots": SLOTS, "upload_queue_max": QUEUE, "uploads_per_peer_max": PER_PEER}
        self.bench = UploadBench(upload_kbit_per_s=kbit_per_s, **limits)
        self.peers: dict[RequestId, NodeId] = {}
        """Who made each request that was made."""
        self.ended: Counter[RequestId] = Counter()
        """How often each was served or withdrawn."""
        self.tickets = {peer: self.bench.ticket(receiver=peer, expires_ms=NOW_MS) for peer in PEERS}

    @rule(
        peer=st.sampled_from(PEERS),
        piece=st.integers(-1, 4),
        leaf=st.integers(0, 4),
        is_near=st.booleans(),
        wanted=st.sampled_from(Wanted),
    )
    def ask(self, peer: NodeId, piece: int, leaf: int, is_near: bool, wanted: Wanted = Wanted.BYTES) -> None:
        how = {"link": PEERS.index(peer)} if is_near else {"ticket": self.tickets[peer]}
        self.peers[self.bench.requests + 1] = peer
        self.bench.request(peer, piece, leaf, wanted=wanted, **how)

    @rule(peers=st.lists(st.sampled_from(PEERS), min_size=2, max_size=6))
    def many_ask(self, peers: list[NodeId]) -> None:
        for number, peer in enumerate(peers):
            self.ask(peer, number % 4, 0, is_near=True)

    @rule(pick=picks, after_us=delays, reason=st.sampled_from([None, None, None, Reason.PEER_LOST]))
    def one_is_done(self, pick: int, after_us: Micros, reason: Reason | None) -> None:
        if self.bench.serving:
            request = sorted(self.bench.serving)[pick % len(self.bench.serving)]
            self.ended[request] += 1
            self.bench.served(request, after_us, reason)

    @rule(pick=picks)
    def one_waits_no_more(self, pick: int) -> None:
        if self.peers:
            request = sorted(self.peers)[-1 - pick % len(self.peers)]
            self.ended[request] += request in self.waiting
            self.bench.withdraw(request)

    @rule(busy=st.booleans(), duty=st.sampled_from([100, 100, 50, 0]), near=reasons, far=reasons)
    def things_change(self, busy: bool, duty: int, near: Reason | None, far: Reason | None) -> None:
        giver = self.bench.giver
        giver.busy, giver.duty, giver.reason_near, giver.reason = busy, duty, near, far or near
        self.bench.pump()

    @rule(is_here=st.booleans(), have=st.integers(0, 15))
    def the_file_changes(self, is_here: bool, have: int) -> None:
        self.bench.holdings.forget(FILE)
        if is_here:
            self.bench.holdings.begin(FILE).have = have

    @rule(delay_us=delays)
    def wait(self, delay_us: Micros) -> None:
        self.bench.wait(delay_us)

    @property
    def waiting(self) -> list[RequestId]:
        """The requests that have had no answer, as they were made."""
        bench = self.bench
        over = {*(+self.ended), *bench.refused, *bench.serving}
        return [request for request in self.peers if request not in over]

    @invariant()
    def every_request_has_one_end(self) -> None:
        if not hasattr(self, "bench"):
            return
        for request in self.peers:
            ends = self.ended[request] + (request in self.bench.refused) + (request in self.bench.serving)
            assert ends <= 1, f"request {request} has ended twice"
        assert [upload.request for upload in self.bench.uploads._waiting] == self.waiting

    @invariant()
    def counts_are_right(self) -> None:
        if not hasattr(self, "bench"):
            return
        uploads, serving = self.bench.uploads, self.bench.serving
        assert {upload.request for upload in uploads._serving.values()} == set(serving)
        assert len(uploads) == len(self.waiting) + len(serving)
        counts = Counter(self.peers[request] for request in (*self.waiting, *serving))
        assert uploads._of_peer == counts
        assert all(count <= PER_PEER for count in counts.values())
        assert len(self.waiting) <= QUEUE
        assert len(serving) <= SLOTS
        assert 1 <= uploads.at_once <= SLOTS

    def teardown(self) -> None:
        """Nothing is in its way any more: all who wait are served."""
        if not hasattr(self, "bench"):
            return
        self.things_change(busy=False, duty=100, near=None, far=None)
        for _ in range(QUEUE + SLOTS):
            assert bool(self.bench.serving) or not self.waiting
            self.one_is_done(0, SECOND, None)
            self.counts_are_right()
        assert len(self.bench.uploads) == 0
        assert not self.bench.uploads._of_peer
        self.every_request_has_one_end()


TestGiver = Giver.TestCase
TestGiver.settings = settings(examples(4), stateful_step_count=40)
