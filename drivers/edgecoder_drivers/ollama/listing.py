"""What an Ollama keeps, as the core is told of it: each file once, under one name, with what Ollama knows of it.

Others pull and delete models there too, so it is asked again and again. What follows is the core's to decide.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edgecoder.core.events import FilesHeld, HeldFile
from edgecoder.models.catalog import Catalog
from edgecoder_drivers.driver import Post, Refused
from edgecoder_drivers.ollama.client import Client, Model, Shown, Untold
from edgecoder_drivers.ollama.names import called, names_there


class Listing:
    """The list, told to the core whenever it differs."""

    def __init__(
        self, client: Client, catalog: Catalog, stored: Callable[[], tuple[str, ...]], *, poll_s: float
    ) -> None:
        """`stored` says which files the node's own store has, by SHA-256. Ollama is asked every `poll_s` seconds."""
        self._client = client
        self._catalog = catalog
        self._stored = stored
        self._poll_s = poll_s
        self._post: Post = lambda event: None
        self._told: FilesHeld | None = None
        self._changes = self._changing = 0
        self._one_at_a_time = asyncio.Lock()
        self._poll: asyncio.Task[None] | None = None

    def open(self, post: Post) -> None:
        """Begin to ask."""
        self._post = post
        self._poll = asyncio.get_running_loop().create_task(self._keep_asking(), name="ollama tags")

    async def close(self) -> None:
        """Ask no more."""
        if self._poll is not None:
            self._poll.cancel()
            await asyncio.wait({self._poll})

    def changes(self) -> None:
        """This node is about to change files, or has: a list that was asked for before says nothing of now."""
        self._changes += 1
        self._told = None

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Meanwhile a list says nothing of what will be."""
        self._changing += 1
        self.changes()
        try:
            yield
        finally:
            self._changing -= 1
            self.changes()

    async def files(self) -> tuple[HeldFile, ...]:
        """What Ollama has and the store does not. Raises Unreachable."""
        files, stored = await files_held(self._client, self._catalog), self._stored()
        return tuple(file for file in files if file.sha256 not in stored)

    async def tell(self) -> None:
        """Ask now; an Ollama that does not answer is left for the next time."""
        async with self._one_at_a_time:
            changes = self._changes
            try:
                event = FilesHeld(await self.files(), self._stored())
            except Refused:
                return
            if changes == self._changes and not self._changing and event != self._told:
                self._told = event
                self._post(event)

    async def _keep_asking(self) -> None:
        while True:
            await self.tell()
            await asyncio.sleep(self._poll_s)


async def files_held(client: Client, catalog: Catalog) -> tuple[HeldFile, ...]:
    """The files that answer prompts by themselves. One of the catalog, or what Ollama made of it, counts under the
    entry's names alone; of any other, the shortest name stands for all that are made of it. A model of which Ollama
    does not tell is left out. Raises Unreachable."""
    best: dict[str, HeldFile] = {}
    ours = catalog.by_digest.keys() - {entry.sha256 for entry in catalog.local}
    for model in sorted(await client.held(), key=lambda model: (len(model.name), model.name)):
        try:
            shown, files = await client.shown(model), await client.files_of(model)
        except Untold:
            continue
        known = files & ours
        for sha256 in (known or shown.files) if shown.is_for_prompts else ():
            entry = catalog.by_digest.get(sha256)
            if sha256 not in best and (entry is None or called(model.name) in names_there(entry)):
                best[sha256] = _held_file(model, sha256, shown)
    return tuple(best[sha256] for sha256 in sorted(best))


def _held_file(model: Model, sha256: str, shown: Shown) -> HeldFile:
    return HeldFile(
        name=model.name,
        sha256=sha256,
        size_bytes=model.size_bytes,
        parameter_size=shown.parameter_size,
        quantization=shown.quantization,
        architecture=shown.architecture,
        context_length=shown.context_length,
        kv_bytes_per_token=shown.kv_bytes_per_token,
    )
