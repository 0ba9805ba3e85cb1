"""What came over radios, beside the most that those who met could have carried."""

from __future__ import annotations

import pandas as pd
import pytest

from edgecoder_sim import encounters
from edgecoder_sim.distribution_data import downloads, files_table
from edgecoder_sim.encounters import Radio, meetings_of, over_bound
from edgecoder_sim.results import Run
from edgecoder_sim.runner import run_scenario
from edgecoder_sim.scenario import load_scenario

SCENARIO = load_scenario("village", ())
ANDROID, IPHONE = Radio("android", is_wide=True), Radio("ios", is_wide=False)


def test_a_contact_is_a_link_over_each_radio_that_both_have() -> None:
    ble, wifi = SCENARIO.radio.ble, SCENARIO.radio.wifi_direct
    assert wifi is not None
    contact = (0.0, 60.0, 0, 1)
    first, second = meetings_of(SCENARIO, [contact], {0: ANDROID, 1: ANDROID})
    assert first.setup_s == ble.setup_us / 1e6
    assert first.bytes_per_s == pytest.approx(1229 * 125, rel=1e-3)
    assert (second.setup_s, second.bytes_per_s) == (ble.setup_us / 1e6 + wifi.setup_ms / 2000, wifi.bytes_per_s)
    (only,) = meetings_of(SCENARIO, [contact], {0: ANDROID, 1: IPHONE})
    assert only.bytes_per_s == pytest.approx(243 * 125, rel=1e-2)
    assert meetings_of(SCENARIO, [contact], {0: ANDROID}) == []  # the other one is not there


@pytest.fixture(scope="module")
def village(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The first half hour of the village."""
    scenario = load_scenario("village", ("duration_s=1800", "checkers=false"))
    outcome = run_scenario(scenario, root=tmp_path_factory.mktemp("runs"), reproduce="")
    assert outcome.directory is not None
    return Run(outcome.directory)


def test_nothing_comes_that_nobody_could_have_carried(village: Run) -> None:
    found = downloads(village)
    shares = over_bound(village, found)
    assert shares.keys() <= set(found["model"])
    assert all(0.3 < share <= 1 for share in shares.values())
    rows = files_table(village)
    assert {row["model"]: row["radio_pct"] / 100 for row in rows if row["model"] in shares} == pytest.approx(shares)
    assert {row["why_no_oracle"] for row in rows} == {"there is no CDN"}
    assert pd.isna([row["over_alone"] for row in rows]).all()


def test_a_graph_that_is_too_large_is_left_alone(village: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encounters, "WORK_MAX", 1)
    assert over_bound(village, downloads(village)) == {}
