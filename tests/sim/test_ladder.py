"""The seed's order of sources beside the portfolio, over access networks: a ladder that has found a peer stays with it,
however slow it is; the portfolio is never slower than the CDN alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecoder.trace import DownloadPhase, PieceKept, PieceSought
from tests.sim.crowd import FILE_BYTES, UPLINK, Crowd

ALONE_S = FILE_BYTES * 8 / (UPLINK * 1e6)
"""What the CDN alone takes: every node has a connection of its own."""


class Downloads:
    """Twelve nodes, some of which have the file; the others want it at once."""

    def __init__(self, folder: Path, distribution: str, up_mbit_per_s: float) -> None:
        crowd = Crowd(
            folder,
            "agents.installed={release: 0.25}",
            "cdn.egress_mbit_per_s=null",
            f"networks.line.up_mbit_per_s={up_mbit_per_s}",
            f"config.distribution={distribution}",
            "duration_s=900",
        ).run()
        phases = [(at_us / 1e6, index, record) for at_us, index, record in crowd.records]
        begun = {index: at_s for at_s, index, record in phases if is_phase(record, "partial")}
        came = {index: at_s for at_s, index, record in phases if is_phase(record, "verifying")}
        self.took_s = {index: came[index] - begun[index] for index in begun}
        """How long each download took, but for its hash."""
        self.why = {record.why for record in crowd.of(PieceSought)}
        self.cdn_bytes = sum(record.size_bytes for record in crowd.of(PieceKept) if record.source == "cdn")

    @property
    def slowest_s(self) -> float:
        """The longest of them."""
        return max(self.took_s.values())


def is_phase(record: object, phase: str) -> bool:
    """Whether a download is there now."""
    return isinstance(record, DownloadPhase) and record.phase == phase


@pytest.mark.parametrize("up_mbit_per_s", [1.0, 4.0])
def test_slow_peers_hold_up_the_ladder_and_not_the_portfolio(up_mbit_per_s: float, tmp_path: Path) -> None:
    alone, ladder, portfolio = (
        Downloads(tmp_path, distribution, up_mbit_per_s) for distribution in ("cdn", "ladder", "portfolio")
    )
    assert len(alone.took_s) == len(ladder.took_s) == len(portfolio.took_s) >= 6
    assert alone.slowest_s == pytest.approx(ALONE_S, abs=1)
    assert all(took_s <= 1.05 * alone.took_s[index] + 1 for index, took_s in portfolio.took_s.items())
    assert ladder.slowest_s > 2 * alone.slowest_s
    assert ladder.why <= {"granted", "next_rung"}
    assert "behind" in portfolio.why
    assert ladder.cdn_bytes < portfolio.cdn_bytes < len(portfolio.took_s) * FILE_BYTES


def test_fast_peers_serve_both(tmp_path: Path) -> None:
    for distribution in ("ladder", "portfolio"):
        downloads = Downloads(tmp_path, distribution, 100.0)
        assert downloads.slowest_s < ALONE_S
        assert downloads.cdn_bytes < FILE_BYTES / 10
