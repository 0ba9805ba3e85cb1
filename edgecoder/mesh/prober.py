"""Probing rounds: a few candidates are asked how soon they could answer a task, and keep a place for it meanwhile.

The coordinator is asked with the first of them what its nodes could do; it keeps no place. A sample is decided when
everybody has answered, when nobody who has not could be sooner, or at its timeout, by who has answered by then. Where
nobody can take the task the next sample is asked, `probe_rounds_max` in all; then, as often, neighbours who have to be
dialled, if they could be sooner though that takes its time. Whoever began the round binds the task to the best offer or
to none; all other places are released, those of late answers too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import msgspec

from edgecoder.config import DeviceType
from edgecoder.core.context import MILLI, Context
from edgecoder.core.ids import LinkId, Micros, NodeId, TaskId
from edgecoder.mesh.router import Candidate, Why
from edgecoder.mesh.soonest import Offer, ProbeRouter
from edgecoder.wire.messages import Load, Probe, ProbeReply, Release, TaskRequest

_FOR_EVER: Micros = 1 << 62


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """The outcome of a round. `best` None: nobody can take the task now."""

    best: Offer | None
    eligible: int
    """Candidates that were not ruled out by what is known of them; not all of them were asked."""
    excluded: dict[str, int]
    probes: int
    answered: int
    advice: bool | None
    """Whether the coordinator has somebody for it; None: it was not asked, did not answer, or can only pass it on."""
    link: LinkId | None
    """Over which the best offer came, and where its place is kept; None: it is this node's own, or there is none."""


OnDecided = Callable[[Verdict], NodeId | None]
"""Takes the verdict and says to which node the task is bound now; the places of all others are released."""


class Near(Protocol):
    """What a round needs of the node."""

    def link_to(self, node: NodeId) -> LinkId | None:
        """The link to a peer."""
        ...

    def dial(self, node: NodeId, on_link: Callable[[LinkId | None], None], size_bytes: int = 0, /) -> None:
        """Get a link to a peer that is heard, for a request of some size; None where there is none."""
        ...

    def offer_here(self, request: TaskRequest) -> ProbeReply:
        """What this node itself would answer to a probe; it keeps no place."""
        ...

    def note_probe(self, node: NodeId, answered: bool) -> None:
        """Whether a peer answered."""
        ...


class _Round(msgspec.Struct):
    request: TaskRequest
    on_decided: OnDecided
    here: Candidate | None
    left: list[Candidate]
    """Not asked yet,"""
    far: list[Candidate]
    """nor dialled."""
    adviser: tuple[NodeId, LinkId] | None
    """The coordinator, if it is worth asking."""
    excluded: dict[str, int]
    eligible: int
    waiting: dict[LinkId, Candidate] = msgspec.field(default_factory=dict)
    """Who was asked and has not answered, by the link."""
    dialled: dict[NodeId, Candidate] = msgspec.field(default_factory=dict)
    """Who is to be asked as soon as there is a link."""
    asked_at: dict[LinkId, Micros] = msgspec.field(default_factory=dict)
    advice: bool | None = None
    """See `Verdict`."""
    offers: dict[LinkId, tuple[Offer, Micros]] = msgspec.field(default_factory=dict)
    """And until when it is kept; _FOR_EVER where it is no place."""
    samples: int = 0
    dials: int = 0
    probes: int = 0
    answered: int = 0


class Prober:
    """The rounds that are under way, one a task."""

    def __init__(self, context: Context, router: ProbeRouter, near: Near) -> None:
        self._context = context
        self._router = router
        self._near = near
        self._rounds: dict[TaskId, _Round] = {}

    def __len__(self) -> int:
        return len(self._rounds)

    def begin(
        self,
        request: TaskRequest,
        candidates: list[Candidate],
        on_decided: OnDecided,
        coordinator: tuple[NodeId, LinkId] | None = None,
    ) -> None:
        """Ask; `on_decided` may be called at once, where there is nobody to ask or nothing to gain."""
        excluded: dict[str, int] = {}
        here: Candidate | None = None
        left: list[Candidate] = []
        far: list[Candidate] = []
        for candidate in candidates:
            why = candidate.excluded or (Why.IS_LOADING if candidate.load.is_loading else None)
            if why is not None:
                excluded[why.value] = excluded.get(why.value, 0) + 1
            elif candidate.node == self._context.node_id:
                here = candidate
            else:
                (far if self._near.link_to(candidate.node) is None else left).append(candidate)
        eligible = len(left) + len(far) + (here is not None)
        round_ = _Round(request, on_decided, here, left, far, coordinator, excluded, eligible)
        self._rounds[request.task_id] = round_
        mine = self._offer_here(round_)
        if mine is not None and mine.finish_ms <= self._context.config.local_finish_max_ms:
            round_.adviser = None
        self._next_sample(round_, mine)

    def reply(self, link: LinkId, message: ProbeReply) -> None:
        """A peer answers. A place that comes too late is given back."""
        round_ = self._rounds.get(message.task_id)
        candidate = None if round_ is None else round_.waiting.pop(link, None)
        adviser = None if round_ is None else round_.adviser
        is_advice = adviser is not None and link == adviser[1]
        if round_ is not None and adviser is not None and is_advice and candidate is None and link not in round_.offers:
            candidate = _hub(adviser[0])  # late, while others are dialled: what it says still counts
        if round_ is None or candidate is None:
            if message.hold_ms and (round_ is None or link not in round_.offers):
                self.release(link, message.task_id)
            return
        round_.answered += 1
        self._near.note_probe(candidate.node, answered=True)
        if is_advice and (message.reason is not None or message.tokens_per_s):
            round_.advice = message.reason is None
        if message.reason is None and (message.tokens_per_s or not is_advice):
            way_ms = (self._context.now - round_.asked_at[link]) // MILLI
            offer = self._router.offer(candidate, round_.request, message, way_ms)
            until = self._context.in_ms(min(message.hold_ms, self._hold_max_ms) - way_ms)
            round_.offers[link] = (offer, until if message.hold_ms else _FOR_EVER)
        elif message.reason is not None and not is_advice:  # a coordinator that has nobody excludes no node
            _count(round_.excluded, message.reason.value)
        self._decide_if_clear(round_)

    def cancel(self, task: TaskId) -> None:
        """The task ended meanwhile: give back every place."""
        round_ = self._rounds.pop(task, None)
        if round_ is not None:
            self._context.timers.cancel(("probe", task))
            for link, (_, until) in round_.offers.items():
                if until != _FOR_EVER:
                    self.release(link, task)

    def uses(self, link: LinkId) -> bool:
        """Whether an answer is to come over a link, or a place is kept there."""
        return any(link in round_.waiting or link in round_.offers for round_ in self._rounds.values())

    def link_down(self, link: LinkId) -> None:
        """Whoever was there answers no more, and keeps no place."""
        for round_ in list(self._rounds.values()):
            round_.offers.pop(link, None)
            if round_.waiting.pop(link, None) is not None:
                _count(round_.excluded, Why.UNREACHABLE.value)
                self._decide_if_clear(round_)

    def peer_changed(self, node: NodeId, fits: Callable[[TaskRequest], bool]) -> None:
        """A peer says what it offers now: where that does not fit, what it promised before means nothing any more."""
        for round_ in [round_ for round_ in self._rounds.values() if not fits(round_.request)]:
            round_.left = [candidate for candidate in round_.left if candidate.node != node]
            round_.far = [candidate for candidate in round_.far if candidate.node != node]
            for link in [link for link, (offer, _) in round_.offers.items() if offer.node == node]:
                del round_.offers[link]
                self.release(link, round_.request.task_id)
                _count(round_.excluded, Why.IS_LOADING.value)
            for link in [link for link, candidate in round_.waiting.items() if candidate.node == node]:
                del round_.waiting[link]
                _count(round_.excluded, Why.IS_LOADING.value)
                self._decide_if_clear(round_)
            if round_.dialled.pop(node, None) is not None:
                _count(round_.excluded, Why.IS_LOADING.value)
                self._decide_if_clear(round_)

    # -- a round -------------------------------------------------------------------------------------------------------

    @property
    def _hold_max_ms(self) -> int:
        """A peer that promises for longer is not believed."""
        return self._context.config.probe_hold_ms

    def _next_sample(self, round_: _Round, best: Offer | None) -> None:
        """Ask those in reach, then those who must be dialled; end the round where nobody is left who could beat the
        best offer so far."""
        config, is_first = self._context.config, round_.samples == 0
        if round_.samples < config.probe_rounds_max and (is_first or best is None):
            round_.samples += 1
            drawn = self._draw(round_.left)
            adviser = round_.adviser if is_first else None
            if best is not None and self._beats(best, round_, drawn):
                drawn = []
            if adviser is not None or drawn:
                self._ask_near(round_, drawn, adviser)
                return
        worth = [far for far in round_.far if best is None or self._is_worth_a_dial(far, round_.request, best)]
        if round_.dials < config.probe_rounds_max and worth:
            round_.dials += 1
            round_.far = worth
            self._dial(round_, self._draw(round_.far))
        else:
            self._end(round_, best)

    def _draw(self, candidates: list[Candidate]) -> list[Candidate]:
        """Take some out of the candidates."""
        drawn = self._router.sample(candidates, self._context.config.probe_candidates)
        names = {candidate.node for candidate in drawn}
        candidates[:] = [candidate for candidate in candidates if candidate.node not in names]
        return drawn

    def _is_worth_a_dial(self, far: Candidate, request: TaskRequest, best: Offer) -> bool:
        """Whether somebody without a link could be sooner though the dial took as long as it may."""
        return self._router.at_best_ms(far, request) + self._context.config.probe_dial_ms < best.finish_ms

    def _ask_near(self, round_: _Round, drawn: list[Candidate], adviser: tuple[NodeId, LinkId] | None) -> None:
        self._wait(round_, self._context.config.probe_timeout_ms)
        if adviser is not None:
            self._ask(round_, _hub(adviser[0]), adviser[1])
        for candidate in drawn:
            link = self._near.link_to(candidate.node)
            if link is not None:
                self._ask(round_, candidate, link)

    def _dial(self, round_: _Round, drawn: list[Candidate]) -> None:
        config = self._context.config
        self._wait(round_, config.probe_timeout_ms + config.probe_dial_ms)
        round_.dialled = {candidate.node: candidate for candidate in drawn}
        for candidate in drawn:
            self._near.dial(candidate.node, partial(self._linked, round_, candidate.node))

    def _wait(self, round_: _Round, for_ms: int) -> None:
        deadline = self._context.in_ms(for_ms)
        self._context.timers.set(("probe", round_.request.task_id), deadline, lambda: self._timed_out(round_))

    def _linked(self, round_: _Round, node: NodeId, link: LinkId | None) -> None:
        """A dial has ended, maybe after its round."""
        candidate = round_.dialled.pop(node, None)
        if candidate is None or self._rounds.get(round_.request.task_id) is not round_:
            return
        if link is None:
            _count(round_.excluded, Why.UNREACHABLE.value)
            self._decide_if_clear(round_)
        else:
            self._ask(round_, candidate, link)

    def _ask(self, round_: _Round, candidate: Candidate, link: LinkId) -> None:
        request = round_.request
        probe = Probe(
            task_id=request.task_id,
            model=request.model,
            min_param_size=request.min_param_size,
            max_tokens=request.max_tokens,
            prompt_bytes=len(request.prompt.encode()),
        )
        round_.waiting[link], round_.asked_at[link] = candidate, self._context.now
        round_.probes += 1
        self._context.send(link, probe, self._context.config.probe_hold_ms)

    def _beats(self, offer: Offer, round_: _Round, others: list[Candidate]) -> bool:
        request = round_.request
        return all(offer.finish_ms <= self._router.at_best_ms(other, request) for other in others)

    def _decide_if_clear(self, round_: _Round) -> None:
        if self._rounds.get(round_.request.task_id) is not round_:
            return  # it was decided a moment ago
        waiting = [*round_.waiting.values(), *round_.dialled.values()]
        if waiting:
            best = self._router.best(offer for offer, _ in round_.offers.values())
            if best is None or not self._beats(best, round_, waiting):
                return
        self._decide(round_)

    def _timed_out(self, round_: _Round) -> None:
        for candidate in round_.waiting.values():
            _count(round_.excluded, Why.SILENT.value)
            self._near.note_probe(candidate.node, answered=False)
        for _ in round_.dialled:
            _count(round_.excluded, Why.UNREACHABLE.value)
        round_.waiting.clear()
        round_.dialled.clear()
        self._decide(round_)

    def _decide(self, round_: _Round) -> None:
        """A sample is through: go on by the best of what was offered."""
        task, now = round_.request.task_id, self._context.now
        self._context.timers.cancel(("probe", task))
        kept = [offer for offer, until in round_.offers.values() if until > now]
        here = self._offer_here(round_)
        self._next_sample(round_, self._router.best(kept if here is None else [*kept, here]))

    def _end(self, round_: _Round, best: Offer | None) -> None:
        task = round_.request.task_id
        del self._rounds[task]
        kept_at = next((link for link, (offer, _) in round_.offers.items() if offer is best), None)
        eligible, advice = round_.eligible, round_.advice
        verdict = Verdict(best, eligible, round_.excluded, round_.probes, round_.answered, advice, kept_at)
        bound = round_.on_decided(verdict)
        is_taken = best is not None and best.node == bound
        for link, (_, until) in round_.offers.items():
            if until != _FOR_EVER and not (is_taken and link == kept_at):
                self.release(link, task)

    def _offer_here(self, round_: _Round) -> Offer | None:
        if round_.here is None:
            return None
        reply = self._near.offer_here(round_.request)
        return None if reply.reason is not None else self._router.offer(round_.here, round_.request, reply, 0)

    def release(self, link: LinkId, task: TaskId) -> None:
        """A place that is kept is not needed."""
        self._context.send(link, Release(task_id=task), self._context.config.probe_hold_ms)


def _hub(node: NodeId) -> Candidate:
    """The coordinator: how fast its nodes are is not known before it says so."""
    return Candidate(node, None, Load.of(0), DeviceType.PHONE, 100, None, 0.0, 100)


def _count(excluded: dict[str, int], why: str) -> None:
    excluded[why] = excluded.get(why, 0) + 1
