"""The catalog of a node whose catalog has an origin: asked for at the start and again and again, kept in the node's
folder, and used from there where the origin cannot be reached.

Whether an edition is believed, and when one is stale, is the core's to say (`models.editions`); by the same rule an
edition is kept here, before the core hears of it. It is asked for by its tag, so one that is held is not sent again.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Final

import msgspec
import structlog

from edgecoder.config import NodeConfig
from edgecoder.core.events import CatalogConfirmed, CatalogReleased
from edgecoder.errors import REASONS, UNREADABLE, ConfigError, DriverError, Reason
from edgecoder.models.catalog import Catalog
from edgecoder.models.editions import Edition, is_stale, refusal_of
from edgecoder.yamlio.document import FILE_SIZE_BYTES_MAX, parse
from edgecoder_drivers.addresses import Logins, shown
from edgecoder_drivers.catalogs import VERSION_MAX, addressed, read_edition
from edgecoder_drivers.cdn.download import Cdn
from edgecoder_drivers.driver import Post, Refused
from edgecoder_drivers.watcher import Watcher

KEPT: Final = "catalog.json"
_log = structlog.get_logger("edgecoder.catalog")


class _Kept(msgspec.Struct, frozen=True):
    """What is in the node's folder."""

    url: str
    """Where it came from: of another origin nothing is believed."""
    tag: str
    heard_ms: Annotated[int, msgspec.Meta(ge=0)]
    """When the origin was heard last, Unix time."""
    content: str
    """The catalog as it came."""
    version: Annotated[int, msgspec.Meta(ge=0, le=VERSION_MAX)]


class OriginCatalog(Watcher):
    """See `driver.Driver`."""

    def __init__(
        self,
        url: str,
        cdn: str | None,
        folder: Path,
        config: NodeConfig,
        client: Cdn | None = None,
        logins: Logins | None = None,
    ) -> None:
        """`logins` get those of the addresses, for who fetches the files."""
        super().__init__("edgecoder catalog")
        self._url, self._cdn_base, self._path, self._config = url, cdn, folder / KEPT, config
        self._logins = logins or Logins()
        self._client = client or Cdn()
        self._held: Edition | None = None
        self._kept: _Kept | None = None

    async def load(self) -> Catalog:
        """The catalog to begin with: of the origin, else what is kept. Raises DriverError where there is neither, and
        ConfigError where the origin's is none and nothing is kept."""
        await asyncio.to_thread(self._restore)
        try:
            await self._ask()
        except (Refused, ConfigError) as error:
            if self._held is None:
                if isinstance(error, ConfigError):
                    raise
                hint = "see that the origin runs and can be reached, or give a file with --catalog"
                raise DriverError(f"no catalog: {error}; {hint}") from None
            _log.warning("catalog not refreshed", why=str(error), age_s=round((self.age_ms or 0) / 1000))
        assert self._held is not None
        return Catalog(self._held.entries, version=self._held.version, age_ms=self.age_ms)

    @property
    def age_ms(self) -> int | None:
        """Time since the origin was heard; None: never."""
        return None if self._kept is None else max(0, _now_ms() - self._kept.heard_ms)

    @property
    def version(self) -> int:
        """Of what is held."""
        return 0 if self._held is None else self._held.version

    def is_stale(self) -> bool:
        """Whether nothing new may be fetched."""
        return is_stale(self.age_ms, self._config)

    def facts(self) -> dict[str, Callable[[], float]]:
        """What metrics show."""
        return {
            "version": lambda: self.version,
            "age_seconds": lambda: (self.age_ms or 0) / 1000,
            "stale": self.is_stale,
        }

    async def close(self) -> None:
        """See `driver.Driver`."""
        await super().close()
        await self._client.close()

    async def _watch(self, post: Post) -> None:
        was_heard = True
        while True:
            await asyncio.sleep(self._config.catalog_refresh_ms / 1000)
            try:
                post(await self._ask())
            except (Refused, ConfigError) as error:
                if was_heard:  # once an outage
                    _log.warning("catalog not refreshed", why=str(error), age_s=round((self.age_ms or 0) / 1000))
                was_heard = False
            else:
                was_heard = True

    async def _ask(self) -> CatalogReleased | CatalogConfirmed:
        """What the origin says now, which is kept. Raises Refused and ConfigError where that is nothing to believe."""
        kept = self._kept
        headers = {"if-none-match": kept.tag} if kept is not None and kept.tag else {}
        answer = await self._client.ask(self._url, headers, FILE_SIZE_BYTES_MAX)
        if answer.status == 304 and kept is not None:
            await self._keep(msgspec.structs.replace(kept, heard_ms=_now_ms()))
            return CatalogConfirmed()
        if answer.status != 200:
            raise Refused(Reason.NO_SOURCE, f"{shown(self._url)}: status {answer.status}")
        text = _text(answer.content, shown(self._url))
        edition = await asyncio.to_thread(self._read, text)
        refusal = None if self._held is None else refusal_of(self._held, edition)
        if refusal is not None:
            said = f"{REASONS[refusal].message} (version {edition.version}, held is {self.version})"
            raise Refused(refusal, f"{shown(self._url)}: {said}")
        if edition.version != self.version:
            _log.info("catalog", version=edition.version, models=len(edition.entries))
        await self._keep(_Kept(self._logins.taken_from(self._url), answer.tag, _now_ms(), text, edition.version))
        self._held = edition
        return CatalogReleased(edition.version, edition.entries)

    def _read(self, text: str) -> Edition:
        """Raises ConfigError."""
        edition = read_edition(parse(text, shown(self._url)))
        entries = (addressed(entry, self._url, self._cdn_base) for entry in edition.entries)
        return Edition(edition.version, tuple(map(self._logins.without, entries)))

    def _restore(self) -> None:
        """What an earlier life kept; nothing where that is damaged, or of another origin."""
        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=_Kept)
            if kept.url == self._logins.taken_from(self._url):
                self._held, self._kept = self._read(kept.content), kept
        except FileNotFoundError:
            pass
        except (OSError, ConfigError, *UNREADABLE) as error:
            _log.warning("kept catalog is damaged", path=str(self._path), error=str(error))

    async def _keep(self, kept: _Kept) -> None:
        """Whole or not at all. A disk that fails costs what a restart offline would have had."""
        self._kept = kept
        try:
            await asyncio.to_thread(_write, self._path, msgspec.json.encode(kept))
        except OSError as error:
            _log.warning("catalog not kept", path=str(self._path), error=error.strerror)


@asynccontextmanager
async def loaded(catalog: Catalog | OriginCatalog) -> AsyncIterator[Catalog]:
    """A catalog to begin with, wherever it is; behind the block its origin is closed, whoever has opened it. Raises as
    `OriginCatalog.load`."""
    if not isinstance(catalog, OriginCatalog):
        yield catalog
        return
    try:
        yield await catalog.load()
    finally:
        await catalog.close()


def origin_of(catalog: Catalog | OriginCatalog) -> tuple[OriginCatalog, ...]:
    """The driver of a catalog that has an origin; none of a file."""
    return (catalog,) if isinstance(catalog, OriginCatalog) else ()


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(f"{path.name}.new")
    partial.unlink(missing_ok=True)
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123 - a handle
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _text(content: bytes, label: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(label, None, "this is no UTF-8 text", "save the catalog as UTF-8") from None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
