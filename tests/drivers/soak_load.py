"""What a mesh of processes is asked to do while it soaks, and what becomes of each request.

A request has one of these ends: `answered` (in full, a refusal too), `killed` (its process was ended or stopped
meanwhile), `left` (whoever asked went away, as it wanted to). All others are faults: `broken` (the process lived, its
answer broke off), `unanswered` (nothing came in time), `not_one_end` (a stream that has none, or two).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from tests.drivers.soak_rig import Lost, Mesh, Process

ANSWER_S = 120.0
"""Tasks have a deadline of a quarter of it, swaps and pulls are answered after 30 s; all else at once."""
DEADLINE_MS = 30_000
FAULTS = ("broken", "unanswered", "not_one_end")


class Ledger:
    """What an agent has acknowledged: which model may be active, and which files must be there."""

    def __init__(self) -> None:
        self.active: set[str | None] = {None}
        self.installed: set[str] = set()
        self.lock = asyncio.Lock()
        """One request that changes something at a time, so that it is known what the answer is to."""


class Load:
    """Users of a mesh."""

    def __init__(self, mesh: Mesh, rng: random.Random) -> None:
        self.mesh = mesh
        self.rng = rng
        self.ends: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        """By what was asked, and the status or code that came."""
        self.elsewhere = 0
        """Tasks that another node answered."""
        self.notes: list[str] = []
        """What was wrong, in words."""
        self.ledgers = {id(agent): Ledger() for agent in mesh.agents}
        self._open: set[asyncio.Task[None]] = set()

    def ledger(self, agent: Process) -> Ledger:
        """That of an agent."""
        return self.ledgers[id(agent)]

    @property
    def faults(self) -> int:
        """Requests that did not end as they should."""
        return sum(self.ends[end] for end in FAULTS)

    # -- one request ---------------------------------------------------------------------------------------------------

    async def ask(self, what: str, process: Process, asking: Awaitable[Any]) -> Any:
        """Note how a request ends; its answer, or None."""
        life, was_frozen = process.life, process.frozen
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await asking
        except Lost as lost:
            await asyncio.sleep(0)
            if life != process.life or not process.is_up:
                self.ends["killed"] += 1
            else:
                self._fault("broken", f"{what} of {process.folder.name}: {lost}")
            return None
        except TimeoutError:
            if life != process.life or was_frozen or process.frozen:
                self.ends["killed"] += 1
            else:
                self._fault("unanswered", f"{what} of {process.folder.name}")
            return None
        self.ends["answered"] += 1
        return answer

    def _fault(self, end: str, words: str) -> None:
        self.ends[end] += 1
        self.notes.append(f"{end}: {words}")

    async def _task(self) -> None:
        await self.task(self.rng.choice(self.mesh.agents))

    async def task(self, agent: Process) -> None:
        """Have a prompt answered, or ask and go away."""
        rng = self.rng
        value: dict[str, Any] = {
            "prompt": "def add(a, b):\n" * rng.randint(1, 8),
            "maxTokens": rng.choice((4, 16, 64)),
            "deadlineMs": DEADLINE_MS,
        }
        if rng.random() < 0.5 and (model := rng.choice(sorted(self._active(), key=str))) is not None:
            value["model"] = model
        kind = rng.random()
        if kind < 0.1:
            await self._leave(agent, value)
        elif kind < 0.4:
            events = await self.ask("stream", agent, agent.events(value))
            if events is not None:
                ends = [name for name in events if name != "part"]
                self.answers[f"stream {ends[-1] if ends else 'refused'}"] += 1
                if len(ends) > 1:
                    self._fault("not_one_end", f"stream of {agent.folder.name}: {ends}")
        else:
            answer = await self.ask("task", agent, agent.ask("POST", "/task", value))
            if answer is not None:
                status, body = answer
                self.answers[f"task {status if status == 200 else body.get('code')}"] += 1
                self.elsewhere += status == 200 and body.get("servedBy") != await self._own(agent)

    def _active(self) -> set[str | None]:
        """Models that somebody most likely has: others are refused, sooner or later."""
        return {model for ledger in self.ledgers.values() for model in ledger.active}

    async def _own(self, agent: Process) -> str:
        with contextlib.suppress(Lost):
            return str((await agent.ask("GET", "/healthz"))[1]["node"])
        return ""

    async def _leave(self, agent: Process, value: dict[str, Any]) -> None:
        asking = asyncio.ensure_future(agent.ask("POST", "/task", {**value, "maxTokens": 200}))
        await asyncio.wait({asking}, timeout=self.rng.uniform(0, 0.5))
        asking.cancel()
        with contextlib.suppress(Lost, asyncio.CancelledError):
            await asking
        self.ends["left"] += 1

    # -- models --------------------------------------------------------------------------------------------------------

    async def swap(self, agent: Process, model: str, *, leave: bool = False) -> None:
        """Make a model active, wherever it comes from; or ask and go away."""
        ledger = self.ledger(agent)
        async with ledger.lock:
            ledger.active.add(model)
            asking = agent.ask("POST", "/model/swap", {"model": model})
            if leave:
                task = asyncio.ensure_future(asking)
                await asyncio.wait({task}, timeout=0.2)
                task.cancel()
                with contextlib.suppress(Lost, asyncio.CancelledError):
                    await task
                self.ends["left"] += 1
                return
            answer = await self.ask("swap", agent, asking)
            if answer is None:
                return
            self.answers[f"swap {answer[0] if answer[0] < 300 else answer[1].get('code')}"] += 1
            if answer[0] == 200:
                ledger.active = {model}
                ledger.installed.add(model)

    async def _swap(self) -> None:
        agent = self.rng.choice(self.mesh.agents)
        await self.swap(agent, self.rng.choice(list(self.mesh.models)), leave=self.rng.random() < 0.1)

    async def _pull(self) -> None:
        await self.pull(self.rng.choice(self.mesh.agents), self.rng.choice(list(self.mesh.models)))

    async def pull(self, agent: Process, model: str) -> None:
        """Fetch a model."""
        ledger = self.ledger(agent)
        async with ledger.lock:
            answer = await self.ask("pull", agent, agent.ask("POST", "/model/pull", {"model": model}))
            if answer is not None:
                self.answers[f"pull {answer[0] if answer[0] < 300 else answer[1].get('code')}"] += 1
                if answer[0] == 200:
                    ledger.installed.add(model)

    async def _remove(self) -> None:
        agent, model = self.rng.choice(self.mesh.agents), self.rng.choice(list(self.mesh.models))
        ledger = self.ledger(agent)
        async with ledger.lock:
            if ledger.active == {model}:
                return
            was_there = model in ledger.installed
            ledger.installed.discard(model)  # it may be gone from now on
            answer = await self.ask("remove", agent, agent.ask("DELETE", f"/model/{model}"))
            if answer is not None:
                self.answers[f"remove {answer[0] if answer[0] == 200 else answer[1].get('code')}"] += 1
                if answer[0] != 200 and was_there:
                    ledger.installed.add(model)

    async def _look(self) -> None:
        process = self.rng.choice(self.mesh.all)
        path = "/mesh/capabilities" if process in self.mesh.coordinators else "/model/list"
        answer = await self.ask("look", process, process.ask("GET", path))
        if answer is not None:
            self.answers[f"look {answer[0]}"] += 1

    # -- all of it -----------------------------------------------------------------------------------------------------

    async def run(self, seconds: float, requests_per_s: float) -> None:
        """Ask at random for so long, then wait for the answers."""
        kinds: list[tuple[Callable[[], Awaitable[None]], int]] = [
            (self._task, 60), (self._swap, 12), (self._pull, 8), (self._remove, 10), (self._look, 10),
        ]  # fmt: skip
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while loop.time() < until:
            (kind,) = self.rng.choices([each for each, _ in kinds], [weight for _, weight in kinds])
            task: asyncio.Task[None] = asyncio.ensure_future(kind())
            self._open.add(task)
            task.add_done_callback(self._open.discard)
            await asyncio.sleep(self.rng.expovariate(requests_per_s))
        if self._open:
            await asyncio.wait(self._open)
