"""A flash crowd: one source, and peers that all begin to fetch its file at the same time.

Fidelity boundary: every peer is connected to every other. Access links are FlowNetwork's: a peer may be held back by
its link, by libtorrent's own rate limiter, or by both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from edgecoder.core.rng import Stream
from edgecoder_sim.bandwidth import FlowNetwork
from edgecoder_sim.kernel import Kernel
from edgecoder_sim.swarm.peer import SECOND_US, Peer
from edgecoder_sim.swarm.settings import DEFAULT, Settings, Torrent

LOOPBACK_BYTES_PER_S: Final = 1_000_000_000
"""An access link that is never the bottleneck (I: below what one core copies)."""
START_US: Final = 1_500_000
"""When the peers begin to fetch, unless told otherwise: sessions are created in the first second before."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a swarm did. Times are seconds since the peers began to fetch."""

    finishes_s: tuple[float, ...]
    """Of each peer; shorter than the list of peers if not all finished in time."""
    half_s: float | None
    """When half of all bytes had arrived; None if they did not."""
    source_copies: float
    """What the source sent, in files."""
    sent_bytes: tuple[int, ...]
    """By peer, the source first."""
    got_bytes: tuple[int, ...]
    wasted_bytes: tuple[int, ...]
    """By peer: of blocks that came again."""


class Swarm:
    """The source and the peers of one torrent, on one kernel."""

    def __init__(
        self,
        torrent: Torrent,
        upload_bytes_per_s: Sequence[int],
        rng_seed: int,
        settings: Settings = DEFAULT,
        *,
        link_bytes_per_s: int = LOOPBACK_BYTES_PER_S,
        created_us: Sequence[int] | None = None,
        start_us: int = START_US,
    ) -> None:
        """Rate limits by peer, the source first, 0 for none; `created_us` is when each session begins.

        Without `created_us` that is at random, within one second and half a second before the peers begin to fetch.
        """
        self._kernel = Kernel()
        # Shared anew at each tick: within a longer quantum the first of many small writes would take the whole link.
        network = FlowNetwork(self._kernel, self._kernel.tick_us)
        self._start_us = start_us
        self._torrent = torrent
        count = len(upload_bytes_per_s)
        timing = Stream(rng_seed, b"", "swarm timing")
        if created_us is None:
            created_us = [timing.below(SECOND_US) // 1000 * 1000 for _ in range(count)]
        fast = Stream(rng_seed, b"", "swarm allowed fast")
        fast_count = min(settings.allowed_fast_set_size, torrent.pieces)
        fast_sets = [fast.shuffled(range(torrent.pieces))[:fast_count] for _ in range(count)]
        self.peers: list[Peer] = []
        for number, limit in enumerate(upload_bytes_per_s):
            node = network.add_node(link_bytes_per_s, link_bytes_per_s)
            stream = Stream(rng_seed, number.to_bytes(4, "big"), "swarm peer")
            peer = Peer(
                self._kernel,
                network,
                node,
                torrent,
                settings,
                limit,
                is_seed=number == 0,
                fast_sets=fast_sets,
                stream=stream,
            )
            peer.on_block = self._count
            peer.on_finished = self._count_finished
            peer.start(created_us[number])
            self.peers.append(peer)
        self._got_bytes = 0
        self._unfinished = count - 1
        self._half_us: int | None = None
        self._kernel.call_at(start_us, self._begin)
        self._done = self._kernel.event()

    def run(self, limit_s: int = 3600) -> Outcome:
        """Run until all peers have the file, or the time is up."""
        self._kernel.call_at(self._start_us + limit_s * SECOND_US, self._give_up)
        self._kernel.run(self._done)
        finishes = [peer.finished_us for peer in self.peers[1:] if peer.finished_us is not None]
        return Outcome(
            finishes_s=tuple((at_us - self._start_us) / SECOND_US for at_us in sorted(finishes)),
            half_s=None if self._half_us is None else (self._half_us - self._start_us) / SECOND_US,
            source_copies=self.peers[0].sent_bytes / self._torrent.size_bytes,
            sent_bytes=tuple(peer.sent_bytes for peer in self.peers),
            got_bytes=tuple(peer.got_bytes for peer in self.peers),
            wasted_bytes=tuple(peer.wasted_bytes for peer in self.peers),
        )

    def _begin(self, _: object, __: object) -> None:
        for peer in self.peers[1:]:
            peer.to_connect = self.peers[: peer.number]

    def _count(self, size_bytes: int) -> None:
        self._got_bytes += size_bytes
        if self._half_us is None and 2 * self._got_bytes >= (len(self.peers) - 1) * self._torrent.size_bytes:
            self._half_us = self._kernel.now

    def _count_finished(self) -> None:
        self._unfinished -= 1
        if not self._unfinished:
            self._done.succeed()

    def _give_up(self, _: object, __: object) -> None:
        if not self._done.triggered:
            self._done.succeed()
