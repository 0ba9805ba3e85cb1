"""Listening for a while, for somebody who wants to see what is there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from edgecoder.core.ids import NodeId
from edgecoder.protocol import ENDPOINTS_MAX
from edgecoder_drivers.lan.browse import HEARD_MAX, browse
from edgecoder_drivers.lan.records import Announced

FIND_S: Final = 3.0
"""Multicast DNS asks three times within this."""


async def find(network_id: str, chosen: Sequence[str] = (), seconds: float = FIND_S) -> list[Announced]:
    """The coordinators of a network that are announced, by id, each with all addresses that are said."""
    found: dict[NodeId, Announced] = {}

    def seen(announced: Announced) -> None:
        node = announced.node
        if announced.network_id != network_id or (node not in found and len(found) >= HEARD_MAX):
            return
        known = found[node].endpoints if node in found else ()
        whole = tuple(dict.fromkeys((*known, *announced.endpoints)))[:ENDPOINTS_MAX]
        found[node] = Announced(node, network_id, whole)

    listening = asyncio.create_task(browse(chosen, seen), name="edgecoder finds")
    await asyncio.wait({listening}, timeout=seconds)
    listening.cancel()
    await asyncio.wait({listening})
    return [found[node] for node in sorted(found)]
