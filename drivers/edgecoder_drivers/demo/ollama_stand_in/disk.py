"""What Ollama keeps on its disk: blobs, and manifests that name them, in Ollama's own layout."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gguf import GGUFReader, LlamaFileType

from edgecoder_drivers.demo.ollama_stand_in.names import Name, human_number, parse_name

_DIGEST = re.compile(r"sha256[:-][0-9a-fA-F]{64}")
MODEL_LAYER = "application/vnd.ollama.image.model"
Manifest = dict[str, Any]


def sha256_of(content: bytes) -> str:
    """With its prefix."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Disk:
    """The folder that OLLAMA_MODELS names."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "blobs").mkdir(parents=True, exist_ok=True)

    # -- blobs ---------------------------------------------------------------------------------------------------------

    def blob(self, digest: str) -> Path:
        """Where a blob lies. Raises ValueError."""
        if _DIGEST.fullmatch(digest) is None:
            raise ValueError("invalid digest format")
        return self.root / "blobs" / digest.replace(":", "-")

    async def receive(self, digest: str, chunks: AsyncIterator[bytes]) -> str | None:
        """Keep what comes as a blob; None, or the digest that it has in place of the one that was told."""
        path, has = self.blob(digest), hashlib.sha256()
        partial = path.with_name(f"{path.name}-receiving")
        with partial.open("wb") as file:
            async for chunk in chunks:
                has.update(chunk)
                file.write(chunk)
        got = f"sha256:{has.hexdigest()}"
        if got != digest:
            partial.unlink()
            return got
        partial.rename(path)
        return None

    def rewritten(self, digest: str) -> str:
        """A copy of a GGUF with other bytes, as another blob."""
        content = self.blob(digest).read_bytes() + bytes(32)
        self.blob(sha256_of(content)).write_bytes(content)
        return sha256_of(content)

    # -- manifests -----------------------------------------------------------------------------------------------------

    def names(self) -> list[Name]:
        """The models, newest first."""
        folder = self.root / "manifests"
        paths = sorted(
            (path for path in folder.glob("*/*/*/*") if path.is_file()), key=lambda path: path.stat().st_mtime
        )
        return [Name("https", *path.relative_to(folder).parts) for path in reversed(paths)]

    def manifest(self, name: Name) -> Manifest:
        """Raises FileNotFoundError."""
        manifest: Manifest = json.loads(name.path(self.root).read_bytes())
        return manifest

    def model_blob(self, manifest: Manifest) -> Path:
        """The model file of a manifest."""
        return next(self.blob(layer["digest"]) for layer in manifest["layers"] if layer["mediaType"] == MODEL_LAYER)

    def row(self, name: Name) -> dict[str, Any]:
        """What `/api/tags` says of a model."""
        path, manifest = name.path(self.root), self.manifest(name)
        config = json.loads(self.blob(manifest["config"]["digest"]).read_bytes())
        return {
            "name": name.short,
            "model": name.short,
            "modified_at": datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(),
            "size": sum(layer["size"] for layer in (*manifest["layers"], manifest["config"])),
            "digest": hashlib.sha256(path.read_bytes()).hexdigest(),
            "details": {
                "parent_model": "",
                "format": config["model_format"],
                "family": config["model_family"],
                "families": config["model_families"],
                "parameter_size": config["model_type"],
                "quantization_level": config["file_type"],
            },
        }

    def write(self, name: Name, manifest: bytes) -> None:
        """Make a model of a manifest whose blobs are there."""
        path = name.path(self.root)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(manifest)

    def remove(self, name: Name) -> None:
        """Delete a model, and the blobs that no other one has. Raises FileNotFoundError."""
        manifest = self.manifest(name)
        name.path(self.root).unlink()
        used = {digest for other in self.names() for digest in _digests(self.manifest(other))}
        for digest in _digests(manifest):
            if digest not in used:
                self.blob(digest).unlink(missing_ok=True)

    def create(self, text: str, digest: str) -> None:
        """Make a model of a GGUF that is here as a blob. Raises ValueError for what is none."""
        blob = self.blob(digest)
        reader = GGUFReader(blob)
        architecture = reader.fields["general.architecture"].contents()
        file_type = reader.fields.get("general.file_type")
        kind = "unknown" if file_type is None else LlamaFileType(file_type.contents()).name
        config = json.dumps(
            {
                "model_format": "gguf",
                "model_family": architecture,
                "model_families": [architecture],
                "model_type": human_number(sum(int(tensor.n_elements) for tensor in reader.tensors)),
                "file_type": kind.removeprefix("MOSTLY_").removeprefix("ALL_"),
                "rootfs": {"type": "layers", "diff_ids": [digest]},
            }
        ).encode()
        self.blob(sha256_of(config)).write_bytes(config)
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "digest": sha256_of(config),
                "size": len(config),
            },
            "layers": [{"mediaType": MODEL_LAYER, "digest": digest, "size": blob.stat().st_size}],
        }
        self.write(parse_name(text), json.dumps(manifest).encode())


def _digests(manifest: Manifest) -> list[str]:
    return [layer["digest"] for layer in (*manifest["layers"], manifest["config"])]


def gguf_keys(path: Path) -> dict[str, Any]:
    """The keys of a GGUF that are one number or one text, as `/api/show` has them; its lists are left out there too."""
    fields = GGUFReader(path).fields
    return {
        key: field.contents()
        for key, field in fields.items()
        if len(field.types) == 1 and not key.startswith(("GGUF.", "tokenizer."))
    }
