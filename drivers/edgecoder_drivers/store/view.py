"""`Models/`: links to the verified files by model id, for people and other programs.

Nothing depends on it. What somebody else put there stays, and what cannot be done here (on a file system without links,
with an id that is longer than a name may be) fails nothing else. Blocks.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from edgecoder.models.catalog import CatalogEntry
from edgecoder_drivers.store.files import FileSystem


def file_name(sha256: str) -> str:
    """The name of a file in `blobs/` and `partial/`."""
    return f"sha256-{sha256}"


def view_name(model_id: str) -> str:
    """The name of a model in `Models/`: no two ids have one, since `%` is in none."""
    return model_id.replace("/", "%2f").replace(":", "%3a") + ".gguf"


def _target(sha256: str) -> str:
    """What a link points at."""
    return f"../blobs/{file_name(sha256)}"


class View:
    """The links of one store."""

    def __init__(self, files: FileSystem, folder: Path) -> None:
        """The folder is there."""
        self._files = files
        self._folder = folder

    def show(self, entry: CatalogEntry) -> None:
        """Link to a file."""
        link, target = self._folder / view_name(entry.model_id), _target(entry.sha256)
        with suppress(OSError):
            there = self._files.link_target(link)
            if there is None and self._files.stat(link) is None:
                self._files.link(target, link)
            elif there is not None and there != target and there.startswith(_target("")):
                self._files.unlink(link)
                self._files.link(target, link)

    def hide_all_but(self, verified: Iterable[str]) -> None:
        """Take out the links to all other files, under whatever name."""
        stay = {_target(sha256) for sha256 in verified}
        with suppress(OSError):
            for name in self._files.listdir(self._folder):
                with suppress(OSError):
                    target = self._files.link_target(self._folder / name)
                    if target is not None and target.startswith(_target("")) and target not in stay:
                        self._files.unlink(self._folder / name)
