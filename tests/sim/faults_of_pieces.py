"""Faults to plant where files come piece by piece: bits too soon, blame on the wrong one, leave that nobody gave,
credit for nothing, bytes that no link carried or no disk has room for. See `planted`."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from edgecoder.coordinator import broker
from edgecoder.coordinator.broker import Broker
from edgecoder.coordinator.earnings import Earnings
from edgecoder.coordinator.judge import Judge
from edgecoder.core.effects import FetchPiece
from edgecoder.core.giving import PieceAsked
from edgecoder.errors import Reason
from edgecoder.seeding import client
from edgecoder.seeding.holdings import Holdings
from edgecoder.seeding.pieces import bitmap_to_bytes
from edgecoder.seeding.requests import Request
from edgecoder.seeding.tickets import is_signed, issue
from edgecoder.seeding.transfer import Transfer
from edgecoder.seeding.transfer_table import TransferStep
from edgecoder.seeding.uploads import Uploads
from edgecoder.trace import SenderBanned
from edgecoder_sim.bandwidth import FlowNetwork
from edgecoder_sim.checkers import flows
from edgecoder_sim.pieces import PieceService
from edgecoder_sim.storage import Storage
from edgecoder_sim.world import World
from tests.sim.crowd import FILE_BYTES, Crowd
from tests.sim.planted import Faults

FAULTS: Final = Faults()


def run(*sets: str, rng_seed: int = 1) -> World:
    """A crowd of which a third poisons. Raises InvariantViolated."""
    with tempfile.TemporaryDirectory() as folder:
        bad = "agents.conduct={honest: 2, poisoner: 1}"
        small = ("agents.count=9", "duration_s=120", "config.agents.upload_slots=1", bad)
        crowd = Crowd(Path(folder), f"rng_seed={rng_seed}", *small, *sets)
        return crowd.run().world


def run_full(*sets: str, rng_seed: int = 1) -> World:
    """The same crowd, of which some have a disk that is a byte too small."""
    return run(
        "agents.devices={laptop: 2, workstation: 1}",
        f"devices.workstation.disk_free_gb={(FILE_BYTES - 1) / 1e9:.9f}",
        *sets,
        rng_seed=rng_seed,
    )


fault = partial(FAULTS.enter, where=run)


@fault("kept pieces are synced")
def count_a_piece_when_it_is_asked_for(patch: pytest.MonkeyPatch) -> None:
    """The bit is set as soon as somebody has been asked."""
    ask = Transfer._ask

    def hasty(self: Transfer, source: Any, piece: int, *how: Any, **more: Any) -> None:
        ask(self, source, piece, *how, **more)
        self._holdings.keep(self.holding, piece)

    patch.setattr(Transfer, "_ask", hasty)


@fault("kept pieces are synced")
def count_the_bad_leaf_too(patch: pytest.MonkeyPatch) -> None:
    """The leaf that did not fit is kept with those before it."""
    keep = Holdings.keep_leaves

    def one_more(self: Holdings, holding: Any, piece: int, leaves: int) -> int:
        return keep(self, holding, piece, leaves + 1)

    patch.setattr(Holdings, "keep_leaves", one_more)


@fault("kept pieces are synced")
def call_it_whole_a_piece_early(patch: pytest.MonkeyPatch) -> None:
    """A transfer ends when one piece is missing."""
    completed = Transfer._completed

    def early(self: Transfer, completion: Any) -> None:
        completed(self, completion)
        if self.holding.have.bit_count() == self.holding.layout.piece_count - 1:
            self.holding.have = self.holding.layout.all_pieces

    patch.setattr(Transfer, "_completed", early)


@fault("blame is proven")
def blame_who_sent_the_piece_before(patch: pytest.MonkeyPatch) -> None:
    """The sender of the last good piece is banned in place of the one whose leaf was bad."""
    failed = Transfer._failed
    last: dict[int, Any] = {}
    keep = Transfer._keep

    def kept(self: Transfer, request: Request, piece: int) -> None:
        keep(self, request, piece)
        if request.peer is not None:
            last[id(self)] = request.peer

    def wrong(self: Transfer, request: Request, completion: Any) -> None:
        failed(self, request, completion)
        if completion.reason is Reason.PIECE_CORRUPT and id(self) in last:
            self._context.trace(SenderBanned(self.holding.entry.model_id, last[id(self)]))

    patch.setattr(Transfer, "_keep", kept)
    patch.setattr(Transfer, "_failed", wrong)


@fault("blame is proven")
def ask_again_who_was_banned(patch: pytest.MonkeyPatch) -> None:
    """Bans are told and forgotten, and the broker does not keep the two apart."""
    failed = Transfer._failed

    def forgiving(self: Transfer, request: Request, completion: Any) -> None:
        failed(self, request, completion)
        self.losses.banned.clear()

    patch.setattr(Transfer, "_failed", forgiving)
    patch.setattr(Judge, "blame", lambda *_, **__: None)


@fault("pieces need leave")
def give_to_anybody(patch: pytest.MonkeyPatch) -> None:
    """Tickets are not looked at, and brokers give none."""
    patch.setattr(Uploads, "_admits", lambda *_: True)
    patch.setattr(Broker, "_ticket", lambda *_: None)


@fault("pieces need leave")
def take_the_ticket_of_another(patch: pytest.MonkeyPatch) -> None:
    """A sender looks only at whether a ticket is fresh; receivers show those of others."""
    patch.setattr(Uploads, "_admits", lambda self, event, ticket: ticket is not None)
    ask = PieceService._ask
    seen: list[Any] = []

    def borrowed(self: PieceService, fetch: Any, nothing: object) -> None:
        if fetch.effect.ticket is not None:
            seen.append(fetch.effect.ticket)
            fetch.effect = msgspec.structs.replace(fetch.effect, ticket=seen[0])
        ask(self, fetch, nothing)

    patch.setattr(PieceService, "_ask", borrowed)


@fault("pieces need leave")
def sign_tickets_for_oneself(patch: pytest.MonkeyPatch) -> None:
    """A receiver signs its tickets itself, in the broker's name, and the sender does not notice."""
    patch.setattr(Uploads, "_admits", lambda self, event, ticket: True)
    ask = PieceService._ask

    def forged(self: PieceService, fetch: Any, nothing: object) -> None:
        effect: FetchPiece = fetch.effect
        if effect.ticket is not None and effect.peer is not None:
            signer, file = fetch.node.node.context.signer, bytes.fromhex(effect.entry.sha256)
            own = issue("edgecoder", signer, fetch.node.node_id, effect.peer, file, 1, effect.ticket.expires_ms)
            stated = msgspec.structs.replace(own, broker=effect.ticket.broker)
            fetch.effect = msgspec.structs.replace(effect, ticket=stated)
        ask(self, fetch, nothing)

    patch.setattr(PieceService, "_ask", forged)


def run_on_short_tickets(*sets: str, rng_seed: int = 1) -> World:
    """The crowd, with tickets that hold for two seconds. Raises InvariantViolated."""
    return run("config.coordinators.ticket_ms=2000", "config.agents.clock_skew_ms=1", *sets, rng_seed=rng_seed)


def look_at_signatures_only(self: Uploads, event: PieceAsked, ticket: Any) -> bool:
    """What a sender does that looks at no time and no epoch."""
    context = self._context
    network, node = context.cluster.network_id, context.node_id
    return ticket is not None and is_signed(network, self._verifier, ticket, event.peer, node, event.file)


@FAULTS.enter("pieces need leave", where=run_on_short_tickets)
def take_tickets_that_have_run_out(patch: pytest.MonkeyPatch) -> None:
    """A broker renews no ticket, and senders do not look at the time."""
    ticket = Broker._ticket

    def once(self: Broker, state: Any, receiver: Any, sender: Any) -> Any:
        return None if sender in receiver.tickets else ticket(self, state, receiver, sender)

    patch.setattr(Broker, "_ticket", once)
    patch.setattr(Uploads, "_admits", look_at_signatures_only)


@fault("pieces need leave")
def take_tickets_of_an_older_epoch(patch: pytest.MonkeyPatch) -> None:
    """A broker signs tickets in the epoch before its own, and senders do not mind."""

    def older(
        network: str, signer: Any, receiver: Any, sender: Any, file: Any, epoch: int, expires_ms: int, **more: Any
    ) -> Any:
        return issue(network, signer, receiver, sender, file, epoch - 1, expires_ms, **more)

    patch.setattr(broker, "issue", older)
    patch.setattr(Uploads, "_admits", look_at_signatures_only)


@fault("pieces need leave")
def serve_all_at_once(patch: pytest.MonkeyPatch) -> None:
    """Slots do not count."""
    asked = Uploads.asked

    def generous(self: Uploads, event: PieceAsked) -> None:
        self.at_once = 1000
        asked(self, event)

    patch.setattr(Uploads, "asked", generous)
    patch.setattr(Uploads, "_adapt", lambda *_: None)


@fault("credits are earned")
def pay_a_whole_piece_for_its_end(patch: pytest.MonkeyPatch) -> None:
    """Whoever sends the last leaf of a piece has credit for all of it."""
    credit = Earnings.credit

    def whole(self: Earnings, receiver: Any, sender: Any, piece: int, _: int) -> None:
        credit(self, receiver, sender, piece, self._swarm.layout.piece_bytes(piece))

    patch.setattr(Earnings, "credit", whole)


@fault("credits are earned")
def pay_twice(patch: pytest.MonkeyPatch) -> None:
    """A piece is credited when it is granted and when it has come."""
    credit = Earnings.credit

    def twice(self: Earnings, *what: Any) -> None:
        credit(self, *what)
        credit(self, *what)

    patch.setattr(Earnings, "credit", twice)


@fault("pieces keep to the links")
def send_faster_than_the_uplink(patch: pytest.MonkeyPatch) -> None:
    """Flows count half of their bytes."""
    start = FlowNetwork.start

    def light(self: FlowNetwork, src: int, dst: int, size_bytes: int, *how: Any) -> Any:
        return start(self, src, dst, max(1, size_bytes // 2), *how)

    patch.setattr(FlowNetwork, "start", light)


def look_at_no_link(patch: pytest.MonkeyPatch) -> None:
    """The rule that looks at single links is blind, so that the bounds of a swarm have to see it."""
    patch.setattr(flows.Links, "_judge", lambda *_: None)


@fault("swarms keep to the bounds")
def send_bytes_that_no_link_carries(patch: pytest.MonkeyPatch) -> None:
    """Flows count a third of their bytes."""
    start = FlowNetwork.start

    def light(self: FlowNetwork, src: int, dst: int, size_bytes: int, *how: Any) -> Any:
        return start(self, src, dst, max(1, size_bytes // 3), *how)

    patch.setattr(FlowNetwork, "start", light)
    look_at_no_link(patch)


def run_on_large_pieces(*sets: str, rng_seed: int = 1) -> World:
    """An honest crowd of a hundred and eight pieces, so that six doublings show. Raises InvariantViolated."""
    large = ("agents.count=100", "agents.conduct={honest: 1}", f"catalog[0].pieceSizeBytes={FILE_BYTES // 8}")
    return run(*large, *sets, rng_seed=rng_seed)


@FAULTS.enter("swarms keep to the bounds", where=run_on_large_pieces)
def forward_what_has_not_come(patch: pytest.MonkeyPatch) -> None:
    """Who gets a piece has it to give on as soon as its first byte is on the way."""
    serve = PieceService.serve

    def cut_through(self: PieceService, node: Any, effect: Any) -> None:
        serve(self, node, effect)
        fetch = self._of_request.get(effect.request)
        if fetch is not None:
            self._kernel.call_at(self._kernel.now + self._flight_us(fetch), self._fetched, fetch)

    patch.setattr(PieceService, "serve", cut_through)
    look_at_no_link(patch)


@fault("kept pieces are synced")
def give_what_is_not_here(patch: pytest.MonkeyPatch) -> None:
    """A sender takes the pieces that it has asked for as held."""
    asked = Uploads.asked

    def eager(self: Uploads, event: PieceAsked) -> None:
        holding = self._holdings.by_file.get(event.file)
        if holding is None:
            return asked(self, event)
        have, holding.have = holding.have, holding.layout.all_pieces
        asked(self, msgspec.structs.replace(event, piece=(event.piece + 1) % holding.layout.piece_count))
        holding.have = have
        return None

    patch.setattr(Uploads, "asked", eager)


@fault("kept pieces are synced")
def announce_what_is_on_its_way(patch: pytest.MonkeyPatch) -> None:
    """Brokers and peers are told of one piece more than there is."""

    def more(have: int, piece_count: int) -> bytes:
        return bitmap_to_bytes(have | (have + 1 & (1 << piece_count) - 1), piece_count)

    patch.setattr(client, "bitmap_to_bytes", more)


@fault("downloads end")
def go_on_with_what_is_whole(patch: pytest.MonkeyPatch) -> None:
    """A transfer that has all pieces does not notice."""
    patch.setattr(Transfer, "_end", lambda *_: None)


@FAULTS.enter("files have room", where=run_full)
def write_beyond_the_end_of_the_disk(patch: pytest.MonkeyPatch) -> None:
    """Every file is given room."""

    def take(self: Storage, entry: Any) -> bool:
        self.files[entry.sha256] = entry.file_size_bytes
        return True

    patch.setattr(Storage, "take", take)


@fault("files have room")
def fetch_without_room(patch: pytest.MonkeyPatch) -> None:
    """A transfer does not ask for its room."""

    def hasty(self: Transfer) -> None:
        self._step(TransferStep.ALLOCATED)
        self._swarm.ready(self.holding)
        self.look()

    patch.setattr(Transfer, "start", hasty)
