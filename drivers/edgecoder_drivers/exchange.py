"""The give and take of pieces of one node: its transfer server, and its sources among the peers, put together.

It listens before the node lives, since the node announces where it is found. A node without an exchange must not seed:
brokers would send others to it in vain (`unreachable`).
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping

import msgspec

from edgecoder.config import NodeConfig
from edgecoder.core.effects import Effect, Operation
from edgecoder.core.ids import NodeId
from edgecoder.errors import ConfigError
from edgecoder.models.catalog import Catalog
from edgecoder_drivers.driver import Numbers, Operate, Perform, Post
from edgecoder_drivers.parts import Parts
from edgecoder_drivers.transfer.channels import Channels
from edgecoder_drivers.transfer.dialling import Dialler
from edgecoder_drivers.transfer.peers import Peers
from edgecoder_drivers.transfer.server import TransferServer
from edgecoder_drivers.transfer.wire import PORT, endpoint_of


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a node gives pieces."""

    host: str = "127.0.0.1"
    """Address to listen at; `0.0.0.0` or `::` is every one of the machine's."""
    port: int | None = None
    """None: 4303, or a free one where another node of this machine has that; others are told which."""
    towards: str = ""
    """A host that the node talks to, such as its coordinator: of several addresses others are told the one that leads
    there."""


class Exchange:
    """See `driver.Driver`."""

    def __init__(
        self,
        place: Place,
        parts: Parts,
        config: NodeConfig,
        catalog: Catalog,
        node: NodeId,
        numbers: Numbers | None = None,
    ) -> None:
        """Raises ConfigError where nobody can listen at the place, or nobody could find it."""
        self.node = node
        numbers = numbers or Numbers()
        self._channels = Channels(numbers)
        self._peers = Peers(node, channels=self._channels)
        self._server: TransferServer | None = None
        self.config = unreachable(config)
        """The node's, with where it is found."""
        if config.seeding:
            self._server = self._serving(place, parts, config, catalog, numbers)
            self._dialler = Dialler(node, self._server)
            try:
                self.config = _told(config, place, self._server.port)
            except ConfigError:
                self._server.hang_up()
                raise
        parts.take_from(self._peers.source)

    @property
    def port(self) -> int:
        """Where it listens; 0: it gives nothing, and does not."""
        return 0 if self._server is None else self._server.port

    def open(self, post: Post) -> None:
        """See `driver.Driver`."""
        if self._server is not None:
            self._server.open(post)

    def operations(self) -> Mapping[type[Operation], Operate]:
        """See `driver.Driver`."""
        return {} if self._server is None else {**self._server.operations(), **self._dialler.operations()}

    def effects(self) -> Mapping[type[Effect], Perform]:
        """See `driver.Driver`."""
        return {} if self._server is None else self._server.effects()

    async def close(self) -> None:
        """See `driver.Driver`."""
        if self._server is not None:
            await self._server.close()
        await self._peers.close()

    def _serving(
        self, place: Place, parts: Parts, config: NodeConfig, catalog: Catalog, numbers: Numbers
    ) -> TransferServer:
        def serve(host: str | None, port: int) -> TransferServer:
            return TransferServer(
                catalog.file,
                parts.given,
                host=host,
                port=port,
                kbit_per_s=config.upload_kbit_per_s,
                numbers=numbers,
                channels=self._channels,
            )

        if not config.transfer_dialable:
            return serve(None, 0)
        if place.port is not None:
            return serve(place.host, place.port)
        try:
            return serve(place.host, PORT)
        except ConfigError:
            return serve(place.host, 0)


def unreachable(config: NodeConfig) -> NodeConfig:
    """The configuration of a node that nobody can fetch from."""
    return msgspec.structs.replace(config, seeding=False, transfer_endpoint="", transfer_dialable=False)


def _told(config: NodeConfig, place: Place, port: int) -> NodeConfig:
    """The configuration with where the node is found. Raises ConfigError."""
    if not config.transfer_dialable:
        return msgspec.structs.replace(config, transfer_endpoint="")
    endpoint = config.transfer_endpoint
    if not endpoint:
        host = _found_at(place)
        endpoint = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if endpoint_of(endpoint) is None:
        hint = "give HOST:PORT, or leave it out"
        raise ConfigError("node.transfer_endpoint", None, f"{endpoint!r} is no address of a node", hint)
    return msgspec.structs.replace(config, transfer_endpoint=endpoint)


def _found_at(place: Place) -> str:
    """The address that others are told. Raises ConfigError."""
    try:
        if not ipaddress.ip_address(place.host).is_unspecified:
            return place.host
    except ValueError:
        return place.host
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((place.towards or "192.0.2.1", PORT))  # nothing is sent: the system looks for the way
            return str(probe.getsockname()[0])
    except OSError as error:
        hint = "set node.transfer_endpoint to HOST:PORT, or listen at one address"
        raise ConfigError("node.transfer_endpoint", None, f"no address leads out: {error.strerror}", hint) from None
