"""The catalog of an agent: a file of its user's, or the one that comes with EdgeCoder.

An entry's address may begin with `cdn:`; then it is a path on the server that the user names, and without one the
entry's bytes come from peers and files alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from edgecoder.errors import ConfigError
from edgecoder.models.catalog import Catalog, CatalogEntry
from edgecoder.yamlio.document import load
from edgecoder.yamlio.explain import show
from edgecoder_drivers.addresses import is_safe

DEFAULT: Final = "qwen2.5-coder"
CDN: Final = "cdn:"


def catalog_folder() -> Path:
    """The folder of the catalogs that come with EdgeCoder: in a wheel beside this module, else in the repository."""
    here = Path(__file__).resolve()
    installed = here.parent / "packaged_catalogs"
    return installed if installed.is_dir() else here.parents[2] / "scenarios" / "catalogs"


def load_catalog(path: Path | None, cdn: str | None) -> Catalog:
    """The entries of a YAML or JSON file, `path` None is the packaged one; `cdn` is the server of their `cdn:`
    addresses. Raises ConfigError, located in the file."""
    if cdn is not None:
        _check(cdn)
    document = load(path or catalog_folder() / f"{DEFAULT}.yaml")
    if not isinstance(document.data, list):
        problem = f"a catalog file is {show(document.data)}"
        raise document.error((), problem, "write a list of models, each beginning with `-`")
    entries = [document.convert(CatalogEntry, (number,), {}) for number in range(len(document.data))]
    try:
        return Catalog(_addressed(entry, cdn) for entry in entries)
    except ValueError as error:
        raise ConfigError(str(path or DEFAULT), None, str(error), "give each name to one file a platform") from None


def _check(cdn: str) -> None:
    hint = "give one such as https://models.example"
    try:
        parts = urlsplit(cdn)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("--cdn", None, f"{cdn!r} is no address", hint)
    if not is_safe(parts.scheme, parts.hostname):
        raise ConfigError("--cdn", None, f"{cdn!r} is not HTTPS, and plain HTTP is for this machine only", hint)


def _addressed(entry: CatalogEntry, cdn: str | None) -> CatalogEntry:
    """An entry with whole addresses."""
    urls = [url for url in entry.download_urls if not url.startswith(CDN)]
    if cdn is not None:
        base = cdn.rstrip("/")
        urls += [f"{base}/{url.removeprefix(CDN)}" for url in entry.download_urls if url.startswith(CDN)]
    return msgspec.structs.replace(entry, download_urls=tuple(urls))
