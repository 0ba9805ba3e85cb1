"""The CDN: where nodes fetch model files, and how long hashing one takes.

A fetch waits for the first byte, then is a flow from the CDN to the node: bounded by the CDN's egress, by what it
gives one connection and by the node's downlink, and sharing the latter two fairly with other fetches.

Fidelity boundary: files are always right, and there but for an outage, which alone breaks a connection; disks take
bytes as fast as they come.
"""

from __future__ import annotations

from collections.abc import Callable

from edgecoder.core.effects import FetchFile, HashFile
from edgecoder.core.events import FetchFailed, FetchProgressed, FileFetched, FileHashed
from edgecoder.core.ids import OpId
from edgecoder.errors import Reason
from edgecoder_sim.bandwidth import UNCAPPED, Flow, FlowNetwork
from edgecoder_sim.host import PERSIST_US, SimNode
from edgecoder_sim.kernel import Kernel
from edgecoder_sim.profiles import Cdn, Network

PROGRESS_US = 5_000_000
"""Time between two pieces of news of a fetch."""


class _Fetch:
    """One file on its way to one node."""

    __slots__ = ("effect", "flow", "node")

    def __init__(self, node: SimNode, effect: FetchFile) -> None:
        self.node = node
        self.effect = effect
        self.flow: Flow | None = None
        """None until the first byte."""


class CdnService:
    """The CDN of a world and the access links that lead to it."""

    def __init__(self, kernel: Kernel, cdn: Cdn) -> None:
        self._kernel = kernel
        self._cdn = cdn
        self.flows = FlowNetwork(kernel)
        """Everything that flows over access links."""
        egress = cdn.egress_bytes_per_s
        self.origin = self.flows.add_node(UNCAPPED if egress is None else egress, 0)
        """The CDN's end of its flows."""
        self._ports: dict[int, int] = {}
        self._latency_us: dict[int, int] = {}
        self._fetches: dict[tuple[int, OpId], _Fetch] = {}
        self._on_outage: list[Callable[[], None]] = []
        self.is_down = not cdn.reachable

    @property
    def ttfb_us(self) -> int:
        """Time from a request to the first byte, µs."""
        return self._cdn.ttfb_us

    @property
    def per_connection_bytes_per_s(self) -> int:
        """Most that one connection gets."""
        return self._cdn.per_connection_bytes_per_s

    def connect(self, node: SimNode, network: Network) -> None:
        """Give a node its access link."""
        self._ports[node.index] = self.flows.add_node(network.up_bytes_per_s, network.down_bytes_per_s)
        self._latency_us[node.index] = network.latency_us

    def port(self, node: SimNode) -> int:
        """A node's end of its flows."""
        return self._ports[node.index]

    def latency_us(self, node: SimNode) -> int:
        """One-way delay of a node's access, µs."""
        return self._latency_us[node.index]

    def on_outage(self, told: Callable[[], None]) -> None:
        """Who else is to know when an outage begins."""
        self._on_outage.append(told)

    def fetch(self, node: SimNode, effect: FetchFile) -> None:
        """Begin a fetch, on from what the node has already, if its disk has room for the whole."""
        if not node.storage.take(effect.entry):
            node.post_at(self._kernel.now + PERSIST_US, FetchFailed(effect.op, Reason.DISK_FULL))
            return
        if self.is_down:
            node.post_at(self._kernel.now + self._cdn.ttfb_us, FetchFailed(effect.op, Reason.NO_SOURCE))
            return
        fetch = self._fetches[node.index, effect.op] = _Fetch(node, effect)
        flight_us = self._cdn.ttfb_us
        self._kernel.call_at(self._kernel.now + flight_us, self._first_byte, fetch)

    def hash_file(self, node: SimNode, effect: HashFile) -> None:
        """Hash a file: it is what the catalog says."""
        took_us = node.device.hash_us(effect.entry.file_size_bytes)
        node.post_at(self._kernel.now + took_us, FileHashed(effect.op, effect.entry.sha256))

    def cancel(self, node: SimNode, op: OpId) -> None:
        """End a fetch early; what arrived is kept."""
        fetch = self._fetches.pop((node.index, op), None)
        if fetch is not None:
            self._break_off(fetch, Reason.CANCELLED)

    def set_down(self, *, is_down: bool) -> None:
        """Begin or end an outage: what is under way breaks off, and nothing begins."""
        self.is_down = is_down or not self._cdn.reachable
        if is_down:
            fetches, self._fetches = self._fetches, {}
            for fetch in fetches.values():
                self._break_off(fetch, Reason.NO_SOURCE)
            for told in self._on_outage:
                told()

    def _break_off(self, fetch: _Fetch, reason: Reason) -> None:
        node, op = fetch.node, fetch.effect.op
        if fetch.flow is not None:
            arrived = self.flows.cancel(fetch.flow)
            node.post(FetchProgressed(op, fetch.effect.offset_bytes + arrived))
        node.post(FetchFailed(op, reason))

    def forget(self, node: SimNode) -> None:
        """A node is gone: end its fetches without a word."""
        for key in [key for key in self._fetches if key[0] == node.index]:
            fetch = self._fetches.pop(key)
            if fetch.flow is not None:
                self.flows.cancel(fetch.flow)

    def _first_byte(self, fetch: _Fetch, _: object) -> None:
        key = (fetch.node.index, fetch.effect.op)
        if self._fetches.get(key) is not fetch:
            return
        left = fetch.effect.entry.file_size_bytes - fetch.effect.offset_bytes
        if left <= 0:
            self._done(fetch)
            return
        fetch.flow = self.flows.start(
            self.origin,
            self._ports[fetch.node.index],
            left,
            lambda _: self._done(fetch),
            self._cdn.per_connection_bytes_per_s,
        )
        self._kernel.call_at(self._kernel.now + PROGRESS_US, self._progress, fetch)

    def _progress(self, fetch: _Fetch, _: object) -> None:
        if fetch.flow is None or self._fetches.get((fetch.node.index, fetch.effect.op)) is not fetch:
            return
        arrived = self.flows.progress(fetch.flow)
        fetch.node.post(FetchProgressed(fetch.effect.op, fetch.effect.offset_bytes + arrived))
        self._kernel.call_at(self._kernel.now + PROGRESS_US, self._progress, fetch)

    def _done(self, fetch: _Fetch) -> None:
        del self._fetches[fetch.node.index, fetch.effect.op]
        fetch.node.post(FileFetched(fetch.effect.op, fetch.effect.entry.file_size_bytes))
