"""The fetching half of a connection: which blocks it asks for, how many at once, and what it does when none come.

Source: request_blocks.cpp and, of peer_connection.cpp in libtorrent 2.1, incoming_piece, incoming_reject_request,
send_block_requests_impl, update_desired_queue_size, second_tick and snub_peer.

Fidelity boundary: requests are never cancelled. libtorrent 2.1 does not do that either, although it means to: a block
that arrived counts as written before cancel_block asks for its requests, and finds none.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from edgecoder_sim.swarm.messages import Kind
from edgecoder_sim.swarm.picker import PARTIALS, RAREST, REVERSE
from edgecoder_sim.swarm.rates import Rate, RequestTime

if TYPE_CHECKING:
    from edgecoder_sim.swarm.connection import Connection

FIRST_QUEUE: Final = 4
"""Requests at once on a new connection; one more for each block that comes, until slow start ends."""
SHORTEST_QUEUE: Final = 2
SLOW_START_SLACK_BYTES: Final = 5000
"""Slow start ends with a second that brought no more than this beyond the one before."""
MOST_CONTIGUOUS_BYTES: Final = 8 << 20
"""Pieces in a row that a fast connection prefers are no longer than this."""
END_GAME_RETRY_US: Final = 5_000_000
"""How long an idle connection in the end game waits before it looks again."""
SECOND_US: Final = 1_000_000


class _Asked:
    """A block that the other end was asked for."""

    __slots__ = ("is_late", "is_unwanted")

    def __init__(self) -> None:
        self.is_late = False
        """It was given up, so that others are asked for it."""
        self.is_unwanted = False


class Fetcher:
    """Fetches over one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._peer = connection.peer
        self._settings = connection.peer.settings
        self.queued: deque[int] = deque()
        """Blocks that were picked and not asked for yet."""
        self.asked: dict[int, _Asked] = {}
        self.desired = FIRST_QUEUE
        """How many requests there are to be at once."""
        self.is_slow_start = True
        self.is_end_game = False
        self.is_snubbed = False
        self.payload = Rate()
        self._last_second = 0
        self._request_time = RequestTime()
        self._requested_us = 0
        self._last_piece_us = 0
        self._last_request_us = connection.peer.kernel.now
        self._flush_is_due = False

    # -- asking --------------------------------------------------------------------------------------------------------

    def ask(self) -> None:
        """Pick blocks, if fewer are under way than desired, and ask for them soon (request_a_block)."""
        self._pick()
        self._ask_soon()

    def _pick(self) -> None:
        peer, connection = self._peer, self._connection
        desired = 1 if self.is_end_game or self.is_snubbed else self.desired
        wanted = desired - len(self.asked) - len(self.queued)
        if peer.is_seed or wanted <= 0:
            return
        picker = peer.picker
        mask = connection.has & (connection.allowed_fast if connection.is_choked_by_peer else -1)
        contiguous = self._contiguous()
        blocks = picker.pick(mask, wanted, contiguous, connection.other, self._flags(), len(peer.connections))
        is_under_way = bool(self.asked or self.queued)
        avoids_busy = (self._settings.strict_end_game_mode and picker.started < picker.missing) or is_under_way
        busy = None
        for block in blocks:
            if not contiguous and wanted <= 0:
                break
            if picker.askers(block):
                if wanted <= 0 or avoids_busy:
                    break
                busy = block
            elif block not in self.asked and block not in self.queued and self._queue(block):
                wanted -= 1
        if wanted <= 0:
            self.is_end_game = False
            return
        if not connection.is_choked_by_peer:
            self.is_end_game = True
        if busy is not None and not self.asked and not self.queued:
            self._queue(busy)

    def _queue(self, block: int) -> bool:
        if not self._peer.picker.mark(block, self._connection.other, self._flags()):
            return False
        self.queued.append(block)
        return True

    def _contiguous(self) -> int:
        """Blocks in a row that a connection as fast as this one prefers."""
        torrent = self._peer.torrent
        window = min(self.payload.bytes_per_s * self._settings.whole_pieces_threshold_s, MOST_CONTIGUOUS_BYTES)
        return window // torrent.piece_bytes * torrent.blocks_per_piece

    def _flags(self) -> int:
        if self._peer.picker.have_count < self._settings.initial_picker_threshold:
            flags = PARTIALS
        else:
            flags = RAREST | (REVERSE if self.is_snubbed else 0)
        return flags | (PARTIALS if self._settings.prioritize_partial_pieces else 0)

    def _ask_soon(self) -> None:
        """Requests go out together, after what is happening now."""
        if not self._flush_is_due:
            self._flush_is_due = True
            if not self._connection.is_reading:
                self._peer.kernel.call_at(self._peer.kernel.now, self._flush_later)

    def _flush_later(self, _: object, __: object) -> None:
        self.flush()

    def flush(self) -> None:
        """Ask for what was picked (send_block_requests_impl)."""
        if not self._flush_is_due:
            return
        self._flush_is_due = False
        if len(self.asked) >= self.desired:
            return
        peer, now = self._peer, self._peer.kernel.now
        was_empty = not self.asked
        while self.queued and len(self.asked) < self.desired:
            block = self.queued.popleft()
            if peer.is_seed:
                continue
            if peer.picker.is_written(block):
                peer.picker.abort(block, self._connection.other)
                continue
            self.asked[block] = _Asked()
            self._connection.sender.send(Kind.REQUEST, block)
            self._last_request_us = now
        self._last_piece_us = now
        if self.asked and was_empty:
            self._requested_us = now

    # -- what comes ----------------------------------------------------------------------------------------------------

    def bytes_came(self, size: int) -> None:
        """Bytes of a block arrived."""
        self.payload.add(size)
        self._last_piece_us = self._peer.kernel.now

    def block_came(self, block: int) -> None:
        """A block is whole."""
        peer, now = self._peer, self._peer.kernel.now
        if self.is_slow_start:
            self.desired += 1
        self._set_desired()
        if peer.is_seed:
            peer.wasted_bytes += peer.torrent.block_bytes(block)
            if self.asked:
                del self.asked[next(iter(self.asked))]
            return
        is_redundant = peer.picker.is_written(block)
        if is_redundant:
            peer.wasted_bytes += peer.torrent.block_bytes(block)
        elif self.is_snubbed and (now - self._requested_us) // SECOND_US < self._timeout_s():
            self.is_snubbed = False
        self.asked.pop(block, None)
        self._request_time.add((now - self._requested_us) // 1000)
        if self.asked:
            self._requested_us = now
        if not is_redundant:
            peer.has_block(block, self._connection.other)
        self.ask()

    def rejected(self, block: int) -> None:
        """The other end will not send a block."""
        peer = self._peer
        asked = self.asked.pop(block, None)
        if asked is not None and not peer.is_seed and not asked.is_late:
            peer.picker.abort(block, self._connection.other)
        if self._connection.is_choked_by_peer:
            self._connection.allowed_fast &= ~(1 << block // peer.torrent.blocks_per_piece)
        if not self.queued and len(self.asked) < SHORTEST_QUEUE:
            self._pick()
        self._ask_soon()

    def choked(self) -> None:
        """The other end chokes us: forget what was not asked for."""
        self.is_end_game = False
        if not self._peer.is_seed:
            for block in self.queued:
                self._peer.picker.abort(block, self._connection.other)
        self.queued.clear()

    # -- time ----------------------------------------------------------------------------------------------------------

    def tick(self, passed_ms: int) -> None:
        """A second has passed: leave slow start, and notice silence."""
        now = self._peer.kernel.now
        is_idle = not self.asked and not self.queued
        if (
            self.is_end_game
            and self._connection.is_interested
            and is_idle
            and now - self._last_request_us >= END_GAME_RETRY_US
        ):
            self._last_request_us = now
            self.ask()
        if self.asked and now > self._requested_us + self._timeout_s() * SECOND_US:
            self._snub()
        came = self.payload.since_tick
        if (
            self.is_slow_start
            and not self._connection.is_choked_by_peer
            and self._last_second > 0
            and self._last_second + SLOW_START_SLACK_BYTES >= came
        ):
            self.is_slow_start = False
        self._last_second = came
        self.payload.tick(passed_ms)
        self._set_desired()
        if self.asked and now - self._last_piece_us > self._settings.piece_timeout_s * SECOND_US:
            self._snub()

    def _timeout_s(self) -> int:
        return self._request_time.timeout_s(self._settings.request_timeout_s)

    def _set_desired(self) -> None:
        if self.is_snubbed:
            self.desired = 1
            return
        if not self.is_slow_start:
            blocks = self._settings.request_queue_time_s * self.payload.bytes_per_s // self._peer.torrent.block_bytes(0)
            self.desired = blocks
        self.desired = max(min(self.desired, self._settings.max_allowed_in_request_queue), SHORTEST_QUEUE)

    def _snub(self) -> None:
        """Nothing came for too long: ask others for the last block if a piece waits for it."""
        self.is_snubbed = True
        self.is_slow_start = False
        self.desired = 1
        if self._peer.is_seed:
            return
        picker, other = self._peer.picker, self._connection.other
        while self.queued:
            picker.abort(self.queued.pop(), other)
        late = next((block for block in reversed(self.asked) if not self.asked[block].is_late), None)
        if late is not None and not picker.free_blocks(late):
            self.desired = 2
            self._pick()
            self.desired = 1
            self.asked[late].is_late = True
            picker.abort(late, other)
        self._ask_soon()
