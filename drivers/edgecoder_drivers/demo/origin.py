"""The origin of a demo: a folder of tiny models, made into a catalog and served by the commands that operators have."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Final

from ruamel.yaml import YAML

from edgecoder_drivers.demo.models import RELEASE, make_models
from edgecoder_drivers.demo.processes import Processes

PIECE_BYTES: Final = 262_144
"""Of the release. The rule gives a small file pieces of 64 KiB, which cost as much work as those of a large one."""
_URL: Final = re.compile(r"http://127\.0\.0\.1:\d+")


class Origin:
    """Files, their catalog, and who gives them."""

    def __init__(self, everything: Processes) -> None:
        self._processes = everything
        self.folder = everything.folder / "origin"
        self.folder.mkdir()

    @property
    def catalog(self) -> Path:
        """The file that nodes are given."""
        return self.folder / "catalog.yaml"

    def size_bytes(self, model: str) -> int:
        """Of a model's file."""
        return (self.folder / f"{model}.gguf").stat().st_size

    async def build(self) -> list[str]:
        """Make the models and their catalog; their ids."""
        names = await asyncio.to_thread(make_models, self.folder)
        build = ["-m", "edgecoder", "catalog", "build", str(self.folder)]
        await self._processes.start("catalog", build).finished()
        await asyncio.to_thread(self._set_piece_size)
        return names

    async def serve(self) -> str:
        """Give the files to whoever asks; the address."""
        serve = ["-m", "edgecoder", "catalog", "serve", str(self.folder), "--port", "0"]
        return (await self._processes.start("origin", serve).said(_URL))[0]

    def _set_piece_size(self) -> None:
        """As an operator may: the catalog is a file that people can edit."""
        yaml = YAML()
        data = yaml.load(self.catalog)
        for entry in data["models"]:
            if entry["modelId"] == RELEASE:
                entry["pieceSizeBytes"] = PIECE_BYTES
        yaml.dump(data, self.catalog)
