"""Who a node is: an Ed25519 key in a file that only its user can read; its id is the SHA-256 of the public key."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import tempfile
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from edgecoder.core.ids import NodeId
from edgecoder.errors import ConfigError

KEY_BYTES = 32
KEYS_MAX = 65_536
"""Public keys that are known at once."""


class Identity:
    """A private key. A `SigningKey` of the core."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public_bytes = key.public_key().public_bytes_raw()
        self.node_id: NodeId = hashlib.sha256(self.public_bytes).digest()

    def sign(self, data: bytes) -> bytes:
        """The 64 bytes of an Ed25519 signature (RFC 8032), the same each time."""
        return self._key.sign(data)


def load_identity(path: Path) -> Identity:
    """The key in a file, a new one where there is no file yet. Raises ConfigError where it is no key, or where others
    may read it, and OSError where a new one cannot be kept."""
    try:
        return _load(path)
    except FileNotFoundError:
        return _create(path)


def _load(path: Path) -> Identity:
    try:
        raw, about = path.read_bytes(), path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            hint = f"restore {path.readlink()}, or remove the link for a new key"
            raise ConfigError(str(path), None, "the node's key is a link to nothing", hint) from None
        raise
    except OSError as error:
        raise ConfigError(str(path), None, f"no key: {error.strerror}", "restore the node's key") from None
    if len(raw) != KEY_BYTES:
        raise ConfigError(str(path), None, f"{len(raw)} bytes are no Ed25519 key", f"it has {KEY_BYTES}; restore it")
    if about.st_mode & 0o077:
        raise ConfigError(str(path), None, "others may read the node's key", f"run: chmod 600 {path}")
    if about.st_uid != os.geteuid():
        hint = f"run as that user, or: chown {os.geteuid()} {path}"
        raise ConfigError(str(path), None, f"the node's key is of another user, {about.st_uid}", hint)
    return Identity(Ed25519PrivateKey.from_private_bytes(raw))


def _create(path: Path) -> Identity:
    """Make a key. It is synced under its name before anybody hears of it; of two that are made at once one counts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks; there the store keeps two nodes apart
            fcntl.flock(folder, fcntl.LOCK_EX)
        if os.path.lexists(path):
            return _load(path)
        key = Ed25519PrivateKey.generate()
        _write(path, key.private_bytes_raw())
        os.fsync(folder)
    finally:
        os.close(folder)
    return Identity(key)


def _write(path: Path, raw: bytes) -> None:
    """Give a file its name when it is whole. Links would do without a lock, and Android has none."""
    handle, part = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    try:
        try:
            if os.write(handle, raw) != len(raw):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.fsync(handle)
        finally:
            os.close(handle)
        Path(part).replace(path)
    except BaseException:
        Path(part).unlink()
        raise


class KeyRing:
    """The public keys that are known. `VerifyingKeys` of the core."""

    def __init__(self) -> None:
        self._keys: dict[NodeId, Ed25519PublicKey] = {}

    def add(self, public_bytes: bytes) -> NodeId:
        """Know a key; the node that has it. Raises ValueError where it is none, or where there are too many."""
        node = hashlib.sha256(public_bytes).digest()
        if node not in self._keys:
            if len(self._keys) >= KEYS_MAX:
                raise ValueError(f"{KEYS_MAX} keys are known already")
            self._keys[node] = Ed25519PublicKey.from_public_bytes(public_bytes)
        return node

    def verify(self, sender: NodeId, data: bytes, signature: bytes, public_key: bytes = b"") -> bool:
        """Whether the signature is the sender's over `data`. Nobody vouches for one who is not known, but for a
        `public_key` that hashes to the sender's id."""
        key = self._keys.get(sender)
        try:
            if key is None:
                if hashlib.sha256(public_key).digest() != sender:
                    return False
                key = Ed25519PublicKey.from_public_bytes(public_key)
            key.verify(signature, data)
        except (InvalidSignature, ValueError):
            return False
        return True

    def knows(self, sender: NodeId) -> bool:
        """See `VerifyingKeys`."""
        return sender in self._keys
