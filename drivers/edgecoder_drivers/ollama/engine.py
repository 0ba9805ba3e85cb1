"""The engine that is an Ollama server, which this node shares with other programs.

It loads with an empty prompt and a `keep_alive` without end, and looks every few seconds whether the model is still
there: others may free it, or restart the server. It frees only what it loaded itself, or an earlier life of this node
did; a note on the disk tells which. What others had loaded goes back to them as it was. Their models count as used
memory, and the core hears of them. What follows when the model is lost is the core's to decide.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import httpx
import structlog
from ollama import GenerateResponse

from edgecoder.config import NodeConfig
from edgecoder.core.effects import LoadModel, UnloadModel
from edgecoder.core.events import Completion, EngineReturned, OtherModel, OthersLoaded
from edgecoder.errors import Reason
from edgecoder.models.admission import MIB, has_memory
from edgecoder.models.catalog import CatalogEntry
from edgecoder_drivers.driver import Post, Refused
from edgecoder_drivers.engine import EngineDriver, Part
from edgecoder_drivers.ollama.client import Client, Model, Said, Unreachable
from edgecoder_drivers.ollama.names import files_told, names_held, running_of_file
from edgecoder_drivers.ollama.noted import Loaded, Note, is_for_ever, is_over, lent
from edgecoder_drivers.ollama.reasons import reason_of_load, reason_of_task

POLL_S: Final = 5.0
SHARED_POLL_S: Final = 1.0
"""The same while others have models in memory: who is refused for them frees one, and asks again."""
MISSES_MAX: Final = 3
"""How often in a row Ollama may fail to say what it runs, before its model counts as lost."""
GONE_POLL_S: Final = 0.1
"""How often it is asked whether a model that is to go is gone."""
CLOSE_S: Final = 5.0
"""How long an end waits for a model to be freed."""
PLACES: Final = 3
"""How many models Ollama has in memory at most where OLLAMA_MAX_LOADED_MODELS does not say: its own number for a
machine with one graphics card or none."""
SAMPLE_PROMPT: Final = "def add(a, b):\n    return"
SAMPLE_TOKENS: Final = 16
_NS_PER_S: Final = 1_000_000_000
_LOST: Final = frozenset((Reason.ENGINE_CRASHED, Reason.OUT_OF_MEMORY, Reason.NO_MODEL))
_log = structlog.get_logger("edgecoder.ollama")


async def _nothing() -> None:
    """What is awaited where nobody has to be told."""


class _Held:
    """The model that is there, or on its way, and who waits for its answers."""

    def __init__(self, entry: CatalogEntry, name: str, loaded: Loaded, wanted_tokens: int) -> None:
        self.entry = entry
        self.name = name
        self.loaded = loaded
        self.context_tokens = wanted_tokens
        """With another one Ollama would load it anew."""
        self._wanted_tokens = wanted_tokens
        self.ended: Reason | None = None
        """Why its answers are called off."""
        self._waits: set[asyncio.Timeout] = set()

    def see(self, running: list[Model]) -> None:
        """A larger context than it needs is one that others have given it."""
        self.context_tokens = max([self._wanted_tokens, *(model.context_tokens for model in running)])

    async def part(self, parts: AsyncGenerator[GenerateResponse, None]) -> GenerateResponse | None:
        """The next part of an answer; None after the last. Raises Refused when the model goes meanwhile."""
        part, wait = None, asyncio.timeout(None)
        try:
            with suppress(TimeoutError):
                async with wait:
                    self._waits.add(wait)
                    part = await anext(parts, None) if self.ended is None else None
        finally:
            self._waits.discard(wait)
        if self.ended is not None:
            raise Refused(self.ended)
        return part

    def end(self, reason: Reason) -> None:
        """The model goes: so do the answers that are under way."""
        self.ended = reason
        for wait in self._waits:
            wait.reschedule(asyncio.get_running_loop().time())


class OllamaEngine:
    """See `engine.Engine`."""

    def __init__(self, client: Client, config: NodeConfig, note: Path, *, poll_s: float = POLL_S) -> None:
        """`note` is the file that tells later lives what this one has loaded."""
        self._client = client
        self._config = config
        self._note = Note(note)
        self._poll_s = poll_s
        self._places = _places()
        self._served: str | None = None
        """SHA-256 of what served last: it had its room, and gets it back."""
        self._others = OthersLoaded(())
        """What the core was told."""
        self._held: _Held | None = None
        self._is_loading = False
        self._one_at_a_time = asyncio.Lock()
        """Who has a model kept, and who has it freed."""
        self._misses = 0
        self._on_failed: Callable[[Reason], None] = lambda reason: None
        self.on_back: Callable[[], Awaitable[None]] = _nothing
        """Awaited when an Ollama answers that did not before."""
        self.on_others: Callable[[OthersLoaded], None] = lambda event: None
        """Called when others have other models in memory than before."""
        self._poll: asyncio.Task[None] | None = None
        self.is_healthy = False
        """Whether Ollama answered when it was last asked, and is new enough."""

    def watch(self, on_failed: Callable[[Reason], None]) -> None:
        """See `engine.Engine`."""
        self._on_failed = on_failed
        self._poll = asyncio.get_running_loop().create_task(self._keep_looking(), name="ollama ps")

    async def close(self) -> None:
        """See `engine.Engine`. What this node loaded is freed, if that can be had soon."""
        if self._poll is not None:
            self._poll.cancel()
            await asyncio.wait({self._poll})
        with suppress(TimeoutError, Refused):
            async with asyncio.timeout(CLOSE_S):
                await self.unload()
        await self._client.close()

    # -- load and unload -----------------------------------------------------------------------------------------------

    async def load(self, entry: CatalogEntry, context_tokens: int) -> int:
        """See `engine.Engine`."""
        if self._held is not None or self._is_loading:
            raise Refused(Reason.OUT_OF_MEMORY, "a model is there already")
        self._is_loading = True
        try:
            await self._client.check()
            await self.provide(entry)
            return await self._load(entry, context_tokens)
        except Unreachable as error:
            self.is_healthy &= not error.is_down
            raise
        finally:
            self._is_loading = False

    async def check(self, entry: CatalogEntry) -> None:
        """Whether a file could be loaded in place of what is there. Raises Refused (not_installed,
        insufficient_memory); a server that cannot be asked says so when it is told to free."""
        with suppress(Unreachable):
            if not await self.has(entry):
                raise Refused(Reason.NOT_INSTALLED, f"Ollama does not have {entry.model_id}")
            running = await self._client.running()
            if not await running_of_file(self._client, running, entry.sha256):
                others = [model for model in running if not await self._is_ours(model)]
                self._judge_memory(entry, await self._others_of(others))

    async def has(self, entry: CatalogEntry) -> bool:
        """Whether a file is there to be loaded. Raises Unreachable."""
        return bool(await names_held(self._client, entry))

    async def provide(self, entry: CatalogEntry) -> None:
        """What it takes for Ollama to have a file that is about to be loaded. Raises Refused."""

    async def _load(self, entry: CatalogEntry, context_tokens: int) -> int:
        names = await names_held(self._client, entry)
        if not names:
            raise Refused(Reason.NOT_INSTALLED, f"Ollama does not have {entry.model_id} with the catalog's SHA-256")
        await self._clear_up(entry)
        running = await self._client.running()
        mine = await running_of_file(self._client, running, entry.sha256)
        others = [model for model in running if model not in mine]
        if not mine and entry.sha256 != self._served:
            self._judge_memory(entry, await self._others_of(others))
        held = _Held(entry, names[0], self._whose(entry, mine), context_tokens)
        held.see(mine)
        self._note.write(held.loaded)
        try:
            await self._client.load(held.name, held.context_tokens)
            tokens_per_s = await self._measure(held)
        except Said as said:
            await self._take_back(held)
            raise Refused(reason_of_load(said), str(said)) from None
        except BaseException:
            await self._take_back(held)
            raise
        self._held, self._served = held, entry.sha256
        await self._say_who_went(others)
        return tokens_per_s

    def _whose(self, entry: CatalogEntry, mine: list[Model]) -> Loaded:
        """What is to be noted of a model: that it is ours, or how long others want it."""
        noted = self._note.read()
        if not mine:
            return Loaded(entry.sha256, is_ours=True)
        if noted is not None and noted.sha256 == entry.sha256 and is_for_ever(mine[0]):
            return noted
        return lent(mine[0], entry.sha256)

    def _judge_memory(self, entry: CatalogEntry, others: OthersLoaded) -> None:
        """Ollama itself would put out what others have loaded to make room."""
        if not has_memory(entry, self._config, others):
            names = ", ".join(f"{model.name} ({model.size_mb} MB)" for model in others.models)
            raise Refused(Reason.INSUFFICIENT_MEMORY, f"other programs have loaded {names}")

    async def _say_who_went(self, others: list[Model]) -> None:
        """Ollama may have put out models of others all the same: it says nowhere how it decides."""
        with suppress(Refused):
            there = {model.manifest for model in await self._client.running()}
            if gone := [model.name for model in others if model.manifest not in there]:
                _log.warning("ollama put out models of other programs", models=", ".join(gone))

    async def _measure(self, held: _Held) -> int:
        """Tokens a second, by a short answer."""
        tokens, ns = 0, 0
        async for part in self._client.generate(
            held.name, SAMPLE_PROMPT, context_tokens=held.context_tokens, max_tokens=SAMPLE_TOKENS
        ):
            tokens, ns = part.eval_count or 0, part.eval_duration or 0
        return max(1, tokens * _NS_PER_S // max(1, ns)) if tokens else 1

    async def unload(self) -> None:
        """See `engine.Engine`."""
        held = self._held
        if held is None:
            return
        self._held = None
        held.end(Reason.CANCELLED)
        try:
            async with self._one_at_a_time:
                await self._let_go(held)
        except (Unreachable, Said) as error:
            if isinstance(error, Unreachable) and error.is_down:
                self._note.clear()
                return  # with the server the model went
            self._keep(held)
            raise Refused(Reason.UNLOAD_FAILED, str(error)) from None
        except BaseException:
            self._keep(held)
            raise

    def _keep(self, held: _Held) -> None:
        """It could not be freed, so it goes on answering."""
        self._held, held.ended = held, None

    async def _let_go(self, held: _Held) -> None:
        """Have a model freed if it is ours, else left to others as they had it. One that was deleted while it runs
        cannot be had freed. Raises Unreachable, Said."""
        running = await running_of_file(self._client, await self._client.running(), held.entry.sha256)
        try:
            if running and held.loaded.is_ours:
                await self._free(held.name, held.entry.sha256)
            elif running:
                held.see(running)
                await self._client.load(held.name, held.context_tokens, held.loaded.keep_alive)
        except Said as said:
            if said.status != httpx.codes.NOT_FOUND:
                raise
            hint = f"restart Ollama to free {sum(model.size_bytes for model in running) // MIB} MB"
            _log.warning("a model that was deleted runs on", model=held.name, hint=hint)
        self._note.clear()

    async def _free(self, name: str, sha256: str) -> None:
        """Have a model freed, and wait until it is. Raises Unreachable, Said."""
        await self._client.free(name)
        try:
            async with asyncio.timeout(self._client.timeouts.unload):
                while True:
                    if not await running_of_file(self._client, await self._client.running(), sha256):
                        return
                    await asyncio.sleep(GONE_POLL_S)
        except TimeoutError:
            raise Unreachable(f"Ollama has not freed {name}: somebody uses it") from None

    async def _take_back(self, held: _Held) -> None:
        """A load that failed or was called off leaves nothing in memory; if that cannot be had now, the note stays."""
        with suppress(Refused, Said, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                if held.loaded.is_ours:  # also what only begins to be loaded
                    with suppress(Said):
                        await self._client.free(held.name)
                await self._let_go(held)

    async def _clear_up(self, entry: CatalogEntry) -> None:
        """Let go of what an earlier life, or an earlier load, left in memory, unless others have it in use by now."""
        noted = self._note.read()
        if noted is None or noted.sha256 == entry.sha256:
            return
        for model in await running_of_file(self._client, await self._client.running(), noted.sha256):
            with suppress(Said):
                if noted.is_ours and is_for_ever(model):
                    await self._free(model.name, noted.sha256)
                elif is_for_ever(model):
                    await self._client.load(model.name, model.context_tokens, noted.keep_alive)
        self._note.clear()

    # -- tasks ---------------------------------------------------------------------------------------------------------

    async def generate(self, prompt: str, max_tokens: int) -> AsyncIterator[Part]:
        """See `engine.Engine`."""
        held = self._held
        if held is None:
            raise Refused(Reason.NO_MODEL)
        tokens = 0
        parts = self._client.generate(held.name, prompt, context_tokens=held.context_tokens, max_tokens=max_tokens)
        try:
            async with aclosing(parts):
                while (part := await held.part(parts)) is not None:
                    count = max(0, (part.eval_count or 0) - tokens) if part.done else 1
                    tokens += count
                    yield Part(part.response or "", count)
        except Said as said:
            reason = reason_of_task(said)
            if reason in _LOST:
                self._lose(held, reason)
            raise Refused(Reason.ENGINE_CRASHED if reason is Reason.OUT_OF_MEMORY else reason, str(said)) from None

    # -- what others do ------------------------------------------------------------------------------------------------

    async def _keep_looking(self) -> None:
        while True:
            await self._look()
            is_shared = bool(self._others.models)
            await asyncio.sleep(min(self._poll_s, SHARED_POLL_S) if is_shared else self._poll_s)

    async def _look(self) -> None:
        """Ask Ollama what it runs, and say what is new."""
        held = self._held
        try:
            if not self.is_healthy:
                await self._client.check()
            running = await self._client.running()
            mine = [] if held is None else await running_of_file(self._client, running, held.entry.sha256)
            others = await self._others_of([model for model in running if not await self._is_ours(model)])
        except Refused as error:
            self._miss(held, error)
            return
        self._misses = 0
        self._tell(others)
        if not self.is_healthy:
            self.is_healthy = True
            _log.info("ollama answers")
            await self.on_back()
        if held is not None and mine:
            held.see(mine)
            await self._pin(held, mine[0])
        elif held is not None:
            self._lose(held, Reason.NO_MODEL)

    async def _pin(self, held: _Held, model: Model) -> None:
        """Others who use our model too may have given it an end: it is to stay, unless they have ended it already, or
        given it another context, which they would lose."""
        if is_for_ever(model) or is_over(model) or model.context_tokens not in (0, held.context_tokens):
            return
        async with self._one_at_a_time:
            if self._held is held:
                with suppress(Refused, Said):
                    if not held.loaded.is_ours:
                        held.loaded = lent(model, held.entry.sha256)
                        self._note.write(held.loaded)
                    await self._client.load(held.name, held.context_tokens)

    async def _is_ours(self, model: Model) -> bool:
        """Whether this node had a model loaded that runs, or does so now."""
        noted = self._note.read()
        if noted is None or not noted.is_ours or (self._held is None and not is_for_ever(model)):
            return False
        return noted.sha256 in await files_told(self._client, model)

    async def _others_of(self, models: list[Model]) -> OthersLoaded:
        told = []
        for model in models:
            files = sorted(await files_told(self._client, model))
            told.append(OtherModel(model.name, tuple(files), -(-model.size_bytes // MIB)))
        return OthersLoaded(tuple(told), is_full=len(told) >= self._places)

    def _tell(self, others: OthersLoaded) -> None:
        if others != self._others:
            self._others = others
            self.on_others(others)

    def _miss(self, held: _Held | None, error: Refused) -> None:
        if self.is_healthy or not self._misses:
            _log.warning("ollama unavailable", detail=str(error))
        self.is_healthy = False
        self._misses += 1
        is_down = isinstance(error, Unreachable) and error.is_down
        if is_down:
            self._note.clear()
            self._tell(OthersLoaded(()))
        if held is not None and (is_down or self._misses >= MISSES_MAX):
            self._lose(held, Reason.UNAVAILABLE)

    def _lose(self, held: _Held, reason: Reason) -> None:
        """The model is gone, unless it was given up meanwhile. What others took out is theirs to make room for."""
        if self._held is held:
            self._held = None
            if reason is Reason.NO_MODEL:
                self._served = None
                self._note.clear()
            held.end(reason)
            self._on_failed(reason)


class OllamaDriver(EngineDriver):
    """The driver of such an engine: the node hears too when the server is back."""

    def __init__(self, engine: OllamaEngine, tell_files: Callable[[], Awaitable[None]] = _nothing) -> None:
        """`tell_files` tells the node what the server keeps: when it is back, and when a file is not there any more."""
        super().__init__(engine)
        self._ollama = engine
        self._tell_files = tell_files

    def open(self, post: Post) -> None:
        """See `driver.Driver`."""

        async def back() -> None:
            await self._tell_files()
            post(EngineReturned())

        self._ollama.on_back = back
        self._ollama.on_others = post
        super().open(post)

    async def _load(self, effect: LoadModel) -> Completion:
        async with self._telling_of_files():
            return await super()._load(effect)

    async def _unload(self, effect: UnloadModel) -> Completion:
        if effect.successor is not None:
            async with self._telling_of_files():
                await self._ollama.check(effect.successor)
        return await super()._unload(effect)

    @asynccontextmanager
    async def _telling_of_files(self) -> AsyncIterator[None]:
        """Where a file is not there, the node hears of it before it hears of the failure."""
        try:
            yield
        except Refused as refused:
            if refused.reason is Reason.NOT_INSTALLED:
                await self._tell_files()
            raise


def _places() -> int:
    """How many models Ollama has in memory at most, as far as is known here."""
    told = os.environ.get("OLLAMA_MAX_LOADED_MODELS", "").strip()
    return int(told) if told.isdecimal() and int(told) else PLACES
