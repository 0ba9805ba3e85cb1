"""What is done to a mesh of processes while it soaks, and how long it takes until it is as it was.

Two rows of faults go on at once, one of agents and one of what is between them. In each the next one comes when the
mesh has healed from the one before, or did not within `HEAL_S`. Healed means that each agent that was struck has links
to all coordinators, a home that answers, and the model that it acknowledged, or one that was asked for since. How long
the agents of a coordinator that dies have no other home counts apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import structlog

from tests.drivers.procfs import children_of
from tests.drivers.soak_load import Load
from tests.drivers.soak_rig import Lost, Mesh, Process

_log = structlog.get_logger("soak")
HEAL_S = 180.0
Fault = Callable[[], Awaitable[None]]
LOOK_S = 0.5


class Healed(NamedTuple):
    """One fault, and how it ended."""

    kind: str
    seconds: float
    """From the fault, or where something was to be started again from when it was up, until all was well."""
    is_healed: bool
    words: str = ""
    """What was still wrong."""


class Faults:
    """Who does it."""

    def __init__(
        self, mesh: Mesh, load: Load, rng: random.Random, heartbeat_s: float, spared: Sequence[Process]
    ) -> None:
        """`spared` processes are never killed: what they leak is seen over the whole run."""
        self.mesh = mesh
        self.load = load
        self.rng = rng
        self.heartbeat_s = heartbeat_s
        self.spared = spared
        self.done: list[Healed] = []
        self.wrong_model = 0
        self.lost_models = 0

    async def run(self, seconds: float, pause_s: float) -> None:
        """Both rows for so long."""
        of_agents: list[tuple[Fault, int]] = [
            (self._kill_agent, 35), (self._kill_engine, 15), (self._freeze_agent, 6), (self._end_agent, 5),
        ]  # fmt: skip
        of_others: list[tuple[Fault, int]] = [
            (self._kill_coordinator, 14), (self._cut, 12), (self._freeze_coordinator, 4), (self._stall, 4),
            (self._no_origin, 5),
        ]  # fmt: skip
        await asyncio.gather(*(self._row(kinds, seconds, pause_s) for kinds in (of_agents, of_others)))

    async def _row(self, kinds: Sequence[tuple[Fault, int]], seconds: float, pause_s: float) -> None:
        until = asyncio.get_running_loop().time() + seconds
        order: list[Fault] = []
        while asyncio.get_running_loop().time() < until:
            if not order:  # each of them comes early
                order = [each for each, _ in self.rng.sample(kinds, len(kinds))]
                order += self.rng.choices([each for each, _ in kinds], [weight for _, weight in kinds], k=20)
            await order.pop(0)()
            await asyncio.sleep(self.rng.uniform(0, 2 * pause_s))

    def _note(self, healed: Healed) -> None:
        self.done.append(healed)
        _log.info("fault", **healed._asdict())

    async def all_well(self) -> None:
        """At the end every agent is."""
        await self._heal("at_the_end", self.mesh.agents)

    # -- faults --------------------------------------------------------------------------------------------------------

    async def _kill_agent(self) -> None:
        agent = self._victim(self.mesh.agents)
        work: list[Awaitable[None]] = []
        if self.rng.random() < 0.6:  # in the middle of something
            model = self.rng.choice(sorted(self.mesh.models))
            work.append(asyncio.ensure_future(self.rng.choice((self.load.swap, self.load.pull))(agent, model)))
            await asyncio.sleep(self.rng.uniform(0, 1.5))
        agent.kill()
        await asyncio.gather(*work)
        await asyncio.sleep(self.rng.choice((0, 1, 5, 20)))
        await self._up_again(agent, "kill_agent")

    async def _end_agent(self) -> None:
        agent = self._victim(self.mesh.agents)
        code = await asyncio.to_thread(agent.end)
        if code:
            self._note(Healed("end_agent", 0, is_healed=False, words=f"{agent.folder.name} ended with {code}"))
        await self._up_again(agent, "end_agent")

    async def _up_again(self, agent: Process, kind: str) -> None:
        try:
            await agent.start()
        except (AssertionError, TimeoutError) as error:
            self._note(Healed(kind, HEAL_S, is_healed=False, words=f"{agent.folder.name}: {error}"))
            return
        await self._judge_models(agent)
        await self._heal(kind, [agent])

    async def _kill_engine(self) -> None:
        for agent in self.rng.sample(self.mesh.agents, len(self.mesh.agents)):
            engines = children_of(agent.pid) if agent.is_up else []
            if engines:
                task = asyncio.ensure_future(self.load.task(agent))
                await asyncio.sleep(self.rng.uniform(0, 0.2))
                with contextlib.suppress(ProcessLookupError):  # a swap was sooner
                    os.kill(engines[0], signal.SIGKILL)
                await task
                await self._heal("kill_engine", [agent])
                return

    async def _kill_coordinator(self) -> None:
        hub = self._victim(self.mesh.coordinators)
        orphans = await self._agents_of(hub)
        hub.kill()
        await self._heal("rehome_after_kill", orphans, avoid=hub)
        await asyncio.sleep(self.rng.choice((0, 5, 20)))
        await hub.start()
        await self._heal("kill_coordinator", self.mesh.agents)

    async def _freeze_coordinator(self) -> None:
        hub = self._victim(self.mesh.coordinators)
        orphans = await self._agents_of(hub)
        hub.freeze(on=True)
        try:
            await self._heal("rehome_after_silence", orphans, avoid=hub)
        finally:
            hub.freeze(on=False)
        await self._heal("freeze_coordinator", self.mesh.agents)

    async def _freeze_agent(self) -> None:
        agent = self._victim(self.mesh.agents)
        agent.freeze(on=True)
        await asyncio.sleep(self.rng.uniform(1, 4) * self.heartbeat_s)
        agent.freeze(on=False)
        await self._heal("freeze_agent", [agent])

    async def _cut(self) -> None:
        relay = self.rng.choice(self.mesh.relays)
        relay.cut(self.rng.choice((0.1, 0.5, 1.0)), self.rng)
        await self._heal("cut", self.mesh.agents)

    async def _stall(self) -> None:
        number = self.rng.randrange(len(self.mesh.relays))
        orphans = await self._agents_of(self.mesh.coordinators[number])
        self.mesh.relays[number].stall(1.0, self.rng)
        await self._heal("rehome_after_silence", orphans, avoid=self.mesh.coordinators[number])
        await self._heal("stall", self.mesh.agents)

    async def _no_origin(self) -> None:
        self.mesh.origin.away.set()
        await asyncio.sleep(20)
        self.mesh.origin.away.clear()
        self._note(Healed("no_origin", 0, is_healed=True))

    def _victim(self, among: Sequence[Process]) -> Process:
        return self.rng.choice([each for each in among if each not in self.spared and each.is_up])

    # -- healing -------------------------------------------------------------------------------------------------------

    async def _agents_of(self, hub: Process) -> list[Process]:
        """The agents whose home it is."""
        own = self.mesh.ids[self.mesh.coordinators.index(hub)]
        homes = await asyncio.gather(*(self._home(agent) for agent in self.mesh.agents))
        return [agent for agent, home in zip(self.mesh.agents, homes, strict=True) if home == own]

    async def _home(self, agent: Process) -> str | None:
        try:
            status = (await agent.ask("GET", "/model/status"))[1]
        except Lost:
            return None
        return next((row["coordinatorId"] for row in status.get("coordinators", ()) if row["home"]), None)

    async def _heal(self, kind: str, agents: Sequence[Process], *, avoid: Process | None = None) -> None:
        """Wait until these agents are well; `avoid` is no home."""
        began = asyncio.get_running_loop().time()
        no_home = None if avoid is None else self.mesh.ids[self.mesh.coordinators.index(avoid)]
        left, words = list(agents), ""
        lives = {id(agent): agent.life for agent in agents}
        while left and asyncio.get_running_loop().time() - began < HEAL_S:
            wrongs = await asyncio.gather(*(self._wrong_with(agent, no_home) for agent in left))
            words = "; ".join(wrong for wrong in wrongs if wrong)[:500]
            left = [agent for agent, wrong in zip(left, wrongs, strict=True) if wrong]
            if avoid is not None:  # a new life has no old home
                left = [agent for agent in left if agent.life == lives[id(agent)] and not agent.frozen]
            if left:
                await asyncio.sleep(LOOK_S)
        self._note(
            Healed(
                kind,
                round(asyncio.get_running_loop().time() - began, 2),
                is_healed=not left,
                words=words if left else "",
            )
        )

    async def _wrong_with(self, agent: Process, no_home: str | None) -> str:
        """What keeps an agent from being well; nothing: it is."""
        name = agent.folder.name
        try:
            async with asyncio.timeout(30):
                status = (await agent.ask("GET", "/model/status"))[1]
        except (Lost, TimeoutError) as error:
            return f"{name}: {error!r}"
        home = next((row for row in status.get("coordinators", ()) if row["home"]), None)
        if home is None or home["state"] != "up" or home["coordinatorId"] == no_home:
            return f"{name}: home {home}"
        if not status["online"]:
            return f"{name}: offline"
        if status["status"] == "error":
            return f"{name}: {status.get('reason')} {status.get('detail')}"
        down = [row["endpoint"] for row in status["coordinators"] if row["state"] != "up"]
        if no_home is None and down:
            return f"{name}: no link to {down}"
        if no_home is None and status["status"] == "loading":
            return f"{name}: loading"
        if no_home is None and status["status"] in ("ready", "no_model"):
            ledger = self.load.ledger(agent)
            if not ledger.lock.locked() and status["model"] not in ledger.active:
                return f"{name}: {status['model']} is active, {ledger.active} acknowledged"
        return ""

    async def _judge_models(self, agent: Process) -> None:
        """A new life must have what the one before acknowledged."""
        ledger = self.load.ledger(agent)
        active, installed = set(ledger.active), set(ledger.installed)
        status, rows = None, []
        until = asyncio.get_running_loop().time() + HEAL_S
        while asyncio.get_running_loop().time() < until:
            try:
                status = (await agent.ask("GET", "/model/status"))[1]
                rows = (await agent.ask("GET", "/model/list"))[1]["models"]
            except Lost:
                return
            if status["status"] in ("ready", "no_model", "error"):
                break
            await asyncio.sleep(LOOK_S)
        assert status is not None
        there = {row["modelId"] for row in rows if row["state"] in ("installed", "quarantined")}
        lost = (installed & ledger.installed) - there  # what is asked to be removed meanwhile is not among them
        self.lost_models += len(lost)
        is_wrong = status["model"] not in active | ledger.active
        self.wrong_model += is_wrong
        if lost or is_wrong:
            _log.info("wrong", agent=agent.folder.name, active=status["model"], of=active | ledger.active, lost=lost)
        ledger.active |= {status["model"]}
