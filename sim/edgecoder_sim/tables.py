"""The documented schemas of a run's tables: every column with its unit last, its type and one line on what it holds.

One place for writers, readers and the report; what fills the tables is left to `recorder`. Times are float seconds of
simulated time, which are exact to the microsecond; nodes are their index, the key of the table `nodes`. The lines of
help travel in the Parquet files, as metadata of the columns.
"""

from __future__ import annotations

import sys
from typing import Final

import msgspec

from edgecoder_sim.columns import FLAG, INTEGER, NODE, NUMBER, SECONDS, TEXT, Column, Table, maybe
from edgecoder_sim.file_tables import DOWNLOADS, FILES, LOSSES, PIECES, SENT, TRANSFERS, UPLOADS

UNFINISHED: Final = "unfinished"
"""Reason of what was still open when the run ended."""
RESTARTED: Final = "restarted"
"""Reason of what a restart of its node cut off."""


class NodeRow(msgspec.Struct, frozen=True):
    """One node, as the world describes it before the run."""

    index: int
    name: str
    node_id: bytes
    role: str
    device: str
    memory_mb: int
    x_m: float | None
    y_m: float | None
    home: int | None
    """Index of the coordinator that it reports to."""
    model: str | None
    """The model that it starts with."""
    up_bytes_per_s: int = 0
    down_bytes_per_s: int = 0
    """Its access to the IP network."""
    system: str | None = None
    """The operating system that drives its radio; None without one."""
    holds: tuple[str, ...] = ()
    """Models whose file it has at first."""


def page() -> str:
    """Every table and column as Markdown: `docs/tables.md`."""
    kinds = {NODE: "node", INTEGER: "whole number", NUMBER: "number", TEXT: "text", FLAG: "true or false"}
    lines = [
        "# The tables of a run",
        "",
        "Written by `python -m edgecoder_sim.tables > docs/tables.md`. A run directory has each as `<name>.parquet`;",
        "the unit of a number stands last in the column's name, times are simulated seconds since the run began, and",
        "a node is its index in `nodes`. `Run(path).tasks` of `edgecoder_sim.results` is the table as a DataFrame.",
    ]
    for table in TABLES.values():
        lines += [
            "",
            f"## {table.name}",
            "",
            table.help,
            "",
            "| column | type | may be empty | holds |",
            "|---|---|---|---|",
        ]
        for column in table.columns:
            empty = "yes" if column.nullable else ""
            lines.append(f"| `{column.name}` | {kinds[column.type]} | {empty} | {column.help.replace('|', '&#124;')} |")
    lines += ["", "### Metrics of the timeline", "", "| metric | value |", "|---|---|"]
    lines += [f"| `{name}` | {what} |" for name, what in TIMELINE_METRICS.items()]
    return "\n".join(lines) + "\n"


NODES: Final = Table(
    "nodes",
    "One row a node.",
    (
        Column("node", NODE, "Index of the node; the other tables refer to it."),
        Column("name", TEXT, "Name of the node."),
        Column("node_id", TEXT, "Node id: SHA-256 of its public key, hexadecimal."),
        Column("role", TEXT, "phone, agent or coordinator."),
        Column("device", TEXT, "Device profile."),
        Column("memory_mb", INTEGER, "Memory of the machine, MB."),
        maybe("x_m", NUMBER, "Place, m; empty without a radio."),
        maybe("y_m", NUMBER, "Place, m; empty without a radio."),
        maybe("home", NODE, "Coordinator that it reports to."),
        maybe("model", TEXT, "Model that it starts with."),
        Column("up_bytes_per_s", INTEGER, "Capacity of its access to the IP network, from it, bytes a second."),
        Column("down_bytes_per_s", INTEGER, "The same, to it."),
        maybe("system", TEXT, "Operating system that drives its radio; empty without one."),
        Column("holds", TEXT, "Models whose file it has when the run begins, by spaces."),
    ),
)

PHASES: Final = {
    "announcing": "announcing_s",
    "draining": "draining_s",
    "unloading": "unloading_s",
    "loading": "loading_s",
    "rollingBack": "rolling_back_s",
}
"""Phases of the swap table in which a node serves nobody, with their columns in `swaps`."""

SWAPS: Final = Table(
    "swaps",
    "One row a swap, and one a request that was refused before anything was touched (swap 0).",
    (
        Column("node", NODE, "Node whose model changed."),
        Column("epoch", INTEGER, "Life of the node; with `node` and `swap` the key of a swap."),
        Column("swap", INTEGER, "Number of the swap in this life; 0 for a request that was refused."),
        Column("started_s", SECONDS, "First phase entered; waiting behind another swap comes before it."),
        Column("ended_s", SECONDS, "Answer given, the new state being durable; end of the run where unfinished."),
        Column("model", TEXT, "Model that was asked for."),
        maybe("previous", TEXT, "Model that was active before."),
        maybe("active", TEXT, "Model that was active after."),
        Column("cause", TEXT, "user, task, boot (the start of a life), engine (it lost its model), or unknown."),
        maybe("reason", TEXT, "Why `model` is not active; empty: it is."),
        Column("requests", INTEGER, "Requests that this swap answered."),
        Column("announcing_s", SECONDS, "Journalling the intent and telling the peers, s."),
        Column("draining_s", SECONDS, "Letting running tasks end, s."),
        Column("unloading_s", SECONDS, "Freeing the old model, s."),
        Column("loading_s", SECONDS, "Loading the new model, s."),
        Column("rolling_back_s", SECONDS, "Loading the old model again, s."),
        Column("confirming_s", SECONDS, "From the settled state, in which the node serves again, to the answer, s."),
        Column("total_s", SECONDS, "From the first phase to the answer, s: the sum of the phases."),
    ),
)

TASKS: Final = Table(
    "tasks",
    "One row a task that a user asked.",
    (
        Column("task_id", TEXT, "Task id, hexadecimal."),
        Column("kind", TEXT, "Name of the workload."),
        Column("origin", NODE, "Node whose user asked."),
        Column("submitted_s", SECONDS, "The user asked."),
        maybe("started_s", SECONDS, "The engine that answered began with it."),
        maybe("ended_s", SECONDS, "The user got the reply; empty where unfinished."),
        maybe("waited_s", SECONDS, "From asking to the engine's begin: routing, travel and queues, s."),
        maybe("latency_s", SECONDS, "From asking to the whole reply, or to the word that there is none, s."),
        maybe("served_by", NODE, "Node that answered."),
        maybe("via", TEXT, "How an answer came: self, peer, coordinator (one of its nodes), federation (another's)."),
        maybe("model_asked", TEXT, "Model that the user named."),
        maybe("model_served", TEXT, "Model that answered."),
        Column("min_param_size", NUMBER, "Least size of the model, billions of parameters; 0: any."),
        Column("prompt_bytes", INTEGER, "Size of the prompt, bytes."),
        Column("tokens", INTEGER, "Tokens that the user got."),
        Column("attempts", INTEGER, "Nodes that the origin tried; 0 where unfinished."),
        Column("routes", INTEGER, "Decisions of routers about it."),
        Column("probes", INTEGER, "Nodes that were probed for it, in all rounds."),
        maybe("hedge", TEXT, "Whether the second node that was asked won or lost; empty: none was."),
        maybe("reason", TEXT, "Why there is no answer; empty: there is one."),
    ),
)

ROUTES: Final = Table(
    "routes",
    "One row a decision of a router.",
    (
        Column("task_id", TEXT, "Task id, hexadecimal."),
        Column("at_s", SECONDS, "Time of the decision."),
        Column("node", NODE, "Node whose router decided."),
        maybe("to", NODE, "Next node; empty: nobody, the task waits or is refused."),
        Column("why", TEXT, "Reason code of the decision."),
        maybe(
            "cost",
            NUMBER,
            "What the router charged for the next node: points by cost, ms to the expected finish by probe.",
        ),
        Column("eligible", INTEGER, "Nodes that could have taken it."),
        Column("excluded", TEXT, "Nodes that were ruled out, by reason: a JSON object of counts."),
        Column("probes", INTEGER, "Nodes that were probed for it."),
        Column("answered", INTEGER, "How many of them answered in time."),
    ),
)

WORK: Final = Table(
    "work",
    "One row a task that a node had accepted and worked on or kept waiting; most tasks have one, re-routed ones more.",
    (
        Column("task_id", TEXT, "Task id, hexadecimal."),
        Column("node", NODE, "Node that worked."),
        maybe("started_s", SECONDS, "Its engine began; empty: it was stopped while it waited."),
        maybe("stopped_s", SECONDS, "Its work ended; empty where unfinished."),
        maybe("model", TEXT, "Model that worked."),
        Column("tokens", INTEGER, "Tokens written."),
        maybe("reason", TEXT, "Why it was stopped; empty: it was done."),
    ),
)

GOSSIP: Final = Table(
    "gossip",
    "One row a piece of news that reached a node: a newer generation or summary, or a row that it dropped.",
    (
        Column("at_s", SECONDS, "The node took it."),
        Column("node", NODE, "Node that learned."),
        Column("about", NODE, "Node that it learned of."),
        Column("event", TEXT, "learned, forgotten, or config_differs (its configuration is not the network's)."),
        Column(
            "channel",
            TEXT,
            "A medium: a peer's word over it (peer where it was forgotten); heartbeat; summary.",
        ),
        maybe("version", INTEGER, "Generation, or epoch · 2³² + seq of a summary."),
        maybe("model", TEXT, "Model that is active there; empty for summaries."),
        maybe("loading", FLAG, "Whether it is changing its model; empty for summaries."),
        maybe("news", TEXT, "first: nothing was known; state: what is on offer differs; refresh: only load or time."),
        maybe("delay_s", SECONDS, "Since the change of capabilities, or the sending of the summary, it tells of, s."),
        maybe("wrong_s", SECONDS, "How long what the node believed had been wrong until this put it right, s."),
    ),
)

MESSAGES: Final = Table(
    "messages",
    "One row a sample interval, message type and medium: frames that were delivered.",
    (
        Column("at_s", SECONDS, "End of the interval."),
        Column("type", TEXT, "Type of the message, as in its envelope."),
        Column("medium", TEXT, "ble, wifi_direct, lan or wan."),
        Column("count", INTEGER, "Envelopes."),
        Column("bytes", INTEGER, "Encoded size of the envelopes, bytes."),
    ),
)

TIMELINE: Final = Table(
    "timeline",
    "One row a metric, key and time; `TIMELINE_METRICS` says what the metrics are.",
    (
        Column("at_s", SECONDS, "Time of the sample, or of the event."),
        Column("metric", TEXT, "Name of the metric, its unit last."),
        Column("key", TEXT, "What it is about: a model, a kind of table, a node's index, or the empty string."),
        Column("value", NUMBER, "The value."),
    ),
)

DROPS: Final = Table(
    "drops",
    "One row a thing that a node threw away.",
    (
        Column("at_s", SECONDS, "Time."),
        Column("node", NODE, "Node that dropped it."),
        Column("what", TEXT, "What it was."),
        Column("reason", TEXT, "Why."),
    ),
)

CONTACTS: Final = Table(
    "contacts",
    "One row a contact: two people were in range of each other, their nodes on or off. Empty where nobody moves.",
    (
        Column("begin_s", SECONDS, "Begin of the contact, or of the run."),
        Column("end_s", SECONDS, "End of the contact, or of the run."),
        Column("first", NODE, "The node of the lower index."),
        Column("second", NODE, "The other one."),
        Column("distance_m", NUMBER, "How far apart they were at the begin, m."),
    ),
)

POSITIONS: Final = Table(
    "positions",
    "One row a sample and node: where some of the nodes were (at most 1,000, evenly picked). Empty where nobody moves.",
    (
        Column("at_s", SECONDS, "Time of the sample."),
        Column("node", NODE, "The node; one that is away from the floor has no row."),
        Column("x_m", NUMBER, "Place, m."),
        Column("y_m", NUMBER, "Place, m."),
    ),
)

DISCOVERIES: Final = Table(
    "discoveries",
    "One row a discovery: a node learned what another one offers that had come into range of its radio. Empty where "
    "radios do not scan.",
    (
        Column("at_s", SECONDS, "Time."),
        Column("node", NODE, "Node that learned it."),
        Column("peer", NODE, "Node in range."),
        Column("took_s", SECONDS, "Since both were up and in range, s."),
    ),
)

RECEIPTS: Final = Table(
    "receipts",
    "One row a step of a receipt: what a node that was offline owes for an answer. Empty where nobody was offline.",
    (
        Column("at_s", SECONDS, "Time of the step."),
        Column("node", NODE, "Node that took it."),
        Column("receipt", TEXT, "SHA-256 of what was signed, hexadecimal."),
        Column(
            "step",
            TEXT,
            "signed (by who asked), queued (durable at who served), synced (a coordinator has it), refused (none "
            "will take it), taken (durable at a coordinator), copied (the same receipt at another coordinator, or "
            "again at one that lost its disk: not to be counted).",
        ),
        maybe("queued", INTEGER, "Receipts that wait at the node that served, after the step."),
        maybe("micro_credits", INTEGER, "taken and copied: what it is worth, CPU seconds times quality, millionths."),
    ),
)

TABLES: Final[dict[str, Table]] = {
    table.name: table
    for table in (
        NODES, SWAPS, TASKS, ROUTES, WORK, GOSSIP, MESSAGES, TIMELINE, DOWNLOADS, DROPS, CONTACTS, POSITIONS,
        DISCOVERIES, RECEIPTS, TRANSFERS, UPLOADS, SENT, LOSSES, PIECES, FILES,
    )
}  # fmt: skip
"""Every table of a run directory, by name."""

BELIEFS: Final = {
    "registry": "what coordinators hold of their nodes, by heartbeat",
    "peers": "what nodes hold of peers in reach",
    "summaries": "what coordinators hold of each other",
}
"""The kinds of table in which a node keeps what it believes of others: keys of the staleness metrics."""

BELIEF_NAMES: Final = {"registry": "registries", "peers": "peer tables", "summaries": "summaries"}
"""The same kinds as people are told of them."""
MEDIUM_NAMES: Final = {"ble": "Bluetooth", "wifi_direct": "Wi-Fi Direct", "lan": "local network", "wan": "WAN"}
"""The media of links as people are told of them; the local network is the LAN, and the Wi-Fi of phones."""

TIMELINE_METRICS: Final = {
    "nodes_ready": "Nodes that really have the model active and are not changing it; key: model.",
    "nodes_known": "Nodes that coordinators' registries show as ready; key: model.",
    "nodes_seen": "Nodes ready in the eyes of a coordinator, its summaries of the others included, mean over "
    "coordinators; key: model.",
    "nodes_loading": "Nodes that are changing their model.",
    "nodes_without_model": "Phones and agents that have no model and are not loading one.",
    "online_share": "Share of phones and agents whose coordinator answers, 0 to 1.",
    "tasks_open": "Tasks that users wait for.",
    "swaps_open": "Swaps under way.",
    "rows_held": "Rows that nodes hold of others; key: kind of table.",
    "rows_wrong": "Those of them that differ from the truth (model or loading); key: kind of table.",
    "staleness_mean_s": "How long a row had differed from the truth, mean over all rows and the time since the sample "
    "before, right ones counting 0, s; key: kind of table.",
    "staleness_max_s": "The longest that a row had differed from it in that time, s; key: kind of table.",
    "links": "Links that are open, where radios scan; key: medium.",
    "transfer_bytes": "Verified bytes that have come so far; key: ble, wifi_direct, mesh or cdn.",
    "transfers_open": "Downloads under way piece by piece.",
    "seeders": "Nodes that a broker knows to have all of a file; an event; key: model.",
    "receivers": "Nodes that a broker knows to want more of it; an event; key: model.",
    "node_up": "1 when a node begins a life, 0 when it stops without a word; an event; key: node.",
    "uplink_up": "1 when the link that a node keeps to a coordinator is up, else 0; an event; key: node, coordinator.",
    "epoch_raised": "The new epoch of a node that had gone on with one that was over; an event; key: node.",
    "fault": "1 when a fault of the scenario begins, 0 when it ends; an event; key: its name.",
    "home": "Index of the coordinator to which a node reports from now on; an event; key: node.",
    "node_online": "1 when a node found its coordinator, 0 when it lost it; an event; key: node.",
}
"""What the timeline's metrics mean."""

if __name__ == "__main__":
    sys.stdout.write(page())
