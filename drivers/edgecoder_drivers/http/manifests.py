"""A file of the catalog as a model of Ollama's registry: the manifest, and the small layers that it names.

All of it is made of the entry alone, so it is the same before the file is here and after. Media types and the form of
the manifest are those of Ollama's registry, which are Docker's (image manifest version 2, schema 2).
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec

from edgecoder.models.catalog import CatalogEntry, show_param_size

MANIFEST_TYPE: Final = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG_TYPE: Final = "application/vnd.docker.container.image.v1+json"
_LAYER_TYPE: Final = "application/vnd.ollama.image.{}"
_CHATML: Final = """{{- if .Suffix }}<|fim_prefix|>{{ .Prompt }}<|fim_suffix|>{{ .Suffix }}<|fim_middle|>
{{- else if .Messages }}{{- range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
{{ else }}{{ if .System }}<|im_start|>system
{{ .System }}<|im_end|>
{{ end }}{{ if .Prompt }}<|im_start|>user
{{ .Prompt }}<|im_end|>
{{ end }}<|im_start|>assistant
{{ end }}{{ .Response }}"""
TEMPLATES: Final = {"qwen2": (_CHATML, ("<|im_start|>", "<|im_end|>"))}
"""By architecture: the prompt's form in Go, and where an answer stops. An Ollama before 0.30 passes prompts on as they
are without one; later ones go by what stands in the file. Qwen2.5-Coder's model card has both: chat and infill."""


class Manifest:
    """What Ollama is told of one file."""

    def __init__(self, entry: CatalogEntry) -> None:
        self.blobs: dict[str, bytes] = {}
        """The small layers, by digest (`sha256:` and 64 hexadecimal digits)."""
        digest = f"sha256:{entry.sha256}"
        model = {"mediaType": _LAYER_TYPE.format("model"), "digest": digest, "size": entry.file_size_bytes}
        layers = [model, *self._layers(entry)]
        config = {
            "model_format": "gguf",
            "model_family": entry.architecture,
            "model_families": [entry.architecture] if entry.architecture else [],
            "model_type": show_param_size(entry.param_size),
            "file_type": entry.quantization,
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
        }
        self.content = msgspec.json.encode(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "config": self._blob(_CONFIG_TYPE, msgspec.json.encode(config)),
                "layers": layers,
            }
        )
        self.digest = _digest_of(self.content)

    def _layers(self, entry: CatalogEntry) -> list[dict[str, Any]]:
        if entry.architecture not in TEMPLATES:
            return []
        template, stops = TEMPLATES[entry.architecture]
        return [
            self._blob(_LAYER_TYPE.format("template"), template.encode()),
            self._blob(_LAYER_TYPE.format("params"), msgspec.json.encode({"stop": stops})),
        ]

    def _blob(self, media_type: str, content: bytes) -> dict[str, Any]:
        digest = _digest_of(content)
        self.blobs[digest] = content
        return {"mediaType": media_type, "digest": digest, "size": len(content)}


def _digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
