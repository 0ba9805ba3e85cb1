"""The disk of a node as far as model files go: how much room it has, and which of them take some of it.

A file takes room for all of itself from the moment at which it is begun, as one that was allocated ahead does, and
gives it back when it is deleted. What survives a crash, and what becomes of an old copy, is `host`'s to say.

Fidelity boundary: nothing but model files comes onto the disk, or goes; a file system without overhead, on which a file
is allocated whole or not at all.
"""

from __future__ import annotations

from edgecoder.models.catalog import CatalogEntry


class Storage:
    """The model files on one disk."""

    __slots__ = ("files", "size_bytes")

    def __init__(self, free_bytes: int | None) -> None:
        """`free_bytes` is the room beside what is there at first; None never ends."""
        self.size_bytes = free_bytes
        """Room for all model files together, bytes; None never ends."""
        self.files: dict[str, int] = {}
        """Bytes that each file takes, by its SHA-256."""

    @property
    def used_bytes(self) -> int:
        """Bytes that are taken."""
        return sum(self.files.values())

    def furnish(self, entry: CatalogEntry) -> None:
        """A file is there at first."""
        self.files[entry.sha256] = entry.file_size_bytes
        if self.size_bytes is not None:
            self.size_bytes += entry.file_size_bytes

    def take(self, entry: CatalogEntry) -> bool:
        """Keep room for a file; one that is here, or partly, has it. False: there is too little, and none is taken."""
        if entry.sha256 in self.files:
            return True
        if self.size_bytes is not None and self.used_bytes + entry.file_size_bytes > self.size_bytes:
            return False
        self.files[entry.sha256] = entry.file_size_bytes
        return True

    def free(self, entry: CatalogEntry) -> None:
        """A file is deleted."""
        self.files.pop(entry.sha256, None)
