"""The tables of model files: what there is, who got it from whom, and why; see `tables`."""

from __future__ import annotations

from typing import Final

import msgspec

from edgecoder_sim.columns import INTEGER, NODE, SECONDS, TEXT, Column, Table, maybe


class FileRow(msgspec.Struct, frozen=True):
    """One file of the catalog, as the world describes it before the run."""

    model: str
    size_bytes: int
    piece_bytes: int
    pieces: int
    holders: tuple[int, ...]
    """Indices of the nodes that have it at first."""


FILES: Final = Table(
    "files",
    "One row a model file of the catalog.",
    (
        Column("model", TEXT, "Model."),
        Column("size_bytes", INTEGER, "Size of the file, bytes."),
        Column("piece_bytes", INTEGER, "Size of a piece, bytes; the last one may be shorter."),
        Column("pieces", INTEGER, "Pieces of the file."),
        Column("holders", INTEGER, "Nodes that have it when the run begins."),
        Column("holders_up_bytes_per_s", INTEGER, "Their uplinks together, bytes a second."),
    ),
)

DOWNLOADS: Final = Table(
    "downloads",
    "One row a change of a model file's state on a node.",
    (
        Column("at_s", SECONDS, "Time of the change."),
        Column("node", NODE, "Node that has the file."),
        Column("model", TEXT, "Model."),
        Column("phase", TEXT, "absent, partial, verifying, installed, quarantined or removing."),
        Column("bytes_done", INTEGER, "Bytes on disk."),
        maybe("reason", TEXT, "Why, where it failed."),
    ),
)

TRANSFERS: Final = Table(
    "transfers",
    "One row a download piece by piece of one node, in one of its lives.",
    (
        Column("node", NODE, "Node that wanted the file."),
        Column("model", TEXT, "Model."),
        Column("began_s", SECONDS, "When it began."),
        maybe("ended_s", SECONDS, "When all pieces were there, or it gave up; absent where it was open at the end."),
        maybe("reason", TEXT, "Why it gave up; `restarted` where the node's life ended."),
        Column("pieces_before", INTEGER, "Pieces that were there from an earlier life."),
        Column("ble_bytes", INTEGER, "Bytes from peers over Bluetooth."),
        Column("wifi_direct_bytes", INTEGER, "Bytes from peers over Wi-Fi Direct."),
        Column("mesh_bytes", INTEGER, "Bytes from peers that a broker or an earlier meeting named."),
        Column("cdn_bytes", INTEGER, "Bytes from the CDN."),
        Column("wasted_bytes", INTEGER, "Bytes that came and were thrown away, or had come before."),
        Column("losses", INTEGER, "Requests that did not bring what they were to."),
    ),
)

UPLOADS: Final = Table(
    "uploads",
    "One row a sender, receiver and model: verified bytes that went from one to the other in the run.",
    (
        maybe("sender", NODE, "Node that sent; absent: the CDN."),
        Column("receiver", NODE, "Node that received."),
        Column("model", TEXT, "Model."),
        Column("source", TEXT, "ble, wifi_direct, mesh or cdn."),
        Column("pieces", INTEGER, "Pieces that ended with bytes of this sender."),
        Column("bytes", INTEGER, "Verified bytes, those that came twice included."),
        Column("first_s", SECONDS, "When the first piece was there."),
        Column("last_s", SECONDS, "When the last was."),
    ),
)

SENT: Final = Table(
    "sent",
    "One row a sample interval, sender and source: verified bytes that it gave others in the interval.",
    (
        Column("at_s", SECONDS, "End of the interval."),
        maybe("sender", NODE, "Node that sent; absent: the CDN."),
        Column("source", TEXT, "ble, wifi_direct, mesh or cdn."),
        Column("bytes", INTEGER, "Bytes of pieces that ended in the interval, those that came twice included."),
    ),
)

LOSSES: Final = Table(
    "losses",
    "One row a model, source and reason: requests for pieces that did not bring what they were to.",
    (
        Column("model", TEXT, "Model."),
        Column("source", TEXT, "ble, wifi_direct, mesh or cdn."),
        Column("reason", TEXT, "Why; `duplicate`: all of it came, and had come before from another source."),
        Column("requests", INTEGER, "Requests that ended so."),
        Column("bytes", INTEGER, "Verified bytes that came with them and were kept."),
        Column("wasted_bytes", INTEGER, "Bytes that came and were thrown away, or had come before."),
    ),
)

PIECES: Final = Table(
    "pieces",
    "One row a thing that happened to a piece at the node that wants it, where the scenario asks for it with "
    "`record_pieces`.",
    (
        Column("at_s", SECONDS, "Time."),
        Column("node", NODE, "Node that wants the file."),
        Column("model", TEXT, "Model."),
        Column("piece", INTEGER, "Number of the piece, from 0 on; of several that were asked for at once, the first."),
        Column("count", INTEGER, "Pieces that were asked for at once; else 1."),
        Column(
            "event",
            TEXT,
            "sought (the source was asked), kept (verified and synced), twice (it had come before), lost.",
        ),
        Column("source", TEXT, "ble, wifi_direct, mesh or cdn."),
        maybe("peer", NODE, "Node that was asked; absent: the CDN."),
        maybe("why", TEXT, "sought: the planner's reason code; lost: the reason."),
        Column("bytes", INTEGER, "Verified bytes that came and were kept; twice: that had come before."),
        Column("wasted_bytes", INTEGER, "Bytes that came and were thrown away, or had come before."),
    ),
)
