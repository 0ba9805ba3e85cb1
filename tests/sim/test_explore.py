"""The explorer: it finds a fault of the protocol, prints the line that shows it again, and reduces the schedule."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from edgecoder.cli import app
from edgecoder.errors import ConfigError, Reason
from edgecoder.mesh.heartbeat import HeartbeatSender
from edgecoder_sim.checkers.endings import calm
from edgecoder_sim.commands.explore import parse_seeds
from edgecoder_sim.faults.answers import Answers, Range, Service, range_of
from edgecoder_sim.faults.draw import resolve
from edgecoder_sim.faults.explore import COVERAGE, Coverage, Tally, explore
from edgecoder_sim.faults.model import FaultKind
from edgecoder_sim.faults.shrink import shrink
from edgecoder_sim.runner import run_scenario
from edgecoder_sim.scenario import load_scenario
from tests.sim import made_runs as made

SOME = "faults.random.kinds={crash: 1, loss: 1, slow_disk: 1}"


def forget_the_spares(patch: pytest.MonkeyPatch) -> None:
    """A node that loses its home keeps its spares for later."""

    def forget(self: HeartbeatSender, link: int) -> None:
        self.link = None if link == self.link else self.link

    patch.setattr(HeartbeatSender, "link_down", forget)


def edgecoder(patch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command line in this process; its exit code."""
    patch.setattr(sys, "argv", ["edgecoder", *arguments])
    with pytest.raises(SystemExit) as ended:
        app.main()
    return int(ended.value.code or 0)


def line(seed: int) -> str:
    """What is printed for a seed."""
    return f"edgecoder run random_faults --rng-seed {seed}"


def test_processes_change_nothing() -> None:
    scenario = load_scenario("random_faults")
    alone = list(explore(scenario, range(1, 5), line))
    assert list(explore(scenario, range(1, 5), line, jobs=2)) == alone
    assert [verdict.rng_seed for verdict in alone] == [1, 2, 3, 4]


def test_a_sweep_counts_what_it_reached() -> None:
    tally = Tally(1)
    for verdict in explore(load_scenario("random_faults"), range(100, 112), line):
        assert verdict.violation is None, verdict.violation
        tally.add(verdict)
    assert tally.schedules == 12
    assert tally.reached.keys() == set(COVERAGE)
    assert tally.reached["restart"] > 0
    assert tally.tasks > 100
    assert tally.summary()["violated"] == 0


def test_a_failing_seed_is_found_repeated_and_reduced(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_the_spares(monkeypatch)
    verdicts = explore(load_scenario("random_faults", [SOME]), range(1, 9), line)
    verdict = next(verdict for verdict in verdicts if verdict.checker == "one home")
    assert verdict.violation is not None
    assert verdict.violation.endswith(f"; reproduce: {line(verdict.rng_seed)}")
    again = load_scenario("random_faults", [SOME], verdict.rng_seed)
    outcome = run_scenario(again, root=None, reproduce=line(verdict.rng_seed))
    assert str(outcome.violation) == verdict.violation, "a run of its own shows the same"
    shrunk = shrink(again)
    assert shrunk is not None
    assert shrunk.verdict.checker == "one home"
    assert [fault.kind for fault in shrunk.scenario.faults.plan] == [FaultKind.CRASH]
    assert len(shrunk.scenario.faults.plan[0].nodes) == 1
    assert shrunk.before == len(resolve(again).faults.plan)


def stumble_over_lost_links(patch: pytest.MonkeyPatch) -> None:
    """A node raises when the link to its home goes down."""

    def stumble(self: HeartbeatSender, link: int) -> None:
        if link == self.link:
            raise KeyError(link)

    patch.setattr(HeartbeatSender, "link_down", stumble)


def test_a_node_that_raises_is_a_violation_like_any_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stumble_over_lost_links(monkeypatch)
    sets = ["faults.random.kinds={crash: 1, slow_disk: 1}"]
    verdicts = list(explore(load_scenario("random_faults", sets), range(1, 5), line))
    assert [verdict.rng_seed for verdict in verdicts] == [1, 2, 3, 4], "the sweep goes on"
    raised = next(verdict for verdict in verdicts if verdict.checker == "handle never raises")
    assert raised.violation is not None
    assert re.search(r"raised KeyError: \d+ in test_explore.py:\d+ \(stumble\), given LinkDown", raised.violation)
    assert raised.violation.endswith(f"; reproduce: {line(raised.rng_seed)}")
    shrunk = shrink(load_scenario("random_faults", sets, raised.rng_seed))
    assert shrunk is not None
    assert len(shrunk.scenario.faults.plan) == 1
    monkeypatch.chdir(tmp_path)
    command = ["run", "random_faults", "--rng-seed", str(raised.rng_seed), "--no-report", "--set", *sets]
    assert edgecoder(monkeypatch, *command, "--set", "checkers=false") == 1
    told = capsys.readouterr().err
    assert "Traceback (most recent call last)" in told
    assert "invariant handle never raises violated" in told


def test_a_mistake_of_the_simulator_names_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Coverage, "command", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError) as caught:
        list(explore(load_scenario("random_faults"), [3], line))
    assert caught.value.__notes__ == [f"this happened with rng_seed 3; reproduce: {line(3)}"]


def test_the_command_prints_failing_seeds_and_reduces_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forget_the_spares(monkeypatch)
    monkeypatch.chdir(tmp_path)
    sets = ["--set", "faults.random.kinds={crash: 1}"]
    assert edgecoder(monkeypatch, "run", "random_faults", "--seeds", "1..6", "--jobs", "1", *sets) == 1
    told = capsys.readouterr()
    seed = re.search(r"reproduce: edgecoder run random_faults .*--rng-seed (\d+)$", told.out, re.MULTILINE)
    assert seed is not None
    assert "schedules violated an invariant" in told.err
    assert "coordinator failover" in told.out
    assert re.search(r"^  answered of those asked: [\d.]+ \([\d.]+ to [\d.]+\) %$", told.out, re.MULTILINE)
    assert "random_faults: 6 schedules of faults in 1 process\n" in told.err
    assert edgecoder(monkeypatch, "run", "random_faults", "--rng-seed", seed[1], "--shrink", *sets) == 0
    path = re.search(r"^run it again: edgecoder run (.+)$", capsys.readouterr().out, re.MULTILINE)
    assert path is not None
    assert edgecoder(monkeypatch, "run", path[1], "--no-report") == 1
    assert "invariant one home violated" in capsys.readouterr().err


def test_json_holds_the_figures(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert edgecoder(monkeypatch, "run", "random_faults", "--seeds", "7", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["schedules"] == 1
    assert told["violated"] == 0
    assert told["violations"] == []
    assert set(told["reached"]) == set(COVERAGE)
    assert 0.5 < told["answered_share"]["least"] == told["answered_share"]["most"] <= 1
    assert 0 < told["latency_p50_s"]["median"] <= told["latency_p99_s"]["median"]


def test_a_sweep_says_how_users_were_served() -> None:
    answers = Answers()
    for number, answered_at_us in enumerate((1_000_000, 3_000_000, None)):
        answers.record(0, made.submitted(number))
        if answered_at_us is not None:
            answers.record(answered_at_us, made.ended(number, made.PEER))
    answers.record(9, made.submitted(3))
    answers.record(99, made.ended(3, None, Reason.NO_ROUTE))
    service = answers.service()
    assert (service.answered, service.answered_share) == (2, 0.5)
    assert [service.latency_p50_s, service.latency_p99_s] == pytest.approx([1.0, 3.0], rel=0.001)
    assert Answers().service() == Service(0, 1.0, None, None)
    assert range_of([3.0, None, 1.0, 2.0]) == Range(1.0, 2.0, 3.0)
    assert range_of([None]) is None


def test_nothing_to_reduce_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert edgecoder(monkeypatch, "run", "random_faults", "--shrink", "--out", str(tmp_path)) == 2
    first, last = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"random_faults: \d+ faults, rng_seed 1", first)
    assert "nothing is violated with rng_seed 1; look for a seed" in last


@pytest.mark.parametrize("text", ["", "1-5", "5..1", "a..b", "1..99999999999", "-3..4"])
def test_seeds_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_seeds(text)
    assert parse_seeds("3..5") == range(3, 6)


def test_only_a_calm_end_is_held_against_a_run() -> None:
    assert calm(resolve(load_scenario("random_faults")))
    assert not calm(resolve(load_scenario("random_faults", ["faults.random.until_s=140"])))
    assert not calm(resolve(load_scenario("random_faults", ["workload.until_s=140"])))
    assert not calm(resolve(load_scenario("random_faults", ["devices.laptop.verify_us=700000"])))
    for stay in ("{session_s: 60, gap_s: 20}", "{by_day: true}", "{charging: {}}"):
        assert not calm(resolve(load_scenario("random_faults", [f"presence.agents={stay}"])))
    assert not calm(load_scenario("office"))


def test_seeds_that_showed_something_once_are_clean() -> None:
    """What was wrong was in the core (31, 1471, 1577, 4874) or in a checker; later changes move what a seed draws."""
    seeds = [22, 31, 42, 56, 1339, 1471, 1577, 1623, 1625, 4874, 10523]
    assert [verdict.violation for verdict in explore(load_scenario("random_faults"), seeds, line)] == [None] * len(
        seeds
    )
