"""Tell why a task, a swap or a piece of a file went as it did.

Decides what is asked and how it is printed; what there is to tell is said in `stories` and `piece_stories`.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from edgecoder.core.ids import Role
from edgecoder.errors import ConfigError
from edgecoder_sim.commands import piece_stories, stories
from edgecoder_sim.results import Run

USAGE: Final = (
    "edgecoder why [RUN] task [ID], edgecoder why [RUN] swap NODE [N], or edgecoder why [RUN] piece NODE [MODEL [N]]"
)
_SUBJECTS: Final = ("task", "swap", "piece")
_WORDS_MAX: Final = {"task": 1, "swap": 2, "piece": 3}
"""Words that may follow a subject."""


def command(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[RUN] task [ID] | [RUN] swap NODE [N] | [RUN] piece NODE [MODEL [N]]",
            help="RUN is a run directory; without it, or with `last`, the newest in ./runs that has ended. ID is a "
            "task's short name, such as phone-7:12, or the beginning or end of its id; without it some tasks are "
            "listed. NODE is a node's name; without N its swaps are listed. MODEL is a file that it "
            "downloaded; without N it is told where its pieces came from.",
            show_default=False,
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell how a task was routed, refused and served, decision by decision, how a swap went, phase by phase, or why a
    piece of a file came from there."""
    run_name, subject, rest = _parse(words)
    run = Run(run_name)
    tell = {"task": _task, "swap": _swap, "piece": _piece}[subject]
    lines, value = tell(run, rest)
    typer.echo(msgspec.json.encode(value).decode() if as_json else "\n".join(lines))


def _parse(words: list[str]) -> tuple[str, str, list[str]]:
    """Run, subject and what follows. Raises ConfigError."""
    run, rest = ("last", words) if words[0] in _SUBJECTS else (words[0], words[1:])
    if not rest or rest[0] not in _SUBJECTS:
        raise _no_subject(run, rest)
    subject, rest = rest[0], rest[1:]
    if len(rest) > _WORDS_MAX[subject]:
        raise ConfigError("why", None, f"{rest[-1]!r} is one word too many", f"write {USAGE}")
    if subject != "task" and not rest:
        raise ConfigError("why", None, "no node is given", f"write {USAGE}")
    return run, subject, rest


def _no_subject(run: str, rest: list[str]) -> ConfigError:
    """The error for words that do not say what to tell: a slip of the pen, or a run and nothing more."""
    is_run = run == "last" or Path(run).exists()
    wrong = (rest[0] if rest else "") if is_run else run
    if not wrong:
        return ConfigError("why", None, f"what of {run} is to be told is not said", f"write {USAGE}")
    problem = (
        f"{wrong!r} is neither task, swap nor piece" if is_run else f"{wrong!r} is neither task, swap, piece nor a run"
    )
    close = difflib.get_close_matches(wrong, _SUBJECTS, n=1)
    return ConfigError("why", None, problem, f"did you mean {close[0]}?" if close else f"write {USAGE}")


def _task(run: Run, rest: list[str]) -> tuple[list[str], Any]:
    if rest:
        story = stories.task_story(run, rest[0])
        return story.lines(), story
    found = stories.interesting_tasks(run)
    lines = [f"{len(run.tasks):,} tasks in {run.path}; some of them:"]
    for name, tasks in found.items():
        lines += [f"{name}:", *(map(_task_line, tasks))] if tasks else []
    return [*lines, f"Tell one: edgecoder why {run.path} task ID"], found


def _task_line(task: dict[str, Any]) -> str:
    took = "open" if task["latency_s"] is None else stories.span(task["latency_s"])
    outcome = "done" if task["reason"] is None else task["reason"]
    at = stories.clock(task["submitted_s"])
    return f"  {task['name']}  {at}  {task['kind']}: {outcome}, {took}, routes: {task['routes']}"


def _piece(run: Run, rest: list[str]) -> tuple[list[str], Any]:
    node = stories.find_node(run, rest[0])
    model = piece_stories.find_file(run, node, rest[1] if len(rest) > 1 else None)
    if len(rest) < 3:
        return piece_stories.file_summary(run, node, model)
    if not rest[2].isdecimal():
        raise ConfigError("why", None, f"the piece is {rest[2]!r}", "give its number, such as 0")
    told = piece_stories.piece_story(run, node, model, int(rest[2]))
    return told.lines(), told


def _swap(run: Run, rest: list[str]) -> tuple[list[str], Any]:
    node = stories.find_node(run, rest[0])
    name = str(run.nodes.loc[node, "name"])
    if len(rest) > 1:
        if not rest[1].isdecimal():
            raise ConfigError("why", None, f"the swap is {rest[1]!r}", "give its number, such as 2")
        told = stories.swap_story(run, node, int(rest[1]))
        return told.lines(), told
    rows = stories.node_swaps(run, node)
    if not rows:
        why = "; a coordinator runs no model" if run.nodes.loc[node, "role"] == Role.COORDINATOR.value else ""
        return [f"{name} had no swaps in {run.path}{why}"], rows
    lines = [f"{stories.swap_counts(rows)} of {name} in {run.path}:", *map(stories.swap_line, rows)]
    return [*lines, f"Tell one: edgecoder why {run.path} swap {name} N"], rows
