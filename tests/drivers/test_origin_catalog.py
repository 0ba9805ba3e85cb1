"""A node's catalog that comes from an origin: fetched, kept, refused, and used while the origin is away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgecoder.config import ClusterConfig, NodeConfig
from edgecoder.core.events import CatalogConfirmed, CatalogReleased, Event
from edgecoder.core.ids import Role
from edgecoder.errors import ConfigError, DriverError
from edgecoder.models.catalog import Catalog, Platform
from edgecoder_drivers.addresses import Logins
from edgecoder_drivers.cdn.download import Cdn, Patience
from edgecoder_drivers.coordinator import CoordinatorPlan, coordinating
from edgecoder_drivers.device import Plan, running
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.exchange import unreachable
from edgecoder_drivers.http.server import Binding
from edgecoder_drivers.origin_catalog import KEPT, OriginCatalog
from edgecoder_drivers.parts import Parts
from tests.catalogs import LARGE, SMALL, TINY
from tests.drivers.cdn_server import Answer, Request, Server, head, says, serving

CONFIG = NodeConfig(catalog_refresh_ms=1, catalog_stale_ms=60_000)
HASTY = Patience(connect_s=5, answer_s=8.0, silence_s=5)


def text_of(version: int, *entries: Any) -> bytes:
    """A catalog as it is written."""
    models = [msgspec.to_builtins(msgspec.structs.replace(entry, download_urls=("files/x.gguf",))) for entry in entries]
    return json.dumps({"version": version, "models": models}).encode()


def gives(content: bytes) -> Answer:
    """An origin that knows what it has sent."""
    tag = f'"{hash(content)}"'

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.headers.get("if-none-match") == tag:
            writer.write(head("304 Not Modified", etag=tag))
        else:
            writer.write(head("200 OK", content_length=len(content), etag=tag) + content)

    return answer


def origin_of(server: Server, folder: Path) -> OriginCatalog:
    """The catalog of a node that keeps its things in `folder`."""
    return OriginCatalog(server.url("/deep/catalog.json"), None, folder, CONFIG, Cdn(HASTY))


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that comes."""
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it does not come")


def run(test: Callable[[Server], Awaitable[None]], content: bytes = b"") -> None:
    """A test with an origin."""

    async def life() -> None:
        async with serving(gives(content)) as server:
            await test(server)

    asyncio.run(life())


def test_it_is_fetched_and_its_addresses_are_beside_it(tmp_path: Path) -> None:
    async def test(server: Server) -> None:
        origin = origin_of(server, tmp_path)
        catalog = await origin.load()
        await origin.close()
        assert (catalog.version, catalog.age_ms is not None) == (3, True)
        assert [entry.model_id for entry in catalog.entries] == ["small", "large"]
        assert catalog.entries[0].download_urls == (server.url("/deep/files/x.gguf"),)

    run(test, text_of(3, SMALL, LARGE))


def test_a_release_reaches_the_core_and_the_same_is_not_sent_again(tmp_path: Path) -> None:
    async def test(server: Server) -> None:
        origin, events = origin_of(server, tmp_path), list[Event]()
        await origin.load()
        origin.open(events.append)
        await until(lambda: len(events) >= 2)
        assert set(map(type, events)) == {CatalogConfirmed}
        server.answer = gives(text_of(4, SMALL, LARGE, TINY))
        await until(lambda: any(isinstance(event, CatalogReleased) for event in events))
        await origin.close()
        (released,) = [event for event in events if isinstance(event, CatalogReleased)]
        assert (released.version, len(released.entries)) == (4, 3)
        assert origin.version == 4

    run(test, text_of(3, SMALL, LARGE))


def test_what_is_kept_serves_while_the_origin_is_away(tmp_path: Path) -> None:
    async def test(server: Server) -> None:
        first = origin_of(server, tmp_path)
        await first.load()
        await first.close()
        server.answer = says(head("503 Service Unavailable", content_length=0))
        second = origin_of(server, tmp_path)
        catalog = await second.load()
        await second.close()
        assert (catalog.version, len(catalog.entries)) == (3, 2)
        other = OriginCatalog(server.url("/other.json"), None, tmp_path, CONFIG, Cdn(HASTY))
        with pytest.raises(DriverError, match=r"no catalog: .*status 503.*give a file with --catalog"):
            await other.load()  # what is kept is another's
        await other.close()

    run(test, text_of(3, SMALL, LARGE))


async def endless(_: Request, writer: asyncio.StreamWriter) -> None:
    """A body without an end."""
    writer.write(head("200 OK"))
    while True:
        writer.write(b"#" * 65_536)
        await writer.drain()


async def dripping(_: Request, writer: asyncio.StreamWriter) -> None:
    """A body that takes for ever."""
    writer.write(head("200 OK"))
    while True:
        writer.write(b"#")
        await writer.drain()
        await asyncio.sleep(0.05)


HOSTILE: dict[str, Answer] = {
    "older": gives(text_of(2, SMALL)),
    "changed": gives(text_of(3, SMALL)),
    "unversioned": gives(b"[]"),
    "nonsense": gives(b"\x00\xff\xfe"),
    "html": gives(b"<html><body>Log in to this network</body></html>"),
    "no catalog": gives(b'{"version": 9, "models": [{"modelId": "../../etc/passwd"}]}'),
    "deep": gives(b"[" * 100_000),
    "negative": gives(b'{"version": -1, "models": []}'),
    "endless": endless,
    "dripping": dripping,
    "encoded": says(head("200 OK", content_length=3, content_encoding="gzip") + b"abc"),
    "short": says(head("200 OK", content_length=1000) + b"version: 9"),
    "other scheme": says(head("302 Found", content_length=0, location="file:///etc/passwd")),
    "in the clear": says(head("302 Found", content_length=0, location="http://192.0.2.1/catalog.json")),
    "in circles": says(head("302 Found", content_length=0, location="/deep/catalog.json")),
    "not asked": says(head("304 Not Modified")),
    "gone": says(head("404 Not Found", content_length=0)),
    "nothing": says(b""),
}


@pytest.mark.parametrize("name", sorted(HOSTILE.keys() - {"not asked"}))
def test_what_is_refused_leaves_what_is_held(tmp_path: Path, name: str) -> None:
    async def test(server: Server) -> None:
        first = origin_of(server, tmp_path)
        await first.load()
        await first.close()
        kept = (tmp_path / KEPT).read_bytes()
        server.answer = HOSTILE[name]
        second, events = origin_of(server, tmp_path), list[Event]()
        catalog = await second.load()
        second.open(events.append)
        before = len(server.requests)
        await until(lambda: len(server.requests) > before)
        await second.close()
        assert (catalog.version, events) == (3, [])
        assert (tmp_path / KEPT).read_bytes() == kept

    run(test, text_of(3, SMALL, LARGE))


@pytest.mark.parametrize("name", sorted(HOSTILE.keys() - {"older", "changed", "unversioned"}))
def test_a_node_without_any_says_so(tmp_path: Path, name: str) -> None:
    async def test(server: Server) -> None:
        server.answer = HOSTILE[name]
        origin = origin_of(server, tmp_path)
        with pytest.raises((DriverError, ConfigError), match=";"):
            await origin.load()
        await origin.close()
        assert not (tmp_path / KEPT).exists()

    run(test)


def test_who_asks_is_told_to_the_origin_and_to_nobody_else(tmp_path: Path) -> None:
    async def test(server: Server) -> None:
        url = server.url("/deep/catalog.json").replace("//", "//user:secret@")
        logins, client = Logins(), Cdn(HASTY)
        origin = OriginCatalog(url, None, tmp_path, CONFIG, client, logins)
        catalog = await origin.load()
        asked = server.requests[0].headers["authorization"]
        assert asked.startswith("Basic ")
        (entry,) = catalog.entries
        assert entry.download_urls == (server.url("/deep/files/x.gguf"),)
        assert b"secret" not in (tmp_path / KEPT).read_bytes()
        assert (tmp_path / KEPT).stat().st_mode & 0o777 == 0o600
        files = Cdn(HASTY, logins=logins)
        with pytest.raises(Refused) as refused:
            await anext(files.read(entry, 0, 10))
        assert server.requests[-1].path == "/deep/files/x.gguf"
        assert server.requests[-1].headers["authorization"] == asked
        assert "secret" not in str(refused.value)
        await files.close()
        await origin.close()
        again = OriginCatalog(url, None, tmp_path, CONFIG, Cdn(HASTY))
        server.answer = HOSTILE["gone"]
        assert (await again.load()).version == 3, "what is kept is of this origin"
        await again.close()

    run(test, text_of(3, SMALL))


@pytest.mark.parametrize("is_there", [True, False])
def test_a_start_that_fails_leaves_no_connection(tmp_path: Path, is_there: bool) -> None:
    class Client(Cdn):
        is_closed = False

        async def close(self) -> None:
            self.is_closed = True
            await super().close()

    def breaks(_: Plan, __: Catalog) -> Parts:
        raise DriverError("no engine")

    async def test(server: Server) -> None:
        if not is_there:
            server.answer = HOSTILE["gone"]
        client = Client(HASTY)
        config = unreachable(NodeConfig())
        catalog = OriginCatalog(server.url("/c.json"), None, tmp_path, config, client)
        common: dict[str, Any] = {"folder": tmp_path, "cluster": ClusterConfig(), "config": config, "catalog": catalog}
        plan = Plan(role=Role.AGENT, platform=Platform.NODE, binding=Binding(port=0), **common)
        with pytest.raises(DriverError):
            await running(plan, breaks).__aenter__()
        assert client.is_closed
        server.answer = HOSTILE["gone"]
        (tmp_path / KEPT).unlink(missing_ok=True)
        client = Client(HASTY)
        common["catalog"] = OriginCatalog(server.url("/c.json"), None, tmp_path, config, client)
        with pytest.raises(DriverError):
            await coordinating(CoordinatorPlan(port=0, **common)).__aenter__()
        assert client.is_closed

    run(test, text_of(3, SMALL))


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff" * 100, b'{"url": 3}'])
def test_a_kept_one_that_is_damaged_is_fetched_anew(tmp_path: Path, damage: bytes) -> None:
    async def test(server: Server) -> None:
        (tmp_path / KEPT).write_bytes(damage)
        origin = origin_of(server, tmp_path)
        assert (await origin.load()).version == 3
        await origin.close()
        assert msgspec.json.decode((tmp_path / KEPT).read_bytes())["version"] == 3

    run(test, text_of(3, SMALL))
