"""What happens in a demo, step by step. Each step is done for real and looked at from outside, over the nodes' own
ports; one that is not seen to have happened ends the demo.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any, Final, NamedTuple

import httpx2

from edgecoder_drivers.demo.asks import PATIENCE_S, Asks, Place, StepFailed
from edgecoder_drivers.demo.board import AgentRow, Board, HubRow, Step
from edgecoder_drivers.demo.mesh import HUBS, MEMBERS, PERIOD_MS, Member, Starter
from edgecoder_drivers.demo.models import RELEASE
from edgecoder_drivers.demo.origin import Origin
from edgecoder_drivers.demo.processes import Part, PartFailed, Processes, processes

PROMPT: Final = "def add(a, b):"
MAX_TOKENS: Final = 16
ASKED: Final = MEMBERS[0]
"""At which tasks are asked."""
SWAPPED: Final = (MEMBERS[2], MEMBERS[1])
"""They swap to the release: one of each coordinator, one of each engine."""
FAR: Final = MEMBERS[3].first
"""A model that only an agent of the other coordinator has."""

TRIES: Final = 3
LOOK_S: Final = 0.5
"""How often the nodes are asked for what the screen shows."""


class Told(NamedTuple):
    """What came of a step: for people, and for programs."""

    detail: str
    figures: dict[str, Any]


class Story:
    """One demo."""

    def __init__(self, board: Board, everything: Processes, client: httpx2.AsyncClient) -> None:
        self.board = board
        self._processes = everything
        self._asks = Asks(everything, client)
        self._origin = Origin(everything)
        self._starter = Starter(everything, self._origin.catalog)
        self._names = {node: name for name, node in self._starter.ids.items()}
        """Of nodes, by id."""
        self._cdn = ""
        self._stand_ins: dict[str, Part] = {}
        self._places: dict[str, Place] = {}
        self._before: dict[str, dict[str, int]] = {}
        """Bytes that had come to nodes before the release."""
        board.agents = {each.name: AgentRow(each.name, each.runs_on) for each in MEMBERS}
        board.hubs = {name: HubRow(name) for name in HUBS}

    def steps(self) -> list[tuple[Step, Callable[[], Awaitable[Told]]]]:
        """In order."""
        return [
            (Step("origin", "tiny models are made, and an origin gives them"), self._begin),
            (Step("start", "two coordinators and four agents come up"), self._start),
            (Step("first models", "each agent pulls a model and loads it"), self._first),
            (Step("gossip", "each coordinator hears of the other's models"), self._gossip),
            (Step("release", f"all pull {RELEASE}, from the origin and from each other"), self._release),
            (Step("swap", "a model changes, and the other coordinator hears of it"), self._swap),
            (Step("task", "a node is asked for a model that it has not"), self._task),
            (Step("fail-over", f"{HUBS[0]} is killed, its agents go to {HUBS[1]}"), self._fail_over),
        ]

    # -- the steps -----------------------------------------------------------------------------------------------------

    async def _begin(self) -> Told:
        for member in MEMBERS:
            if member.is_ollama:
                self._stand_ins[member.name] = self._starter.stand_in(member)
        names, self._cdn = await asyncio.gather(self._origin.build(), self._origin.serve())
        total = sum(self._origin.size_bytes(name) for name in names)
        return Told(f"{', '.join(names)}, {megabytes(total)} with random weights", {"models": names, "bytes": total})

    async def _start(self) -> Told:
        self._places |= {place.name: place for place in await asyncio.gather(*map(self._starter.hub, HUBS))}
        await asyncio.gather(*map(self._come_home, MEMBERS))
        count = 1 + len(self._stand_ins) + len(HUBS) + len(MEMBERS)
        detail = f"{count} processes on 127.0.0.1, every agent at its coordinator"
        return Told(detail, {"processes": count})

    async def _come_home(self, member: Member) -> None:
        """Start an agent. One that found its spare first, as may be on a machine that has much else to do, is started
        again: there is no way home from a spare that works."""
        for _ in range(TRIES):
            place = await self._starter.member(member, self._cdn, self._stand_ins.get(member.name))
            self._places[member.name] = place
            if await self._asks.until(f"{member.name} has a coordinator", partial(self._home, place)) == member.hub:
                return
            await place.part.end()
        raise StepFailed(f"{member.name} does not report to {member.hub}")

    async def _first(self) -> Told:
        await asyncio.gather(*(self._asks.swap(self._places[each.name], each.first) for each in MEMBERS))
        for member in MEMBERS:
            model = (await self._asks.status(self._places[member.name])).model
            if model != member.first:
                raise StepFailed(f"{member.name} has {model} active, and not {member.first}")
        return Told(", ".join(f"{each.name} {each.first}" for each in MEMBERS), {})

    async def _gossip(self) -> Told:
        wanted = {hub: sorted(each.first for each in MEMBERS if each.hub == hub) for hub in HUBS}
        for at in HUBS:
            for of in HUBS:
                what = f"{at} knows the models of {of}"
                await self._asks.until(what, partial(self._knows, at, of, wanted[of]))
        words = "; ".join(f"{hub} has {' and '.join(wanted[hub])}" for hub in HUBS)
        return Told(f"both say: {words}", {"period_s": PERIOD_MS / 1000})

    async def _release(self) -> Told:
        self._before = before = await self._bytes()
        self.board.release_bytes = size = self._origin.size_bytes(RELEASE)
        await asyncio.gather(*(self._asks.pull(self._places[each.name], RELEASE) for each in MEMBERS))
        after = await self._bytes()
        came = {name: {key: after[name][key] - before[name][key] for key in after[name]} for name in after}
        origin = sum(sources["cdn"] for sources in came.values())
        peers = sum(sources["mesh"] for sources in came.values())
        copies = origin / size
        if not peers or copies >= len(MEMBERS):
            raise StepFailed(f"{megabytes(peers)} came from peers, {copies:.2f} copies from the origin")
        detail = (
            f"{megabytes(origin)} from the origin ({copies:.2f} copies for {len(MEMBERS)} nodes), "
            f"{megabytes(peers)} from each other"
        )
        figures = {"model": RELEASE, "file_bytes": size, "origin_bytes": origin, "peer_bytes": peers}
        return Told(detail, {**figures, "copies_of_origin": round(copies, 3), "by_node": came})

    async def _swap(self) -> Told:
        told, figures = [], []
        for member in SWAPPED:
            elsewhere = next(hub for hub in HUBS if hub != member.hub)
            began = self.board.now_s
            swapped = await self._asks.swap(self._places[member.name], RELEASE)
            done = self.board.now_s
            what = f"{elsewhere} knows that an agent of {member.hub} has {RELEASE}"
            await self._asks.until(what, partial(self._counts, elsewhere, member.hub, RELEASE))
            known = self.board.now_s
            told.append(
                f"{member.name}, {swapped.previous} to {swapped.active} in {done - began:.2f} s; "
                f"{elsewhere} knew it {known - done:.2f} s later"
            )
            figures.append({"node": member.name, "swap_s": round(done - began, 3), "known_s": round(known - done, 3)})
        return Told("\n".join(told), {"swaps": figures})

    async def _task(self) -> Told:
        answers = [await self._answered(ASKED.name, model) for model in (RELEASE, FAR)]
        return Told("\n".join(line for line, _ in answers), {"answers": [figures for _, figures in answers]})

    async def _fail_over(self) -> Told:
        dead, alive = (self._places[name] for name in HUBS)
        began = self.board.now_s
        dead.part.kill()
        self.board.hubs[dead.name].state = "killed"
        for member in MEMBERS:
            what = f"{member.name} reports to {alive.name}"
            await self._asks.until(what, partial(self._is_at, member.name, alive.name))
        await self._asks.until(f"{alive.name} counts all agents", partial(self._counts_all, alive.name))
        took = self.board.now_s - began
        line, figures = await self._answered(ASKED.name, FAR)
        detail = f"all {len(MEMBERS)} agents are at {alive.name} after {took:.2f} s\n{line}"
        return Told(detail, {"rehomed_s": round(took, 3), "answers": [figures]})

    # -- what the screen shows -----------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Keep the board's rows up to date, and see that all processes live. Raises PartFailed."""
        while True:
            self._processes.check()
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Ask all that run how they are."""
        for place in list(self._places.values()):
            with suppress(StepFailed):  # the step that needs it says so
                await (self._see_hub(place) if place.name in HUBS else self._see_agent(place))

    async def _see_agent(self, place: Place) -> None:
        row, status = self.board.agents[place.name], await self._asks.status(place)
        row.model, row.status = status.model or "", status.status
        row.home = next((self._names.get(each.coordinator_id, "") for each in status.coordinators if each.home), "")
        if self.board.release_bytes:
            came, before = await self._asks.bytes_of(place), self._before.get(place.name, {})
            row.origin_bytes, row.peer_bytes = (came[key] - before.get(key, 0) for key in ("cdn", "mesh"))

    async def _see_hub(self, place: Place) -> None:
        row = self.board.hubs[place.name]
        if not place.part.is_wanted:
            row.own, row.heard = {}, {}
            return
        known = await self._known(place.name)
        row.own, row.state = known.pop(place.name, {}), "up"
        row.heard = known

    # -- what the steps look at ----------------------------------------------------------------------------------------

    async def _home(self, agent: Place) -> str:
        """The coordinator that an agent reports to, if any."""
        status = await self._asks.status(agent)
        homes = [row.coordinator_id for row in status.coordinators if row.home and row.state == "up"]
        return self._names[homes[0]] if homes and status.online else ""

    async def _is_at(self, agent: str, hub: str) -> bool:
        return await self._home(self._places[agent]) == hub

    async def _known(self, at: str) -> dict[str, dict[str, int]]:
        known = await self._asks.known(self._places[at])
        return {self._names.get(node, node): models for node, models in known.items()}

    async def _knows(self, at: str, of: str, models: list[str]) -> bool:
        there = (await self._known(at)).get(of, {})
        return sorted(there) == models

    async def _counts(self, at: str, of: str, model: str) -> bool:
        return (await self._known(at)).get(of, {}).get(model, 0) > 0

    async def _counts_all(self, hub: str) -> bool:
        return sum((await self._known(hub)).get(hub, {}).values()) == len(MEMBERS)

    async def _bytes(self) -> dict[str, dict[str, int]]:
        return {each.name: await self._asks.bytes_of(self._places[each.name]) for each in MEMBERS}

    async def _answered(self, asked: str, model: str) -> tuple[str, dict[str, Any]]:
        """Ask for a model; who answered, which must be another, in words and figures."""
        began = self.board.now_s
        answered = await self._asks.task(self._places[asked], model, PROMPT, MAX_TOKENS)
        by = self._names.get(answered.served_by or "", "nobody")
        if by == asked or answered.model != model or not answered.tokens:
            what = f"{by} answered {answered.tokens} tokens of {answered.model}"
            raise StepFailed(f"{asked} was asked for {model}, and {what}")
        took = self.board.now_s - began
        line = f"asked at {asked} for {model}: {by} answered in {took:.2f} s, {answered.tokens} tokens of noise"
        figures = {"asked_at": asked, "model": model, "answered_by": by, "duration_s": round(took, 3)}
        return line, {**figures, "tokens": answered.tokens, "text": answered.text}


async def run(board: Board) -> None:
    """Have it all happen; the board has what did. Whatever ends it, nothing of it is left."""
    ending = Step("end", "all processes end, and nothing of them is left")
    async with AsyncExitStack() as stack:
        everything = await stack.enter_async_context(processes())
        client = httpx2.AsyncClient(timeout=PATIENCE_S, trust_env=False)
        await stack.enter_async_context(client)
        story = Story(board, everything, client)
        steps = story.steps()
        board.steps = [*(step for step, _ in steps), ending]
        watching = asyncio.ensure_future(story.watch())
        stack.push_async_callback(_stopped, watching)
        for step, act in steps:
            board.begin(step)
            try:
                told = await _unless(watching, act())
            except (StepFailed, PartFailed) as error:
                board.end(step, ok=False, detail=str(error))
                break
            step.figures = told.figures
            board.end(step, ok=True, detail=told.detail)
        else:
            await story.look()
        board.begin(ending)
    left = everything.left()
    board.end(ending, ok=not left, detail=f"left: {', '.join(left)}" if left else "no process, port or file is left")
    board.stop()


async def _unless(watching: asyncio.Future[None], act: Awaitable[Told]) -> Told:
    """What an act comes to, unless the watch ends before it, which has seen that something is wrong."""
    acting = asyncio.ensure_future(act)
    both: set[asyncio.Future[Any]] = {acting, watching}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if watching.done():
            await watching
        return await acting
    finally:
        await _stopped(acting)


async def _stopped(task: asyncio.Future[Any]) -> None:
    """End it, however it ends: what was wrong is known by now."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()


def megabytes(count: int) -> str:
    """For people."""
    return f"{count / 1e6:.1f} MB"
