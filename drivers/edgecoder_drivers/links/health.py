"""Whether the coordinators of the configuration are there, and are who they should be. `edgecoder doctor` asks.

It goes as far as their proof and not further: nobody is enrolled by being looked at.
"""

from __future__ import annotations

import asyncio
import os
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from websockets.exceptions import ConnectionClosed

from edgecoder.core.ids import Role
from edgecoder.errors import REASONS, ConfigError
from edgecoder.health import Check
from edgecoder.settings import default_file, load_settings
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.identity import Identity
from edgecoder_drivers.links.address import split
from edgecoder_drivers.links.dial import as_refused, challenged, close, reach
from edgecoder_drivers.links.handshake import Self, Unwelcome

SCOPE: Final = "agent"
LOOK_S: Final = 5.0


def checks() -> list[Check]:
    """The checks of this part: one for each coordinator of the configuration that has an address."""
    try:
        settings = load_settings(file=default_file(os.environ), environ=os.environ)
    except ConfigError as error:
        return [Check(SCOPE, "configuration", ok=False, detail=str(error), hint=error.hint)]
    network = settings.cluster.network_id
    placed = [address for address in settings.node.coordinators if "@" in address]
    return [asyncio.run(check_coordinator(address, network)) for address in placed]


async def check_coordinator(address: str, network: str) -> Check:
    """Whether a coordinator answers and has the key that the configuration names."""
    node, _, endpoint = address.partition("@")
    name = f"coordinator {node[:8]}@{endpoint}"
    try:
        await _look(bytes.fromhex(node), endpoint, network)
    except Refused as refused:
        info = REASONS[refused.reason]
        return Check(SCOPE, name, ok=False, detail=str(refused), hint=f"{info.message}; {_hint(refused)}")
    return Check(SCOPE, name, ok=True, detail="answers, and has this key")


async def _look(node: bytes, endpoint: str, network: str) -> None:
    host, port = split(endpoint)
    stranger = Self(Identity(Ed25519PrivateKey.generate()), Role.AGENT, network)
    try:
        async with asyncio.timeout(LOOK_S):
            connection = await reach(host, port)
            try:
                await challenged(connection, stranger, node)
            finally:
                await close(connection)
    except (Unwelcome, TimeoutError, ConnectionClosed) as error:
        raise as_refused(error, endpoint) from None


def _hint(refused: Refused) -> str:
    return f"see that it runs, and that node.coordinators says who and where it is ({refused.reason.value})"
