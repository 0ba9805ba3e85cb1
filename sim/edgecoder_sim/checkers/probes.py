"""Probes: a place that is offered is taken, released or runs out; nobody promises more places than it has."""

from __future__ import annotations

from edgecoder.core.events import LinkDown
from edgecoder.core.ids import LinkId, Micros, TaskId
from edgecoder.trace import CapabilitiesChanged, TaskEnded
from edgecoder.wire.envelope import Header
from edgecoder.wire.messages import Probe, ProbeReply, Release, TaskRequest
from edgecoder_sim.checkers.panel import GRACE_US, Book, Rule

_Key = tuple[LinkId, TaskId]


class Promises(Rule):
    """A node that was probed promises no more places than it has, and none while it says that it is loading."""

    name = "places are bounded"

    def enter(self) -> None:
        """See `Rule`."""
        self._promised: dict[int, dict[_Key, Micros]] = {}
        """Until when, by node."""
        self._loading: dict[int, bool] = {}
        self.panel.on_sent(ProbeReply, self._promise)
        self.panel.on_received(Release, self._taken)
        self.panel.on_received(TaskRequest, self._taken)
        self.panel.on(LinkDown, self._link_down)
        self.panel.on(CapabilitiesChanged, self._changed)

    def begin(self, book: Book) -> None:
        """See `Rule`."""
        self._promised[book.index] = {}
        self._loading[book.index] = False

    def _promise(self, book: Book, link: LinkId, _: Header, reply: ProbeReply) -> None:
        promised, now_us = self._promised[book.index], self.panel.now
        promised.pop((link, reply.task_id), None)
        if reply.reason is not None or not reply.hold_ms:
            return
        if self._loading[book.index]:
            self.fail(book, f"keeps a place for task {reply.task_id.hex()} while it says that it is loading")
        for key in [key for key, until_us in promised.items() if until_us <= now_us]:
            del promised[key]
        promised[link, reply.task_id] = now_us + reply.hold_ms * 1000
        places = book.config.slots + book.config.task_queue_max
        if len(promised) > places:
            self.fail(book, f"keeps {len(promised)} places; slots + task_queue_max is {places}")

    def _taken(self, book: Book, link: LinkId, _: Header, message: Release | TaskRequest) -> None:
        self._promised[book.index].pop((link, message.task_id), None)

    def _link_down(self, book: Book, event: LinkDown) -> None:
        promised = self._promised[book.index]
        for key in [key for key in promised if key[0] == event.link]:
            del promised[key]

    def _changed(self, book: Book, record: CapabilitiesChanged) -> None:
        self._loading[book.index] = record.loading
        if record.loading:
            self._promised[book.index].clear()


class PlacesEnd(Rule):
    """Who was offered a place asks there or gives it back, and asks nobody who has just declined."""

    name = "places are taken or released"

    def enter(self) -> None:
        """See `Rule`."""
        self._offered: dict[int, dict[_Key, Micros]] = {}
        """Places that a node was offered, and when."""
        self._declined: dict[int, dict[TaskId, dict[LinkId, Micros]]] = {}
        """Where each task was declined, and when; a node that has waited may ask there again."""
        self.panel.on_sent(Probe, self._probe)
        self.panel.on_received(ProbeReply, self._reply)
        self.panel.on_sent(Release, self._release)
        self.panel.on_sent(TaskRequest, self._request)
        self.panel.on(TaskEnded, self._ended)
        self.panel.on(LinkDown, self._link_down)

    def begin(self, book: Book) -> None:
        """See `Rule`."""
        self._offered[book.index] = {}
        self._declined[book.index] = {}

    def _probe(self, book: Book, link: LinkId, _: Header, probe: Probe) -> None:
        self._declined[book.index].get(probe.task_id, {}).pop(link, None)

    def _reply(self, book: Book, link: LinkId, _: Header, reply: ProbeReply) -> None:
        key = (link, reply.task_id)
        if reply.reason is not None:
            self._offered[book.index].pop(key, None)
            self._declined[book.index].setdefault(reply.task_id, {})[link] = self.panel.now
            return
        if not reply.hold_ms:  # a coordinator's estimate
            return
        now_us = self._offered[book.index][key] = self.panel.now
        rounds_ms = (2 * book.config.probe_timeout_ms + book.config.probe_dial_ms) * book.config.probe_rounds_max
        self.panel.alarm(now_us + rounds_ms * 1000 + GRACE_US, self._overdue, book, (key, now_us))

    def _release(self, book: Book, link: LinkId, _: Header, message: Release) -> None:
        self._offered[book.index].pop((link, message.task_id), None)

    def _request(self, book: Book, link: LinkId, _: Header, request: TaskRequest) -> None:
        task = request.task_id
        declined_us = self._declined[book.index].get(task, {}).get(link)
        if declined_us is not None and self.panel.now < declined_us + book.config.task_retry_ms * 1000:
            self.fail(book, f"sends task {task.hex()} over link {link}, where it was declined just now")
        self._offered[book.index].pop((link, task), None)

    def _ended(self, book: Book, record: TaskEnded) -> None:
        self._declined[book.index].pop(record.task_id, None)

    def _link_down(self, book: Book, event: LinkDown) -> None:
        offered = self._offered[book.index]
        for key in [key for key in offered if key[0] == event.link]:
            del offered[key]

    def _overdue(self, book: Book, what: tuple[_Key, Micros]) -> None:
        (link, task), offered_us = what
        if self._offered[book.index].get((link, task)) == offered_us:
            self.fail(
                book, f"was offered a place for task {task.hex()} over link {link} and neither took nor released it"
            )
