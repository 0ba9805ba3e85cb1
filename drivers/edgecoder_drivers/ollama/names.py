"""Which of Ollama's models is a file of the catalog.

A file is its SHA-256; a name may mean another build today than yesterday. So a model is ours if one of the entry's
names has it and it is made of the entry's file. Ollama may run a file under any name: what runs is told by the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from edgecoder.models.catalog import CatalogEntry, normalise
from edgecoder_drivers.ollama.client import Client, Model, Untold

_FROM_HERE: Final = re.compile(r"^(?:127\.0\.0\.1|localhost|\[::1\])(?::\d{1,5})?/(?:library/)?", re.IGNORECASE)


def names_for(entry: CatalogEntry) -> tuple[str, ...]:
    """What a file of the catalog may be called in Ollama, normalised: its aliases, then its id."""
    return tuple(dict.fromkeys(normalise(name) for name in (*entry.aliases, entry.model_id)))


def names_there(entry: CatalogEntry) -> tuple[str, ...]:
    """What a file may be called that Ollama has. One that was found there has its name of there as the one that is
    displayed."""
    return tuple(dict.fromkeys((*names_for(entry), called(entry.display_name))))


def name_to_pull(entry: CatalogEntry) -> str | None:
    """What a file is called in Ollama's registry: the first of its names that is a tag."""
    return next((name for name in (entry.model_id, *entry.aliases) if ":" in name), None)


def called(name: str) -> str:
    """What a name of Ollama's means to the catalog: what was pulled from a node of this machine has its name there."""
    return normalise(_FROM_HERE.sub("", name))


async def names_held(client: Client, entry: CatalogEntry) -> list[str]:
    """The entry's names under which Ollama has its file, best first."""
    names = names_there(entry)
    models = [(names.index(name), model) for model in await client.held() if (name := called(model.name)) in names]
    there = [model for _, model in sorted(models, key=lambda found: (found[0], len(found[1].name)))]
    return [model.name for model in await of_file(client, there, entry.sha256)]


async def names_taken(client: Client) -> set[str]:
    """Every name that means something to Ollama, normalised."""
    return {normalise(model.name) for model in await client.held()}


async def of_file(client: Client, models: Iterable[Model], sha256: str) -> list[Model]:
    """Those of some models that are made of a file."""
    return [model for model in models if sha256 in await client.files_of(model)]


async def running_of_file(client: Client, models: Iterable[Model], sha256: str) -> list[Model]:
    """The same of models that run; one of which Ollama does not tell now is another: of what this node runs it has
    told before."""
    return [model for model in models if sha256 in await files_told(client, model)]


async def files_told(client: Client, model: Model) -> frozenset[str]:
    """What a model is made of, as far as Ollama tells."""
    try:
        return await client.files_of(model)
    except Untold:
        return frozenset()
