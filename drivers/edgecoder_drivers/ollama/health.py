"""What an Ollama must be for this node: there, and new enough. `edgecoder doctor` asks."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

from edgecoder.health import Check
from edgecoder_drivers.ollama.client import Client, Timeouts, Unreachable

SCOPE: Final = "ollama"


def checks() -> list[Check]:
    """The checks of this part."""
    return [asyncio.run(check_server()), check_models(os.environ.get("OLLAMA_MODELS"))]


async def check_server(host: str | None = None) -> Check:
    """Whether an Ollama answers that can be worked with."""
    try:
        client = Client(host, Timeouts(connect=2, answer=3))
    except ValueError as error:
        hint = "OLLAMA_HOST says where Ollama is, such as 127.0.0.1:11434"
        return Check(SCOPE, "server", ok=False, detail=str(error), hint=hint)
    try:
        version = await client.check()
    except Unreachable as error:
        hint = "install Ollama from https://ollama.com/download and start it; OLLAMA_HOST says where, if not here"
        return Check(SCOPE, "server", ok=False, detail=str(error), hint=hint)
    finally:
        await client.close()
    return Check(SCOPE, "server", ok=True, detail=f"Ollama {version}")


def check_models(told: str | None) -> Check:
    """Whether Ollama's files can be read, which exports need. `told` is where, None leaves it to Ollama to say."""
    if not told:
        return Check(SCOPE, "models", ok=True, detail="where Ollama says")
    ok = os.access(Path(told) / "blobs", os.R_OK | os.X_OK)
    hint = "" if ok else "set OLLAMA_MODELS to Ollama's folder, and be in the group that may read it"
    return Check(SCOPE, "models", ok, f"{told} {'can be read' if ok else 'cannot be read'}", hint)
