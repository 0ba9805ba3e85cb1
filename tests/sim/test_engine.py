"""The simulated engine keeps the contract of engines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from edgecoder.core.effects import LoadModel, Operation, RunTask, UnloadModel
from edgecoder.core.events import EngineFailed, Event
from edgecoder.core.ids import OpId
from edgecoder.core.rng import Stream
from edgecoder.errors import Reason
from edgecoder_sim.engine import Engine
from edgecoder_sim.kernel import Kernel
from edgecoder_sim.profiles import DEVICES
from tests.catalogs import HUGE, LARGE, SMALL
from tests.drivers.engine_contract import Bad, EngineContract

TURN_US = 10_000


class SimBench:
    """A `Bench` on the simulator's clock."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.files = (SMALL, LARGE)
        self.bad = {"fails": Bad(HUGE, Reason.LOAD_FAILED)}
        self.context_tokens = 4096
        self._kernel = Kernel()
        self._engine = Engine(self._kernel, DEVICES["laptop"], Stream(1, b"", "engine"), self.events.append)

    def perform(self, effect: Operation) -> None:
        match effect:
            case LoadModel():
                self._engine.load(effect, fails=effect.entry is HUGE)
            case UnloadModel():
                self._engine.unload(effect)
            case RunTask():
                self._engine.run(effect)

    def cancel(self, op: OpId) -> None:
        self._engine.cancel(op)

    def crash(self) -> None:
        self._engine.crash(Reason.ENGINE_CRASHED)
        self.events.append(EngineFailed(Reason.ENGINE_CRASHED))

    async def turn(self) -> None:
        """See `Bench`."""
        self._kernel.run(until=self._kernel.now + TURN_US)


class TestSimulatedEngine(EngineContract):
    @asynccontextmanager
    async def bench(self) -> AsyncIterator[SimBench]:
        yield SimBench()
