"""Ollama's spelling of models, sizes and durations."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import NamedTuple

REGISTRY = "registry.ollama.ai"
_UNITS_S = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)")
_DURATION = re.compile(rf"([+-]?)((?:{_PART.pattern})+|0)")
_LAST = re.compile(r"[\w.\-]+(:[\w.\-]+)?")


class Name(NamedTuple):
    """`[scheme://][host/][namespace/]model[:tag]`."""

    scheme: str
    host: str
    namespace: str
    model: str
    tag: str

    @property
    def short(self) -> str:
        """As Ollama lists it: without what goes without saying."""
        name = f"{self.model}:{self.tag}"
        if self.host != REGISTRY:
            return f"{self.host}/{self.namespace}/{name}"
        return name if self.namespace == "library" else f"{self.namespace}/{name}"

    def path(self, root: Path) -> Path:
        """Where its manifest lies."""
        return root / "manifests" / self.host / self.namespace / self.model / self.tag


def parse_name(text: str) -> Name:
    """Raises ValueError."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "https", text
    parts = rest.split("/")
    if len(parts) > 3 or _LAST.fullmatch(parts[-1]) is None:
        raise ValueError("invalid model name")
    model, _, tag = parts[-1].partition(":")
    namespace = parts[-2] if len(parts) > 1 else "library"
    return Name(scheme, parts[0] if len(parts) > 2 else REGISTRY, namespace, model, tag or "latest")


def human_number(count: int) -> str:
    """Parameters as Ollama shows them: `61.63K` is 62K, 7_600_000_000 is 7.6B."""
    for unit, size, digits in (("B", 1e9, 1), ("M", 1e6, 2), ("K", 1e3, 0)):
        if count >= size:
            value = count / size
            return f"{value:.0f}{unit}" if value == int(value) else f"{value:.{digits}f}{unit}"
    return str(count)


def parse_keep_alive(value: object, default_s: float = 300.0) -> float:
    """Seconds of a `keep_alive`: a number, or a duration as Go writes it; below 0 is for ever. Raises ValueError."""
    if value is None:
        return default_s
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str) and (match := _DURATION.fullmatch(value)) is not None:
        total = sum(float(amount) * _UNITS_S[unit] for amount, unit in _PART.findall(match[2]))
        seconds = -total if match[1] == "-" else total
    else:
        raise ValueError(f"time: invalid duration {value!r}")
    return math.inf if seconds < 0 else seconds
