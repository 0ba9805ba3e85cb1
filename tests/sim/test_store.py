"""The simulated store keeps the contract of stores."""

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
from tests.drivers.store_contract import StoreContract
from tests.scripted import Script

SIZE_BYTES = 40 * 16_384 + 5
FILES = tuple(entry(name, file_size_bytes=SIZE_BYTES, piece_root="0" * 64, piece_size_bytes=65_536) for name in "ab")
TURN_US = 50_000
CDN = Cdn(egress_mbit_per_s=2.0, ttfb_ms=10.0)
ACCESS = Network(latency_ms=10.0, up_mbit_per_s=100.0, down_mbit_per_s=100.0)


class Around:
    """What a world does for the files of a node."""

    def __init__(self, kernel: Kernel) -> None:
        self.cdn = CdnService(kernel, CDN)
        self.pieces = PieceService(kernel, self.cdn)
        self.fetch, self.hash_file = self.cdn.fetch, self.cdn.hash_file

    def cancel(self, node: SimNode, op: OpId) -> None:
        self.cdn.cancel(node, op)
        self.pieces.cancel(node, op)


class SimBench:
    """A `Bench` on the simulator's clock."""

    def __init__(self) -> None:
        self._kernel, self._script = Kernel(), Script()
        self._around = Around(self._kernel)
        device = msgspec.structs.replace(DEVICES["laptop"], disk_free_gb=SIZE_BYTES * 1.5e-9)
        watcher = SimpleNamespace(checkers=())
        services, node = cast("Any", self._around), cast("Any", self._script)
        self._sim = SimNode(self._kernel, services, cast("Any", watcher), 0, "node", node, device, "laptop", 1)
        self._around.cdn.connect(self._sim, ACCESS)
        self._around.pieces.connect(self._sim)
        self.events = self._script.heard
        self.files = (FILES[0], FILES[1])

    def perform(self, effect: Operation) -> None:
        self._say(effect)

    def cancel(self, op: OpId) -> None:
        self._say(CancelOp(op))

    def cut_off(self, *, is_down: bool) -> None:
        self._around.cdn.set_down(is_down=is_down)

    async def kept(self) -> dict[str, bytes]:
        return self._sim.disk

    async def turn(self) -> None:
        """See `Bench`."""
        self._kernel.run(until=self._kernel.now + TURN_US)

    def _say(self, effect: Effect) -> None:
        self._script.to_say.append(effect)
        self._sim.post(Wake())


class TestSimulatedStore(StoreContract):
    @asynccontextmanager
    async def bench(self) -> AsyncIterator[SimBench]:
        yield SimBench()
