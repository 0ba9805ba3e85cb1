"""Pieces over real sockets keep the contract of transfers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from edgecoder.core.effects import CancelOp, DialPeer, FetchPiece, Operation, RefusePiece, ServePiece, TakeChannel
from edgecoder.core.events import Event
from edgecoder.core.giving import ChannelOffered, PieceAsked
from edgecoder.core.ids import OpId, Wanted
from edgecoder.models.catalog import Catalog
from tests.drivers.transfer_contract import RECEIVER, SENDER, TICKET, TransferContract
from tests.drivers.transfer_rig import FILE, TURNS_MAX, Scripted, giving, taking

CATALOG = Catalog((FILE,))
KBIT_PER_S = 1_200


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


class ReverseBench(SocketBench):
    """The sender cannot be dialled: for each request it dials the receiver, whose script takes what it is offered."""

    def __init__(self, sender: Scripted, receiver: Scripted) -> None:
        super().__init__(sender, receiver)
        assert receiver.server is not None
        self._receiver_at = f"127.0.0.1:{receiver.server.port}"
        self._dials = 0
        self._is_dead = False
        self._begun: set[asyncio.Task[None]] = set()

    def perform(self, effect: Operation) -> None:
        if isinstance(effect, FetchPiece) and (self._is_dead or effect.peer != SENDER):
            self._receiver.say(msgspec.structs.replace(effect, channel=0))  # it is gone, and so is its connection
        elif isinstance(effect, FetchPiece):
            task = asyncio.get_running_loop().create_task(self._over_channel(effect))
            self._begun.add(task)
        else:
            self._receiver.say(effect)

    async def _over_channel(self, effect: FetchPiece) -> None:
        self._dials += 1
        op = -1_000_000 - self._dials
        self._hashes.add(op)  # it is none of the contract's
        self._sender.say(DialPeer(op, RECEIVER, self._receiver_at, bytes.fromhex(FILE.sha256), TICKET))
        number = self._dials
        offer = await self._offer(number)
        assert (offer.peer, offer.file, offer.ticket) == (SENDER, bytes.fromhex(FILE.sha256), TICKET)
        self._receiver.say(TakeChannel(offer.channel))
        await self._sender.end(op)
        self._receiver.say(msgspec.structs.replace(effect, channel=offer.channel))

    async def _offer(self, number: int) -> ChannelOffered:
        for _ in range(TURNS_MAX):
            offers = [event for event in self.received if isinstance(event, ChannelOffered)]
            if len(offers) >= number:
                return offers[number - 1]
            await asyncio.sleep(0.002)
        raise AssertionError("nothing is offered")

    async def kill(self) -> None:
        self._is_dead = True
        await super().kill()


class TestReverseTransfer(TransferContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.root = tmp_path

    @asynccontextmanager
    async def bench(self) -> AsyncIterator[ReverseBench]:
        sender_root, limit = self.root / "sender", KBIT_PER_S
        async with (
            giving(sender_root, SENDER, CATALOG, kbit_per_s=limit, is_dialable=False) as sender,
            taking(self.root / "receiver", RECEIVER, CATALOG) as receiver,
        ):
            yield ReverseBench(sender, receiver)


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
