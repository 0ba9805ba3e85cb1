"""What people call the tasks and swaps of a run: a node's own are numbered from 1 on, over all its lives.

Ids count anew in each life and are long; these names are short, and no two tasks, or swaps of a node, share one.
"""

from __future__ import annotations

import pandas as pd

from edgecoder_sim.results import Run


def node_names(run: Run) -> dict[int, str]:
    """The names of the nodes by their index."""
    return dict(zip(run.nodes["node"], run.nodes["name"], strict=True))


def task_names(run: Run) -> pd.Series:
    """A short name for each task, by the labels of its table: `phone-7:12` is the twelfth that phone-7 asked."""
    ordered = run.tasks.sort_values(["submitted_s", "task_id"], kind="stable")
    numbers = (ordered.groupby("origin").cumcount() + 1).reindex(run.tasks.index)
    return run.tasks["origin"].map(node_names(run)).astype(str) + ":" + numbers.astype(str)


def swap_numbers(swaps: pd.DataFrame) -> pd.Series:
    """The number of each swap among those of its node, by the labels of the table; 0 for what changed nothing. A load
    at a start counts, as it does in the ids."""
    began = swaps[swaps["swap"] > 0].sort_values(["epoch", "started_s", "swap"], kind="stable")
    numbers = began.groupby("node").cumcount() + 1
    return numbers.reindex(swaps.index, fill_value=0)
