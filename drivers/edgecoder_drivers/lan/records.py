"""What an announcement says, as DNS records: who (TXT `id`), of which network (`net`), and where (SRV, A, AAAA).

All of it is a stranger's word. What is no node id, no port or no address of a network that this machine is on is
refused here; whether the node is there, only a handshake shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from zeroconf.asyncio import AsyncServiceInfo

from edgecoder.core.ids import NodeId
from edgecoder.protocol import ENDPOINTS_MAX, NODE_ID_BYTES
from edgecoder_drivers.lan.networks import Interface, is_near

SERVICE: Final = "_edgecoder._tcp.local."
_VERSION: Final = "1"


class Announced(NamedTuple):
    """A coordinator, as somebody says."""

    node: NodeId
    network_id: str
    endpoints: tuple[str, ...]
    """HOST:PORT each."""


def made(node: NodeId, network_id: str, port: int, mark: str, at: Sequence[Interface]) -> AsyncServiceInfo:
    """The records of a coordinator. `mark` tells apart two that have one name, which only a copied key makes."""
    name = f"{node.hex()[:16]}-{mark}"
    return AsyncServiceInfo(
        SERVICE,
        f"{name}.{SERVICE}",
        port=port,
        addresses=[each.ip.packed for each in at],
        properties={"v": _VERSION, "id": node.hex(), "net": network_id},
        server=f"{name}.local.",
    )


def read(info: AsyncServiceInfo, at: Sequence[Interface]) -> Announced | None:
    """What records say, or None where that is nothing."""
    said = info.properties
    try:
        node, network_id = bytes.fromhex((said.get(b"id") or b"").decode("ascii")), (said.get(b"net") or b"").decode()
    except (UnicodeDecodeError, ValueError):
        return None
    port = info.port or 0
    if len(node) != NODE_ID_BYTES or not 0 < len(network_id) <= 32 or not 0 < port < 65_536:
        return None
    hosts = [host for host in info.parsed_addresses() if is_near(host, at)][:ENDPOINTS_MAX]
    endpoints = tuple(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host in hosts)
    return Announced(node, network_id, endpoints) if endpoints else None
