"""Where a node that gives pieces says that it is found."""

from __future__ import annotations

import asyncio
import re
import socket
from types import SimpleNamespace
from typing import cast

import pytest

from edgecoder.config import NodeConfig
from edgecoder.errors import ConfigError
from edgecoder.models.catalog import Catalog
from edgecoder_drivers import exchange
from edgecoder_drivers.exchange import Exchange, Place, unreachable
from edgecoder_drivers.parts import Parts

PARTS = cast("Parts", SimpleNamespace(given=None, take_from=lambda peers: None))


def endpoint(place: Place, config: NodeConfig | None = None) -> tuple[str, int]:
    """What others are told, and the port that it listens on."""

    async def live() -> tuple[str, int]:
        made = Exchange(place, PARTS, config or NodeConfig(), Catalog(()), bytes(32))
        await made.close()
        return made.config.transfer_endpoint, made.port

    return asyncio.run(live())


def test_others_are_told_the_address_that_it_listens_at() -> None:
    told, port = endpoint(Place(port=0))
    assert told == f"127.0.0.1:{port}"


def test_of_all_addresses_the_one_is_told_that_leads_to_the_coordinator() -> None:
    told, port = endpoint(Place(host="0.0.0.0", port=0, towards="127.0.0.1"))
    assert told == f"127.0.0.1:{port}"


def test_what_the_configuration_says_is_told_as_it_is() -> None:
    told, _ = endpoint(Place(port=0), NodeConfig(transfer_endpoint="pi.example:4303"))
    assert told == "pi.example:4303"


def test_an_endpoint_that_is_none_is_told_and_leaves_the_port_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for _ in range(2):
        with pytest.raises(ConfigError, match=re.escape("node.transfer_endpoint: 'pi' is no address of a node")):
            endpoint(Place(port=port), NodeConfig(transfer_endpoint="pi"))


def test_a_node_without_an_exchange_gives_nothing() -> None:
    config = unreachable(NodeConfig(transfer_endpoint="pi.example:4303"))
    assert (config.seeding, config.transfer_endpoint) == (False, "")


def test_one_that_is_not_to_give_does_not_listen() -> None:
    assert endpoint(Place(port=0), NodeConfig(seeding=False)) == ("", 0)


def test_without_a_port_that_somebody_wants_two_nodes_of_one_machine_have_two(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        other = taken.getsockname()[1]
        monkeypatch.setattr(exchange, "PORT", other)
        told, port = endpoint(Place())
        assert port not in (0, other)
        assert told == f"127.0.0.1:{port}"
        with pytest.raises(ConfigError, match="Address already in use"):
            endpoint(Place(port=other))
    assert endpoint(Place())[1] == other
