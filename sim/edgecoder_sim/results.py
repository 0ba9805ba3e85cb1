"""Reading a run: its tables as DataFrames, its summary, scenario and provenance.

    run = Run("runs/20260105-101500-office-1a2b3c4d")
    run.tasks.groupby("kind")["latency_s"].median()

Columns and units are those of `tables`. Whatever is wrong with a directory is a ConfigError that names the file.
Tasks and swaps have names that people can type: a node's own are numbered from 1 on, over all its lives; ids are long,
and count anew in each life.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from ruamel.yaml import YAML

from edgecoder.errors import ConfigError
from edgecoder_sim import rundir
from edgecoder_sim.columns import Table
from edgecoder_sim.scenario import load_scenario
from edgecoder_sim.scenario_model import Scenario
from edgecoder_sim.tables import TABLES

_NULLABLE: Final = {pa.int32(): pd.Int32Dtype(), pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
"""Types that would lose their kind where a value is empty, and what to use instead."""


class Run:
    """One run directory. Tables are read when they are first asked for, and kept."""

    def __init__(self, path: str | Path) -> None:
        """`path` may be `last`, for the newest in ./runs. Raises ConfigError where there is no run."""
        self.path = rundir.find(str(path))

    @cached_property
    def nodes(self) -> pd.DataFrame:
        """One row a node; the row's label is its index too."""
        return self.table("nodes")

    @cached_property
    def swaps(self) -> pd.DataFrame:
        """One row a swap."""
        return self.table("swaps")

    @cached_property
    def tasks(self) -> pd.DataFrame:
        """One row a task."""
        return self.table("tasks")

    @cached_property
    def routes(self) -> pd.DataFrame:
        """One row a decision of a router."""
        return self.table("routes")

    @cached_property
    def work(self) -> pd.DataFrame:
        """One row a piece of work that a node did on a task."""
        return self.table("work")

    @cached_property
    def gossip(self) -> pd.DataFrame:
        """One row a piece of news that reached a node."""
        return self.table("gossip")

    @cached_property
    def messages(self) -> pd.DataFrame:
        """One row an interval, message type and medium."""
        return self.table("messages")

    @cached_property
    def timeline(self) -> pd.DataFrame:
        """One row a metric, key and time."""
        return self.table("timeline")

    @cached_property
    def downloads(self) -> pd.DataFrame:
        """One row a change of a model file."""
        return self.table("downloads")

    @cached_property
    def transfers(self) -> pd.DataFrame:
        """One row a download piece by piece."""
        return self.table("transfers")

    @cached_property
    def uploads(self) -> pd.DataFrame:
        """One row a sender, receiver and model."""
        return self.table("uploads")

    @cached_property
    def sent(self) -> pd.DataFrame:
        """One row a sample interval, sender and source: verified bytes that it gave."""
        return self.table("sent")

    @cached_property
    def losses(self) -> pd.DataFrame:
        """One row a model, source and reason: requests for pieces that did not bring what they were to."""
        return self.table("losses")

    @cached_property
    def pieces(self) -> pd.DataFrame:
        """One row a thing that happened to a piece, where the scenario asks for it."""
        return self.table("pieces")

    @cached_property
    def files(self) -> pd.DataFrame:
        """One row a file of the catalog."""
        return self.table("files")

    @cached_property
    def drops(self) -> pd.DataFrame:
        """One row a thing that was thrown away."""
        return self.table("drops")

    @cached_property
    def contacts(self) -> pd.DataFrame:
        """One row a contact of two nodes."""
        return self.table("contacts")

    @cached_property
    def discoveries(self) -> pd.DataFrame:
        """One row a peer in range of whom a node learned what it offers."""
        return self.table("discoveries")

    @cached_property
    def receipts(self) -> pd.DataFrame:
        """One row a step of a receipt: signed, queued, synced, refused, taken, copied."""
        return self.table("receipts")

    @cached_property
    def positions(self) -> pd.DataFrame:
        """One row a sample and node: where some of the nodes were."""
        return self.table("positions")

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The run's figures: digest, rng_seed, sim_s, wall_s, events, nodes, metrics, invariants, partial."""
        return self._json(rundir.SUMMARY)

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Where the run came from: version, commit, argv, packages."""
        return self._json(rundir.PROVENANCE)

    @cached_property
    def scenario_text(self) -> str:
        """The complete scenario as YAML."""
        return (self.path / rundir.SCENARIO).read_text(encoding="utf-8")

    @cached_property
    def scenario_values(self) -> dict[str, Any]:
        """The complete scenario as plain values; not checked, since it was when it ran."""
        values: dict[str, Any] = YAML(typ="safe", pure=True).load(self.scenario_text)
        return values

    @cached_property
    def scenario(self) -> Scenario:
        """The complete scenario."""
        return load_scenario(self.path / rundir.SCENARIO)

    def table(self, name: str) -> pd.DataFrame:
        """A table by its name. Raises ConfigError where the file is missing, torn, or not what `tables` says."""
        table = TABLES[name]
        path = self.path / table.file_name
        try:
            found = pq.read_table(path)
        except FileNotFoundError:
            raise self._problem(path, "the table is missing", "run the scenario again") from None
        except (pa.ArrowInvalid, OSError) as error:
            what = str(error).replace(str(path), table.file_name).partition(". ")[0].rstrip(".")
            problem = f"the table is torn ({what})"
            raise self._problem(path, problem, "the run was killed or its disk was full: run it again") from None
        if not found.schema.equals(table.schema):
            hint = "read it with the version of EdgeCoder that wrote it, or run the scenario again"
            raise self._problem(path, f"its columns are {_shown(found.schema)}, not {_shown(table.schema)}", hint)
        return _frame(table, found)

    def _json(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            hint = "the run was killed, or it is still going on"
            raise self._problem(path, "the file is missing", hint) from None
        except ValueError as error:
            raise self._problem(path, f"this is no JSON ({error})", "run the scenario again") from None
        if not isinstance(value, dict):
            raise self._problem(path, "this is no JSON object", "run the scenario again")
        return value

    def _problem(self, path: Path, problem: str, hint: str) -> ConfigError:
        return ConfigError(str(path), None, problem, hint)


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


def _frame(table: Table, found: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = found.to_pandas()
    for column in table.columns:
        if column.nullable and column.type in _NULLABLE:
            frame[column.name] = found.column(column.name).to_pandas(types_mapper=_NULLABLE.get)
    return frame


def _shown(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)
