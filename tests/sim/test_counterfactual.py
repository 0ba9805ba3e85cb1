"""What else could have come of downloads: by hand, and against the model of the CDN that treats nodes by class."""

from __future__ import annotations

from math import inf
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecoder_sim.bounds.alone import ends_s
from edgecoder_sim.bounds.oracle import Cdn, NodeClass, cdn_alone_s
from edgecoder_sim.distribution_data import files_table
from edgecoder_sim.results import Run
from edgecoder_sim.runner import run_scenario
from edgecoder_sim.scenario import load_scenario


def alone(*downloads: tuple[float, float, int, float], egress: float = inf, connection: float = inf) -> list[float]:
    """The ends of downloads, each given by its begin, size, node and downlink."""
    began, size, node, down = (np.array(column, dtype=float) for column in zip(*downloads, strict=True))
    return ends_s(began, size, node.astype(np.int64), down, egress, connection).tolist()  # type: ignore[no-any-return]


def test_each_takes_what_its_links_carry() -> None:
    assert alone((0, 1000, 0, 100), (0, 1000, 1, 50)) == [10, 20]
    assert alone((0, 1000, 0, 100), connection=20) == [50]


def test_the_egress_is_shared_and_what_one_cannot_take_others_have() -> None:
    assert alone((0, 1000, 0, 1000), (5, 1000, 1, 1000), egress=100) == [15, 20]
    assert alone((0, 1000, 0, 1000), (0, 1000, 1, 20), egress=100) == [12.5, 50]


def test_two_downloads_of_a_node_share_its_downlink() -> None:
    assert alone((0, 1000, 0, 100), (0, 500, 0, 100)) == [15, 10]
    assert alone((0, 1000, 0, 100), (20, 500, 1, 100)) == [10, 25]


@given(
    st.lists(st.tuples(st.floats(0, 100), st.sampled_from([1e3, 1e4]), st.floats(1, 1e4)), min_size=1, max_size=12),
    st.sampled_from([inf, 100.0, 3000.0]),
    st.sampled_from([inf, 50.0]),
)
def test_it_is_the_cdn_of_the_oracle(drawn: list[tuple[float, float, float]], egress: float, connection: float) -> None:
    rows = [(began, size, node, down) for node, (began, size, down) in enumerate(drawn)]
    classes = [
        NodeClass(name=str(node), come_s=began, down_bytes_per_s=down, wants=(0 if size == 1e3 else 1,))
        for began, size, node, down in rows
    ]
    cdn = Cdn(egress_bytes_per_s=egress, per_connection_bytes_per_s=connection)
    expected = cdn_alone_s([1e3, 1e4], classes, cdn)
    assert alone(*rows, egress=egress, connection=connection) == pytest.approx(expected, rel=1e-6)


MIXED = ("phones.count=40", "agents.count=10", "radio.area_m=[60, 60]", "duration_s=300", "checkers=false")


@pytest.mark.parametrize(
    ("name", "sets", "are_new"),
    [
        ("missing_piece", ("agents.count=100", "duration_s=1800", "checkers=false"), True),
        ("mixed_city", MIXED, False),
    ],
)
def test_the_oracle_needs_no_more_copies_than_the_run(
    tmp_path: Path, name: str, sets: tuple[str, ...], *, are_new: bool
) -> None:
    outcome = run_scenario(load_scenario(name, sets), root=tmp_path, reproduce="")
    assert outcome.directory is not None
    rows = [row for row in files_table(Run(outcome.directory)) if not row["why_no_oracle"]]
    assert rows
    for row in rows:
        assert (1 - 1e-6 if are_new else 0) <= row["copies_oracle"] <= row["copies"] + 1e-6
        assert np.isnan(row["last_over_oracle"]) or row["last_over_oracle"] >= 1 - 1e-6
