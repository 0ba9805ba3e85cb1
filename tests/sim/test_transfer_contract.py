"""Pieces over simulated access networks keep the contract of transfers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import msgspec

from edgecoder.core.effects import CancelOp, Effect, Operation
from edgecoder.core.events import Wake
from edgecoder.core.ids import OpId
from edgecoder_sim.cdn import CdnService
from edgecoder_sim.host import SimNode
from edgecoder_sim.kernel import Kernel
from edgecoder_sim.pieces import PieceService
from edgecoder_sim.profiles import DEVICES, Cdn, Network
from tests.catalogs import entry
from tests.drivers.transfer_contract import LEAVES, RECEIVER, SENDER, TransferContract
from tests.scripted import Script

FILE = entry("a", file_size_bytes=40 * 16_384 + 5, piece_root="0" * 64, piece_size_bytes=LEAVES * 16_384)
TURN_US = 4_000
ACCESS = Network(latency_ms=1.0, up_mbit_per_s=1.6, down_mbit_per_s=100.0)


class SimBench:
    """A `Bench` on the simulator's clock."""

    def __init__(self) -> None:
        self._kernel = Kernel()
        cdn = CdnService(self._kernel, Cdn())
        pieces = PieceService(self._kernel, cdn)
        services = SimpleNamespace(pieces=pieces, cancel=pieces.cancel, died=lambda node, told_us: pieces.died(node))
        watcher = SimpleNamespace(checkers=(), died=lambda node: None)
        self._scripts, self._nodes = [], []
        for index, node_id in enumerate((RECEIVER, SENDER)):
            script = Script()
            script.context = SimpleNamespace(node_id=node_id)
            device = msgspec.structs.replace(DEVICES["laptop"], disk_free_gb=1.0)
            node = SimNode(
                self._kernel, cast("Any", services), cast("Any", watcher), index, "", cast("Any", script), device, "", 1
            )
            cdn.connect(node, ACCESS)
            pieces.connect(node)
            self._scripts.append(script)
            self._nodes.append(node)
        self.received, self.sent = (script.heard for script in self._scripts)
        self.file = FILE

    def perform(self, effect: Operation) -> None:
        self._say(0, effect)

    def cancel(self, op: OpId) -> None:
        self._say(0, CancelOp(op))

    def answer(self, effect: Effect) -> None:
        self._say(1, effect)

    async def kill(self) -> None:
        self._nodes[1].crash()

    async def turn(self) -> None:
        """See `Bench`."""
        self._kernel.run(until=self._kernel.now + TURN_US)

    def _say(self, index: int, effect: Effect) -> None:
        self._scripts[index].to_say.append(effect)
        self._nodes[index].post(Wake())


class TestSimulatedTransfer(TransferContract):
    @asynccontextmanager
    async def bench(self) -> AsyncIterator[SimBench]:
        yield SimBench()
