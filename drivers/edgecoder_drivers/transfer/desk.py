"""Between connections and the core: what strangers ask for becomes events, and what the core says goes to who asked.

The core decides who gets what and when; nothing here does. A request that is gone is withdrawn, or its sending has
failed: each of them ends once, however its connection does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from edgecoder.core.effects import RefusePiece, ServePiece
from edgecoder.core.events import Completion
from edgecoder.core.giving import AskWithdrawn, PieceAsked, PieceServed
from edgecoder.core.ids import RequestId, Wanted
from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder_drivers.driver import Numbers, Post, Refused
from edgecoder_drivers.transfer.wire import Pass

Answer = ServePiece | RefusePiece


class Ask:
    """One request to the core."""

    def __init__(self, request: RequestId, on_stop: Callable[[], object]) -> None:
        """`on_stop` is called when the node does not want to send it any more."""
        loop = asyncio.get_running_loop()
        self.request = request
        self.answer: asyncio.Future[Answer] = loop.create_future()
        """What the core says."""
        self.sent: asyncio.Future[None] = loop.create_future()
        """How the sending ended, where the core wanted it."""
        self.on_stop = on_stop

    def done(self) -> None:
        """The last byte has left."""
        if not self.sent.done():
            self.sent.set_result(None)

    def failed(self, reason: Reason) -> None:
        """It could not be sent."""
        if not self.sent.done():
            self.sent.set_exception(Refused(reason))


class Desk:
    """The open requests of a life."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers
        self._asks: dict[RequestId, Ask] = {}
        """Those without an answer."""
        self._post: Post = lambda event: None

    def open(self, post: Post) -> None:
        """A life begins."""
        self._post = post

    def ask(
        self, shown: Pass, entry: CatalogEntry, wanted: Wanted, piece: int, leaf: int, on_stop: Callable[[], object]
    ) -> Ask:
        """Put a request to the core."""
        ask = Ask(self._numbers.next(), on_stop)
        self._asks[ask.request] = ask
        file = bytes.fromhex(entry.sha256)
        self._post(PieceAsked(ask.request, shown.node, file, piece, leaf, shown.ticket, None, wanted))
        return ask

    def leave(self, ask: Ask) -> None:
        """Who asked is gone, or has all that it asked for."""
        if self._asks.pop(ask.request, None) is not None:
            self._post(AskWithdrawn(ask.request))
        elif isinstance(ask.answer.result(), ServePiece):
            ask.failed(Reason.PEER_LOST)  # unless it has all

    def refuse(self, effect: RefusePiece) -> None:
        """The core does not want it."""
        ask = self._asks.pop(effect.request, None)
        if ask is not None:
            ask.answer.set_result(effect)

    async def serve(self, effect: ServePiece) -> Completion:
        """The core wants it sent."""
        ask = self._asks.pop(effect.request, None)
        if ask is None:
            raise Refused(Reason.PEER_LOST)
        ask.answer.set_result(effect)
        try:
            await ask.sent
        except asyncio.CancelledError:
            ask.on_stop()
            raise
        return PieceServed(effect.op)
