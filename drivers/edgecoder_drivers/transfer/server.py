"""The transfer server: a driver that gives others the pieces of this node, as its core says.

It listens on port 4303. What it sends goes in the background class of the network (RFC 8622), and no faster than the
node may.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping

from edgecoder.core.effects import Effect, Operation, RefusePiece, ServePiece
from edgecoder.errors import ConfigError
from edgecoder.models.catalog import CatalogEntry
from edgecoder_drivers.bare.pace import Pace
from edgecoder_drivers.bare.server import BareServer, listen
from edgecoder_drivers.driver import Operate, Perform, Post
from edgecoder_drivers.transfer.connection import Connection, Files, House, Limits
from edgecoder_drivers.transfer.desk import Desk
from edgecoder_drivers.transfer.wire import PORT


class TransferServer(BareServer):
    """See `driver.Driver`. It listens as soon as it is made, and answers while a life is."""

    def __init__(
        self,
        find: Callable[[str], CatalogEntry | None],
        files: Files,
        *,
        host: str = "127.0.0.1",
        port: int = PORT,
        kbit_per_s: int = 0,
        limits: Limits | None = None,
    ) -> None:
        """`find` knows the catalog by SHA-256; `kbit_per_s` 0 is no limit. Raises ConfigError where the port is taken,
        or the host none of this machine's."""
        self._desk, bounds = Desk(), limits or Limits()
        house = House(self._desk, Pace(kbit_per_s), bounds, files, find)
        super().__init__(_listen(host, port), lambda sock: Connection(sock, house), bounds, "edgecoder transfer")

    def open(self, post: Post) -> None:
        """See `driver.Driver`."""
        self._desk.open(post)
        self.start()

    def operations(self) -> Mapping[type[Operation], Operate]:
        """See `driver.Driver`."""
        return {ServePiece: self._desk.serve}

    def effects(self) -> Mapping[type[Effect], Perform]:
        """See `driver.Driver`."""
        return {RefusePiece: self._desk.refuse}

    async def close(self) -> None:
        """See `driver.Driver`."""
        await self.stop()


def _listen(host: str, port: int) -> socket.socket:
    try:
        return listen(host, port)
    except OSError as error:
        hint = "another agent may be running; stop it, or choose another port"
        raise ConfigError("transfer.port", None, f"{host}:{port}: {error.strerror}", hint) from None
