"""Addresses of files: which may be asked, where their leaf hashes lie, and how they are shown."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit, urlunsplit

import msgspec

from edgecoder.models.catalog import CatalogEntry

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
    except ValueError:
        return "no address"
    if not parts.netloc:  # the login may be anywhere
        return url.partition("?")[0].rpartition("@")[2]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


class Logins:
    """Who asks, by server. The core's addresses have none: they are noted in journals, and shown."""

    def __init__(self) -> None:
        self._by_server: dict[tuple[str, str], str] = {}

    def taken_from(self, url: str) -> str:
        """An address without its login, which is remembered."""
        try:
            parts = urlsplit(url)
        except ValueError:  # who asks there says so
            return url
        login, at, server = parts.netloc.rpartition("@")
        if not at:
            return url
        self._by_server[parts.scheme, server] = login
        return urlunsplit(parts._replace(netloc=server))

    def without(self, entry: CatalogEntry) -> CatalogEntry:
        """An entry whose addresses have no logins."""
        urls = tuple(self.taken_from(url) for url in entry.download_urls)
        return msgspec.structs.replace(entry, download_urls=urls)

    def asking(self, url: str) -> str:
        """An address as it is asked: with its server's login, if there is one."""
        try:
            parts = urlsplit(url)
        except ValueError:
            return url
        login = self._by_server.get((parts.scheme, parts.netloc))
        return url if login is None else urlunsplit(parts._replace(netloc=f"{login}@{parts.netloc}"))
