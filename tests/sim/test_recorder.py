"""The recorder: what each record leaves in the tables and figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecoder.core.ids import Medium
from edgecoder.errors import Reason
from edgecoder.mesh.router import Why
from edgecoder.trace import (
    AgentExpired,
    ConfigDiffers,
    DownloadPhase,
    Dropped,
    EpochRaised,
    HomeChanged,
    NodeReady,
    PeerForgotten,
    PeerLearned,
    SummaryExpired,
    SummaryLearned,
    SummarySent,
    SwapEnded,
    TaskStarted,
    TaskStopped,
    UplinkChanged,
)
from edgecoder_sim.metrics import METRICS, UNITS_OF_COUNTS
from edgecoder_sim.recorder import Recorder
from edgecoder_sim.recording.beliefs import Beliefs
from edgecoder_sim.recording.histogram import Histogram
from edgecoder_sim.tables import TABLES, TIMELINE_METRICS
from tests.sim import made_runs as made
from tests.sim.made_runs import AGENT, HUB, IDS, LARGE, OTHER_HUB, PEER, PHONE, SECOND, SMALL, rows, task_id


def timeline(directory: Path, metric: str, at_s: float) -> dict[str, float]:
    """A sample of one metric by key."""
    return {
        row["key"]: row["value"]
        for row in rows(directory, "timeline")
        if row["metric"] == metric and row["at_s"] == pytest.approx(at_s)
    }


# -- tasks -------------------------------------------------------------------------------------------------------------


def test_a_task_that_a_coordinator_placed(tmp_path: Path) -> None:
    recorder = made.recorder(tmp_path)
    made.tell_all(recorder)
    recorder.close(made.MINUTE)
    task = rows(tmp_path, "tasks")[1]
    assert task == {
        "task_id": task_id(2).hex(),
        "kind": "chat",
        "origin": PHONE,
        "submitted_s": 4.0,
        "started_s": 5.01,
        "ended_s": 6.01,
        "waited_s": 1.01,
        "latency_s": 2.01,
        "served_by": AGENT,
        "via": "coordinator",
        "model_asked": None,
        "model_served": LARGE,
        "min_param_size": 7.0,
        "prompt_bytes": 100,
        "tokens": 12,
        "attempts": 1,
        "routes": 3,
        "probes": 0,
        "hedge": None,
        "reason": None,
    }
    routes = [row for row in rows(tmp_path, "routes") if row["task_id"] == task_id(2).hex()]
    assert [(row["at_s"], row["node"], row["to"]) for row in routes] == [
        (4.0, PHONE, HUB),
        (4.005, HUB, PEER),
        (5.0, HUB, AGENT),
    ]
    assert [json.loads(row["excluded"]) for row in routes] == [{"model too small": 2}, {}, {"tried before": 1}]
    assert [row["cost"] for row in routes] == [None, 20.0, 40.0]
    work = [row for row in rows(tmp_path, "work") if row["task_id"] == task_id(2).hex()]
    assert [(row["node"], row["started_s"], row["stopped_s"], row["tokens"]) for row in work] == [
        (AGENT, 5.01, 6.0, 12)
    ]


@pytest.mark.parametrize(
    ("decisions", "via"),
    [
        ([(PHONE, PHONE, Why.CHEAPEST)], "self"),
        ([(PHONE, PEER, Why.CHEAPEST)], "peer"),
        ([(PHONE, HUB, Why.COORDINATOR), (HUB, AGENT, Why.CHEAPEST)], "coordinator"),
        (
            [(PHONE, HUB, Why.COORDINATOR), (HUB, OTHER_HUB, Why.FORWARDED), (OTHER_HUB, AGENT, Why.CHEAPEST)],
            "federation",
        ),
        ([(PHONE, HUB, Why.COORDINATOR), (HUB, OTHER_HUB, Why.FORWARDED), (PHONE, PEER, Why.CHEAPEST)], "peer"),
    ],
)
def test_the_way_an_answer_came(tmp_path: Path, decisions: list[tuple[int, int, Why]], via: str) -> None:
    recorder = made.recorder(tmp_path)
    recorder.record(0, PHONE, made.submitted(1))
    for at_us, (router, to, why) in enumerate(decisions):
        recorder.record(at_us, router, made.routed(1, to, why))
    recorder.record(SECOND, PHONE, made.ended(1, AGENT))
    metrics = recorder.close(2 * SECOND)
    assert rows(tmp_path, "tasks")[0]["via"] == via
    assert metrics[f"tasks_via_{via}_share"] == 1.0
    assert sum(value for name, value in metrics.items() if name.startswith("tasks_via_")) == 1.0


def test_the_begin_that_counts_is_that_of_the_node_that_answered(tmp_path: Path) -> None:
    recorder = made.recorder(tmp_path)
    recorder.record(0, PHONE, made.submitted(1))
    for at_us, node in ((1 * SECOND, AGENT), (2 * SECOND, PEER), (3 * SECOND, PHONE)):
        recorder.record(at_us, node, TaskStarted(task_id(1), LARGE))
    recorder.record(4 * SECOND, PHONE, made.ended(1, PEER))
    recorder.close(5 * SECOND)
    task = rows(tmp_path, "tasks")[0]
    assert (task["served_by"], task["started_s"], task["waited_s"]) == (PEER, 2.0, 2.0)


def test_failed_and_unfinished_tasks(tmp_path: Path) -> None:
    recorder = made.recorder(tmp_path)
    for number in (1, 2):
        recorder.record(0, PHONE, made.submitted(number))
    recorder.record(0, AGENT, TaskStarted(task_id(1), LARGE))
    recorder.record(0, AGENT, TaskStarted(task_id(2), LARGE))
    recorder.record(SECOND, PHONE, made.ended(1, AGENT, Reason.DRAINED, tokens=3))
    recorder.record(SECOND, AGENT, TaskStopped(task_id(1), Reason.DRAINED, 3))  # after the user was told
    recorder.record(SECOND, AGENT, TaskStopped(task_id(9), Reason.LOADING, 0))  # waited, and never began
    metrics = recorder.close(5 * SECOND)
    failed, unfinished = rows(tmp_path, "tasks")
    assert (failed["reason"], failed["latency_s"], failed["via"]) == ("drained", 1.0, None)
    assert (unfinished["reason"], unfinished["ended_s"], unfinished["latency_s"]) == ("unfinished", None, None)
    work = {row["task_id"]: row for row in rows(tmp_path, "work")}
    assert work[task_id(1).hex()]["reason"] == "drained"
    assert (work[task_id(9).hex()]["started_s"], work[task_id(9).hex()]["reason"]) == (None, "loading")
    assert (work[task_id(2).hex()]["stopped_s"], work[task_id(2).hex()]["reason"]) == (None, "unfinished")
    assert [metrics[f"tasks_{name}"] for name in ("submitted", "done", "failed", "unfinished")] == [2, 0, 1, 1]
    assert metrics["task_tokens_wasted"] == 3
    assert "task_latency_p50_s" not in metrics


def test_a_restart_ends_what_the_node_had_open(tmp_path: Path) -> None:
    recorder = made.recorder(tmp_path)
    made.boot(recorder)
    recorder.record(2 * SECOND, PHONE, made.submitted(1))
    recorder.record(2 * SECOND, PHONE, TaskStarted(task_id(1), SMALL))
    made.phases(recorder, PHONE, 2, {"announcing": 2 * SECOND, "draining": 3 * SECOND})
    recorder.record(5 * SECOND, PHONE, NodeReady(epoch=2))
    made.phases(recorder, PHONE, 1, {"announcing": 5 * SECOND, "ready": 6 * SECOND}, None)
    recorder.record(6 * SECOND, PHONE, SwapEnded(1, SMALL, SMALL, None, requests=0, cause="user"))
    recorder.close(7 * SECOND)
    assert rows(tmp_path, "tasks")[0]["reason"] == "restarted"
    assert rows(tmp_path, "work")[0]["reason"] == "restarted"
    mine = [row for row in rows(tmp_path, "swaps") if row["node"] == PHONE]
    assert [(row["epoch"], row["swap"], row["reason"]) for row in mine] == [
        (1, 1, None),
        (1, 2, "restarted"),
        (2, 1, None),
    ]
    assert [
        row["value"] for row in rows(tmp_path, "timeline") if row["metric"] == "node_online" and row["key"] == "0"
    ] == [
        1.0,
        0.0,
    ]


# -- swaps -------------------------------------------------------------------------------------------------------------


def test_the_phases_of_a_swap(tmp_path: Path) -> None:
    recorder = made.recorder(tmp_path)
    made.tell_all(recorder)
    metrics = recorder.close(made.MINUTE)
    swap = next(row for row in rows(tmp_path, "swaps") if row["swap"] == 2)
    assert swap == {
        "node": PHONE,
        "epoch": 1,
        "swap": 2,
        "started_s": 20.0,
        "ended_s": 24.005,
        "model": LARGE,
        "previous": SMALL,
        "active": LARGE,
        "cause": "user",
        "reason": None,
        "requests": 1,
        "announcing_s": 0.1,
        "draining_s": 0.9,
        "unloading_s": 0.2,
        "loading_s": 2.8,
        "rolling_back_s": 0.0,
        "confirming_s": 0.005,
        "total_s": 4.005,
    }
    assert (metrics["swaps_done"], metrics["boot_loads"]) == (1, 3)
    assert metrics["swap_away_p50_s"] == pytest.approx(4.0, rel=0.0005)


def test_a_swap_may_begin_before_the_one_before_is_durable(tmp_path: Path) -> None:
    recorder = made.recorder(tmp_path)
    made.phases(
        recorder, PHONE, 1, {"announcing": 0, "loading": 1 * SECOND, "rollingBack": 2 * SECOND, "ready": 5 * SECOND}
    )
    made.phases(recorder, PHONE, 2, {"announcing": 5 * SECOND})
    recorder.record(6 * SECOND, PHONE, SwapEnded(1, LARGE, SMALL, Reason.LOAD_FAILED, 2, "user"))
    recorder.record(6 * SECOND, PHONE, SwapEnded(0, LARGE, SMALL, Reason.SUPERSEDED, 1, "task"))
    recorder.record(6 * SECOND, PHONE, SwapEnded(0, SMALL, SMALL, None, 1, "user"))  # is active already
    metrics = recorder.close(8 * SECOND)
    failed, refused, already, unfinished = rows(tmp_path, "swaps")
    assert (failed["rolling_back_s"], failed["confirming_s"], failed["total_s"]) == (3.0, 1.0, 6.0)
    assert (failed["reason"], failed["active"], failed["requests"]) == ("load_failed", SMALL, 2)
    assert (refused["swap"], refused["reason"], refused["cause"], refused["total_s"]) == (0, "superseded", "task", 0.0)
    assert (already["swap"], already["reason"]) == (0, None)
    assert (unfinished["swap"], unfinished["reason"], unfinished["announcing_s"]) == (2, "unfinished", 3.0)
    counts = {name: metrics[f"swaps_{name}"] for name in ("done", "failed", "refused", "unfinished")}
    assert counts == {"done": 0, "failed": 1, "refused": 1, "unfinished": 1}


def test_a_lost_engine_is_a_swap_that_nobody_asked_for(tmp_path: Path) -> None:
    recorder = made.recorder(tmp_path)
    made.phases(recorder, PHONE, 1, {"rollingBack": 0, "ready": 2 * SECOND})
    made.phases(recorder, PHONE, 2, {"failed": 3 * SECOND})
    metrics = recorder.close(8 * SECOND)
    recovered, lost = rows(tmp_path, "swaps")
    assert (recovered["cause"], recovered["reason"], recovered["active"]) == ("engine", None, LARGE)
    assert (recovered["rolling_back_s"], recovered["total_s"]) == (2.0, 2.0)
    assert (lost["cause"], lost["reason"], lost["active"]) == ("engine", "engine_crashed", None)
    assert (metrics["engine_recoveries"], metrics["engine_recoveries_failed"]) == (2, 1)
    assert metrics["swaps_unfinished"] == 0


# -- knowledge ---------------------------------------------------------------------------------------------------------


def test_news_has_its_delay_and_how_long_the_old_word_was_wrong(tmp_path: Path) -> None:
    recorder = made.recorder(tmp_path)
    made.tell_all(recorder)
    recorder.close(made.MINUTE)
    news = [row for row in rows(tmp_path, "gossip") if row["channel"] == "heartbeat" and row["about"] == PHONE]
    told = [(row["at_s"], row["news"], row["model"], row["loading"], row["delay_s"], row["wrong_s"]) for row in news]
    # the swap began at 20 s; what the node offers changed 5 ms later
    assert told == [
        (0.92, "first", SMALL, False, 0.02, None),
        (20.015, "state", SMALL, True, 0.01, 0.015),
        (24.01, "state", LARGE, False, 0.01, 0.01),
    ]


def test_a_heartbeat_that_says_nothing_new_is_no_news(tmp_path: Path) -> None:
    recorder = made.recorder(tmp_path)
    made.boot(recorder)
    made.heartbeat(recorder, 2 * SECOND, PHONE, 1, SMALL, loading=False)
    made.capabilities(recorder, 3 * SECOND, PHONE, 2, SMALL, loading=False)  # its load changed
    made.heartbeat(recorder, 4 * SECOND, PHONE, 2, SMALL, loading=False)
    recorder.close(made.MINUTE)
    news = [row for row in rows(tmp_path, "gossip") if row["channel"] == "heartbeat" and row["about"] == PHONE]
    assert [(row["at_s"], row["news"]) for row in news] == [(0.92, "first"), (4.0, "refresh")]
    assert news[1]["delay_s"] == 1.0


def test_a_state_that_nobody_heard_of_counts_as_wrong_all_along(tmp_path: Path) -> None:
    recorder = made.recorder(tmp_path)
    made.boot(recorder)
    made.capabilities(recorder, 2 * SECOND, PEER, 2, SMALL, loading=True)
    made.capabilities(recorder, 3 * SECOND, PEER, 3, LARGE, loading=False)
    recorder.record(5 * SECOND, PHONE, PeerLearned(IDS[PEER], 3, loading=False, medium=Medium.BLE))
    recorder.record(6 * SECOND, PHONE, PeerLearned(IDS[PEER], 99, loading=True, medium=Medium.LAN))  # not remembered
    recorder.close(made.MINUTE)
    skipped, unknown = [row for row in rows(tmp_path, "gossip") if row["about"] == PEER and row["node"] == PHONE][1:]
    assert (skipped["channel"], skipped["delay_s"], skipped["wrong_s"]) == ("ble", 2.0, 3.0)
    assert (unknown["channel"], unknown["model"], unknown["delay_s"], unknown["wrong_s"]) == ("lan", None, None, None)


def test_summaries_are_found_by_their_number(tmp_path: Path) -> None:
    recorder = made.recorder(tmp_path)
    made.boot(recorder)  # the coordinators' first summary, 1.4, said three small ones
    made.heartbeat(recorder, 5 * SECOND, PHONE, 2, SMALL, loading=True)
    recorder.record(61 * SECOND, HUB, SummarySent(1, 9, 3, {SMALL: 2}, 2))
    recorder.record(61_020_000, OTHER_HUB, SummaryLearned(IDS[HUB], 1, 8))  # its copy had number 8, the last one 9
    recorder.record(200 * SECOND, OTHER_HUB, SummaryExpired(IDS[HUB]))
    recorder.sample(200 * SECOND)
    recorder.close(201 * SECOND)
    first, second, gone = [row for row in rows(tmp_path, "gossip") if row["node"] == OTHER_HUB]
    assert (first["news"], first["delay_s"], first["version"]) == ("first", 0.02, (1 << 32) + 4)
    assert (second["news"], second["delay_s"], second["wrong_s"]) == ("state", 0.02, 56.02)
    assert (gone["event"], gone["channel"], gone["version"]) == ("forgotten", "summary", (1 << 32) + 8)
    assert timeline(tmp_path, "rows_held", 200)["summaries"] == 0


def test_rows_that_are_dropped_and_configurations_that_differ(tmp_path: Path) -> None:
    recorder = made.recorder(tmp_path)
    made.boot(recorder)
    recorder.record(2 * SECOND, PHONE, PeerForgotten(IDS[PEER]))
    recorder.record(3 * SECOND, PHONE, PeerForgotten(IDS[AGENT]))  # of whom it held no row
    recorder.record(4 * SECOND, HUB, AgentExpired(IDS[AGENT]))
    recorder.record(5 * SECOND, HUB, ConfigDiffers(IDS[PEER]))
    recorder.sample(6 * SECOND)
    recorder.close(7 * SECOND)
    told = [(row["at_s"], row["event"], row["about"], row["channel"]) for row in rows(tmp_path, "gossip")[-4:]]
    assert told == [
        (2.0, "forgotten", PEER, "peer"),
        (3.0, "forgotten", AGENT, "peer"),
        (4.0, "forgotten", AGENT, "heartbeat"),
        (5.0, "config_differs", PEER, "heartbeat"),
    ]
    assert timeline(tmp_path, "rows_held", 6) == {"registry": 2, "peers": 0, "summaries": 1}
    assert timeline(tmp_path, "nodes_known", 6) == {SMALL: 2}


@pytest.mark.parametrize(
    ("node", "held"),
    [(PHONE, {"registry": 3, "peers": 0, "summaries": 1}), (HUB, {"registry": 0, "peers": 1, "summaries": 1})],
)
def test_a_restart_loses_what_the_node_believed(tmp_path: Path, node: int, held: dict[str, int]) -> None:
    recorder = made.recorder(tmp_path)
    made.boot(recorder)
    recorder.record(5 * SECOND, node, NodeReady(epoch=2))
    recorder.sample(6 * SECOND)
    recorder.close(6 * SECOND)
    assert timeline(tmp_path, "rows_held", 6) == held
    assert timeline(tmp_path, "nodes_known", 6) == {SMALL: held["registry"]}
    assert timeline(tmp_path, "rows_wrong", 6)["registry"] == (1 if node == PHONE else 0)  # its model is gone, too


def test_the_timeline_compares_truth_with_what_is_known(tmp_path: Path) -> None:
    recorder = made.recorder(tmp_path)
    made.boot(recorder)
    recorder.sample(10 * SECOND)
    made.phases(recorder, PHONE, 2, {"announcing": 18 * SECOND})  # it is true before anybody is told
    recorder.sample(20 * SECOND)
    made.capabilities(recorder, 25 * SECOND, PHONE, 2, LARGE, loading=False)
    recorder.sample(30 * SECOND)
    recorder.record(30 * SECOND, PHONE, EpochRaised(7))
    recorder.record(30 * SECOND, PHONE, HomeChanged(made.IDS[HUB]))
    recorder.record(30 * SECOND, PHONE, UplinkChanged(made.IDS[HUB], "up", None))
    recorder.fault(30 * SECOND, "loss-1", True)
    recorder.links(20 * SECOND, "ble", 4)
    metrics = recorder.close(30 * SECOND)
    assert timeline(tmp_path, "epoch_raised", 30) == {"0": 7}
    assert timeline(tmp_path, "uplink_up", 30) == {f"{PHONE} {HUB}": 1}
    assert timeline(tmp_path, "nodes_ready", 10) == {SMALL: 3}
    assert timeline(tmp_path, "nodes_ready", 20) == {SMALL: 2}
    assert timeline(tmp_path, "nodes_ready", 30) == {SMALL: 2, LARGE: 1}
    assert timeline(tmp_path, "nodes_loading", 20) == {"": 1}
    assert timeline(tmp_path, "nodes_known", 30) == {SMALL: 3, LARGE: 0}
    assert timeline(tmp_path, "nodes_seen", 30) == {SMALL: 3, LARGE: 0}  # both coordinators believe in three
    assert timeline(tmp_path, "online_share", 20) == {"": 1.0}
    assert timeline(tmp_path, "rows_wrong", 10)["registry"] == 0
    assert timeline(tmp_path, "rows_wrong", 20)["registry"] == 1
    # one of three rows is wrong from 18 s on: over the 10 s to 30 s, its age goes from 2 to 12 s
    assert timeline(tmp_path, "staleness_mean_s", 20)["registry"] == pytest.approx(2 * 2 / 2 / 10 / 3)
    assert timeline(tmp_path, "staleness_mean_s", 30)["registry"] == pytest.approx(7 / 3)
    assert timeline(tmp_path, "staleness_max_s", 30)["registry"] == 12
    held_s = 3 * (30 - 0.92)
    assert metrics["registry_wrong_share"] == pytest.approx(12 / held_s)
    assert metrics["registry_staleness_mean_s"] == pytest.approx(12 * 12 / 2 / held_s)
    assert metrics["online_share"] == pytest.approx(1 - 0.92 / 30)
    of_files = {"transfer_bytes", "transfers_open", "seeders", "receivers"}
    assert {row["metric"] for row in rows(tmp_path, "timeline")} == TIMELINE_METRICS.keys() - of_files


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5), st.integers(0, 1), st.integers(0, 1)), max_size=25))
def test_beliefs_agree_with_a_look_at_every_microsecond(steps: list[tuple[int, int, int, int]]) -> None:
    """Two holders, one subject with two states; steps: change, learn, forget or sample, after some microseconds."""
    beliefs, truth, at_us = Beliefs(), 0, 0
    held: dict[int, int] = {}
    wrong_since: dict[int, int] = {}
    ages: list[list[int]] = []  # at each microsecond since the last sample, of each row, how long it has been wrong

    def judge() -> None:
        for holder in (0, 1):
            is_wrong = holder in held and held[holder] != truth
            if is_wrong:
                wrong_since.setdefault(holder, at_us)
            else:
                wrong_since.pop(holder, None)

    for what, wait_us, holder, state in steps:
        for _ in range(wait_us):
            ages.append([at_us - wrong_since[each] if each in wrong_since else -1 for each in held])
            at_us += 1
        if what == 0:
            truth = state
            beliefs.changed(at_us, 7, truth)
        elif what == 1:
            held[holder] = state
            beliefs.learned(at_us, holder, 7, 1, state, truth)
        elif what == 2:
            held.pop(holder, None)
            beliefs.forgot(at_us, holder, 7)
        else:
            seen = beliefs.snapshot(at_us)
            row_time = sum(map(len, ages))
            # an age of `a` at the begin of a microsecond is a + 1/2 on average over it; a row that is right has none
            stale = sum(age + 0.5 for row in ages for age in row if age >= 0)
            assert (seen.held, seen.wrong) == (len(held), len(wrong_since))
            assert seen.mean_us == pytest.approx(stale / row_time if row_time else 0.0)
            longest = max((age + 1 for row in ages for age in row if age >= 0), default=0)
            assert seen.max_us == longest
            ages = []
        judge()


# -- counters and figures ----------------------------------------------------------------------------------------------


def test_messages_are_counted_by_interval_type_and_medium(tmp_path: Path) -> None:
    recorder = made.recorder(tmp_path)
    for size_bytes in (100, 150):
        recorder.message("heartbeat", "lan", size_bytes)
    recorder.message("heartbeat", "ble", 10)
    recorder.sample(10 * SECOND)
    recorder.message("heartbeat", "lan", 1)
    recorder.sample(20 * SECOND)
    recorder.sample(30 * SECOND)
    recorder.message("summary", "wan", 5)  # after the last sample
    metrics = recorder.close(30 * SECOND)
    assert [tuple(row.values()) for row in rows(tmp_path, "messages")] == [
        (10.0, "heartbeat", "lan", 2, 250),
        (10.0, "heartbeat", "ble", 1, 10),
        (20.0, "heartbeat", "lan", 1, 1),
        (30.0, "summary", "wan", 1, 5),
    ]
    assert (metrics["messages"], metrics["message_bytes"]) == (5, 266)
    assert metrics["messages_per_node_per_min"] == pytest.approx(5 / 5 / 0.5)


def test_drops_and_downloads(tmp_path: Path) -> None:
    recorder = made.recorder(tmp_path)
    recorder.record(SECOND, PHONE, Dropped("frame", Reason.REPLAYED))
    recorder.record(2 * SECOND, AGENT, DownloadPhase(LARGE, "partial", 5, Reason.NO_SOURCE))
    metrics = recorder.close(3 * SECOND)
    assert [tuple(row.values()) for row in rows(tmp_path, "drops")] == [(1.0, PHONE, "frame", "replayed")]
    assert [tuple(row.values()) for row in rows(tmp_path, "downloads")] == [
        (2.0, AGENT, LARGE, "partial", 5, "no_source")
    ]
    assert (metrics["drops"], metrics["download_changes"]) == (1, 1)


def test_figures_are_documented_and_need_no_directory(tmp_path: Path) -> None:
    figures = []
    for directory in (tmp_path, None):
        recorder = made.recorder(directory)
        made.tell_all(recorder)
        figures.append(recorder.close(made.MINUTE))
    assert figures[0] == figures[1]
    assert figures[0].keys() <= METRICS.keys()
    absent = {
        name
        for name in METRICS
        if name.startswith(("probes_", "contact", "discover", "receipt", "finish_over_piece", "reverse_"))
    }
    absent |= {f"pieces_sought_{why}" for why in ("near", "rarest", "behind", "late", "next_rung")}
    assert METRICS.keys() - figures[0].keys() == absent | {
        "peers_wrong_p50_s",
        "peers_wrong_p99_s",
    } | {f"summaries_wrong_p{percent}_s" for percent in (50, 99)}
    for name, value in figures[0].items():
        is_count = METRICS[name].unit in UNITS_OF_COUNTS
        assert isinstance(value, int if is_count else float), name


def test_no_two_figures_of_a_group_have_one_label() -> None:
    assert len({(metric.group, metric.label) for metric in METRICS.values()}) == len(METRICS)


def test_a_run_in_which_nothing_happens_has_figures(tmp_path: Path) -> None:
    metrics = Recorder(tmp_path, [], SECOND).close(0)
    assert metrics["tasks_submitted"] == 0
    assert all(len(rows(tmp_path, name)) == 0 for name in TABLES if name != "timeline")


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=200), st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0]))
def test_quantiles_are_within_half_a_thousandth(values: list[int], share: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    exact = sorted(values)[max(1, -(-round(share * 100) * len(values) // 100)) - 1]
    assert histogram.quantile(share) == pytest.approx(exact, rel=0.0005)
    assert (histogram.count, histogram.total, histogram.largest) == (len(values), sum(values), max(values))
