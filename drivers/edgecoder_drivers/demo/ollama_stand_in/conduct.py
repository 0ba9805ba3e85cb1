"""How a stand-in behaves: the version that it gives itself out for, and where tests may have it go wrong."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any


class Conduct:
    """One that does what Ollama does."""

    version: str = "0.17.1"
    """From 0.30 on a model that is made of a GGUF is made of a copy with other bytes."""

    def rows(self) -> list[dict[str, Any]]:
        """What `/api/tags` says beside what is on the disk."""
        return []

    async def before_load(self) -> None:
        """A model is about to be loaded, or used."""

    async def before_first_line(self) -> None:
        """A stream is about to begin."""

    async def lines(self, parts: AsyncIterator[dict[str, Any]]) -> AsyncIterator[bytes]:
        """The lines of a stream."""
        try:
            async for part in parts:
                yield json.dumps(part).encode() + b"\n"
        finally:
            await parts.aclose()  # type: ignore[attr-defined]
