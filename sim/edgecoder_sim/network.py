"""Links over IP: who can send to whom, and when an envelope arrives.

A link between two nodes crosses the access networks of both. An envelope waits for the sender's uplink, takes its
size over the uplink's capacity, the latency and jitter of both sides, and its size over the receiver's downlink. A
link delivers in order. Files are flows that share the same access links max-min fairly (`bandwidth`).

Fidelity boundary: envelopes and files do not slow each other down; the downlink of a receiver serves envelopes in the
order in which they were sent; nothing between the access networks is ever full. There is no TCP: a link has its
capacity from the first byte, and an envelope that `loss_pct` takes is gone.
"""

from __future__ import annotations

from edgecoder.core.events import LinkUp
from edgecoder.core.ids import LinkId, Medium
from edgecoder.wire.envelope import Envelope, Frame
from edgecoder_sim.host import SimNode
from edgecoder_sim.profiles import Network

SECOND_US = 1_000_000
_MULTIPLIER, _INCREMENT, _STATE_MASK = 6364136223846793005, 1442695040888963407, (1 << 64) - 1


class Access:
    """One node's access network."""

    __slots__ = (
        "down_bytes_per_s",
        "down_free_us",
        "jitter_us",
        "latency_us",
        "loss_pct",
        "state",
        "up_bytes_per_s",
        "up_free_us",
    )

    def __init__(self, node: SimNode, network: Network, purpose: str) -> None:
        """`purpose` tells the access networks of one node apart, in its random draws too."""
        self.up_bytes_per_s = network.up_bytes_per_s
        self.down_bytes_per_s = network.down_bytes_per_s
        self.latency_us = network.latency_us
        self.jitter_us = network.jitter_us
        self.loss_pct = network.loss_pct
        self.state = node.stream(f"network.{purpose}").word()
        self.up_free_us = 0
        self.down_free_us = 0

    def draw(self, bound: int) -> int:
        """A uniform integer in [0, bound), bound at most 2³². Every envelope draws, so this is Knuth's MMIX generator
        (The Art of Computer Programming, 3.3.4) in place of a `Stream`: a third of the time, and good enough for
        jitter."""
        self.state = state = (self.state * _MULTIPLIER + _INCREMENT) & _STATE_MASK
        return (state >> 32) * bound >> 32


class _Way:
    """One direction of a link."""

    __slots__ = ("flight_us", "jitter_us", "loss_ppm", "receiver", "source", "target")

    def __init__(self, source: Access, receiver: SimNode, target: Access) -> None:
        self.source = source
        self.receiver = receiver
        self.target = target
        self.flight_us = source.latency_us + target.latency_us
        jitter_us = source.jitter_us + target.jitter_us
        self.jitter_us = jitter_us + 1 if jitter_us else 0
        """One more than the largest jitter; 0 where there is none."""
        self.loss_ppm = round((source.loss_pct + target.loss_pct) * 10_000)


class IpLink:
    """A link between two nodes, in both directions; `id` is the same at both ends."""

    __slots__ = ("_back", "_medium", "_there", "first", "id", "medium", "second")

    def __init__(self, link: LinkId, medium: Medium, a: tuple[SimNode, Access], b: tuple[SimNode, Access]) -> None:
        self.id = link
        self.medium = medium
        self._medium: str = medium.value
        self.first, self.second = a[0], b[0]
        self._there = _Way(a[1], *b)
        self._back = _Way(b[1], *a)

    def again(self, link: LinkId) -> IpLink:
        """A new link between the same ends."""
        return IpLink(link, self.medium, (self.first, self._there.source), (self.second, self._back.source))

    def open(self) -> None:
        """Tell both ends."""
        for node in (self.first, self.second):
            node.attach(self.id, self)
            node.post(LinkUp(self.id, self.medium))

    def send(self, sender: SimNode, frame: Frame, depart_us: int) -> int | None:
        """Carry a frame from `sender`, which is done with it at `depart_us`. Returns when it arrives, None if it is
        lost."""
        way = self._there if sender is self.first else self._back
        source, target = way.source, way.target
        size = frame.size_bytes if isinstance(frame, Envelope) else len(frame)
        sent_us = source.up_free_us
        if sent_us < depart_us:  # noqa: PLR1730 - hot: a call to max costs more
            sent_us = depart_us
        sent_us += size * SECOND_US // source.up_bytes_per_s
        source.up_free_us = sent_us
        if way.loss_ppm and source.draw(1_000_000) < way.loss_ppm:
            return None
        received_us = sent_us + way.flight_us
        if way.jitter_us:
            source.state = state = (source.state * _MULTIPLIER + _INCREMENT) & _STATE_MASK
            received_us += (state >> 32) * way.jitter_us >> 32
        if received_us < target.down_free_us:  # noqa: PLR1730 - hot: a call to max costs more
            received_us = target.down_free_us
        received_us += size * SECOND_US // target.down_bytes_per_s
        target.down_free_us = received_us
        way.receiver.deliver_at(received_us, self.id, frame, (sender, self._medium, size))
        return received_us
