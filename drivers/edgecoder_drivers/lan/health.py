"""Whether the coordinators that have no address in the configuration announce themselves. `edgecoder doctor` asks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Final

from edgecoder.core.ids import NodeId
from edgecoder.errors import ConfigError
from edgecoder.health import Check
from edgecoder.settings import default_file, load_settings
from edgecoder_drivers.lan.find import FIND_S, find
from edgecoder_drivers.lan.networks import speaking_at

SCOPE: Final = "agent"


def checks() -> list[Check]:
    """The checks of this part: one for each coordinator that an agent would look for."""
    try:
        settings = load_settings(file=default_file(os.environ), environ=os.environ)
    except ConfigError:
        return []  # the links' checks say so
    wanted = [address.partition("@")[0] for address in settings.node.coordinators if "@" not in address]
    nodes = [bytes.fromhex(node) for node in dict.fromkeys(wanted)]
    return asyncio.run(check_seen(nodes, settings.cluster.network_id)) if nodes else []


async def check_seen(nodes: Sequence[NodeId], network_id: str, chosen: Sequence[str] = ()) -> list[Check]:
    """Whether somebody on this machine's networks says that these are there."""
    if not speaking_at(chosen):
        return [Check(SCOPE, "discovery", ok=False, detail="this machine is on no network", hint="connect it to one")]
    found = {each.node: each.endpoints for each in await find(network_id, chosen, FIND_S)}
    hint = "see that it runs off loopback, on this network (`edgecoder coordinator find`), or give ID@HOST:PORT"
    return [
        Check(SCOPE, f"coordinator {node.hex()[:8]}", ok=True, detail=f"announced at {', '.join(found[node])}")
        if node in found
        else Check(SCOPE, f"coordinator {node.hex()[:8]}", ok=False, detail="not seen on this network", hint=hint)
        for node in nodes
    ]
