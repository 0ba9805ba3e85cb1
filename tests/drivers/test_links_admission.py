"""Who is let in: a list, tokens that hold once, and both looked at anew each time."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec
import pytest

from edgecoder.core.ids import Role
from edgecoder.errors import ConfigError
from edgecoder_drivers.identity import Identity
from edgecoder_drivers.links import admission
from edgecoder_drivers.links.admission import Admission, Kind, read_list
from edgecoder_drivers.links.handshake import Guest, Peer, joining
from tests.drivers.mesh_rig import identity

A, B = identity(1), identity(2)


def guest(key: Identity, role: Role = Role.AGENT, token: str | None = None) -> Guest:
    """Who proved to have a key."""
    shown = () if token is None else (joining("another", b"digest"), joining(token, b"digest"))
    return Guest(Peer(key.node_id, role, key.public_bytes), b"digest", shown)


def test_nobody_is_let_in_who_is_not_named(tmp_path: Path) -> None:
    door = Admission(tmp_path)
    assert not door.admits(guest(A))
    assert not door.admits(guest(A, token="made up"))


def test_the_list_says_who_may_come_as_what(tmp_path: Path) -> None:
    listed = tmp_path / "list"
    listed.write_text(f"# ours\nmember {A.node_id.hex()}  # Ann's laptop\n\ncoordinator {B.node_id.hex().upper()}\n")
    door = Admission(tmp_path, listed)
    assert door.admits(guest(A))
    assert door.admits(guest(A, Role.PHONE))
    assert not door.admits(guest(A, Role.COORDINATOR))
    assert door.admits(guest(B, Role.COORDINATOR))
    assert not door.admits(guest(B))


def test_the_list_is_read_anew(tmp_path: Path) -> None:
    door = Admission(tmp_path)
    (tmp_path / "members.txt").write_text(f"member {A.node_id.hex()}\n")
    assert door.admits(guest(A))
    (tmp_path / "members.txt").write_text("member\n")
    assert not door.admits(guest(A)), "a list that is wrong lets nobody in"


@pytest.mark.parametrize(
    "line",
    ["member", "member xyz", "friend " + "0" * 64, "member " + "0" * 62, "member " + "0" * 64 + " more", "0" * 64],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "members.txt"
    path.write_text(f"# fine\n{line}\n")
    with pytest.raises(ConfigError, match=r"members\.txt:2: .*names no node"):
        Admission(tmp_path)


def test_a_list_that_is_not_there_is_told_when_it_was_asked_for(tmp_path: Path) -> None:
    assert read_list(tmp_path / "members.txt") == set()
    with pytest.raises(ConfigError, match="no such file"):
        Admission(tmp_path, tmp_path / "nowhere")


def test_a_coordinator_that_is_dialled_may_dial(tmp_path: Path) -> None:
    door = Admission(tmp_path, neighbours=frozenset({B.node_id}))
    assert door.admits(guest(B, Role.COORDINATOR))
    assert not door.admits(guest(B))


def test_a_token_holds_once_and_for_good(tmp_path: Path) -> None:
    door = Admission(tmp_path)
    token = door.invite()
    assert not door.admits(guest(A, Role.COORDINATOR, token)), "not as what it was not made for"
    assert door.admits(guest(A, token=token))
    assert not door.admits(guest(B, token=token))
    again = Admission(tmp_path)
    assert again.admits(guest(A)), "in the next life too"
    assert again.public_keys() == [A.public_bytes]
    assert not again.admits(guest(A, Role.COORDINATOR))
    (tmp_path / "enrolled" / A.public_bytes.hex()).unlink()
    assert not door.admits(guest(A)), "a file that is deleted ends it"


def test_a_token_runs_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    door = Admission(tmp_path)
    monkeypatch.setattr(admission, "VALID_S", -1)
    token = door.invite()
    assert not door.admits(guest(A, token=token))


def test_of_many_that_come_with_one_token_one_gets_in(tmp_path: Path) -> None:
    door, start = Admission(tmp_path), threading.Barrier(8)
    token, results = door.invite(), list[bool]()

    def come(number: int) -> None:
        start.wait()
        results.append(door.admits(guest(identity(number), token=token)))

    threads = [threading.Thread(target=come, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False] * 7 + [True]
    assert len(door.public_keys()) == 1


def test_only_its_user_can_read_a_token(tmp_path: Path) -> None:
    Admission(tmp_path).invite(Kind.COORDINATOR)
    (path,) = (tmp_path / "invitations").iterdir()
    assert path.stat().st_mode & 0o077 == 0
    assert msgspec.json.decode(path.read_bytes())["kind"] == "coordinator"


def test_what_else_lies_there_is_passed_over(tmp_path: Path) -> None:
    door = Admission(tmp_path)
    token = door.invite()
    for folder in ("invitations", "enrolled"):
        (tmp_path / folder / "notes").write_bytes(b"\xff\x00")
        (tmp_path / folder / "left.part").write_bytes(b"{}")
    assert door.admits(guest(A, token=token))
    assert door.public_keys() == [A.public_bytes]
