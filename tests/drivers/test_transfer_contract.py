"""Pieces over real sockets keep the contract of transfers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from edgecoder.core.effects import CancelOp, FetchPiece, Operation, RefusePiece, ServePiece
from edgecoder.core.events import Event, PieceAsked
from edgecoder.core.ids import OpId, Wanted
from edgecoder.models.catalog import Catalog
from tests.drivers.transfer_contract import RECEIVER, SENDER, TransferContract
from tests.drivers.transfer_rig import FILE, Scripted, giving, taking

CATALOG = Catalog((FILE,))
KBIT_PER_S = 2_400


class SocketBench:
    """A `Bench` of two hosts. The sender gives its hashes to whoever asks, since the simulator has none to ask for."""

    def __init__(self, sender: Scripted, receiver: Scripted) -> None:
        self._sender, self._receiver = sender, receiver
        self._hashes: set[int] = set()
        self.file = FILE
        self.received = receiver.heard
        assert sender.server is not None
        self._endpoint = f"127.0.0.1:{sender.server.port}"
        self._shown: list[Event] = []
        self._looked = 0

    @property
    def sent(self) -> list[Event]:
        return self._shown

    def perform(self, effect: Operation) -> None:
        if isinstance(effect, FetchPiece):
            effect = msgspec.structs.replace(effect, endpoint=self._endpoint)
        self._receiver.say(effect)

    def cancel(self, op: OpId) -> None:
        self._receiver.say(CancelOp(op))

    def answer(self, effect: ServePiece | RefusePiece) -> None:
        self._sender.say(effect)

    async def kill(self) -> None:
        await self._sender.host.stop()

    async def turn(self) -> None:
        await asyncio.sleep(0.004)
        heard = self._sender.heard
        while self._looked < len(heard):
            event = heard[self._looked]
            self._looked += 1
            if isinstance(event, PieceAsked) and event.wanted is Wanted.HASHES:
                op = -event.request
                self._hashes.add(op)
                self._sender.say(ServePiece(op, event.request, FILE, 0, 0, 0, Wanted.HASHES))
            elif getattr(event, "op", None) not in self._hashes:
                self._shown.append(event)


class TestRealTransfer(TransferContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.root = tmp_path

    @asynccontextmanager
    async def bench(self) -> AsyncIterator[SocketBench]:
        async with (
            giving(self.root / "sender", SENDER, CATALOG, kbit_per_s=KBIT_PER_S) as sender,
            taking(self.root / "receiver", RECEIVER, CATALOG) as receiver,
        ):
            yield SocketBench(sender, receiver)
