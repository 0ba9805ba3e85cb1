"""What a node may load: platform, memory, and whether the file is there."""

from __future__ import annotations

import pytest

from edgecoder.config import NodeConfig
from edgecoder.errors import Reason
from edgecoder.models.admission import admit, memory_needed_mb
from edgecoder.models.catalog import Platform
from edgecoder.models.inventory import DownloadStep
from tests.catalogs import AGENT_ONLY, HUGE, MIB, SMALL, entry
from tests.harness import Cluster

CONFIG = NodeConfig(memory_mb=2_000, memory_share_pct=50, context_tokens=1_000, engine_overhead_mb=100)


@pytest.mark.parametrize(
    ("file_bytes", "kv_bytes", "floor_mb", "needed_mb"),
    [
        (64 * MIB, 0, 1, 164),
        (64 * MIB + 1, 0, 1, 165),
        (64 * MIB, MIB, 1, 1_164),
        (64 * MIB, 0, 500, 500),
    ],
)
def test_memory_is_file_cache_and_engine_and_no_less_than_the_floor(
    file_bytes: int, kv_bytes: int, floor_mb: int, needed_mb: int
) -> None:
    model = entry("m", file_size_bytes=file_bytes, kv_bytes_per_token=kv_bytes, min_memory_mb=floor_mb)
    assert memory_needed_mb(model, CONFIG) == needed_mb


def test_a_refusal_names_the_first_obstacle(cluster: Cluster) -> None:
    phone = cluster.add("phone", config=CONFIG)
    cluster.drive()
    inventory = phone.member.inventory
    fits, too_big = entry("fits", min_memory_mb=1_000), entry("big", min_memory_mb=1_001)
    assert admit(AGENT_ONLY, Platform.IOS, CONFIG, inventory) is Reason.INCOMPATIBLE
    assert admit(too_big, Platform.IOS, CONFIG, inventory) is Reason.INSUFFICIENT_MEMORY
    assert admit(fits, Platform.IOS, CONFIG, inventory) is Reason.NOT_INSTALLED
    for step in (DownloadStep.WANTED, DownloadStep.ARRIVED, DownloadStep.MATCHED):
        assert admit(fits, Platform.IOS, CONFIG, inventory) is Reason.NOT_INSTALLED
        assert inventory.step(fits, step)
    assert admit(fits, Platform.IOS, CONFIG, inventory) is None
    assert inventory.step(fits, DownloadStep.CRASHED_TOO_OFTEN)
    assert admit(fits, Platform.IOS, CONFIG, inventory) is Reason.QUARANTINED


def test_asking_changes_nothing(cluster: Cluster) -> None:
    phone = cluster.add("phone", installed=[SMALL])
    cluster.drive()
    before = dict(phone.member.inventory._rows)
    assert phone.member.models.admits(HUGE) is Reason.INSUFFICIENT_MEMORY
    assert phone.member.inventory._rows == before
