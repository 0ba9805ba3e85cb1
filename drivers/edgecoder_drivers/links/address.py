"""Where a coordinator listens: HOST or HOST:PORT, an IPv6 address in brackets."""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import urlsplit

PORT: Final = 4301
PATH: Final = "/mesh/link"


def split(endpoint: str) -> tuple[str, int]:
    """Host and port. Raises ValueError."""
    parts = urlsplit(f"//{endpoint}")
    host, port = parts.hostname, parts.port  # the port is judged when it is looked at
    if not host or parts.path or parts.query or parts.fragment or parts.username is not None:
        raise ValueError(f"{endpoint!r} is no address; it is HOST:PORT")
    return host, PORT if port is None else port


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by its name alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_at_home(host: str) -> bool:
    """Whether an address is of this machine or of a private network, where no proxy leads."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return is_loopback(host)
