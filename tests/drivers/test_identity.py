"""The node's key: made once, kept from others, and known by its id."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from edgecoder.core.ids import Role
from edgecoder.errors import ConfigError, Reason, RemoteProtocolError
from edgecoder.wire.envelope import ByteSigner, ByteVerifier, Header
from edgecoder.wire.messages import Identity as IdentityMessage
from edgecoder_drivers import identity as identity_module
from edgecoder_drivers.identity import Identity, KeyRing, load_identity


def test_a_key_is_made_once_and_only_its_user_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "node.key"
    first, second = load_identity(path), load_identity(path)
    assert first.node_id == second.node_id == hashlib.sha256(first.public_bytes).digest()
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["node.key"]


def test_of_two_that_are_made_at_once_one_counts(tmp_path: Path) -> None:
    path, made = tmp_path / "node.key", list[Identity]()
    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    late = threading.Thread(target=lambda: made.append(load_identity(path)))
    late.start()
    late.join(0.1)
    path.write_bytes(bytes(32))
    path.chmod(0o600)
    os.close(folder)
    late.join()
    assert [identity.node_id for identity in made] == [load_identity(path).node_id]
    assert path.read_bytes() == bytes(32)
    assert [file.name for file in tmp_path.iterdir()] == ["node.key"]


def test_a_key_is_made_where_the_system_has_no_links_and_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python on Android has no `os.link`; some file systems have neither."""

    def without(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.delattr(os, "link")
    monkeypatch.setattr(fcntl, "flock", without)
    first = load_identity(tmp_path / "node.key")
    assert load_identity(tmp_path / "node.key").node_id == first.node_id


def _full_at_sync(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def _full_in_between(handle: int, data: bytes, write: Callable[[int, bytes], int] = os.write) -> int:
    return write(handle, data[:10])


@pytest.mark.parametrize(("call", "fails"), [("fsync", _full_at_sync), ("write", _full_in_between)])
def test_a_full_disk_leaves_nothing_of_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, fails: Callable[..., object]
) -> None:
    with monkeypatch.context() as full:
        full.setattr(os, call, fails)
        with pytest.raises(OSError, match="No space left"):
            load_identity(tmp_path / "node.key")
    assert list(tmp_path.iterdir()) == []
    load_identity(tmp_path / "node.key")


def test_what_a_killed_start_left_is_in_nobodys_way(tmp_path: Path) -> None:
    """In a container each start has the same number."""
    (tmp_path / f"node.key.{os.getpid()}").write_bytes(b"")
    load_identity(tmp_path / "node.key")


def _is_folder(path: Path) -> None:
    path.mkdir()


def _is_dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


@pytest.mark.parametrize(("make", "problem"), [(_is_folder, "Is a directory"), (_is_dangling, "a link to nothing")])
def test_what_cannot_be_the_nodes_key_is_told(tmp_path: Path, make: Callable[[Path], None], problem: str) -> None:
    path = tmp_path / "node.key"
    make(path)
    with pytest.raises(ConfigError, match=problem):
        load_identity(path)


def test_a_key_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may be able to read it, as root is."""
    path, me = tmp_path / "node.key", os.geteuid()
    load_identity(path)
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(ConfigError, match=f"of another user, {me}; run as that user, or: chown {me + 1}"):
        load_identity(path)


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
    assert ring.knows(theirs.node_id)
    assert not ring.knows(bytes(32))


def test_no_more_keys_are_known_than_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity_module, "KEYS_MAX", 1)
    ring, first = KeyRing(), load_identity(tmp_path / "first")
    ring.add(first.public_bytes)
    ring.add(first.public_bytes)
    with pytest.raises(ValueError, match="1 keys are known"):
        ring.add(load_identity(tmp_path / "second").public_bytes)
