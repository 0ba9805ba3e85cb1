"""The node's key: made once, kept from others, and known by its id."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from edgecoder.core.ids import Role
from edgecoder.errors import ConfigError, Reason, RemoteProtocolError
from edgecoder.wire.envelope import ByteSigner, ByteVerifier, Header
from edgecoder.wire.messages import Identity as IdentityMessage
from edgecoder_drivers import identity as identity_module
from edgecoder_drivers.identity import KeyRing, load_identity


def test_a_key_is_made_once_and_only_its_user_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "node.key"
    first, second = load_identity(path), load_identity(path)
    assert first.node_id == second.node_id == hashlib.sha256(first.public_bytes).digest()
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["node.key"]


def test_of_two_that_are_made_at_once_one_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "node.key"
    other = load_identity(path)
    monkeypatch.setattr(Path, "read_bytes", _missing_once(Path.read_bytes))
    assert load_identity(path).node_id == other.node_id
    assert [file.name for file in tmp_path.iterdir()] == ["node.key"]


def _missing_once(read: object) -> object:
    calls: list[Path] = []

    def read_bytes(path: Path) -> bytes:
        calls.append(path)
        if len(calls) == 1:
            raise FileNotFoundError
        return read(path)  # type: ignore[operator,no-any-return]

    return read_bytes


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    load_identity(path)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match=r"others may read .* chmod 600"):
        load_identity(path)


def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    path.write_bytes(b"short")
    with pytest.raises(ConfigError, match="5 bytes are no Ed25519 key"):
        load_identity(path)


def test_who_is_known_is_believed_and_nobody_else(tmp_path: Path) -> None:
    ours, theirs = load_identity(tmp_path / "ours"), load_identity(tmp_path / "theirs")
    ring = KeyRing()
    verifier = ByteVerifier(ring, "edgecoder")
    message = IdentityMessage(role=Role.AGENT, device_type=None, cluster_config_hash=bytes(8))  # type: ignore[arg-type]
    frame = ByteSigner(theirs).seal(Header("edgecoder", theirs.node_id, 1, 1, 1000), message)
    with pytest.raises(RemoteProtocolError) as unknown:
        verifier.open(frame)
    assert unknown.value.reason is Reason.BAD_SIGNATURE
    assert ring.add(theirs.public_bytes) == theirs.node_id
    forged = ByteSigner(ours).seal(Header("edgecoder", theirs.node_id, 1, 1, 1000), message)
    with pytest.raises(RemoteProtocolError):
        verifier.open(forged)
    assert ring.verify(theirs.node_id, b"data", theirs.sign(b"data"))
    assert not ring.verify(theirs.node_id, b"date", theirs.sign(b"data"))


def test_no_more_keys_are_known_than_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity_module, "KEYS_MAX", 1)
    ring, first = KeyRing(), load_identity(tmp_path / "first")
    ring.add(first.public_bytes)
    ring.add(first.public_bytes)
    with pytest.raises(ValueError, match="1 keys are known"):
        ring.add(load_identity(tmp_path / "second").public_bytes)
