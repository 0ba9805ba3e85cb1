"""What an agent or device needs of this machine: a folder, its key, a catalog and a port. `edgecoder doctor` asks.

Looks where `edgecoder agent` and `edgecoder device` look without options, and changes nothing.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Final

import platformdirs

from edgecoder.errors import ConfigError
from edgecoder.health import Check, check_room, check_writable
from edgecoder_drivers.catalogs import load_catalog
from edgecoder_drivers.commands.control import URL, AgentSilent, Control, Refusal
from edgecoder_drivers.http.contract import Health
from edgecoder_drivers.http.server import PORT
from edgecoder_drivers.identity import load_identity

SCOPE: Final = "agent"
FREE_BYTES_MIN: Final = 500_000_000
"""A model of half a billion parameters at 4 bits."""
ANSWER_S: Final = 1.0


def checks() -> list[Check]:
    """The checks of this part."""
    folder = platformdirs.user_data_path("edgecoder", appauthor=False)
    return [check_folder(folder), check_free(folder), check_key(folder / "node.key"), check_catalog(), check_port()]


def check_folder(folder: Path) -> Check:
    """Whether a node can keep its things there."""
    return check_writable(SCOPE, "data", folder, "choose another folder with --data")


def check_free(folder: Path) -> Check:
    """Whether a small model fits."""
    hint = "free some space, or choose another disk with --data"
    return check_room(SCOPE, folder, FREE_BYTES_MIN, "a small model", hint)


def check_key(path: Path) -> Check:
    """Whether the node's key is one, and nobody else's to read."""
    try:
        if not path.exists():
            return Check(SCOPE, "key", ok=True, detail="none yet; the first start makes one")
        return Check(SCOPE, "key", ok=True, detail=f"node {load_identity(path).node_id.hex()[:8]}")
    except ConfigError as error:
        return Check(SCOPE, "key", ok=False, detail=f"{path}: {error.problem}", hint=error.hint)
    except OSError as error:
        return Check(SCOPE, "key", ok=False, detail=f"{path}: {error.strerror}", hint="restore it, or the right to it")


def check_catalog() -> Check:
    """Whether the packaged catalog is there."""
    try:
        names = dict.fromkeys(entry.model_id for entry in load_catalog(None, None).entries)
    except ConfigError as error:
        return Check(SCOPE, "catalog", ok=False, detail=str(error), hint="pip install --force-reinstall edgecoder")
    return Check(SCOPE, "catalog", ok=True, detail=f"{len(names)} packaged models")


def check_port(url: str = URL, port: int = PORT) -> Check:
    """Whether the control port is free, or an agent's already."""
    try:
        with Control(url, None, answer_s=ANSWER_S) as control:
            health = control.get("/healthz", Health)
    except Refusal:
        return Check(SCOPE, "port", ok=True, detail=f"{port}: an agent or device that wants a token")
    except AgentSilent:
        with socket.socket() as asked:
            asked.settimeout(ANSWER_S)
            is_free = asked.connect_ex(("127.0.0.1", port)) != 0
        if is_free:
            return Check(SCOPE, "port", ok=True, detail=f"{port} is free")
        hint = "end what listens there, or choose another port with --port"
        return Check(SCOPE, "port", ok=False, detail=f"{port} is another program's", hint=hint)
    engine = f"{health.engine}{'' if health.engine_healthy else ', which does not answer'}"
    return Check(SCOPE, "port", ok=True, detail=f"{port}: EdgeCoder {health.version} with {engine}")
