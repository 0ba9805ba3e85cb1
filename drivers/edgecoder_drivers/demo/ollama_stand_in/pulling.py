"""How the stand-in pulls: a manifest and its blobs from a registry, the rest of one that came in part before."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import httpx

from edgecoder_drivers.demo.ollama_stand_in.disk import Disk
from edgecoder_drivers.demo.ollama_stand_in.names import REGISTRY, Name

CHUNK_BYTES = 1 << 16
Lines = AsyncIterator[dict[str, Any]]


async def pulled(disk: Disk, name: Name, registry: str, *, insecure: bool) -> Lines:
    """The lines of a pull from the registry at an address, or from the one that the name says."""
    if name.scheme == "http" and not insecure:
        yield {"error": "insecure protocol http"}
        return
    yield {"status": "pulling manifest"}
    host = registry if name.host == REGISTRY else f"{'http' if insecure else 'https'}://{name.host}"
    base = f"{host}/v2/{name.namespace}/{name.model}"
    async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
        try:
            answer = await client.get(f"{base}/manifests/{name.tag}")
            if answer.status_code == httpx.codes.NOT_FOUND:
                yield {"error": "pull model manifest: file does not exist"}
                return
            if answer.is_error:
                yield {"error": f"pull model manifest: {answer.status_code}: {answer.text}"}
                return
            manifest = answer.json()
            for layer in (*manifest["layers"], manifest["config"]):
                async for line in _layer(client, disk, layer, f"{base}/blobs"):
                    yield line
                    if "error" in line:
                        return
        except httpx.HTTPError as error:
            yield {"error": f"max retries exceeded: {error}"}
            return
    yield {"status": "verifying sha256 digest"}
    yield {"status": "writing manifest"}
    disk.write(name, answer.content)
    yield {"status": "success"}


async def _location(client: httpx.AsyncClient, url: str) -> str:
    """Where a blob is read in parts. As in Ollama's download.go: an answer without a Location is an error, also where
    it is no redirect."""
    async with client.stream("GET", url) as answer:
        if answer.is_error:
            raise httpx.HTTPError(f"{answer.status_code}: {(await answer.aread()).decode()}")
        location = answer.headers.get("location")
        if location is None:
            raise httpx.HTTPError("http: no Location header in response")
        return str(answer.url.join(location))


async def _layer(client: httpx.AsyncClient, disk: Disk, layer: dict[str, Any], base: str) -> Lines:
    digest = layer["digest"]
    path = disk.blob(digest)
    news = {"status": f"pulling {digest[7:19]}", "digest": digest, "total": layer["size"]}
    if path.exists():
        yield {**news, "completed": layer["size"]}
        return
    partial = path.with_name(f"{path.name}-partial")
    have = partial.stat().st_size if partial.exists() else 0
    yield news
    total = int((await client.head(f"{base}/{digest}")).raise_for_status().headers["content-length"])
    location = await _location(client, f"{base}/{digest}")
    async with client.stream("GET", location, headers={"Range": f"bytes={have}-{total - 1}"}) as answer:
        answer.raise_for_status()
        with partial.open("ab" if answer.status_code == httpx.codes.PARTIAL_CONTENT else "wb") as file:
            async for chunk in answer.aiter_bytes(CHUNK_BYTES):
                file.write(chunk)
                yield {**news, "completed": file.tell()}
    if f"sha256:{hashlib.sha256(partial.read_bytes()).hexdigest()}" != digest:
        partial.unlink()
        yield {"error": f"digest mismatch, file must be downloaded again: want {digest}"}
        return
    partial.rename(path)
