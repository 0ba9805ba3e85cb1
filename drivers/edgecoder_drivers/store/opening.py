"""A store is opened: its folders are made, a damaged registry is set aside, and what a crash left is put in order.

Then every verified row has its file, every file in `blobs/` is verified, and nothing lies on the disk that nobody knows
of.
"""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import structlog

from edgecoder.errors import ConfigError
from edgecoder.models.catalog import Catalog
from edgecoder.models.mending import known, mend
from edgecoder_drivers.store.blobs import Blobs
from edgecoder_drivers.store.files import FileSystem
from edgecoder_drivers.store.registry import DamagedError, NewerError, Registry, Row
from edgecoder_drivers.store.view import file_name

_log = structlog.get_logger("edgecoder.store")
_PREFIX = file_name("")


def open_store(root: Path, catalog: Catalog, files: FileSystem) -> tuple[Blobs, dict[str, bytes]]:
    """The files of a store, and the snapshot to start a life with. Blocks: after a crash it may have to hash a file.
    Raises OSError, and ConfigError where another process has the store, or where it is a newer version's."""
    for name in ("blobs", "partial", "trees", "Models"):
        files.make_folder(root / name)
    files.fsync_folder(root)
    registry = open_registry(root, files)
    try:
        blobs = Blobs(root, files, registry)
        _verify(blobs)
        snapshot = registry.kept()
        _sweep(blobs, known(snapshot) & catalog.by_digest.keys())
        for sha256 in sorted(blobs.verified.keys() - catalog.by_digest.keys()):
            _log.warning("file of no model", path=str(blobs.path(sha256)), hint="no catalog has it; delete it by hand")
        blobs.view.hide_all_but(blobs.verified)
        for sha256 in sorted(blobs.verified.keys() & catalog.by_digest.keys()):
            blobs.view.show(catalog.by_digest[sha256])
        return blobs, mend(snapshot, _sizes(blobs), _parts(blobs, catalog))
    except BaseException:
        registry.close()
        raise


def open_registry(root: Path, files: FileSystem) -> Registry:
    """The registry in a folder; a damaged one is set aside. Raises OSError, and ConfigError where another process has
    it."""
    path = root / "registry.sqlite"
    try:
        return Registry(files, path)
    except NewerError as error:
        hint = "update EdgeCoder, or choose another folder with --data"
        raise ConfigError(str(root), None, f"a newer EdgeCoder made this store ({error})", hint) from None
    except DamagedError:
        _log.warning("registry damaged", set_aside=f"{path}.damaged")
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise ConfigError(
                str(root), None, "another process has this store", "stop it, or choose another folder"
            ) from error
        raise
    for suffix in ("", "-wal", "-shm"):
        if files.stat(Path(f"{path}{suffix}")) is not None:
            files.rename(Path(f"{path}{suffix}"), Path(f"{path}.damaged{suffix}"))
    return Registry(files, path)


def _verify(blobs: Blobs) -> None:
    """Bring `blobs/` and the verified rows together; a file without a row, or that is not what it was, is hashed, and
    stays if it is right."""
    rows = {sha256: row for sha256, row in blobs.registry.rows().items() if row.is_verified}
    there = {name.removeprefix(_PREFIX) for name in blobs.files.listdir(blobs.blobs) if name.startswith(_PREFIX)}
    for sha256 in sorted(rows.keys() | there):
        try:
            _judge(blobs, sha256, rows.get(sha256))
        except OSError as error:  # of one file: the others are there all the same
            _log.warning("file cannot be read", path=str(blobs.blobs / file_name(sha256)), detail=str(error))


def _judge(blobs: Blobs, sha256: str, row: Row | None) -> None:
    """Whether a file is verified."""
    path = blobs.blobs / file_name(sha256)
    now = blobs.files.stat(path)
    if row is not None and (now is None or now.size_bytes != row.synced_bytes):
        _log.warning("file lost", sha256=sha256)
        blobs.registry.drop(sha256)
        blobs.files.unlink(path)
    elif row is not None and now is not None and row.stamp == now:
        blobs.verified[sha256] = now
    else:
        _log.info("hashing a file", path=str(path), why="nobody has, or it is not what it was then")
        found, stamp = blobs.examine(path, threading.Event())
        if found == sha256:
            blobs.files.fsync_folder(blobs.blobs)
            blobs.vouch(sha256, stamp)
            blobs.seal(sha256)
        else:
            _log.warning("file changed", sha256=sha256)
            blobs.registry.drop(sha256)
            blobs.files.unlink(path)
            blobs.files.fsync_folder(blobs.blobs)


def _sweep(blobs: Blobs, wanted: set[str]) -> None:
    """Delete parts and trees of files that nobody knows of, and parts of what is whole. A whole file of which the
    catalog knows nothing any more is its user's to delete."""
    whole = blobs.verified.keys()
    for folder, stay in ((blobs.partial, wanted - whole), (blobs.trees, wanted | whole)):
        for name in blobs.files.listdir(folder):
            if name.removeprefix(_PREFIX) not in stay:
                try:
                    blobs.files.unlink(folder / name)
                except OSError as error:
                    _log.warning("file cannot be deleted", path=str(folder / name), detail=str(error))
    for sha256, row in blobs.registry.rows().items():
        if not row.is_verified and blobs.files.stat(blobs.partial / file_name(sha256)) is None:
            blobs.registry.drop(sha256)


def _sizes(blobs: Blobs) -> dict[str, int]:
    return {sha256: stamp.size_bytes for sha256, stamp in sorted(blobs.verified.items())}


def _parts(blobs: Blobs, catalog: Catalog) -> dict[str, int]:
    """The files that are not verified and have their whole size, and what of them is synced."""
    rows, parts = blobs.registry.rows(), {}
    for name in blobs.files.listdir(blobs.partial):
        sha256 = name.removeprefix(_PREFIX)
        entry = catalog.by_digest.get(sha256)
        there = blobs.files.stat(blobs.partial / name)
        if entry is not None and there is not None and there.size_bytes == entry.file_size_bytes:
            parts[sha256] = rows[sha256].synced_bytes if sha256 in rows else 0
    return parts
