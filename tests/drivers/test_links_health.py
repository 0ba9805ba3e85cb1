"""What `edgecoder doctor` says of the coordinators of a configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecoder_drivers.links.health import check_coordinator, checks
from tests.drivers.mesh_rig import address, coordinator, identity, run


def test_a_coordinator_is_looked_at_and_nobody_enrolled(tmp_path: Path) -> None:
    async def test() -> None:
        async with coordinator(tmp_path) as hub:
            token = hub.admission.invite()
            check = await check_coordinator(address(hub), "edgecoder")
            assert check.ok, check
            assert check.detail == "answers, and has this key"
            wrong = await check_coordinator(f"{identity(5).node_id.hex()}@127.0.0.1:{hub.port}", "edgecoder")
            assert not wrong.ok
            assert "another node was dialled" in wrong.detail
            other = await check_coordinator(address(hub), "another")
            assert "the envelope is of another network" in other.hint
            gone = f"{hub.node_id.hex()}@127.0.0.1:{hub.port}"
            assert hub.links == (0, 0)
            assert [path.name for path in (tmp_path / "enrolled").iterdir()] == []
            assert token
        check = await check_coordinator(gone, "edgecoder")
        assert not check.ok
        assert "node.coordinators" in check.hint

    run(test())


def test_without_coordinators_there_is_nothing_to_look_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGECODER_CONFIG", "")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert checks() == []
    monkeypatch.setenv("EDGECODER_NODE_COORDINATORS", f"[{'0' * 64}@127.0.0.1:1]")
    (check,) = checks()
    assert (check.scope, check.name, check.ok) == ("agent", "coordinator 00000000@127.0.0.1:1", False)
    monkeypatch.setenv("EDGECODER_NODE_COORDINATORS", "[nonsense]")
    (check,) = checks()
    assert "'nonsense' is no coordinator" in check.detail
