"""`ollama pull` from one's own node: what Ollama is told, what it gets, and what of it the node knows afterwards."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any, cast

import httpx
import msgspec
import pytest
from starlette.testclient import TestClient

from edgecoder.core.effects import FetchFile, SwapResult
from edgecoder.core.events import PullModel, SwapModel
from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder.seeding.merkle import leaf_hashes
from edgecoder_drivers.catalogs import load_catalog
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.host import AsyncHost
from edgecoder_drivers.http.app import make_app
from edgecoder_drivers.http.manifests import Manifest
from tests.catalogs import SMALL, TINY, claim_of
from tests.drivers import cdn_server
from tests.drivers.control import Control, MemoryNode
from tests.drivers.ollama_rig import VERSIONS, Site, run, site, tiny
from tests.drivers.rig import as_kind
from tests.drivers.test_agent import agent, ask, become, states
from tests.drivers.test_http import run as run_control
from tests.files import hashes_of

SMALL_BLOB = f"/v2/library/small/blobs/sha256:{SMALL.sha256}"
TINY_BLOB = f"/v2/library/tiny/blobs/sha256:{TINY.sha256}"
everywhere = pytest.mark.parametrize("where", list(VERSIONS))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ollama is asked again at once, and nobody waits long for first bytes."""
    monkeypatch.setattr("edgecoder_drivers.ollama_parts.LIST_S", 0.05)
    monkeypatch.setattr("edgecoder_drivers.http.registry.FIRST_BYTES_S", 0.2)


class Origin:
    """A CDN with one file and its leaf hashes: some bytes of what is asked for first come, all others wait."""

    def __init__(self, entry: CatalogEntry, data: bytes, first_bytes: int) -> None:
        self.entry = msgspec.structs.replace(entry, piece_root=hashes_of(entry.layout, data).root.hex())
        self._data, self._first_bytes = data, first_bytes
        self.begun: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """Where the first request began."""
        self.goes_on = asyncio.Event()

    async def answer(self, request: cdn_server.Request, writer: asyncio.StreamWriter) -> None:
        if request.path.endswith(".leaves"):
            await cdn_server.has(b"".join(leaf_hashes(self._data)))(request, writer)
            return
        first, last = request.range or (0, len(self._data) - 1)
        part = self._data[first : last + 1]
        where = f"bytes {first}-{first + len(part) - 1}/{len(self._data)}"
        writer.write(cdn_server.head("206 Partial Content", content_range=where, content_length=len(part), etag='"1"'))
        size = 0 if self.begun.done() else self._first_bytes
        writer.write(part[:size])
        await writer.drain()
        if not self.begun.done():
            self.begun.set_result(first)
        await self.goes_on.wait()
        writer.write(part[size:])


async def pulled(there: Site, name: str) -> list[dict[str, Any]]:
    """What `ollama pull --insecure NAME` is told, line by line."""
    url = f"http://{there.host}/api/pull"
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
        answer = await client.post(url, json={"model": name, "insecure": True})
        return [json.loads(line) for line in answer.text.splitlines()]


@everywhere
def test_ollama_pulls_from_its_own_agent_what_that_fetches(where: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with site(where, tmp_path) as there:
            plain, path = tiny(tmp_path, "wanted")
            origin = Origin(plain, path.read_bytes(), 0)
            origin.goes_on.set()
            async with cdn_server.serving(origin.answer) as cdn:
                entry = msgspec.structs.replace(origin.entry, download_urls=(cdn.url(),))
                async with agent(there, entry) as device:
                    name = f"127.0.0.1:{device.port}/library/{entry.aliases[0]}"
                    lines = await pulled(there, name)
                    assert lines[-1] == {"status": "success"}, lines
                    assert [model.name for model in await there.others.held()] == [name]
                    (held,) = await there.others.held()
                    assert entry.sha256 in await there.others.files_of(held)
                    await become(device, entry.model_id, "installed")
                    swapped = as_kind(await ask(device, SwapModel, model=entry.model_id), SwapResult)
                    assert (swapped.active, swapped.reason) == (entry.model_id, None)
                    assert [model.name for model in await there.others.running()] == [name]
                    names = [model.name for model in await there.others.held()]
                    assert names == [name], "it was not given besides"
                    await there.others.delete(name)

    run(test)


def test_bytes_are_handed_on_before_the_file_is_whole(tmp_path: Path) -> None:
    async def test() -> None:
        async with site("double", tmp_path) as there:
            plain, path = tiny(tmp_path, "coming")
            data, piece_bytes = path.read_bytes(), plain.layout.piece_size_bytes
            origin = Origin(plain, data, piece_bytes + 100)
            async with cdn_server.serving(origin.answer) as cdn:
                entry = msgspec.structs.replace(origin.entry, download_urls=(cdn.url(),))
                async with agent(there, entry) as device, httpx.AsyncClient(timeout=30, trust_env=False) as client:
                    device.begin(PullModel, model=entry.model_id)
                    first = await origin.begun + 10
                    name = entry.aliases[0].partition(":")[0]
                    url = f"http://127.0.0.1:{device.port}/v2/library/{name}/blobs/sha256:{entry.sha256}"
                    got, last = b"", len(data) - 1
                    async with client.stream("GET", url, headers={"Range": f"bytes={first}-{last}"}) as answer:
                        assert answer.status_code == 206
                        assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(data)}"
                        async for part in answer.aiter_raw():
                            if not got:
                                assert (await states(device))[entry.model_id] == "partial"
                                origin.goes_on.set()
                            got += part
                    assert got == data[first:]

    run(test)


def test_a_pull_that_fails_is_refused_or_cut_short(tmp_path: Path) -> None:
    async def test(control: Control) -> None:
        async def fails() -> None:
            raise Refused(Reason.DISK_FULL)

        control.driver.before[FetchFile] = fails
        refused = await control.ask("GET", TINY_BLOB)
        assert (refused.status, refused.json["code"]) == (507, "disk_full")
        goes_on = asyncio.Event()

        async def fails_late() -> None:
            await goes_on.wait()
            raise Refused(Reason.DISK_FULL)

        control.driver.before[FetchFile] = fails_late
        reader, writer = await asyncio.open_connection("127.0.0.1", control.port)
        writer.write(f"GET {TINY_BLOB} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"content-length: %d\r\n" % TINY.file_size_bytes in head
        goes_on.set()
        assert await reader.read() == b"", "it is cut short"
        writer.close()

    run_control(tmp_path, test)


def test_what_is_asked_for_side_by_side_is_fetched_once_and_goes_on_when_nobody_reads(tmp_path: Path) -> None:
    async def test(control: Control) -> None:
        goes_on = asyncio.Event()
        control.driver.before[FetchFile] = goes_on.wait
        head = f"GET {TINY_BLOB} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        for _ in range(5):
            _, writer = await asyncio.open_connection("127.0.0.1", control.port)
            writer.write(head)
            await writer.drain()
            await asyncio.sleep(0.3)
            writer.close()
        goes_on.set()
        for _ in range(1000):
            rows = (await control.ask("GET", "/model/list")).json["models"]
            if any(row["modelId"] == "tiny" and row["installed"] for row in rows):
                break
            await asyncio.sleep(0.01)
        else:
            raise AssertionError(rows)
        assert sum(isinstance(effect, FetchFile) for effect in control.driver.done) == 1

    run_control(tmp_path, test)


def test_a_file_that_is_here_is_read_whole_in_ranges_or_not_at_all(tmp_path: Path) -> None:
    async def test(control: Control) -> None:
        whole = claim_of("small")
        answer = await control.ask("GET", SMALL_BLOB)
        assert (answer.status, answer.body, answer.headers["location"]) == (200, whole, SMALL_BLOB)
        part = await control.ask("GET", SMALL_BLOB, Range="bytes=2-4")
        assert (part.status, part.body) == (206, whole[2:5])
        looked = await control.ask("HEAD", SMALL_BLOB)
        assert (looked.status, looked.headers["content-length"], looked.body) == (200, str(len(whole)), b"")
        looked = await control.ask("HEAD", TINY_BLOB)
        assert (looked.status, looked.headers["content-length"]) == (200, str(TINY.file_size_bytes))
        assert not any(isinstance(effect, FetchFile) for effect in control.driver.done), "a look fetches nothing"
        for wrong in (
            "bytes=-5",
            "bytes=9-3",
            f"bytes={TINY.file_size_bytes}-",
            "bytes=0-1,3-4",
            "lines=1-2",
            "x" * 99,
        ):
            assert (await control.ask("GET", TINY_BLOB, Range=wrong)).status == 416, wrong

    run_control(tmp_path, test)


@pytest.mark.parametrize(
    "path",
    [
        "/v2/library/nobody/manifests/latest",
        "/v2/library/small/manifests/nobody",
        f"/v2/library/nobody/blobs/sha256:{SMALL.sha256}",
        f"/v2/library/small/blobs/sha256:{'0' * 64}",
        "/v2/library/small/blobs/..%2f..%2fetc%2fpasswd",
        "/v2/library/%00/manifests/%ff",
        f"/v2/{'a' * 5000}/manifests/b",
    ],
)
def test_what_is_not_there_is_not_found(tmp_path: Path, path: str) -> None:
    async def test(control: Control) -> None:
        answer = await control.ask("GET", path)
        assert (answer.status, answer.json["status"]) == (404, 404)

    run_control(tmp_path, test)


def test_names_are_ollamas(tmp_path: Path) -> None:
    async def test(control: Control) -> None:
        (content,) = {
            (await control.ask("GET", f"/v2/library/{path}")).body
            for path in ("small/manifests/latest", "small-coder/manifests/1.5b", "Small-Coder/manifests/1.5B")
        }
        assert content == Manifest(SMALL).content
        assert (await control.ask("GET", "/v2/")).json == {}

    run_control(tmp_path, test)


def test_whoever_is_not_of_this_machine_reads_nothing(tmp_path: Path) -> None:
    node, hosts = MemoryNode(cast("AsyncHost", None), tmp_path), frozenset({"127.0.0.1"})
    app, token = make_app(node, lambda: b"", hosts=hosts, token="secret"), {"Authorization": "Bearer secret"}
    client = TestClient(app, base_url="http://127.0.0.1", client=("192.0.2.1", 50_000), headers=token)
    for path in ("/v2/", "/v2/library/small/manifests/latest", SMALL_BLOB):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (403, "not_local")


def test_what_only_ollamas_own_registry_has_is_not_offered(tmp_path: Path) -> None:
    """Ollama would wait for the agent, and the agent for Ollama."""

    async def test() -> None:
        async with site("double", tmp_path) as there:
            entry, _ = tiny(tmp_path, "theirs")
            async with agent(there, entry) as device:
                lines = await pulled(there, f"127.0.0.1:{device.port}/library/{entry.aliases[0]}")
                assert "409" in lines[-1]["error"]
                assert "ollama pull" in lines[-1]["error"]

    run(test)


@pytest.mark.parametrize("entry", [SMALL, *load_catalog(None, None).entries], ids=lambda entry: entry.model_id)
def test_a_manifest_names_layers_that_are_what_it_says(entry: CatalogEntry) -> None:
    manifest = Manifest(entry)
    told = json.loads(manifest.content)
    layers = [told["config"], *told["layers"]]
    assert manifest.digest == f"sha256:{hashlib.sha256(manifest.content).hexdigest()}"
    assert {layer["digest"] for layer in layers} == {f"sha256:{entry.sha256}", *manifest.blobs}
    for layer in layers:
        content = manifest.blobs.get(layer["digest"])
        if content is None:
            assert layer["size"] == entry.file_size_bytes
        else:
            assert (layer["size"], layer["digest"]) == (
                len(content),
                f"sha256:{hashlib.sha256(content).hexdigest()}",
            )
    assert Manifest(entry).content == manifest.content
