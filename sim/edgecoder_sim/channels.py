"""Connections that nodes whom nobody can dial offer to those who want pieces of them.

A node can be dialled or not, as its configuration says. A dial takes a round trip between the two access networks, and
the offer one way more; then it is the receiver's core that takes or closes it.

Fidelity boundary: who cannot be dialled can be dialled by nobody, not even from its own network; and who can, can by
all. What a router drops is known after five seconds, as a connection attempt on a device would.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from edgecoder.core.effects import CloseChannel, DialPeer, TakeChannel
from edgecoder.core.giving import ChannelLost, ChannelOffered, DialFailed, PeerDialled
from edgecoder.core.ids import ChannelId, Micros, NodeId, OpId
from edgecoder.errors import Reason
from edgecoder_sim.host import SimNode
from edgecoder_sim.kernel import Kernel

NO_WAY_US: Final[Micros] = 5_000_000
"""After so long a connection that a router lets in nowhere is given up."""
IDLE_US: Final[Micros] = 15_000_000
"""A connection over which nothing is asked for so long is closed by its sender."""


class Channel:
    """One connection, from a dial on."""

    __slots__ = ("is_taken", "op", "receiver", "requests", "sender", "used_us")

    def __init__(self, sender: SimNode, receiver: SimNode, op: OpId) -> None:
        self.sender = sender
        self.receiver = receiver
        self.op: OpId | None = op
        """The dial, until it has ended."""
        self.is_taken = False
        self.requests = 0
        """Requests over it that are open."""
        self.used_us: Micros = 0
        """When the last of them began or ended."""


def is_dialable(node: SimNode) -> bool:
    """Whether others can open connections to a node."""
    return node.node.setup.config.transfer_dialable


class Channels:
    """The connections of a world."""

    def __init__(
        self, kernel: Kernel, nodes: dict[NodeId, SimNode], flight_us: Callable[[SimNode, SimNode], Micros]
    ) -> None:
        """`flight_us` is the time one way between two nodes."""
        self._kernel = kernel
        self._nodes = nodes
        self._flight_us = flight_us
        self._of: dict[ChannelId, Channel] = {}
        self._count = 0

    def sender_of(self, channel: ChannelId, receiver: SimNode) -> SimNode | None:
        """Who gives over a connection that a node has taken."""
        found = self._of.get(channel)
        return None if found is None or found.receiver is not receiver or not found.is_taken else found.sender

    def carry_out(self, node: SimNode, effect: DialPeer | TakeChannel | CloseChannel) -> None:
        """Do what a core wants."""
        match effect:
            case DialPeer():
                self._dial(node, effect)
            case TakeChannel(channel=channel):
                self._take(node, channel)
            case CloseChannel(channel=channel, reason=reason):
                self._end(channel, reason)

    def _dial(self, node: SimNode, effect: DialPeer) -> None:
        receiver = self._nodes.get(effect.peer)
        if receiver is None:
            node.post(DialFailed(effect.op, Reason.PEER_LOST))
            return
        self._count += 1
        channel = self._of[self._count] = Channel(node, receiver, effect.op)
        if is_dialable(receiver):
            at_us = self._kernel.now + 3 * self._flight_us(node, receiver)
            self._kernel.call_at(at_us, self._arrive, self._count, effect)
        else:
            self._kernel.call_at(self._kernel.now + NO_WAY_US, self._no_way, self._count, channel)

    def _no_way(self, channel: ChannelId, _: Channel) -> None:
        self._end(channel, Reason.PEER_LOST)

    def _arrive(self, number: ChannelId, effect: DialPeer) -> None:
        channel = self._of.get(number)
        if channel is None:
            return
        if channel.receiver.is_up:
            offer = ChannelOffered(number, channel.sender.node_id, effect.file, effect.ticket)
            channel.receiver.post(offer)
        else:
            self._end(number, Reason.PEER_LOST)

    def _take(self, node: SimNode, number: ChannelId) -> None:
        channel = self._of.get(number)
        if channel is None:  # its sender has gone meanwhile
            node.post(ChannelLost(number))
            return
        channel.is_taken, channel.used_us = True, self._kernel.now
        if channel.op is not None:
            channel.sender.post_at(self._kernel.now + self._flight_us(node, channel.sender), PeerDialled(channel.op))
            channel.op = None
        self._look_later(number)

    def _end(self, number: ChannelId, reason: Reason) -> None:
        """A connection is over. Whoever waits for it, or has it, hears so."""
        channel = self._of.pop(number, None)
        if channel is None:
            return
        at_us = self._kernel.now + self._flight_us(channel.sender, channel.receiver)
        if channel.op is not None and channel.sender.is_up:
            channel.sender.post_at(at_us, DialFailed(channel.op, reason))
        if channel.is_taken and channel.receiver.is_up:
            channel.receiver.post_at(at_us, ChannelLost(number))

    def cancel(self, node: SimNode, op: OpId) -> None:
        """A node gives up a dial."""
        for number, channel in self._of.items():
            if channel.sender is node and channel.op == op:
                channel.op = None
                node.post(DialFailed(op, Reason.CANCELLED))
                self._end(number, Reason.CANCELLED)
                return

    def begun(self, number: ChannelId) -> None:
        """Something is asked for over a connection."""
        self._of[number].requests += 1

    def ended(self, number: ChannelId) -> None:
        """It has come, or will not."""
        channel = self._of.get(number)
        if channel is not None:
            channel.requests -= 1
            channel.used_us = self._kernel.now
            self._look_later(number)

    def _look_later(self, number: ChannelId) -> None:
        self._kernel.call_at(self._kernel.now + IDLE_US, self._look, number)

    def _look(self, number: ChannelId, _: object) -> None:
        channel = self._of.get(number)
        if channel is not None and not channel.requests and self._kernel.now >= channel.used_us + IDLE_US:
            self._end(number, Reason.PEER_LOST)

    def died(self, node: SimNode) -> None:
        """A node is gone, and its connections with it."""
        for number, channel in list(self._of.items()):
            if node in (channel.sender, channel.receiver):
                self._end(number, Reason.PEER_LOST)
