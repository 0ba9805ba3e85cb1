"""The small catalog that the tests use: files of a few names, sizes and platforms, with digests made from the names."""

from __future__ import annotations

import hashlib
from typing import Final

from edgecoder.models.catalog import Catalog, CatalogEntry, Platform

MIB: Final = 1 << 20
BOTH: Final = (Platform.IOS, Platform.NODE)


def entry(
    name: str,
    param_size: float = 1.5,
    *,
    aliases: tuple[str, ...] = (),
    platforms: tuple[Platform, ...] = BOTH,
    file_size_bytes: int = 64 * MIB,
    min_memory_mb: int = 64,
    kv_bytes_per_token: int = 0,
    piece_root: str = "",
    piece_size_bytes: int = 0,
) -> CatalogEntry:
    """A catalog entry; its digest is that of its name and platforms (`claim_of`)."""
    return CatalogEntry(
        model_id=name,
        display_name=name.title(),
        param_size=param_size,
        quantization="Q4_K_M",
        file_size_bytes=file_size_bytes,
        sha256=hashlib.sha256(claim_of(name, platforms)).hexdigest(),
        min_memory_mb=min_memory_mb,
        platforms=platforms,
        aliases=aliases,
        kv_bytes_per_token=kv_bytes_per_token,
        piece_root=piece_root,
        piece_size_bytes=piece_size_bytes,
    )


def claim_of(name: str, platforms: tuple[Platform, ...] = BOTH) -> bytes:
    """What the digest of an entry is that of, in place of a file."""
    return f"{name} {[platform.value for platform in platforms]}".encode()


TINY: Final = entry("tiny", 0.5)
SMALL: Final = entry("small", 1.5, aliases=("small-coder:1.5b",))
LARGE: Final = entry("large", 7.0, aliases=("large-coder:7b",))
HUGE: Final = entry("huge", 70.0, min_memory_mb=1_000_000)
"""More memory than any preset has."""
PHONE_ONLY: Final = entry("pocket", 1.0, platforms=(Platform.IOS,))
AGENT_ONLY: Final = entry("desk", 3.0, platforms=(Platform.NODE,))
LATEST: Final = entry("newest-gguf", 2.0, aliases=("newest:latest",))
"""An agent advertises this one by the alias that Ollama shows, which normalises to another spelling."""

CATALOG: Final = Catalog((TINY, SMALL, LARGE, HUGE, PHONE_ONLY, AGENT_ONLY, LATEST))
