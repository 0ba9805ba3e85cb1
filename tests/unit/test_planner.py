"""When the CDN is asked because no peer gives a sign."""

from __future__ import annotations

import pytest

from edgecoder.core.effects import Source
from edgecoder.core.ids import Micros
from edgecoder.seeding.planner import PortfolioPlanner, View, Why

SECOND: Micros = 1_000_000
MB = 1_000_000


def view(now_s: float, left_mb: int) -> View:
    """A file of 100 MB, of which the CDN alone gives 1 MB/s from moment 0 on; no peer has been asked since."""
    return View(
        now=round(now_s * SECOND),
        began=0,
        alone_ends=100 * SECOND,
        bytes_begun=100 * MB,
        bytes_left=left_mb * MB,
        bytes_free=left_mb * MB,
        peers_asked=0,
        peer_sign_at=0,
        cdn_bytes_per_s=MB,
        cdn_first_byte=0,
        rtt=SECOND // 10,
        peers_end=0,
        is_cdn_up=True,
        prices=dict.fromkeys(Source, 0),
        alone_end={},
    )


@pytest.mark.parametrize(("left_mb", "grace_s"), [(100, 1), (96, 1), (80, 5)])
def test_peers_have_more_time_for_a_sign_where_the_download_is_ahead_of_the_cdn_alone(
    left_mb: int, grace_s: float
) -> None:
    plan = PortfolioPlanner().plan
    assert plan(view(grace_s - 0.1, left_mb)).why is None
    assert plan(view(grace_s, left_mb)).why is Why.ALONE
    assert plan(view(grace_s - 0.1, left_mb)).look_again == grace_s * SECOND
