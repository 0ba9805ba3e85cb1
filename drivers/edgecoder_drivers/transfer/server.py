"""The transfer server: a driver that gives others the pieces of this node, as its core says.

It listens on port 4303, if it does. What it sends goes in the background class of the network (RFC 8622), and no faster
than the node may.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping

from edgecoder.core.effects import CloseChannel, Effect, Operation, RefusePiece, ServePiece, TakeChannel
from edgecoder.errors import ConfigError
from edgecoder.models.catalog import CatalogEntry
from edgecoder_drivers.bare.pace import Pace
from edgecoder_drivers.bare.server import BareServer, listen
from edgecoder_drivers.driver import Numbers, Operate, Perform, Post
from edgecoder_drivers.transfer.channels import Channels
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
        host: str | None = "127.0.0.1",
        port: int = PORT,
        kbit_per_s: int = 0,
        limits: Limits | None = None,
        numbers: Numbers | None = None,
        channels: Channels | None = None,
    ) -> None:
        """`find` knows the catalog by SHA-256; without a host it does not listen, and serves those only whom this node
        dials; `kbit_per_s` 0 is no limit; `numbers` are the node's, `channels` what others offer it. Raises ConfigError
        where the port is taken, or the host none of this machine's."""
        numbers, bounds = numbers or Numbers(), limits or Limits()
        self._desk = Desk(numbers)
        self.channels = channels or Channels(numbers)
        house = self._house = House(self._desk, Pace(kbit_per_s), bounds, files, find, self.channels)
        listening = None if host is None else _listen(host, port)
        super().__init__(listening, lambda sock: Connection(sock, house), bounds, "edgecoder transfer")

    def open(self, post: Post) -> None:
        """See `driver.Driver`."""
        self._desk.open(post)
        self.channels.open(post)
        self.start()

    def operations(self) -> Mapping[type[Operation], Operate]:
        """See `driver.Driver`."""
        return {ServePiece: self._desk.serve}

    def effects(self) -> Mapping[type[Effect], Perform]:
        """See `driver.Driver`."""
        return {
            RefusePiece: self._desk.refuse,
            TakeChannel: self.channels.take,
            CloseChannel: self.channels.refuse,
        }

    async def close(self) -> None:
        """See `driver.Driver`."""
        await self.stop()
        self.channels.close()

    def serve(self, sock: socket.socket, address: str, received: bytes) -> None:
        """Whoever is at the other end of a connection that this node has opened asks from now on; `received` came
        already."""
        self.take(Connection(sock, self._house, received), address)


def _listen(host: str, port: int) -> socket.socket:
    try:
        return listen(host, port)
    except OSError as error:
        hint = "another agent may be running; stop it, or choose another port"
        raise ConfigError("transfer.port", None, f"{host}:{port}: {error.strerror}", hint) from None
