"""Run a stand-in for Ollama on loopback: `python -m edgecoder_drivers.demo.ollama_stand_in MODELS`."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from pathlib import Path

import uvicorn

from edgecoder_drivers.demo.ollama_stand_in.app import StandIn
from edgecoder_drivers.demo.ollama_stand_in.conduct import Conduct


async def serve(models: Path) -> None:
    """Serve the models of a folder on a free port, which is told in a line of JSON."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    app = StandIn(models, Conduct()).app()
    sys.stderr.write(json.dumps({"event": "up", "port": listener.getsockname()[1], "pid": os.getpid()}) + "\n")
    sys.stderr.flush()
    config = uvicorn.Config(app, http="h11", ws="none", lifespan="off", log_level="warning")
    await uvicorn.Server(config).serve([listener])


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
