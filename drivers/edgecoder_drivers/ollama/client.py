"""Ollama's HTTP API through the official client: every request with a time limit, and whatever goes wrong as one of two
exceptions.

`Unreachable` says that nothing sensible came back, `Said` what Ollama answered in place of what was asked. What to make
of either is left to the engine and the files.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import msgspec
from ollama import GenerateResponse, ProgressResponse, ResponseError, ShowResponse

from edgecoder.errors import Reason
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.ollama.address import address
from edgecoder_drivers.ollama.copies import Copies
from edgecoder_drivers.ollama.wire import Requests, Row

VERSION_FLOOR: Final = (0, 17, 1)
"""The oldest Ollama that this was made for."""
SOURCE_VERSION: Final = (0, 0, 0)
"""What one calls itself that somebody has built: it is believed to be new enough."""
FOR_EVER: Final = -1
"""The `keep_alive` of a model that stays until it is told to go."""
WORDS_MAX: Final = 500
"""What is kept of an error."""
_BLOB: Final = re.compile(r"(.*sha256-([0-9a-f]{64}))\s*")
_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
_CACHE_BYTES: Final = 2
"""Of a number in the cache of keys and values: 16 bits, as Ollama has it unless it is told otherwise."""
_NUMBER_MAX: Final = 1 << 31
MODELS_MAX: Final = 2_000
"""In a list; each one has to be asked about."""
_SHOWN_MAX: Final = 10_000
_NONSENSE: Final = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)
"""What the client raises at an answer that is no JSON, or not of the right shape."""


class Timeouts(msgspec.Struct, frozen=True):
    """How long Ollama may take, in seconds."""

    connect: float = 3.0
    answer: float = 10.0
    """For what it knows without work."""
    load: float = 600.0
    """The core gives up sooner; this is for who has lost interest."""
    first_part: float = 120.0
    """Until the first part of an answer: a long prompt takes a slow machine that long to read."""
    next_part: float = 60.0
    silence: float = 300.0
    """Without a line of a pull or an import: a large file is hashed meanwhile."""
    unload: float = 30.0


class Unreachable(Refused):
    """Ollama cannot be asked. `is_down`: nobody listens there, so it runs nothing either."""

    def __init__(self, detail: str, *, is_down: bool = False) -> None:
        super().__init__(Reason.UNAVAILABLE, detail)
        self.is_down = is_down


class Untold(Unreachable):
    """Ollama does not tell of one model, whatever else it does."""


class Said(Exception):
    """What Ollama answered in place of what was asked."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words[:WORDS_MAX])
        self.status = status
        """Of HTTP; -1 where it came within a stream."""


class Model(NamedTuple):
    """A model that Ollama holds, or runs."""

    name: str
    manifest: str
    """Digest of its manifest, hexadecimal."""
    size_bytes: int
    """On disk, or in memory where it runs."""
    is_remote: bool = False
    """Whether it runs elsewhere, and is only called from here."""
    context_tokens: int = 0
    """With which it runs; 0 is unknown."""
    expires_s: float | None = None
    """When it is to be freed, where it runs, in seconds since 1970."""

    @classmethod
    def of(cls, row: Row) -> Model:
        """As Ollama lists it."""
        return cls(
            row.model or "",
            row.digest or "",
            max(0, row.size or 0),
            is_remote=bool(row.remote_host or row.remote_model),
            context_tokens=max(0, row.context_length or 0),
            expires_s=None if row.expires_at is None else row.expires_at.timestamp(),
        )


class Shown(NamedTuple):
    """What Ollama tells of a model. Unknown is empty, or 0."""

    files: frozenset[str] = frozenset()
    """SHA-256 of the one model file that it is; none where it is more than a file: with an adapter, or a projector."""
    is_for_prompts: bool = False
    """Whether it answers prompts: not one that makes embeddings."""
    parameter_size: str = ""
    quantization: str = ""
    architecture: str = ""
    context_length: int = 0
    """Tokens."""
    kv_bytes_per_token: int = 0


class Client:
    """One Ollama server."""

    def __init__(self, host: str | None = None, timeouts: Timeouts | None = None, copies: Copies | None = None) -> None:
        """`host` as Ollama writes it, such as `127.0.0.1:11434`; None: what OLLAMA_HOST says, else that one. `copies`
        are those that it has made before. Raises ValueError where `host` is no address."""
        self.timeouts = timeouts or Timeouts()
        self.copies = copies or Copies()
        limit = httpx.Timeout(self.timeouts.silence, connect=self.timeouts.connect)
        self._requests = Requests(address(host), limit)
        self._shown: dict[str, Shown] = {}
        """By the digest of a manifest: what that means never changes."""

    async def close(self) -> None:
        """Let go of the connections."""
        await self._requests.close()  # type: ignore[no-untyped-call]

    # -- what there is -------------------------------------------------------------------------------------------------

    async def check(self) -> str:
        """Its version. Raises Unreachable, also where that is too old."""
        with _of_ollama(), _told():
            async with asyncio.timeout(self.timeouts.answer):
                version = await self._requests.version()
            numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
        if numbers < VERSION_FLOOR and numbers != SOURCE_VERSION:
            floor = ".".join(map(str, VERSION_FLOOR))
            raise Unreachable(
                f"Ollama {version[:WORDS_MAX]} is too old: install {floor} or later from https://ollama.com/download"
            )
        return version

    async def held(self) -> list[Model]:
        """The models on its disk. Raises Unreachable."""
        return await self._models("/api/tags")

    async def running(self) -> list[Model]:
        """The models in its memory, whoever loaded them. One that was replaced meanwhile has no manifest here: what its
        name means now is not what runs. Raises Unreachable."""
        running = await self._models("/api/ps")
        if all(model.manifest in self._shown for model in running):
            return running
        held = {(model.name, model.manifest) for model in await self.held()}
        is_sure = [model.manifest in self._shown or (model.name, model.manifest) in held for model in running]
        return [model if sure else model._replace(manifest="") for model, sure in zip(running, is_sure, strict=True)]

    async def _models(self, path: str) -> list[Model]:
        with _of_ollama(), _told():
            async with asyncio.timeout(self.timeouts.answer):
                rows = await self._requests.rows(path)
            if len(rows) > MODELS_MAX:
                raise ValueError(f"it has {len(rows)} models")
            return [Model.of(row) for row in rows]

    async def files_of(self, model: Model) -> frozenset[str]:
        """SHA-256 of the files that a model is made of, also of those that Ollama has made those of; none where it is
        more than a file. Raises Unreachable."""
        files = (await self.shown(model)).files
        return files.union(*(self.copies.originals(sha256) for sha256 in files))

    async def shown(self, model: Model) -> Shown:
        """What Ollama tells of a model. Raises Unreachable: Untold where it is for this one only."""
        if model.is_remote or not model.manifest:
            return Shown()
        if model.manifest not in self._shown:
            try:
                with _told():
                    shown = _read(await self._show(model.name))
            except Said as said:
                if said.status == httpx.codes.NOT_FOUND:
                    return Shown()  # it is gone
                raise Untold(f"Ollama does not tell of {model.name}: {said}") from None
            if len(self._shown) >= _SHOWN_MAX:
                self._shown.clear()
            self._shown[model.manifest] = shown
        return self._shown[model.manifest]

    async def path_of(self, name: str, sha256: str) -> Path | None:
        """Where Ollama says that it keeps a file of a model."""
        try:
            blob = blob_of((await self._show(name)).modelfile or "")
        except Said:
            return None
        return Path(blob[0]) if blob is not None and blob[1] == sha256 else None

    async def _show(self, name: str) -> ShowResponse:
        with _told():
            async with asyncio.timeout(self.timeouts.answer):
                return await self._requests.show(name)

    # -- running -------------------------------------------------------------------------------------------------------

    async def load(self, name: str, context_tokens: int, keep_alive: int | str = FOR_EVER) -> None:
        """Have a model loaded, or kept where it is."""
        await self._empty(name, keep_alive, {"num_ctx": context_tokens})

    async def free(self, name: str) -> None:
        """Have a model freed as soon as nobody uses it."""
        await self._empty(name, 0, {})

    async def _empty(self, name: str, keep_alive: int | str, options: dict[str, int]) -> None:
        with _told():
            async with asyncio.timeout(self.timeouts.load):
                answer = await self._requests.generate(name, keep_alive=keep_alive, options=options or None)
            if not answer.done:
                raise ValueError("an empty prompt was not answered at once")

    async def generate(
        self, name: str, prompt: str, *, context_tokens: int, max_tokens: int
    ) -> AsyncGenerator[GenerateResponse, None]:
        """Answer a prompt, part by part; the last part is `done`. The context must be the one of the load: another one
        makes Ollama load the model again."""
        options = {"num_ctx": context_tokens, "num_predict": max_tokens}
        with _told():
            # no thinking: it would use up the tokens before there is an answer
            parts = await self._requests.generate(
                name, prompt, stream=True, think=False, keep_alive=FOR_EVER, options=options
            )
            async with aclosing(_within(parts, self.timeouts.first_part, self.timeouts.next_part)) as timely:
                async for part in timely:
                    yield part
                    if part.done:
                        return
            raise ValueError("the answer broke off")

    # -- the disk ------------------------------------------------------------------------------------------------------

    async def pull(self, name: str) -> AsyncGenerator[ProgressResponse, None]:
        """Have a model fetched from Ollama's registry, on from what there is of it."""
        with _told():
            lines = await self._requests.pull(name, stream=True)
            async with aclosing(_within(lines, self.timeouts.silence, self.timeouts.silence)) as timely:
                async for line in timely:
                    yield line
                    if line.status == "success":
                        return
            raise ValueError("the pull broke off")

    async def delete(self, name: str) -> None:
        """Delete a model; one that is not there is no error."""
        with _told():
            try:
                async with asyncio.timeout(self.timeouts.answer):
                    await self._requests.delete(name)
            except ResponseError as error:
                if error.status_code != httpx.codes.NOT_FOUND:
                    raise

    async def create(self, name: str, sha256: str, path: Path) -> frozenset[str]:
        """Make a model of a GGUF file, which is sent where Ollama does not have it. SHA-256 of what Ollama says that
        it is made of."""
        made_of: set[str] = set()
        with _told():
            async with asyncio.timeout(self.timeouts.answer):
                is_there = await self._requests.has_blob(sha256)
            if not is_there:
                await self._requests.send_blob(sha256, path)
            files = {f"{sha256}.gguf": f"sha256:{sha256}"}
            lines = await self._requests.create(name, files=files, stream=True)
            async with aclosing(_within(lines, self.timeouts.silence, self.timeouts.silence)) as timely:
                async for line in timely:
                    if line.status == "success":
                        return frozenset(made_of)
                    made_of.update(_DIGEST.findall(line.status or ""))
            raise ValueError("the import broke off")


def blob_of(modelfile: str) -> tuple[str, str] | None:
    """Path and SHA-256 of the one file that a model is; None where it is made of more, or of something else. What it is
    made of stands before all else that a modelfile says, which may be anybody's words over many lines."""
    made_of: list[str] = []
    for line in modelfile.splitlines():
        command, _, rest = line.partition(" ")
        if line.startswith("#") or not line.strip():
            continue
        if command not in ("FROM", "ADAPTER", "DRAFT"):
            break
        made_of.append(rest if command == "FROM" else "")
    blob = _BLOB.fullmatch(made_of[0]) if len(made_of) == 1 else None
    return None if blob is None else (blob[1], blob[2])


def _read(answer: ShowResponse) -> Shown:
    """What is of use in an answer of `/api/show`."""
    told, details = answer.modelinfo or {}, answer.details
    architecture = str(told.get("general.architecture") or "")

    def number(key: str) -> int:
        value = told.get(f"{architecture}.{key}")
        return value if isinstance(value, int) and 0 < value < _NUMBER_MAX else 0

    heads = number("attention.head_count")
    width = number("embedding_length") // heads if heads else 0
    widths = (number("attention.key_length") or width) + (number("attention.value_length") or width)
    can = answer.capabilities
    blob = blob_of(answer.modelfile or "")
    return Shown(
        files=frozenset() if blob is None else frozenset({blob[1]}),
        is_for_prompts=can is None or "completion" in can,
        parameter_size=(details and details.parameter_size) or "",
        quantization=(details and details.quantization_level) or "",
        architecture=architecture,
        context_length=number("context_length"),
        kv_bytes_per_token=number("block_count") * number("attention.head_count_kv") * widths * _CACHE_BYTES,
    )


@contextmanager
def _told() -> Iterator[None]:
    """What the client raises, as what this module says."""
    try:
        yield
    except ResponseError as error:
        raise Said(error.status_code, str(error.error)) from None
    except (ConnectionError, httpx.ConnectError) as error:
        raise Unreachable(f"no Ollama listens there: {error}", is_down=True) from None
    except (TimeoutError, httpx.TimeoutException):
        raise Unreachable("Ollama did not answer in time") from None
    except httpx.HTTPError as error:
        raise Unreachable(f"the connection to Ollama broke: {error}") from None
    except _NONSENSE as error:
        raise Unreachable(f"Ollama's answer makes no sense: {error}") from None


@contextmanager
def _of_ollama() -> Iterator[None]:
    """Whatever says no to what every Ollama answers is none."""
    try:
        yield
    except Said as said:
        raise Unreachable(f"what listens there says {said.status} in place of what an Ollama would: {said}") from None


async def _within(parts: AsyncIterator[Any], first_s: float, next_s: float) -> AsyncGenerator[Any, None]:
    """Parts of a stream, each of which comes in its time. Ends the stream when it is closed."""
    limit_s = first_s
    try:
        while True:
            try:
                async with asyncio.timeout(limit_s):
                    part = await anext(parts)
            except StopAsyncIteration:
                return
            yield part
            limit_s = next_s
    finally:
        await parts.aclose()  # type: ignore[attr-defined]
