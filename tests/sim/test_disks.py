"""Disks with a size: who has no room for a release says so and keeps nothing of it, and all others get it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edgecoder.core.events import PullModel, RemoveModel
from edgecoder.errors import Reason
from edgecoder.models.inventory import KEY as INVENTORY_KEY
from edgecoder.models.inventory import DownloadState, FileRow
from edgecoder.trace import DownloadPhase
from edgecoder_sim.host import Disk, SimNode
from edgecoder_sim.storage import Storage
from tests.catalogs import LARGE, SMALL
from tests.sim.crowd import FILE_BYTES, MIB, MODEL, YAML
from tests.sim.told import Told

OLD, OLD_BYTES = "old", 8 * MIB
RELEASE_SHA, OLD_SHA = "5c" * 32, "0d" * 32
OLDER = f"""  - modelId: {OLD}
    displayName: An older one
    paramSize: 1
    quantization: Q4
    fileSizeBytes: {OLD_BYTES}
    sha256: {OLD_SHA}
    minMemoryMb: 512
    platforms: [node]
networks:
"""


class Room(Told):
    """A crowd that has an older model. The workstations in it lack one byte of the room for the release."""

    def __init__(self, folder: Path, *sets: str) -> None:
        full = f"devices.workstation.disk_free_gb={(FILE_BYTES - 1) / 1e9:.9f}"
        kinds = ("agents.count=9", "agents.devices={laptop: 2, workstation: 1}", "agents.installed={old: 1}", full)
        super().__init__(folder, YAML.replace("networks:\n", OLDER), *kinds, *sets)

    def agents(self, device: str) -> list[SimNode]:
        """The nodes on a device."""
        return [place.sim for place in self.world.agents if place.sim.device_name == device]

    def ends(self, sim: SimNode) -> tuple[str, Reason | None]:
        """The state in which a node's download was left, and the last reason that was told."""
        phases = [record for record in self.of(DownloadPhase, sim.index) if record.model == MODEL]
        reasons = [record.reason for record in phases if record.reason is not None]
        return phases[-1].phase, reasons[-1] if reasons else None

    def known(self, sim: SimNode) -> set[str]:
        """SHA-256 of the files that a node's durable rows tell of."""
        rows = msgspec.msgpack.decode(sim.disk[INVENTORY_KEY], type=dict[str, FileRow])
        return {digest for digest, row in rows.items() if row.state is not DownloadState.ABSENT}


@pytest.mark.parametrize("distribution", ["portfolio", "ladder", "cdn"])
def test_who_has_no_room_says_so_and_the_others_get_it(distribution: str, tmp_path: Path) -> None:
    room = Room(tmp_path, f"config.distribution={distribution}").run()
    full, others = room.agents("workstation"), room.agents("laptop")
    assert len(full) >= 2
    assert len(others) >= 4
    for sim in full:
        assert room.ends(sim) == ("absent", Reason.DISK_FULL)
        assert sim.storage.files == {OLD_SHA: OLD_BYTES}
        assert room.known(sim) == {OLD_SHA}
    for sim in others:
        assert room.ends(sim) == ("installed", None)
        assert sim.storage.files == {OLD_SHA: OLD_BYTES, RELEASE_SHA: FILE_BYTES}


def test_after_a_removal_there_is_room(tmp_path: Path) -> None:
    room = Room(tmp_path).run(until_s=60)
    sim = room.agents("workstation")[0]
    sim.post(RemoveModel(1_001, OLD))
    room.run(until_s=61)
    assert sim.storage.files == {}
    sim.post(PullModel(1_002, MODEL))
    room.run()
    assert room.ends(sim)[0] == "installed"
    assert sim.storage.files == {RELEASE_SHA: FILE_BYTES}


def test_a_quota_counts_like_the_end_of_the_disk(tmp_path: Path) -> None:
    room = Room(tmp_path, "agents.devices={laptop: 1}", f"config.agents.disk_mb_max={FILE_BYTES // MIB}").run()
    for sim in room.agents("laptop"):
        assert room.of(DownloadPhase, sim.index) == []
        assert sim.storage.files == {OLD_SHA: OLD_BYTES}


@pytest.mark.parametrize("distribution", ["portfolio", "cdn"])
@pytest.mark.parametrize("disk", Disk)
def test_what_is_on_a_disk_outlives_a_crash(disk: Disk, distribution: str, tmp_path: Path) -> None:
    """A file that is partly here counts once when it is fetched on, and an old copy brings old files."""
    room = Room(tmp_path, f"config.distribution={distribution}").run(until_s=5)
    sim = room.agents("laptop")[0]
    sim.back_up()
    room.run(until_s=15)
    assert sim.storage.used_bytes == OLD_BYTES + FILE_BYTES
    assert room.known(sim) == {OLD_SHA, RELEASE_SHA}
    sim.storage.size_bytes = OLD_BYTES + FILE_BYTES
    sim.crash()
    sim.restart(1_767_258_016_000, disk)
    there = {Disk.KEPT: {OLD_SHA, RELEASE_SHA}, Disk.LOST: set(), Disk.OLD_COPY: {OLD_SHA}}[disk]
    assert set(sim.storage.files) == there
    room.run()
    assert (room.ends(sim)[0] == "installed") is (disk is Disk.KEPT)
    assert set(sim.storage.files) == there


def test_a_disk_takes_what_fits() -> None:
    storage = Storage(SMALL.file_size_bytes)
    storage.furnish(LARGE)
    assert storage.take(LARGE)
    assert storage.take(SMALL)
    assert storage.take(SMALL)
    assert storage.used_bytes == storage.size_bytes == SMALL.file_size_bytes + LARGE.file_size_bytes
    storage.free(LARGE)
    storage.free(LARGE)
    assert storage.used_bytes == SMALL.file_size_bytes
    assert not Storage(SMALL.file_size_bytes - 1).take(SMALL)
    assert Storage(None).take(SMALL)
