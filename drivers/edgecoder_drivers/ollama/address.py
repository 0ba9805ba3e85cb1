"""Where an Ollama is, by Ollama's own rules for OLLAMA_HOST (its `envconfig`, `Host` and `ConnectableHost`)."""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Final

PORT: Final = 11434
_PORTS: Final = {"http": 80, "https": 443}
_PORT_MAX: Final = 65_535
_HOST: Final = re.compile(r"[\w.\-]+|\[.+\]")
_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - who listens everywhere is reached here


def address(said: str | None = None) -> str:
    """The address that somebody means; None: OLLAMA_HOST, else this machine. Raises ValueError where it is none."""
    text = (os.environ.get("OLLAMA_HOST", "") if said is None else said).strip().strip("\"'").strip()
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "http", text
        if text == "ollama.com":
            scheme, rest = "https", "ollama.com:443"
    default = _PORTS.get(scheme, PORT) if separator else PORT
    place, _, path = rest.partition("/")
    host, port = _split(place)
    host = _LOOPBACK.get(host, host)
    host = f"[{host}]" if ":" in host else host
    if scheme not in _PORTS or _HOST.fullmatch(host) is None:
        raise ValueError(f"{text!r} is no address")
    number = int(port) if re.fullmatch(r"[0-9]{1,9}", port) and int(port) <= _PORT_MAX else default
    return f"{scheme}://{host}:{number}" + (f"/{path.strip('/')}" if path.strip("/") else "")


def _split(place: str) -> tuple[str, str]:
    """Host, without brackets, and port. As in Go: a port follows the one colon that is not within brackets. Raises
    ValueError."""
    both = re.fullmatch(r"\[([^\[\]]*)\]:([^:]*)", place) or re.fullmatch(r"([^\[\]:]*):([^:]*)", place)
    host, port = both.groups() if both is not None else (place.strip("[]"), "")
    if ":" in host:
        host = str(ipaddress.ip_address(host))
    return host or "127.0.0.1", port
