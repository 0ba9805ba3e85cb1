"""What a demo asks its nodes, over their own ports, as any program would."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, TypeVar

import httpx2
import msgspec

from edgecoder.errors import EdgeCoderError
from edgecoder_drivers.demo.processes import Part, Processes
from edgecoder_drivers.http.contract import Answered, Problem, Pulled, Status, Swapped
from edgecoder_drivers.http.mesh import CapabilitiesAnswer

PATIENCE_S: Final = 120.0
"""So long anything may take: a machine may have much else to do."""
TURN_S: Final = 0.02
GONE_S: Final = 0.3
"""Within this the end of a process is known that left a request without an answer."""
_BYTES: Final = re.compile(r'^edgecoder_piece_bytes_total\{source="(\w+)"\} (\S+)$', re.MULTILINE)
A = TypeVar("A")


class StepFailed(EdgeCoderError):
    """Something that should have happened did not."""


class Place(NamedTuple):
    """A node, and where it is asked."""

    name: str
    node: str
    """Its id in hexadecimal."""
    part: Part
    port: int

    @property
    def url(self) -> str:
        """Of its port."""
        return f"http://127.0.0.1:{self.port}"


class Asks:
    """See the module."""

    def __init__(self, everything: Processes, client: httpx2.AsyncClient) -> None:
        self._processes = everything
        self._client = client

    async def status(self, agent: Place) -> Status:
        """GET /model/status."""
        return await self._ask(agent, "GET", "/model/status", Status)

    async def swap(self, agent: Place, model: str) -> Swapped:
        """Have a model active; it is pulled where it is missing."""
        return await self._ask(agent, "POST", "/model/swap", Swapped, {"model": model, "wait": True})

    async def pull(self, agent: Place, model: str) -> Pulled:
        """Have a file."""
        return await self._ask(agent, "POST", "/model/pull", Pulled, {"model": model, "wait": True})

    async def task(self, agent: Place, model: str, prompt: str, max_tokens: int) -> Answered:
        """Have the mesh answer."""
        asked = {"prompt": prompt, "model": model, "maxTokens": max_tokens}
        return await self._ask(agent, "POST", "/task", Answered, asked)

    async def bytes_of(self, agent: Place) -> dict[str, int]:
        """Bytes of pieces that came, by source."""
        text = (await self._request(agent, "GET", "/metrics")).text
        return {source: int(float(count)) for source, count in _BYTES.findall(text)}

    async def known(self, hub: Place) -> dict[str, dict[str, int]]:
        """What a coordinator knows: by coordinator, itself included, its agents by active model."""
        answer = await self._ask(hub, "GET", "/mesh/capabilities", CapabilitiesAnswer)
        return {
            row.coordinator_id: {model: each.agent_count for model, each in row.model_availability.items()}
            for row in answer.coordinators
        }

    async def until(self, what: str, is_so: Callable[[], Awaitable[A]]) -> A:
        """Ask again until it is so; what is so. Raises StepFailed, and PartFailed where a process ends meanwhile."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not (found := await is_so()):
                    self._processes.check()
                    await asyncio.sleep(TURN_S)
                return found
        except TimeoutError:
            raise StepFailed(f"{what}: it was not so within {PATIENCE_S:g} s") from None

    async def _ask(self, place: Place, method: str, path: str, kind: type[A], value: Any = None) -> A:
        response = await self._request(place, method, path, value)
        try:
            if response.is_success:
                return msgspec.json.decode(response.content, type=kind)
            problem = msgspec.json.decode(response.content, type=Problem)
        except msgspec.MsgspecError as error:
            raise StepFailed(f"{place.name}: {method} {path}: {response.status_code}, {error}") from None
        raise StepFailed(f"{place.name}: {method} {path}: {problem.title} {problem.detail}".strip())

    async def _request(self, place: Place, method: str, path: str, value: Any = None) -> httpx2.Response:
        try:
            return await self._client.request(method, place.url + path, json=value)
        except httpx2.RequestError as error:
            await asyncio.sleep(GONE_S)
            place.part.check()
            why = f"{type(error).__name__} {error}".strip()
            raise StepFailed(f"{place.name} does not answer: {method} {path}: {why}") from None
