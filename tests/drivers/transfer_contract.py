"""What every way from node to node does with a piece, simulated or real: told as effects at both ends, seen as events.

The sender's uplink is slow enough for a piece to be interrupted.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

from edgecoder.core.effects import AllocateFile, FetchPiece, Operation, RefusePiece, ServePiece, Source
from edgecoder.core.events import Completion, Event, FileAllocated, PieceFailed, PieceFetched
from edgecoder.core.giving import AskWithdrawn, PieceAsked, PieceServed, ServeFailed
from edgecoder.core.ids import NodeId, OpId
from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder.wire.messages import Ticket

TURNS_MAX = 2_000
LEAVES = 16
"""Of a piece."""
SENDER, RECEIVER = bytes([1]) * 32, bytes([2]) * 32
TICKET = Ticket(bytes([4]) * 32, 7, 1_900_000_000_000, bytes(64))
HAVE = 0b101
E = TypeVar("E", bound=Event)


class Bench(Protocol):
    """A receiver that has nothing of a file, and a sender that has all of it."""

    @property
    def received(self) -> list[Event]:
        """What came of it at the receiver, in order."""
        ...

    @property
    def sent(self) -> list[Event]:
        """And at the sender."""
        ...

    @property
    def file(self) -> CatalogEntry:
        """A file of several pieces of LEAVES leaves."""
        ...

    def perform(self, effect: Operation) -> None:
        """Carry out an effect at the receiver. A FetchPiece gets the endpoint of its peer."""
        ...

    def cancel(self, op: OpId) -> None:
        """As by CancelOp."""
        ...

    def answer(self, effect: ServePiece | RefusePiece) -> None:
        """Carry out an effect at the sender."""
        ...

    async def kill(self) -> None:
        """The sender's life ends."""
        ...

    async def turn(self) -> None:
        """Let a little time pass."""
        ...


class Talk:
    """Two ends."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.file = bench.file
        self._ops = 0
        self._serve_ops = 0
        self._taken: Counter[type[Event]] = Counter()

    async def begin(self, piece: int = 0, first_leaf: int = 0, peer: NodeId = SENDER) -> tuple[OpId, PieceAsked]:
        """Ask for a piece; what the sender hears."""
        op = self.fetch(piece, first_leaf, peer)
        asked = await self._next(self.bench.sent, PieceAsked)
        return op, asked

    def fetch(self, piece: int, first_leaf: int = 0, peer: NodeId = SENDER) -> OpId:
        self._ops += 1
        effect = FetchPiece(self._ops, self.file, piece, first_leaf, Source.MESH, 1, peer, "", None, TICKET)
        self.bench.perform(effect)
        return self._ops

    async def allocate(self) -> None:
        self._ops += 1
        self.bench.perform(AllocateFile(self._ops, self.file))
        await self._next(self.bench.received, FileAllocated)

    def serve(self, asked: PieceAsked) -> OpId:
        """The sender sends."""
        self._serve_ops += 1
        effect = ServePiece(self._serve_ops, asked.request, self.file, asked.piece, asked.first_leaf, HAVE)
        self.bench.answer(effect)
        return self._serve_ops

    async def failed(self, op: OpId) -> PieceFailed:
        return await self._of(self.bench.received, op, PieceFailed)

    async def fetched(self, op: OpId) -> PieceFetched:
        return await self._of(self.bench.received, op, PieceFetched)

    async def serve_end(self, op: OpId, kind: type[E]) -> E:
        return await self._of(self.bench.sent, op, kind)

    async def withdrawn(self) -> AskWithdrawn:
        return await self._next(self.bench.sent, AskWithdrawn)

    async def _of(self, events: list[Event], op: OpId, kind: type[E]) -> E:
        for _ in range(TURNS_MAX):
            for event in events:
                if isinstance(event, Completion) and event.op == op:
                    assert isinstance(event, kind), event
                    return event
            await self.bench.turn()
        raise AssertionError(f"it does not come: {events[-5:]}")

    async def _next(self, events: list[Event], kind: type[E]) -> E:
        """The next event of a kind that nobody has looked at."""
        before = self._taken[kind]
        self._taken[kind] += 1
        for _ in range(TURNS_MAX):
            found = [event for event in events if isinstance(event, kind)]
            if len(found) > before:
                return found[before]
            await self.bench.turn()
        raise AssertionError(f"no {kind.__name__}: {events[-5:]}")

    async def some(self) -> None:
        """Until a part of a piece has come."""
        for _ in range(60):
            await self.bench.turn()

    def check(self) -> None:
        """Each operation has one completion."""
        for events, count in ((self.bench.received, self._ops), (self.bench.sent, self._serve_ops)):
            ends = [event.op for event in events if isinstance(event, Completion)]
            assert sorted(ends) == list(range(1, count + 1)), events


class TransferContract:
    """To be inherited by the tests of a way for pieces."""

    def bench(self) -> AbstractAsyncContextManager[Bench]:
        """Two nodes, for one test."""
        raise NotImplementedError

    def run(self, test: Callable[[Talk], Awaitable[None]]) -> None:
        async def with_bench() -> None:
            async with self.bench() as bench, asyncio.timeout(60):
                talk = Talk(bench)
                await talk.allocate()
                await test(talk)
                await talk.some()
                talk.check()

        asyncio.run(with_bench())

    def test_a_piece_comes_to_whoever_asked_for_it(self) -> None:
        async def test(talk: Talk) -> None:
            op, asked = await talk.begin(piece=1)
            assert (asked.peer, asked.file.hex(), asked.ticket) == (RECEIVER, talk.file.sha256, TICKET)
            assert (asked.piece, asked.first_leaf, asked.link) == (1, 0, None)
            serve_op = talk.serve(asked)
            assert (await talk.fetched(op)).have == HAVE
            await talk.serve_end(serve_op, PieceServed)

        self.run(test)

    def test_a_piece_goes_on_from_a_leaf(self) -> None:
        async def test(talk: Talk) -> None:
            op, asked = await talk.begin(piece=2, first_leaf=5)
            assert (asked.piece, asked.first_leaf) == (2, 5)
            talk.serve(asked)
            await talk.fetched(op)

        self.run(test)

    def test_a_refusal_comes_with_its_reason_and_with_what_is_there(self) -> None:
        async def test(talk: Talk) -> None:
            for reason, have in ((Reason.BUSY, HAVE), (Reason.NO_TICKET, 0), (Reason.NOT_HELD, HAVE)):
                op, asked = await talk.begin()
                talk.bench.answer(RefusePiece(asked.request, reason, have))
                failed = await talk.failed(op)
                assert (failed.reason, failed.have, failed.leaves) == (reason, have, 0)

        self.run(test)

    def test_who_waits_no_more_says_so(self) -> None:
        async def test(talk: Talk) -> None:
            op, asked = await talk.begin()
            talk.bench.cancel(op)
            assert (await talk.failed(op)).reason is Reason.CANCELLED
            assert (await talk.withdrawn()).request == asked.request

        self.run(test)

    def test_what_is_sent_to_one_who_is_gone_has_failed(self) -> None:
        async def test(talk: Talk) -> None:
            op, asked = await talk.begin()
            talk.bench.cancel(op)
            await talk.failed(op)
            await talk.withdrawn()
            assert (await talk.serve_end(talk.serve(asked), ServeFailed)).reason is Reason.PEER_LOST

        self.run(test)

    def test_a_piece_that_is_called_off_keeps_its_leaves_and_goes_on_from_there(self) -> None:
        async def test(talk: Talk) -> None:
            op, asked = await talk.begin()
            serve_op = talk.serve(asked)
            await talk.some()
            talk.bench.cancel(op)
            failed = await talk.failed(op)
            assert failed.reason is Reason.CANCELLED
            assert 0 < failed.leaves < LEAVES
            assert failed.have == HAVE
            assert (await talk.serve_end(serve_op, ServeFailed)).reason is Reason.PEER_LOST
            op, asked = await talk.begin(first_leaf=failed.leaves)
            talk.serve(asked)
            await talk.fetched(op)

        self.run(test)

    def test_a_sender_that_dies_leaves_what_it_sent(self) -> None:
        async def test(talk: Talk) -> None:
            op, asked = await talk.begin()
            self_op = talk.serve(asked)
            await talk.some()
            await talk.bench.kill()
            failed = await talk.failed(op)
            assert failed.reason is Reason.PEER_LOST
            assert 0 < failed.leaves < LEAVES
            talk.bench.sent[:] = [ServeFailed(self_op, Reason.PEER_LOST)]  # nobody is there to be told

        self.run(test)

    def test_one_that_is_not_there_gives_nothing(self) -> None:
        async def test(talk: Talk) -> None:
            await talk.bench.kill()
            failed = await talk.failed(talk.fetch(0))
            assert (failed.reason, failed.leaves) == (Reason.PEER_LOST, 0)

        self.run(test)

    def test_several_come_at_once(self) -> None:
        async def test(talk: Talk) -> None:
            asked = [await talk.begin(piece) for piece in range(3)]
            for _, each in reversed(asked):
                talk.serve(each)
            for op, _ in asked:
                await talk.fetched(op)

        self.run(test)
