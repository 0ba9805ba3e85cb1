"""`edgecoder why` and `edgecoder report`: what they tell, and one line for a mistake."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from edgecoder.cli import app
from edgecoder.errors import ConfigError, Reason
from edgecoder.mesh.router import Why
from edgecoder.trace import NodeReady, SwapEnded, TaskStarted, TaskStopped, TaskSubmitted
from edgecoder_sim import chart_data
from edgecoder_sim.commands import stories
from edgecoder_sim.results import Run, swap_numbers
from edgecoder_sim.runner import run_scenario
from edgecoder_sim.scenario import load_scenario
from tests.sim import made_runs as made
from tests.sim.made_runs import made_run, task_id

LOAD_FAILED = Reason.LOAD_FAILED
COMMANDS = [EntryPoint(name, f"edgecoder_sim.commands.{name}:command [sim]", app.GROUP) for name in ("why", "report")]


@pytest.fixture(autouse=True)
def _commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "entry_points", lambda group: COMMANDS)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that was made by hand."""
    return made_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def real_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A small storm of swaps as the simulator runs it."""
    sets = ["duration_s=240", "phones.count=12", "agents.count=3"]
    outcome = run_scenario(load_scenario("swap_storm", sets), root=tmp_path_factory.mktemp("real"), reproduce="")
    assert outcome.violation is None
    assert outcome.directory is not None
    return Run(outcome.directory)


def tell(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """What a command prints that succeeds."""
    code = app.run(list(args))
    said = capsys.readouterr()
    assert (code, said.err) == (0, "")
    return said.out


def tell_json(capsys: pytest.CaptureFixture[str], *args: str) -> Any:
    """The same as JSON."""
    return json.loads(tell(capsys, *args, "--json"))


def test_the_story_of_a_task(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    said = tell(capsys, "why", str(run.path), "task", task_id(2).hex())
    small, lost = "2 model too small", "phone-1 refused, failed or was lost"
    found, of_it = "by a node that the coordinator found", "of which 1.01 s until an engine began"
    assert said.splitlines() == [
        f"task {task_id(2).hex()} (chat) of phone-0",
        "  wanted: any model of 7 B or more",
        "  00:00:04.000  phone-0        its user asked: 100 bytes of prompt",
        "  00:00:04.000  phone-0        asked coordinator-0, its coordinator: nobody fitting in reach; ruled out: "
        + small,
        "  00:00:04.005  coordinator-0  chose phone-1: cheapest of 1 at cost 20.0",
        f"  00:00:05.000  coordinator-0  {lost}; chose agent-0: cheapest of 1 at cost 40.0; ruled out: 1 tried before",
        "  00:00:05.010  agent-0        began to answer with large-7b",
        "  00:00:06.000  agent-0        done: 12 tokens in 990 ms",
        "  00:00:06.010  phone-0        its user got the answer",
        f"  answered by agent-0 with large-7b, {found}: 12 tokens in 2.01 s, {of_it}; attempts: 1",
    ]


def test_the_story_of_a_task_that_failed(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    said = tell(capsys, "why", str(run.path), "task", task_id(3).hex()).splitlines()
    assert "  wanted: huge-70b" in said
    assert "  00:00:07.000  phone-0  nobody can take it now; ruled out: 3 wrong model" in said
    assert said[-1] == "  not answered after 10.00 s: no_route (nobody reachable can do it)"


def test_a_new_request_from_upstream_is_no_failure_downstream(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def again(recorder: Any) -> None:
        recorder.record(0, made.PHONE, made.submitted(1))
        for at_us in (1, 2_000_001):
            recorder.record(at_us, made.PHONE, made.routed(1, made.HUB, Why.COORDINATOR))
            recorder.record(at_us + 1, made.HUB, made.routed(1, made.AGENT, Why.CHEAPEST, 1.0))

    run = made_run(tmp_path, tell=again)
    story = tell_json(capsys, "why", str(run.path), "task", task_id(1).hex())
    texts = [moment["text"] for moment in story["moments"][1:]]
    assert [text.startswith("coordinator-0 refused, failed or was lost; asked") for text in texts] == [
        False,
        False,
        True,
        False,
    ]
    assert [text.startswith("chose agent-0") for text in texts] == [False, True, False, True]
    assert story["end"] == "not answered: unfinished (it was open when the run ended)"


@pytest.mark.parametrize("name", ["phone-0:2", "PHONE-0:2", task_id(2).hex().upper(), task_id(2).hex()[-1:]])
def test_a_task_is_found_by_short_name_and_by_either_end_of_its_id(run: Run, name: str) -> None:
    assert stories.find_task(run, name)["task_id"] == task_id(2).hex()


def test_tasks_are_numbered_over_the_lives_of_their_node(tmp_path: Path) -> None:
    first, second = (made.IDS[made.PHONE][:8] + life.to_bytes(4, "big") + (1).to_bytes(4, "big") for life in (1, 2))

    def tell(recorder: Any) -> None:
        for life, task in ((1, first), (2, second)):
            recorder.record(life, made.PHONE, NodeReady(epoch=life))
            recorder.record(life, made.PHONE, TaskSubmitted(task, life, None, 0.0, prompt_bytes=1))
        recorder.record(3, made.PHONE, made.submitted(2))

    run = made_run(tmp_path, tell=tell)
    with pytest.raises(ConfigError, match="2 tasks have such an id; give one of phone-0:1, phone-0:2"):
        stories.find_task(run, "00000001")
    found = [stories.find_task(run, f"phone-0:{number}")["task_id"] for number in (1, 2, 3)]
    assert found == [first.hex(), second.hex(), task_id(2).hex()]


def test_swaps_are_numbered_over_the_lives_of_their_node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def tell_of_lives(recorder: Any) -> None:
        for life in (1, 2, 3):
            begin_us = 10 * life * made.SECOND
            recorder.record(begin_us, made.PHONE, NodeReady(epoch=life))
            refused = SwapEnded(0, made.LARGE, None, Reason.INSUFFICIENT_MEMORY, 1, "user")
            recorder.record(begin_us, made.PHONE, refused)
            made.phases(
                recorder, made.PHONE, 1, {"announcing": begin_us, "loading": begin_us + 1, "ready": begin_us + 2}
            )
            recorder.record(begin_us + 3, made.PHONE, SwapEnded(1, made.LARGE, made.LARGE, None, life, "user"))

    run = made_run(tmp_path, tell=tell_of_lives)
    listed = tell(capsys, "why", str(run.path), "swap", "0").splitlines()
    assert listed[0].startswith("3 swaps, 3 requests that changed nothing of phone-0 in ")
    assert [line.split()[2] for line in listed if " swap " in line and "→" in line] == ["1", "2", "3"]
    said = tell(capsys, "why", str(run.path), "swap", "phone-0", "2").splitlines()
    assert said[:2] == ["swap 2 of phone-0 (life 2): small-1b → large-7b", "  wanted by: user; requests: 2"]
    assert set(chart_data.swap_profile(run.swaps, run.nodes["name"])["who"]) == {
        "phone-0 · swap 1",
        "phone-0 · swap 2",
        "phone-0 · swap 3",
    }


def test_a_task_that_waited_in_a_queue_says_who_kept_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def tell(recorder: Any) -> None:
        for number, begins_us in ((1, 70 * made.SECOND), (2, None)):
            recorder.record(made.SECOND, made.PHONE, made.submitted(number))
            recorder.record(2 * made.SECOND, made.PHONE, made.routed(number, made.AGENT, Why.CHEAPEST, 1.0))
            if begins_us is not None:
                recorder.record(begins_us, made.AGENT, TaskStarted(task_id(number), made.LARGE))
            else:
                recorder.record(30 * made.SECOND, made.AGENT, TaskStopped(task_id(number), Reason.DEADLINE, 0))

    run = made_run(tmp_path, tell=tell)
    waited = "it had accepted the task, which waited there for"
    said = tell_json(capsys, "why", str(run.path), "task", "phone-0:1")
    assert said["moments"][-1]["text"] == f"began to answer with large-7b; {waited} 68.00 s"
    said = tell_json(capsys, "why", str(run.path), "task", "phone-0:2")
    assert said["moments"][-1]["text"].startswith(f"took it off its queue; {waited} 28.00 s: deadline")


def test_what_repeats_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def waits(recorder: Any) -> None:
        recorder.record(0, made.PHONE, made.submitted(1))
        for number in range(31):
            recorder.record(2 * number * made.SECOND, made.PHONE, made.routed(1, None, Why.NOBODY, loading=1))

    run = made_run(tmp_path, tell=waits)
    said = tell(capsys, "why", str(run.path), "task", "phone-0:1").splitlines()
    assert said[3:5] == [
        "  00:00:00.000  phone-0  nobody can take it now; ruled out: 1 loading",
        "                         … 30 more, every 2.00 s, to 00:01:00.000",
    ]
    assert len(said) == 6
    assert len(tell_json(capsys, "why", str(run.path), "task", "phone-0:1")["moments"]) == 32


def test_a_task_as_json(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    story = tell_json(capsys, "why", str(run.path), "task", task_id(2).hex()[:32])
    decided = [moment["facts"] for moment in story["moments"] if "why" in moment.get("facts", {})]
    assert decided[0] == {
        "to": "coordinator-0",
        "excluded": {"model too small": 2},
        "why": "asked the coordinator",
        "cost": None,
        "eligible": 0,
    }
    assert decided[2]["cost"] == 40.0


def test_without_an_id_some_tasks_are_listed(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    said = tell(capsys, "why", str(run.path), "task").splitlines()
    assert said[0] == f"3 tasks in {run.path}; some of them:"
    assert said[1:3] == ["failed:", "  phone-0:3  00:00:07.000  review: no_route, 10.00 s, routes: 1"]
    assert said[3:5] == ["slowest:", "  phone-0:2  00:00:04.000  chat: done, 2.01 s, routes: 3"]
    listed = tell_json(capsys, "why", str(run.path), "task")
    assert [task["task_id"] for task in listed["slowest"]] == [task_id(2).hex(), task_id(1).hex()]


def test_the_story_of_a_swap(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    said = tell(capsys, "why", str(run.path), "swap", "phone-0", "2")
    assert said.splitlines() == [
        "swap 2 of phone-0: small-1b → large-7b",
        "  wanted by: user; requests: 1",
        "  00:00:20.000  phone-0  journalled the intent and told its peers: 100 ms",
        "  00:00:20.100  phone-0  let running tasks end: 900 ms",
        "  00:00:21.000  phone-0  freed the old model: 200 ms",
        "  00:00:21.200  phone-0  loaded the new model: 2.80 s",
        "  00:00:24.000  phone-0  made the outcome durable, serving: 5 ms",
        "  done in 4.00 s: large-7b serves",
    ]


FAILED_SWAPS = {
    "both loads failed": (
        {"announcing": 0, "draining": 1, "unloading": 2, "loading": 3, "rollingBack": 4, "failed": 5},
        (LOAD_FAILED, None, 1),
        [
            "journalled the intent and told its peers: 1.00 s",
            "let running tasks end: 1.00 s",
            "freed the old model: 1.00 s",
            "tried to load the new model: failed after 1.00 s",
            "tried to load the old model again: failed after 1.00 s",
            "made the outcome durable, without a model: 1.00 s",
        ],
        "not done: load_failed (the engine could not load the model); no model serves",
    ),
    "rolled back": (
        {"announcing": 0, "draining": 1, "unloading": 2, "loading": 3, "rollingBack": 4, "ready": 5},
        (LOAD_FAILED, made.SMALL, 1),
        [
            "journalled the intent and told its peers: 1.00 s",
            "let running tasks end: 1.00 s",
            "freed the old model: 1.00 s",
            "tried to load the new model: failed after 1.00 s",
            "loaded the old model again: 1.00 s",
            "made the outcome durable, serving: 1.00 s",
        ],
        "not done: load_failed (the engine could not load the model); small-1b serves",
    ),
    "at a start": (
        {"announcing": 0, "draining": 1, "loading": 1, "empty": 2},
        (LOAD_FAILED, None, 0),
        [
            "journalled the intent and told its peers: 1.00 s",
            "tried to load the new model: failed after 1.00 s",
            "made the outcome durable, without a model: 1.00 s",
        ],
        "not done: load_failed (the engine could not load the model); no model serves",
    ),
    "the old one stayed": (
        {"announcing": 0, "draining": 1, "unloading": 2, "ready": 3},
        (Reason.UNLOAD_FAILED, made.SMALL, 1),
        [
            "journalled the intent and told its peers: 1.00 s",
            "let running tasks end: 1.00 s",
            "tried to free the old model: failed after 1.00 s",
            "made the outcome durable, serving: 1.00 s",
        ],
        "not done: unload_failed (the engine could not free the model); small-1b serves",
    ),
    "no intent": (
        {"announcing": 0, "ready": 1},
        (Reason.STORE_FAILED, made.SMALL, 1),
        [
            "tried to journal the intent and tell its peers: failed after 1.00 s",
            "made the outcome durable, serving: 1.00 s",
        ],
        "not done: store_failed (the store could not write); small-1b serves",
    ),
    "not durable": (
        {"announcing": 0, "loading": 1, "ready": 2},
        (Reason.STORE_FAILED, made.LARGE, 1),
        [
            "journalled the intent and told its peers: 1.00 s",
            "loaded the new model: 1.00 s",
            "tried to make the outcome durable: failed after 1.00 s",
        ],
        "not done: store_failed (the store could not write); large-7b serves",
    ),
    "cut off": (
        {"announcing": 56, "draining": 57, "unloading": 58, "loading": 59},
        None,
        [
            "journalled the intent and told its peers: 1.00 s",
            "let running tasks end: 1.00 s",
            "freed the old model: 1.00 s",
            "tried to load the new model: cut off after 1.00 s",
        ],
        "unfinished after 4.00 s: the run ended",
    ),
}
"""Phases by the second in which they begin; reason, active model and requests at the end; what is told."""


@pytest.mark.parametrize(("at_s", "end", "texts", "verdict"), FAILED_SWAPS.values(), ids=FAILED_SWAPS)
def test_what_failed_in_a_swap_is_not_told_as_done(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    at_s: dict[str, int],
    end: tuple[Reason, str | None, int] | None,
    texts: list[str],
    verdict: str,
) -> None:
    def tell_of_it(recorder: Any) -> None:
        made.phases(recorder, made.PHONE, 1, {phase: second * made.SECOND for phase, second in at_s.items()})
        if end is not None:
            reason, active, requests = end
            ended = SwapEnded(1, made.LARGE, active, reason, requests, "user")
            recorder.record((max(at_s.values()) + 1) * made.SECOND, made.PHONE, ended)

    run = made_run(tmp_path, tell=tell_of_it)
    story = tell_json(capsys, "why", str(run.path), "swap", "phone-0", "1")
    assert [moment["text"] for moment in story["moments"]] == texts
    assert story["end"] == verdict


def test_a_coordinator_has_no_swaps(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    said = tell(capsys, "why", str(run.path), "swap", "coordinator-0")
    assert said == f"coordinator-0 had no swaps in {run.path}; a coordinator runs no model\n"


def test_a_list_of_swaps_counts_by_sort(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def tell_of_them(recorder: Any) -> None:
        made.boot(recorder)
        made.phases(recorder, made.PHONE, 2, {"rollingBack": 2 * made.SECOND, "ready": 3 * made.SECOND}, None)
        for at_s in (4, 5):
            refused = SwapEnded(0, made.LARGE, made.SMALL, Reason.INSUFFICIENT_MEMORY, 1, "user")
            recorder.record(at_s * made.SECOND, made.PHONE, refused)
        recorder.record(6 * made.SECOND, made.PHONE, SwapEnded(0, made.SMALL, made.SMALL, None, 1, "user"))

    run = made_run(tmp_path, tell=tell_of_them)
    said = tell(capsys, "why", str(run.path), "swap", "phone-0").splitlines()
    assert said[0].startswith("1 load at a start, 1 engine recovery, 3 requests that changed nothing of phone-0 in ")
    assert said[4] == "  00:00:05.000  refused  small-1b → large-7b (user): insufficient_memory, 0 ms"
    assert said[5] == "  00:00:06.000  no swap  small-1b → small-1b (user): it was active already, 0 ms"


@pytest.mark.parametrize("node", ["phone-0", "0", made.IDS[made.PHONE].hex()[:8]])
def test_the_swaps_of_a_node(run: Run, capsys: pytest.CaptureFixture[str], node: str) -> None:
    said = tell(capsys, "why", str(run.path), "swap", node).splitlines()
    assert said[0] == f"1 swap, 1 load at a start of phone-0 in {run.path}:"
    assert said[2] == "  00:00:20.000  swap 2   small-1b → large-7b (user): done, 4.00 s"
    rows = tell_json(capsys, "why", str(run.path), "swap", node)
    assert [(row["swap"], row["cause"]) for row in rows] == [(1, "boot"), (2, "user")]


@pytest.mark.parametrize("words", [["task"], ["last", "task"], ["swap", "phone-0"]])
def test_the_newest_run_is_meant_where_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run = made_run(Path("runs"))
    assert str(run.path) in tell(capsys, "why", *words)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["task", "zz"],
            "task zz: no task has such an id; give one that `edgecoder why task` lists, such as phone-0:1",
        ),
        (["task", ""], "task : 3 tasks have such an id; give one of phone-0:1, phone-0:2, phone-0:3\n"),
        (["swap"], "why: no node is given; write edgecoder why"),
        (
            ["swap", "nobody"],
            (
                "node nobody: there is no such node; give a node's name or index; there are phone-0, phone-1, agent-0, "
                "coordinator-0, coordinator-1, …\n"
            ),
        ),
        (["swap", "phone-0", "9"], "phone-0 has no swap 9; leave the number out for a list"),
        (["swap", "phone-0", "x"], "why: the swap is 'x'; give its number, such as 2"),
        (["swap", "phone-0", "2", "3"], "why: '3' is one word too many; write edgecoder why"),
        (["task", "1", "2"], "why: '2' is one word too many; write edgecoder why"),
        (["byte"], "why: 'byte' is neither task, swap nor piece; write edgecoder why"),
        (["tasks"], "why: 'tasks' is neither task, swap nor piece; did you mean task?\n"),
        ([], " is to be told is not said; write edgecoder why"),
    ],
)
def test_a_mistake_is_one_line(run: Run, capsys: pytest.CaptureFixture[str], words: list[str], line: str) -> None:
    assert app.run(["why", str(run.path), *words]) == 2
    said = capsys.readouterr()
    assert line in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("tasks", "why: 'tasks' is neither task, swap, piece nor a run; did you mean task?\n"),
        ("foo", "why: 'foo' is neither task, swap, piece nor a run; write edgecoder why"),
        ("last", "why: what of last is to be told is not said; write edgecoder why"),
    ],
)
def test_a_lone_word_that_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], word: str, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert app.run(["why", word]) == 2
    assert capsys.readouterr().err.startswith(line)


def test_no_run_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (["why", "nowhere", "task"], ["why", "task"], ["report", "nowhere"], ["report"]):
        assert app.run(words) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_the_report_is_written_again(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    path = run.path / "report.html"
    path.unlink(missing_ok=True)
    assert tell(capsys, "report", str(run.path)) == f"{path.as_posix()}\n"
    assert path.is_file()
    assert tell_json(capsys, "report", str(run.path), str(run.path)) == {"reports": [path.as_posix()] * 2}


# -- a run of the simulator --------------------------------------------------------------------------------------------


def test_every_task_and_swap_of_a_real_run_has_a_story(real_run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    tasks = real_run.tasks
    assert len(tasks) > 50
    for task in tasks.sort_values("routes").tail(5)["task_id"]:
        story = tell_json(capsys, "why", str(real_run.path), "task", task)
        at_s = [moment["at_s"] for moment in story["moments"]]
        assert at_s == sorted(at_s)
        assert len(story["moments"]) >= 2
    swaps = real_run.swaps[real_run.swaps["swap"] > 1]
    assert len(swaps) > 5
    row = swaps.iloc[-1]
    number = swap_numbers(real_run.swaps).loc[swaps.index[-1]]
    told = tell_json(capsys, "why", str(real_run.path), "swap", str(row["node"]), str(number))
    assert sum(moment["facts"]["took_s"] for moment in told["moments"]) == pytest.approx(row["total_s"])


def test_the_tables_of_a_real_run_agree_with_each_other(real_run: Run) -> None:
    tasks, routes, work, metrics = real_run.tasks, real_run.routes, real_run.work, real_run.summary["metrics"]
    assert tasks["task_id"].is_unique
    assert metrics["tasks_submitted"] == len(tasks)
    assert metrics["task_routes"] == len(routes) == tasks["routes"].sum()
    done = tasks[tasks["reason"].isna()]
    assert metrics["tasks_done"] == len(done)
    assert done["via"].notna().all()
    assert done["started_s"].notna().all()
    assert metrics["task_latency_p50_s"] == pytest.approx(chart_data.quantile(done["latency_s"], 0.5), rel=0.001)
    assert set(done["task_id"]) <= set(work[work["reason"].isna()]["task_id"])
    assert (done["tokens"].to_numpy() > 0).all()
    swaps = real_run.swaps
    phases = [name for name in swaps.columns if name.endswith("ing_s") or name == "rolling_back_s"]
    assert (swaps[phases].sum(axis=1) - swaps["total_s"]).abs().max() < 1e-6
    assert (swaps["ended_s"] - swaps["started_s"] - swaps["total_s"]).abs().max() < 1e-6
    assert metrics["messages"] == real_run.messages["count"].sum()
    ready = real_run.timeline[real_run.timeline["metric"] == "nodes_ready"].groupby("at_s")["value"].sum()
    assert 13 <= ready.max() <= 15  # of 15 nodes that have a model; some are always in a swap
    learned = real_run.gossip[real_run.gossip["event"] == "learned"]
    assert (learned["delay_s"].dropna() >= 0).all()
    assert {"ble", "heartbeat", "summary"} <= set(learned["channel"])
