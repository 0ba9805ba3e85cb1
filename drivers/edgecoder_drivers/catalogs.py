"""Catalogs as they are written: one of the user's, of an origin, or the one that comes with EdgeCoder.

A file is a list of models, or a mapping with a `version` that grows and the list under `models`. An entry's address
may be relative, to where the catalog came from; or begin with `cdn:`, then it is a path on the server that the user
names. One that leads nowhere is left out, and the entry's bytes come from others and from files alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import urljoin, urlsplit

import msgspec

from edgecoder.errors import ConfigError
from edgecoder.models.catalog import Catalog, CatalogEntry
from edgecoder.models.editions import Edition
from edgecoder.yamlio.document import Document, load
from edgecoder.yamlio.explain import Where, show
from edgecoder_drivers.addresses import Logins, is_safe, shown

DEFAULT: Final = "qwen2.5-coder"
CDN: Final = "cdn:"
MODELS: Final = "models"
VERSION: Final = "version"
UNVERSIONED: Final = 0
"""Of a catalog that is a list."""
VERSION_MAX: Final = (1 << 53) - 1
ROOT: Final[Where] = ()


def catalog_folder() -> Path:
    """The folder of the catalogs that come with EdgeCoder: in a wheel beside this module, else in the repository."""
    here = Path(__file__).resolve()
    installed = here.parent / "packaged_catalogs"
    return installed if installed.is_dir() else here.parents[2] / "scenarios" / "catalogs"


def load_catalog(path: Path | None, cdn: str | None, logins: Logins | None = None) -> Catalog:
    """The entries of a YAML or JSON file, `path` None is the packaged one; `cdn` is the server of their `cdn:` and
    relative addresses. Where there are `logins`, those of the addresses go there. Raises ConfigError, located in the
    file."""
    if cdn is not None:
        check_cdn(cdn)
    edition = read_edition(load(path or catalog_folder() / f"{DEFAULT}.yaml"))
    entries = [addressed(entry, None, cdn) for entry in edition.entries]
    return Catalog(entries if logins is None else map(logins.without, entries))


def read_edition(document: Document) -> Edition:
    """What a catalog says, its addresses as they are written. Raises ConfigError, located in the document."""
    data, version, where = document.data, UNVERSIONED, ROOT
    if isinstance(data, dict):
        version, where = _version(document), (MODELS,)
        for key in data:
            if key not in (VERSION, MODELS):
                raise document.error((key,), f"a catalog has no {show(key)}", f"it has {VERSION} and {MODELS}")
    models = document.get(where)
    if not isinstance(models, list):
        what = "a catalog file" if not where else f"`{MODELS}`"
        raise document.error(where, f"{what} is {show(models)}", "write a list of models, each beginning with `-`")
    entries = tuple(document.convert(CatalogEntry, (*where, number), {}) for number in range(len(models)))
    try:
        Catalog(entries)
    except ValueError as error:
        raise ConfigError(document.path, None, str(error), "give each name to one file a platform") from None
    return Edition(version, entries)


def _version(document: Document) -> int:
    version = document.get((VERSION,))
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= VERSION_MAX:
        problem = f"the catalog's version is {show(version)}"
        raise document.error((VERSION,), problem, "write a whole number from 1 on, greater at each change")
    return version


def check_cdn(cdn: str) -> None:
    """Raises ConfigError where a server of files could not be asked, or should not be."""
    check_address("--cdn", cdn, "give one such as https://models.example")


def check_address(option: str, url: str, hint: str) -> None:
    """Raises ConfigError where an address is none, or leads over what others can change."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(option, None, f"{shown(url)!r} is no address", hint)
    if not is_safe(parts.scheme, parts.hostname):
        raise ConfigError(option, None, f"{shown(url)!r} is not HTTPS, and plain HTTP is for this machine only", hint)


def addressed(entry: CatalogEntry, base: str | None, cdn: str | None) -> CatalogEntry:
    """An entry with whole addresses: `base` is where its catalog came from, None a file; relative addresses of a file
    are on `cdn`, and `cdn:` addresses without one beside the catalog."""
    folder = None if cdn is None else f"{cdn.rstrip('/')}/"
    own, others = [], []
    for url in entry.download_urls:
        if url.startswith(CDN):
            others.append(_joined(folder or base, url.removeprefix(CDN)))
        else:
            own.append(url if _is_whole(url) else _joined(base or folder, url))
    urls = tuple(url for url in (*own, *others) if url is not None)
    return msgspec.structs.replace(entry, download_urls=urls)


def _is_whole(url: str) -> bool:
    try:
        return bool(urlsplit(url).scheme)
    except ValueError:  # who asks there says so
        return True


def _joined(base: str | None, url: str) -> str | None:
    try:
        return None if base is None else urljoin(base, url)
    except ValueError:
        return None
