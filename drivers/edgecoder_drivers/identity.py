"""Who a node is: an Ed25519 key in a file that only its user can read; its id is the SHA-256 of the public key."""

from __future__ import annotations

import hashlib
import os
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
    may read it."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return _create(path)
    if len(raw) != KEY_BYTES:
        raise ConfigError(str(path), None, f"{len(raw)} bytes are no Ed25519 key", f"it has {KEY_BYTES}; restore it")
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise ConfigError(str(path), None, "others may read the node's key", f"run: chmod 600 {path}")
    return Identity(Ed25519PrivateKey.from_private_bytes(raw))


def _create(path: Path) -> Identity:
    """Make a key. It is synced under its name before anybody hears of it; of two that are made at once one counts."""
    key = Ed25519PrivateKey.generate()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(handle, key.private_bytes_raw())
        os.fsync(handle)
    finally:
        os.close(handle)
    try:
        os.link(part, path)
    except FileExistsError:
        return load_identity(path)
    finally:
        part.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return Identity(key)


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

    def verify(self, sender: NodeId, data: bytes, signature: bytes) -> bool:
        """Whether the signature is the sender's over `data`; nobody vouches for one who is not known."""
        key = self._keys.get(sender)
        if key is None:
            return False
        try:
            key.verify(signature, data)
        except InvalidSignature:
            return False
        return True
