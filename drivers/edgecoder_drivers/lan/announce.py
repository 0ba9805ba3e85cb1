"""A coordinator says on its networks that it is there, and good-bye at its end."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Sequence

import structlog
from zeroconf.asyncio import AsyncZeroconf

from edgecoder.core.ids import NodeId
from edgecoder_drivers.lan.networks import Interface
from edgecoder_drivers.lan.presence import keep_present
from edgecoder_drivers.lan.records import made

_log = structlog.get_logger("edgecoder.lan")


@contextlib.asynccontextmanager
async def announced(node: NodeId, network_id: str, host: str, port: int) -> AsyncIterator[None]:
    """A coordinator that listens at `host` is announced as long as the block runs, at the networks that it is bound
    to. On loopback that is this machine alone."""
    mark = secrets.token_hex(4)

    @contextlib.asynccontextmanager
    async def presence(zeroconf: AsyncZeroconf, at: Sequence[Interface]) -> AsyncIterator[None]:
        records = made(node, network_id, port, mark, at)
        await (await zeroconf.async_register_service(records, cooperating_responders=True))
        _log.info("announced", at=[str(each.ip) for each in at], port=port)
        yield

    task = asyncio.create_task(keep_present((host,), presence), name="edgecoder announces")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
