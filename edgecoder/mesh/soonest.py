"""The default router: who would have answered a task soonest. Pure: nothing here sends.

What is advertised says who exists and how fast they are. How busy they are is asked of a few of them (`prober`), drawn
by speed and reliability, or, where there is no time to ask, estimated from the load heard last and the tasks sent
since. Times are whole milliseconds, so that ties are ties on every machine.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from edgecoder.config import DeviceType, NodeConfig, Routing
from edgecoder.core.ids import NodeId
from edgecoder.core.rng import Stream
from edgecoder.mesh.router import Candidate, CostRouter, Decision, Why
from edgecoder.protocol import OUTPUT_TOKENS_MAX
from edgecoder.wire.messages import Probe, ProbeReply, TaskRequest

_NEVER_MS = 1 << 62


class Offer(msgspec.Struct, frozen=True, gc=False):
    """When a node expects to have a task done."""

    node: NodeId
    finish_ms: int
    wait_ms: int
    """Until it could begin, part of `finish_ms`."""


def work_ms(tokens: int, tokens_per_s: int) -> int:
    """How long an answer of so many tokens takes to write."""
    return min(tokens, OUTPUT_TOKENS_MAX) * 1000 // max(1, tokens_per_s)


def wait_ms(tasks: int, slots: int, tokens_per_s: int, config: NodeConfig) -> int:
    """Until a node with so many tasks has a slot for one more."""
    ahead = tasks + 1 - (slots or 1)
    return ahead * work_ms(config.typical_task_tokens, tokens_per_s) // (slots or 1) if ahead > 0 else 0


def make_router(config: NodeConfig, stream: Stream) -> CostRouter | ProbeRouter:
    """The router of the policy that a node is configured with."""
    return CostRouter(config, stream) if config.routing is Routing.COST else ProbeRouter(config, stream)


class ProbeRouter:
    """Draws whom to probe, and takes the soonest of those who answered."""

    why = Why.SOONEST

    def __init__(self, config: NodeConfig, stream: Stream) -> None:
        self._config = config
        self._stream = stream

    def sample(self, candidates: list[Candidate], count: int) -> list[Candidate]:
        """Up to `count` different ones of the candidates, each drawn by its weight."""
        if len(candidates) <= count:
            return list(candidates)
        left = list(candidates)
        weights = [self.weight(candidate) for candidate in left]
        drawn = []
        for _ in range(count):
            point = self._stream.uniform() * sum(weights)
            index = len(left) - 1
            for at, weight in enumerate(weights):
                point -= weight
                if point < 0:
                    index = at
                    break
            drawn.append(left.pop(index))
            del weights[index]
        return drawn

    def weight(self, candidate: Candidate) -> float:
        """Speed times reliability; facts lose half of their worth over the time for which they are believed, and each
        probe in a row that was not answered halves what is left."""
        speed = max(1, candidate.tokens_per_s) * max(1, candidate.slots)
        age = min(1.0, candidate.age_ms / self._config.capabilities_ttl_ms)
        reliability = max(0.05, (1 - candidate.fail_rate) * candidate.quality / 100)
        return float(speed * reliability * (1 - age / 2) * 0.5 ** min(10, candidate.unanswered))

    def offer(self, candidate: Candidate, request: TaskRequest, reply: ProbeReply, way_ms: int) -> Offer:
        """What a reply means for a task; `way_ms` is what the probe took there and back."""
        wait_ms = reply.queue_ms + way_ms
        battery_ms = self._battery_ms(candidate, reply.battery_pct, reply.on_external_power)
        finish_ms = wait_ms + work_ms(self._effort(request), reply.tokens_per_s) + battery_ms
        return Offer(candidate.node, finish_ms + self._carry_ms(candidate, request), wait_ms)

    def at_best_ms(self, candidate: Candidate, request: TaskRequest) -> int:
        """The soonest that a candidate could have finished, by what it advertised: idle, and no way to it."""
        battery_ms = self._battery_ms(candidate, candidate.battery_pct, candidate.on_external_power)
        speed = candidate.tokens_per_s or OUTPUT_TOKENS_MAX  # not known: it may be the fastest
        return work_ms(self._effort(request), speed) + battery_ms + self._carry_ms(candidate, request)

    def best(self, offers: Iterable[Offer]) -> Offer | None:
        """The soonest; ties are broken at random, or all would pick the same."""
        soonest: list[Offer] = []
        for offer in offers:
            if not soonest or offer.finish_ms < soonest[0].finish_ms:
                soonest = [offer]
            elif offer.finish_ms == soonest[0].finish_ms:
                soonest.append(offer)
        return None if not soonest else soonest[0] if len(soonest) == 1 else self._stream.choice(soonest)

    def choose(self, candidates: Iterable[Candidate], request: TaskRequest | Probe) -> Decision:
        """Without a round trip: by the load that each advertised last, and the tasks that were sent there since. The
        candidates come fastest first: who could not be sooner though idle is not looked at, nor are those after it."""
        excluded: dict[str, int] = {}
        offers: list[Offer] = []
        effort = self._effort(request)
        soonest_ms = _NEVER_MS
        for candidate in candidates:
            why = candidate.excluded or (Why.IS_LOADING if candidate.load.is_loading else None)
            if why is not None:
                excluded[why.value] = excluded.get(why.value, 0) + 1
                continue
            at_best_ms = work_ms(effort, candidate.tokens_per_s)
            if at_best_ms > soonest_ms:
                break
            tasks = candidate.load.tasks + candidate.asked
            queue_ms = wait_ms(tasks, candidate.slots, candidate.tokens_per_s, self._config)
            battery_ms = self._battery_ms(candidate, candidate.battery_pct, candidate.on_external_power)
            finish_ms = queue_ms + at_best_ms + battery_ms + tasks  # of two with a free slot the idler one
            offers.append(Offer(candidate.node, finish_ms, queue_ms))
            soonest_ms = min(soonest_ms, finish_ms)
        best = self.best(offers)
        if best is None:
            return Decision(None, None, 0, excluded)
        return Decision(best.node, float(best.finish_ms), len(offers), excluded)

    def _effort(self, request: TaskRequest | Probe) -> int:
        """What a task is worth in tokens written, its prompt included."""
        prompt = len(request.prompt.encode()) if isinstance(request, TaskRequest) else request.prompt_bytes
        return request.max_tokens + prompt // self._config.prompt_bytes_per_token

    def _battery_ms(self, candidate: Candidate, battery_pct: int, on_external_power: bool) -> int:
        if on_external_power or candidate.device_type is not DeviceType.PHONE:
            return 0
        return (100 - battery_pct) * self._config.battery_ms_per_pct

    def _carry_ms(self, candidate: Candidate, request: TaskRequest) -> int:
        """How long the prompt takes on its way, bits over kbit/s."""
        return 0 if not candidate.kbit_per_s else len(request.prompt.encode()) * 8 // candidate.kbit_per_s
