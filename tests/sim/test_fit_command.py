"""`edgecoder fit`, as it reads: journals of real nodes in, a scenario that runs out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from benchmarks.socket_swarm import MIB, SetUp, run
from edgecoder import __version__
from edgecoder.core.events import SwapModel
from edgecoder.errors import ConfigError
from edgecoder.journal.format import MARK, framed, lives
from edgecoder.models.swap import Swap
from edgecoder.trace import Record, TransferEnded
from edgecoder_sim.commands.fit import command
from edgecoder_sim.fit.record import read
from edgecoder_sim.fit.scenario import fitted
from edgecoder_sim.host import SimNode
from edgecoder_sim.recorder import Recorder
from edgecoder_sim.scenario import load_scenario
from edgecoder_sim.world import World
from tests.catalogs import SMALL
from tests.drivers.memory import MemoryDriver
from tests.drivers.rig import has, living
from tests.hostile import near

APP = typer.Typer()
APP.command()(command)
SWARM = SetUp(
    uplinks_bytes_per_s=(MIB, MIB, MIB // 4),
    file_size_bytes=MIB,
    piece_size_bytes=64 * 1024,
    origin_bytes_per_s=MIB,
    processes=1,
    journals=True,
)


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The journals of three agents and their coordinator, over real sockets."""
    folder = tmp_path_factory.mktemp("swarm")
    run(SWARM, folder)
    return sorted(folder.glob("*/journal"))


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The journal of one node that has no coordinator."""
    path = tmp_path_factory.mktemp("one") / "life.journal"

    async def live() -> None:
        async with living([MemoryDriver()], has(SMALL), journal=path) as host:
            await host.ask(SwapModel, model="small")

    asyncio.run(live())
    return path


def fit(*arguments: object) -> str:
    result = CliRunner().invoke(APP, [str(each) for each in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def mistake(*paths: Path, out: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        command(list(paths), out)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_a_recorded_swarm_is_a_scenario_that_runs(swarm: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "my mesh.yaml"
    told = fit(*swarm, "--out", out)
    assert f"edgecoder run {out}" in told.splitlines()[-1]
    scenario = load_scenario(out)
    assert (scenario.name, scenario.agents.count, scenario.coordinators.count) == ("my-mesh", 3, 1)
    assert scenario.catalog[0].layout.piece_count == 16
    assert sorted(scenario.agents.networks.values()) == [1, 2]
    assert scenario.cluster_config().cdn_egress_kbit_per_s == MIB // 125
    assert scenario.workload.pulls[0].share == 1
    ended: list[Record] = []
    world = World(scenario)

    def note(_: SimNode, record: Record) -> None:
        ended.extend([record] if isinstance(record, TransferEnded) and record.reason is None else [])

    world.watch.traced = note  # type: ignore[method-assign, assignment]
    world.start_users(Recorder(None, world.describe(), scenario.sample_interval_us))
    world.kernel.run(scenario.duration_us)
    assert len(ended) == 3


def test_each_figure_says_where_it_comes_from(swarm: list[Path]) -> None:
    lines = fit(*swarm).splitlines()
    for basis in ("measured", "set", "default"):
        assert any(f"# {basis}: " in line for line in lines)
    latency = next(index for index, line in enumerate(lines) if "latency_ms" in line)
    assert "heartbeats, there and back: median of" in lines[latency - 1] + lines[latency]
    assert max(map(len, lines)) <= 160


def test_what_is_printed_is_a_scenario_too(swarm: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "printed.yaml"
    path.write_text(fit(*swarm), encoding="utf-8")
    assert load_scenario(path).agents.count == 3


def test_json_has_each_figure_its_basis_and_its_samples(swarm: list[Path]) -> None:
    told = json.loads(fit(*swarm, "--json"))
    assert (told["scenario"], told["nodes"], told["lives"]) == (None, 4, 4)
    figures = {each["key"]: each for each in told["figures"]}
    assert {each["basis"] for each in told["figures"]} == {"measured", "set", "default"}
    assert figures["networks.hub.latency_ms"]["samples"]["count"] >= 3
    assert figures["agents.count"]["value"] == 3
    assert figures["config.cluster.cdn_kbit_per_s"]["basis"] == "set"


def test_one_agent_alone_will_do(swarm: list[Path]) -> None:
    agent = next(path for path in swarm if "node-0" in path.parts[-2])
    told = json.loads(fit(agent, "--json"))
    assert any("1 of 1 coordinators gave no journal" in note for note in told["notes"])
    assert next(each["value"] for each in told["figures"] if each["key"] == "coordinators.count") == 1


def test_a_node_without_a_mesh_is_a_scenario_without_one(one: Path, tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    fit(one, "--out", path)
    scenario = load_scenario(path)
    assert scenario.phones.count + scenario.agents.count == 1
    assert scenario.coordinators.count == 0
    assert "loads" in path.read_text(encoding="utf-8")


def test_a_journal_that_was_given_twice_is_read_once(one: Path, tmp_path: Path) -> None:
    link = tmp_path / "again"
    link.symlink_to(one)
    told = json.loads(fit(one, link, "--json"))
    assert told["lives"] == 1
    assert "was given twice" in told["notes"][0]


def test_a_journal_that_breaks_off_is_read_up_to_there(one: Path, tmp_path: Path) -> None:
    path = tmp_path / "broken.journal"
    path.write_bytes(one.read_bytes()[:-5])
    (note, *_) = json.loads(fit(path, "--json"))["notes"]
    assert "life 1 breaks off" in note


def test_a_life_that_another_core_lived_is_read_up_to_there(one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Swap, "request", lambda *_: False)
    (note, *_) = json.loads(fit(one, "--json"))["notes"]
    assert "to which this EdgeCoder gives another answer" in note


def test_what_is_no_journal_is_said_to_be_none(tmp_path: Path) -> None:
    hint = "give the file that an agent, device or coordinator wrote with --journal"
    assert mistake(tmp_path / "none") == f"{tmp_path / 'none'}: no journal: No such file or directory; {hint}"
    assert mistake(tmp_path) == f"{tmp_path}: no journal: Is a directory; {hint}"
    (tmp_path / "text").write_text("hello", encoding="utf-8")
    assert "this is no journal" in mistake(tmp_path / "text")
    (tmp_path / "empty").touch()
    assert "this is no journal" in mistake(tmp_path / "empty")


def test_a_damaged_journal_is_refused(one: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.journal"
    data = bytearray(one.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert mistake(path).startswith(f"{path}: life 1 is damaged: ")
    assert mistake(path).endswith("; take a whole journal")


def test_a_journal_of_another_version_names_it(tmp_path: Path) -> None:
    path = tmp_path / "old.journal"
    head = b"\x82\xa6format\x02\xa7version\xa50.0.1"
    path.write_bytes(MARK + framed(head))
    said = mistake(path)
    assert f"EdgeCoder 0.0.1 wrote this, and this is {__version__}" in said
    assert "fit it with EdgeCoder 0.0.1" in said


def test_a_journal_without_an_event_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "begun.journal"
    path.write_bytes(MARK)
    assert "no life in this journal has a whole event" in mistake(path)


def test_nothing_is_written_over(one: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.yaml"
    out.write_text("mine", encoding="utf-8")
    assert mistake(one, out=out) == f"{out}: this file is there already; name another one, or delete it first"
    assert out.read_text(encoding="utf-8") == "mine"


def test_a_journal_is_only_read(one: Path, tmp_path: Path) -> None:
    path = tmp_path / "copy.journal"
    shutil.copy(one, path)
    path.chmod(0o400)
    fit(path)
    assert path.read_bytes() == one.read_bytes()


@pytest.mark.parametrize("which", ["agent", "coordinator"])
@given(data=st.data())
def test_journals_that_somebody_has_sealed_anew_are_fitted_or_refused(
    swarm: list[Path], which: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Their checksums are right; one value is not."""
    path = next(path for path in swarm if ("node-0" in path.parts[-2]) == (which == "agent"))
    (life,) = (list(life) for life in lives(path))
    at = data.draw(st.integers(0, len(life) - 1))
    hostile = tmp_path_factory.getbasetemp() / "hostile.journal"
    hostile.write_bytes(MARK + b"".join(map(framed, [*life[:at], data.draw(near(life[at])), *life[at + 1 :]])))
    with contextlib.suppress(ConfigError):
        fitted(read([hostile]), "hostile")
