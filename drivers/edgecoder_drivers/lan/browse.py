"""A node listens on its networks for the coordinators that its core wants to find.

What the core does not want is not posted: a stranger who shouts costs this machine some microseconds a packet, and its
core nothing. How many names are asked for their records at once, and
how often one coordinator is posted, is bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final

from zeroconf import DNSQuestionType, Error, ServiceListener, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from edgecoder.core.effects import Browse, Effect, Operation
from edgecoder.core.events import CoordinatorSeen
from edgecoder.core.ids import NodeId
from edgecoder.protocol import ENDPOINTS_MAX
from edgecoder_drivers.driver import Operate, Perform, Post
from edgecoder_drivers.lan.networks import Interface
from edgecoder_drivers.lan.presence import keep_present
from edgecoder_drivers.lan.records import SERVICE, Announced, read

NAMES_MAX: Final = 256
"""Names that wait to be asked for their records; one more is not asked."""
ASKING: Final = 4
"""So many are asked at once."""
ANSWER_MS: Final = 2_000
TO_ALL: Final = DNSQuestionType.QM
"""Answers go to everybody. One to this machine alone would reach one of its sockets of multicast DNS, and whoever else
listens here has one too, as Avahi has."""
HEARD_MAX: Final = 256
POST_S: Final = 1.0
"""One coordinator is posted so often, at most."""


class _Names(ServiceListener):
    """Reads the records of each name that comes, and has those asked for that did not come with it."""

    def __init__(self, at: Sequence[Interface], take: Callable[[AsyncServiceInfo, Sequence[Interface]], None]) -> None:
        self._at = at
        self._take = take
        self.names: asyncio.Queue[str] = asyncio.Queue(NAMES_MAX)

    def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        """A name is there."""
        if not name.endswith(type_):
            return
        with contextlib.suppress(Error, ValueError):  # a name that is none; raised here it would come again and again
            info = AsyncServiceInfo(type_, name)
            if info.load_from_cache(zc):
                self._take(info, self._at)
            elif not self.names.full():
                self.names.put_nowait(name)

    def update_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        """Something else is said of it."""
        self.add_service(zc, type_, name)

    def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        """It is gone. What was said of it is tried while there is nothing better."""

    async def ask(self, zeroconf: Zeroconf) -> None:
        """Ask for the records of one name after the other."""
        while True:
            name = await self.names.get()
            with contextlib.suppress(Error, OSError, ValueError):
                info = AsyncServiceInfo(SERVICE, name)
                if await info.async_request(zeroconf, ANSWER_MS, question_type=TO_ALL):
                    self._take(info, self._at)


async def browse(chosen: Sequence[str], seen: Callable[[Announced], None]) -> None:
    """Until it is cancelled, call `seen` with all that is announced at the chosen addresses; none: all networks."""

    def take(info: AsyncServiceInfo, at: Sequence[Interface]) -> None:
        announced = read(info, at)
        if announced is not None:
            seen(announced)

    @contextlib.asynccontextmanager
    async def presence(zeroconf: AsyncZeroconf, at: Sequence[Interface]) -> AsyncIterator[None]:
        names = _Names(at, take)
        tasks = [asyncio.create_task(names.ask(zeroconf.zeroconf), name="edgecoder asks") for _ in range(ASKING)]
        browser = AsyncServiceBrowser(zeroconf.zeroconf, SERVICE, listener=names, question_type=TO_ALL)
        try:
            yield
        finally:
            await browser.async_cancel()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    await keep_present(chosen, presence)


class BrowseDriver:
    """See `driver.Driver`: listens from the first `Browse` on."""

    def __init__(self, network_id: str, chosen: Sequence[str] = ()) -> None:
        """`chosen` are addresses of this machine at whose networks it listens; none: all but loopback."""
        self._network_id = network_id
        self._chosen = chosen
        self._post: Post = lambda event: None
        self._wanted: frozenset[NodeId] = frozenset()
        self._heard: dict[NodeId, Announced] = {}
        """The last word on each coordinator, wanted or not: it may be wanted later, and is not said again soon."""
        self._unsaid: dict[NodeId, list[str]] = {}
        self._waiting: dict[NodeId, asyncio.TimerHandle] = {}
        self._task: asyncio.Task[None] | None = None

    def open(self, post: Post) -> None:
        """See `driver.Driver`."""
        self._post = post

    def operations(self) -> Mapping[type[Operation], Operate]:
        """See `driver.Driver`."""
        return {}

    def effects(self) -> Mapping[type[Effect], Perform]:
        """See `driver.Driver`."""
        return {Browse: self._browse}

    async def close(self) -> None:
        """See `driver.Driver`."""
        for waiting in self._waiting.values():
            waiting.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def seen(self, announced: Announced) -> None:
        """Something is announced."""
        if announced.network_id != self._network_id:
            return
        self._heard.pop(announced.node, None)
        self._heard[announced.node] = announced
        if len(self._heard) > HEARD_MAX:
            del self._heard[next((node for node in self._heard if node not in self._wanted), announced.node)]
        if announced.node in self._wanted:
            self._say(announced)

    def _say(self, announced: Announced) -> None:
        """Post it, unless this coordinator was posted a moment ago: then what comes first, until it may be again."""
        unsaid = self._unsaid.setdefault(announced.node, [])
        for endpoint in announced.endpoints:
            if endpoint not in unsaid and len(unsaid) < ENDPOINTS_MAX:
                unsaid.append(endpoint)
        if announced.node not in self._waiting:
            self._post_now(announced.node)

    def _post_now(self, node: NodeId) -> None:
        self._waiting.pop(node, None)
        unsaid = self._unsaid.pop(node, [])
        if unsaid and node in self._wanted:
            self._post(CoordinatorSeen(node, tuple(unsaid)))
            self._waiting[node] = asyncio.get_running_loop().call_later(POST_S, self._post_now, node)

    def _browse(self, effect: Browse) -> None:
        more = [node for node in effect.coordinators if node not in self._wanted]
        self._wanted = frozenset(effect.coordinators)
        for node in more:
            if node in self._heard:
                self._say(self._heard[node])
        if self._task is None:
            self._task = asyncio.create_task(browse(self._chosen, self.seen), name="edgecoder listens")
