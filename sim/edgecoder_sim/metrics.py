"""What the figures of a run mean: name, unit and plain words for every key of `metrics` in `summary.json`.

Quantiles of durations are within 0.05 % of the exact ones (`recording.histogram`); the tables hold every value. A
figure that has no value, such as a quantile of nothing, is left out of the summary.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from edgecoder.seeding.planner import Why as SeedWhy
from edgecoder_sim.tables import BELIEF_NAMES, BELIEFS


class Metric(NamedTuple):
    """One figure of a run."""

    group: str
    """Heading under which the report shows it."""
    label: str
    unit: str
    """s, share (0 to 1), bytes, or what is counted; per what, where it is a rate."""
    help: str


UNITS_OF_COUNTS: Final = (
    *("tasks", "decisions", "tokens", "swaps", "requests", "loads", "times", "nodes", "moves", "envelopes", "bytes"),
    *("drops", "changes", "downloads", "bans", "pieces"),
)
"""Units of figures that are whole numbers."""

METRICS: Final[dict[str, Metric]] = {
    "tasks_submitted": Metric("Tasks", "Asked", "tasks", "Tasks that users asked."),
    "tasks_done": Metric("Tasks", "Answered", "tasks", "Tasks whose user got the whole answer."),
    "tasks_failed": Metric("Tasks", "Not answered", "tasks", "Tasks whose user was told that there is no answer."),
    "tasks_unfinished": Metric("Tasks", "Open at the end", "tasks", "Tasks that were under way when the run ended."),
    "tasks_done_share": Metric("Tasks", "Share answered", "share", "Of the tasks that ended."),
    "task_latency_mean_s": Metric("Tasks", "Latency, mean", "s", "From asking to the whole answer."),
    "task_latency_p50_s": Metric("Tasks", "Latency, median", "s", "Half of the answers came faster."),
    "task_latency_p90_s": Metric("Tasks", "Latency, 90 %", "s", "Nine in ten answers came faster."),
    "task_latency_p99_s": Metric("Tasks", "Latency, 99 %", "s", "All but one in a hundred answers came faster."),
    "task_waited_p50_s": Metric("Tasks", "Wait, median", "s", "From asking until an engine began: routes, queues."),
    "task_waited_p99_s": Metric("Tasks", "Wait, 99 %", "s", "The same for all but one in a hundred answers."),
    "tasks_via_self_share": Metric("Tasks", "Answered by the asking node", "share", "Of the answered tasks."),
    "tasks_via_peer_share": Metric("Tasks", "Answered by a peer", "share", "Found without a coordinator."),
    "tasks_via_coordinator_share": Metric(
        "Tasks", "Found by the coordinator", "share", "One of its own nodes answered."
    ),
    "tasks_via_federation_share": Metric("Tasks", "Found by another coordinator", "share", "Passed on once."),
    "task_attempts_mean": Metric("Tasks", "Attempts, mean", "attempts per task", "Nodes that the origin tried."),
    "task_routes": Metric("Tasks", "Routing decisions", "decisions", "Of origins and coordinators."),
    "probes_per_task_mean": Metric(
        "Tasks", "Probes, mean", "probes per task", "Nodes that were asked how soon they could."
    ),
    "probes_answered_share": Metric("Tasks", "Probes answered", "share", "Before the round was decided."),
    "tasks_hedged": Metric("Tasks", "Asked of a second node", "tasks", "They were late to be taken up."),
    "hedges_won": Metric("Tasks", "Second nodes that won", "tasks", "They began before the first."),
    "task_tokens": Metric("Tasks", "Tokens that users got", "tokens", "In whole answers."),
    "task_tokens_wasted": Metric("Tasks", "Tokens in vain", "tokens", "Written for tasks that were then stopped."),
    "tasks_per_node_per_h": Metric("Tasks", "Load", "tasks per node and hour", "Coordinators count as nodes."),
    "swaps_done": Metric("Swaps", "Done", "swaps", "The model that was asked for is active."),
    "swaps_failed": Metric("Swaps", "Failed", "swaps", "It is not: what follows, or a restart cut the swap off."),
    "swaps_failed_kept": Metric("Swaps", "Failed, a model serves", "swaps", "The old model, in nearly all."),
    "swaps_failed_empty": Metric("Swaps", "Failed, no model left", "swaps", "The roll-back failed too, or had none."),
    "swaps_refused": Metric("Swaps", "Refused", "requests", "Turned down, or superseded, before anything was touched."),
    "swaps_unfinished": Metric("Swaps", "Open at the end", "swaps", "Under way when the run ended."),
    "boot_loads": Metric("Swaps", "Loads at a start", "loads", "A life began, and its node set out to load a model."),
    "boot_loads_failed": Metric("Swaps", "Loads at a start that failed", "loads", "The node was left without a model."),
    "no_model_nodes": Metric("Swaps", "Nodes left without a model", "nodes", "At some time, and not loading one."),
    "no_model_share": Metric("Swaps", "Time without a model", "share", "Of the time of all phones and agents."),
    "no_model_longest_s": Metric("Swaps", "Longest without a model", "s", "Of one node, until it began to load one."),
    "engine_recoveries": Metric(
        "Swaps", "Engines that lost their model", "times", "The node set out to load it again."
    ),
    "engine_recoveries_failed": Metric("Swaps", "Engines that stayed without it", "times", "The load failed as well."),
    "swap_total_p50_s": Metric("Swaps", "Whole swap, median", "s", "From the first phase to the answer; done swaps."),
    "swap_total_p99_s": Metric("Swaps", "Whole swap, 99 %", "s", "The same for all but one in a hundred."),
    "swap_loading_p50_s": Metric("Swaps", "Loading, median", "s", "The new model; done swaps."),
    "swap_loading_p99_s": Metric("Swaps", "Loading, 99 %", "s", "The same for all but one in a hundred."),
    "swap_away_p50_s": Metric("Swaps", "Out of service, median", "s", "The node takes no tasks; done swaps."),
    "swap_away_p99_s": Metric("Swaps", "Out of service, 99 %", "s", "The same for all but one in a hundred."),
    "online_share": Metric("Knowledge", "Online", "share", "Of node-time in which the coordinator answered."),
    "home_moves": Metric("Knowledge", "Moves to another coordinator", "moves", "The home was lost or silent."),
    "contacts": Metric("People", "Contacts", "contacts", "People came into range, nodes on or off."),
    "contact_p50_s": Metric("People", "Length of a contact, median", "s", "Cut at the begin and the end of the run."),
    "discoveries": Metric("Radio", "Discoveries", "times", "A node learned what another one in range offers."),
    "discovery_p50_s": Metric("Radio", "Time to a discovery, median", "s", "Since both were up and in range."),
    "discovery_p99_s": Metric("Radio", "Time to a discovery, 99 %", "s", "The same for all but one in a hundred."),
    "discovered_in_minute_share": Metric(
        "Radio", "Discovered within a minute", "share", "Of those who were in range for so long, or were discovered."
    ),
    "receipts_signed": Metric("Offline", "Receipts signed", "receipts", "Answers that nodes got while offline."),
    "receipts_synced": Metric("Offline", "Receipts synced", "receipts", "Who served knows that a coordinator has it."),
    "receipts_refused": Metric("Offline", "Receipts refused", "receipts", "No coordinator will take them."),
    "receipts_taken": Metric(
        "Offline", "Receipts at coordinators", "receipts", "Durable there; each counts once, wherever it is."
    ),
    "receipt_copies": Metric(
        "Offline", "Copies of receipts", "receipts", "At a second coordinator, or again at one that lost its disk."
    ),
    "receipt_credits": Metric("Offline", "Credits", "credits", "CPU seconds times quality, each receipt once."),
    "receipts_waiting": Metric(
        "Offline", "Receipts that wait", "receipts", "At who served, when the run ended, or lost with its disk."
    ),
    "receipt_wait_p50_s": Metric("Offline", "Wait of a receipt, median", "s", "From durable to synced."),
    "transfers_done": Metric("Distribution", "Downloads done", "downloads", "All pieces were there."),
    "transfers_failed": Metric("Distribution", "Downloads given up", "downloads", "No source, no room, or called off."),
    "origin_copies": Metric(
        "Distribution", "Copies from the origin", "copies", "Bytes from the CDN, by the sizes of the files wanted."
    ),
    "offload_share": Metric("Distribution", "Offload", "share", "Of all verified bytes, those that peers gave."),
    "offload_bound_share": Metric(
        "Distribution", "Offload, at most", "share", "A file that no node has comes from the CDN once at least."
    ),
    "finish_over_bound": Metric(
        "Distribution", "Last finish over the fluid bound", "times the bound", "Of a crowd that wants a file at once."
    ),
    "finish_over_piece_bound": Metric(
        "Distribution", "Last finish over the piece bound", "times the bound", "Where all uplinks are equal."
    ),
    "upload_gini": Metric(
        "Distribution", "Gini of what nodes gave", "Gini", "0: all gave alike; near 1: one gave all."
    ),
    "transfer_p50_s": Metric("Distribution", "Download, median", "s", "From asking to the last piece."),
    "transfer_p99_s": Metric("Distribution", "Download, 99 %", "s", "The same for all but one in a hundred."),
    "transfer_ble_bytes": Metric("Distribution", "Over Bluetooth", "bytes", "Verified bytes from peers in range."),
    "transfer_wifi_direct_bytes": Metric("Distribution", "Over Wi-Fi Direct", "bytes", "The same."),
    "transfer_mesh_bytes": Metric("Distribution", "From the mesh", "bytes", "Verified bytes from peers over IP."),
    "transfer_cdn_bytes": Metric("Distribution", "From the CDN", "bytes", "Verified bytes from the origin."),
    "transfer_wasted_bytes": Metric("Distribution", "Wasted", "bytes", "Came twice, or did not fit the tree."),
    "senders_banned": Metric("Distribution", "Bans", "bans", "A node takes nothing more from a peer that lied."),
    "reverse_dials": Metric("Distribution", "Reverse dials", "dials", "By nodes that nobody can dial, to give pieces."),
    "reverse_dials_failed": Metric("Distribution", "Failed of them", "dials", "Nobody was there, or wanted it."),
    "pieces_refused": Metric("Distribution", "Requests refused", "requests", "By the peer that was asked."),
    "seed_credits": Metric("Distribution", "Seed credits", "credits", "Of all senders, by their brokers."),
    "messages": Metric("Messages", "Delivered envelopes", "envelopes", "On all links."),
    "message_bytes": Metric("Messages", "Delivered bytes", "bytes", "Encoded envelopes."),
    "messages_per_node_per_min": Metric(
        "Messages", "Rate of envelopes", "envelopes per node and minute", "On all links."
    ),
    "message_bytes_per_node_per_min": Metric("Messages", "Rate of bytes", "bytes per node and minute", "On all links."),
    "drops": Metric("Messages", "Thrown away", "drops", "Frames, rows and requests that a node dropped."),
    "download_changes": Metric("Messages", "Changes of files", "changes", "Model files that came, or went bad."),
}
"""The figures, in the order of the report."""

for _kind, _what in BELIEFS.items():
    _name = BELIEF_NAMES[_kind]
    METRICS[f"{_kind}_wrong_share"] = Metric(
        "Knowledge", f"Wrong rows: {_name}", "share", f"Of the time that rows were held; {_what}."
    )
    METRICS[f"{_kind}_staleness_mean_s"] = Metric(
        "Knowledge", f"Staleness: {_name}", "s", "How long a row had been wrong, mean over rows and time."
    )
    METRICS[f"{_kind}_wrong_p50_s"] = Metric(
        "Knowledge", f"Wrong until news: {_name}, median", "s", "How long a row was wrong until news put it right."
    )
    METRICS[f"{_kind}_wrong_p99_s"] = Metric(
        "Knowledge", f"Wrong until news: {_name}, 99 %", "s", "The same for all but one in a hundred corrections."
    )

for _why in SeedWhy:
    METRICS[f"pieces_sought_{_why.value}"] = Metric(
        "Distribution", f"Pieces sought: {_why.value}", "pieces", "By the planner's reason code; see `edgecoder why`."
    )
