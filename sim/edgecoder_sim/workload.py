"""What users do: they ask tasks, swap models, pull them and remove them, as the scenario says.

A load is one Poisson process over all nodes of its source, which is the same as one a node; who acts is drawn for each
arrival. A storm takes a share of the nodes, each at a uniform time in its window. Each load draws from a stream of its
own, so that adding one changes no other.

Fidelity boundary: users act independently of each other, of what they asked before and of how well they were served; a
prompt is filler of the drawn length; answers run to the drawn length.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

from simpy.events import Event as SimpyEvent

from edgecoder.core.events import PullModel, RemoveModel, SubmitTask, SwapModel
from edgecoder.core.ids import CommandId
from edgecoder.core.rng import Stream
from edgecoder_sim.kernel import Kernel
from edgecoder_sim.population import Place, weighted
from edgecoder_sim.scenario_model import Amount, PullLoad, RemovalLoad, SwapLoad, TaskLoad
from edgecoder_sim.watch import TraceSink

HOUR_US = 3_600_000_000
LoadT = TypeVar("LoadT", SwapLoad, PullLoad)
Act = Callable[[LoadT, tuple[Place, Stream]], None]
"""What one user does."""
_FILLER = "x" * (1 << 16)


class Workload:
    """Drives the users of a world."""

    def __init__(self, kernel: Kernel, rng_seed: int, sink: TraceSink, until_s: float | None) -> None:
        """Users do nothing from `until_s` on."""
        self._until_us = 1 << 62 if until_s is None else round(until_s * 1_000_000)
        self._kernel = kernel
        self._rng_seed = rng_seed
        self._sink = sink
        self._commands = 0

    def start_tasks(self, load: TaskLoad, places: Sequence[Place]) -> None:
        """Let the users at `places` ask tasks."""
        if places and load.per_node_per_hour:
            self._kernel.process(self._ask(load, places, self._stream("tasks", load.name)))

    def start_swaps(self, load: SwapLoad, places: Sequence[Place]) -> None:
        """Let the users at `places` swap models."""
        self._start(load, places, self._stream("swaps", load.name), self._swap)

    def start_pulls(self, load: PullLoad, places: Sequence[Place]) -> None:
        """Let the users at `places` pull models."""
        self._start(load, places, self._stream("pulls", load.name), self._pull)

    def _start(self, load: LoadT, places: Sequence[Place], stream: Stream, act: Act[LoadT]) -> None:
        """Let users act at once, or now and then."""
        if not places:
            return
        if load.at_us is not None:
            chosen = stream.shuffled(places)[: round(len(places) * load.share)]
            for place in chosen:
                at_us = load.at_us + stream.below(load.within_us + 1)
                self._kernel.call_at(at_us, act, load, (place, stream))
        elif load.per_node_per_hour:
            self._kernel.process(self._now_and_then(load, load.per_node_per_hour, places, stream, act))

    def start_removals(self, load: RemovalLoad, places: Sequence[Place]) -> None:
        """Let the users at `places` remove models."""
        if places and load.per_node_per_hour:
            self._kernel.process(self._tidy_up(load, places, self._stream("removals", load.name)))

    def next_command(self, kind: str) -> CommandId:
        """A fresh command id, known to the sink under the name of its load."""
        self._commands += 1
        self._sink.command(self._commands, kind)
        return self._commands

    def _stream(self, what: str, name: str) -> Stream:
        return Stream(self._rng_seed, b"", f"sim.{what}.{name}")

    def _ask(self, load: TaskLoad, places: Sequence[Place], stream: Stream) -> Generator[SimpyEvent]:
        mean_us = HOUR_US / (load.per_node_per_hour * len(places))
        while True:
            yield self._kernel.timeout(exponential_us(stream, mean_us))
            place = stream.choice(places)
            prompt_bytes = draw(stream, load.prompt_bytes)
            max_tokens = draw(stream, load.output_tokens)
            if self._kernel.now >= self._until_us:
                return
            if not place.sim.is_up:
                continue  # nobody asks a node that is off
            place.sim.post(
                SubmitTask(
                    self.next_command(load.name),
                    prompt=filler(prompt_bytes),
                    model=weighted(stream, load.model),
                    min_param_size=weighted(stream, load.min_param_size) or 0.0,
                    max_tokens=max_tokens,
                    deadline_ms=load.deadline_ms,
                    stream=load.stream,
                )
            )

    def _now_and_then(
        self, load: LoadT, per_hour: float, places: Sequence[Place], stream: Stream, act: Act[LoadT]
    ) -> Generator[SimpyEvent]:
        mean_us = HOUR_US / (per_hour * len(places))
        while True:
            yield self._kernel.timeout(exponential_us(stream, mean_us))
            act(load, (stream.choice(places), stream))

    def _swap(self, load: SwapLoad, who: tuple[Place, Stream]) -> None:
        place, stream = who
        target = self._target(load, place, stream)
        if target is not None and place.sim.is_up and self._kernel.now < self._until_us:
            place.sim.post(SwapModel(self.next_command(load.name), target, load.cause, load.pull))

    def _pull(self, load: PullLoad, who: tuple[Place, Stream]) -> None:
        place, stream = who
        files = [entry.model_id for entry in place.catalog.entries if place.platform in entry.platforms]
        wanted: dict[str, float] = {}
        for name, weight in (load.to or dict.fromkeys(files, 1.0)).items():
            entry = place.find(name)
            if entry is not None and place.fits(entry) and not place.has(entry):
                wanted[name] = weight
        target = weighted(stream, wanted)
        if target is not None and place.sim.is_up and self._kernel.now < self._until_us:
            place.sim.post(PullModel(self.next_command(load.name), target))

    def _tidy_up(self, load: RemovalLoad, places: Sequence[Place], stream: Stream) -> Generator[SimpyEvent]:
        mean_us = HOUR_US / (load.per_node_per_hour * len(places))
        while True:
            yield self._kernel.timeout(exponential_us(stream, mean_us))
            place = stream.choice(places)
            if self._kernel.now >= self._until_us:
                return
            found = [entry.model_id for entry in place.catalog.entries if place.has(entry)]
            if found and place.sim.is_up:
                place.sim.post(RemoveModel(self.next_command(load.name), stream.choice(found)))

    def _target(self, load: SwapLoad, place: Place, stream: Stream) -> str | None:
        """What the user picks: among what can be had and is not active. None: there is nothing to pick."""
        files = [entry.model_id for entry in place.catalog.entries if place.platform in entry.platforms]
        known: dict[str, float] = {}
        for name, weight in (load.to or dict.fromkeys(files, 1.0)).items():
            entry = place.find(name)
            if entry is None or entry is place.active():
                continue
            if place.has(entry) or (load.pull and place.fits(entry)):
                known[name] = weight
        return weighted(stream, known)


def exponential_us(stream: Stream, mean_us: float) -> int:
    """An exponential waiting time, µs, at least 1."""
    return max(1, round(-math.log(1.0 - stream.uniform()) * mean_us))


def draw(stream: Stream, amount: Amount) -> int:
    """An exponential size, at least 1, cut at its `max`."""
    return min(amount.max, max(1, round(-math.log(1.0 - stream.uniform()) * amount.mean)))


def filler(size_bytes: int) -> str:
    """A prompt of so many bytes."""
    return _FILLER[:size_bytes] if size_bytes <= len(_FILLER) else "x" * size_bytes
