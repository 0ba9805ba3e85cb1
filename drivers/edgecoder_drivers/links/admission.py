"""Who may link to a coordinator: the nodes that its operator has listed, and those that came with a join token.

The list is a file, one node a line: `member` or `coordinator`, and the node's id. Each token is a file in
`invitations/`; whoever comes with it gets in for good, because the file moves to `enrolled/` under the node's key. That
one rename is both the end of the token and the begin of the membership, so no crash and no race gives it out twice.
Deleting a file in `enrolled/`, or a line, ends a membership; all is looked at anew for each node that comes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import threading
import time
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Final

import msgspec
import structlog

from edgecoder.core.ids import NodeId, Role
from edgecoder.errors import UNREADABLE, ConfigError
from edgecoder_drivers.links.handshake import Guest

TOKEN_BYTES: Final = 16
VALID_S: Final = 7 * 86_400
LIST_BYTES_MAX: Final = 8 << 20
INVITATIONS_MAX: Final = 1024
_KEY: Final = re.compile("[0-9a-f]{64}")
"""A public key as it names a file."""
_log = structlog.get_logger("edgecoder.links")


class Kind(Enum):
    """What a node may come as."""

    MEMBER = "member"
    COORDINATOR = "coordinator"

    @staticmethod
    def of(role: Role) -> Kind:
        """The kind of a role."""
        return Kind.COORDINATOR if role is Role.COORDINATOR else Kind.MEMBER


class _Invitation(msgspec.Struct, frozen=True):
    token: str
    kind: Kind
    until_s: int
    """Unix time."""


class Admission:
    """The `handshake.Door` of a coordinator."""

    def __init__(self, folder: Path, listed: Path | None = None, neighbours: frozenset[NodeId] = frozenset()) -> None:
        """`listed` is the list; `neighbours` are coordinators that are trusted because this one dials them. Raises
        ConfigError where the list is wrong."""
        self._invitations = folder / "invitations"
        self._enrolled = folder / "enrolled"
        self._listed = listed or folder / "members.txt"
        self._neighbours = neighbours
        if listed is not None and not listed.exists():
            raise ConfigError(str(listed), None, "there is no such file", "give the list of members")
        self._read: tuple[object, set[tuple[Kind, NodeId]]] = (None, set())
        self._lock = threading.Lock()
        self._members()

    def admits(self, guest: Guest) -> bool:
        """See `handshake.Door`."""
        peer, kind = guest.peer, Kind.of(guest.peer.role)
        if kind is Kind.COORDINATOR and peer.node in self._neighbours:
            return True
        if self._enrolled_as(peer.public) is kind:
            return True
        try:
            if (kind, peer.node) in self._members():
                return True
        except ConfigError as error:
            _log.error("the list of members is not used", error=str(error))
        return bool(guest.joining) and self._redeem(guest, kind)

    def invite(self, kind: Kind = Kind.MEMBER) -> str:
        """Make a token that lets one node in."""
        token = secrets.token_hex(TOKEN_BYTES)
        for folder in (self._invitations, self._enrolled):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._invitations / hashlib.sha256(token.encode()).hexdigest()
        part = path.with_suffix(".part")
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(handle, msgspec.json.encode(_Invitation(token, kind, int(time.time()) + VALID_S)))
            os.fsync(handle)
        finally:
            os.close(handle)
        part.rename(path)
        _sync(self._invitations)
        return token

    def public_keys(self) -> list[bytes]:
        """The public keys of those that came with a token."""
        return [bytes.fromhex(path.name) for path in _files(self._enrolled) if _KEY.fullmatch(path.name)]

    def _members(self) -> set[tuple[Kind, NodeId]]:
        """The list as it is now, read where it has changed. Raises ConfigError."""
        with self._lock:
            seen: object = None
            with contextlib.suppress(OSError):
                found = self._listed.stat()
                seen = (found.st_mtime_ns, found.st_size, found.st_ino)
            if seen is None or seen != self._read[0]:
                self._read = (None, set())
                self._read = (seen, read_list(self._listed))
            return self._read[1]

    def _enrolled_as(self, public: bytes) -> Kind | None:
        invitation = _read(self._enrolled / public.hex())
        return None if invitation is None else invitation.kind

    def _redeem(self, guest: Guest, kind: Kind) -> bool:
        now_s = time.time()
        for path in _files(self._invitations)[:INVITATIONS_MAX]:
            invitation = _read(path)
            if invitation is None or not guest.has(invitation.token):
                continue
            if invitation.kind is not kind or invitation.until_s < now_s:
                return False
            try:
                path.rename(self._enrolled / guest.peer.public.hex())
            except FileNotFoundError:  # another was faster
                return False
            for folder in (self._enrolled, self._invitations):
                _sync(folder)
            _log.info("enrolled", node=guest.peer.node.hex(), kind=kind.value)
            return True
        return False


def read_list(path: Path) -> set[tuple[Kind, NodeId]]:
    """The nodes of a list; none where there is no file. Raises ConfigError with the line."""
    try:
        if path.stat().st_size > LIST_BYTES_MAX:
            raise ConfigError(str(path), None, "the list is too long", f"at most {LIST_BYTES_MAX} bytes")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return set()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), None, f"no list: {error}", "one node a line: member NODE-ID") from None
    return set(_entries(path, text))


def _entries(path: Path, text: str) -> Iterator[tuple[Kind, NodeId]]:
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            kind, node = Kind(words[0]), bytes.fromhex(words[1])
        except (ValueError, IndexError):
            kind, node = Kind.MEMBER, b""
        if len(words) != 2 or len(node) != 32:
            hint = "write `member NODE-ID` or `coordinator NODE-ID`, 64 hex digits"
            raise ConfigError(str(path), number, f"{line.strip()[:80]!r} names no node", hint)
        yield kind, node


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.suffix)
    except FileNotFoundError:
        return []


def _read(path: Path) -> _Invitation | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Invitation)
    except (OSError, *UNREADABLE):
        return None


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
