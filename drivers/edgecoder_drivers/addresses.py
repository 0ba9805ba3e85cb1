"""Addresses of files: which may be asked, where their leaf hashes lie, and how they are shown."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit, urlunsplit

LEAVES = ".leaves"
"""What the address of a file's leaf hashes has more than the file's."""


def is_safe(scheme: str, host: str) -> bool:
    """Whether nobody between can change what comes, or read what is asked for."""
    return scheme == "https" or (scheme == "http" and _is_this_machine(host))


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def beside(url: str) -> str:
    """The address of a file's leaf hashes."""
    try:
        parts = urlsplit(url)
    except ValueError:  # who asks there sees it
        return url + LEAVES
    return urlunsplit(parts._replace(path=parts.path + LEAVES))


def shown(url: str) -> str:
    """An address without what is secret in some: who asks, and the signature of a query."""
    try:
        parts = urlsplit(url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    except ValueError:
        return "no address"
