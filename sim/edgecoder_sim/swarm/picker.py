"""Which blocks to ask a peer for: random first pieces, then the rarest, whole pieces from fast peers, the end game.

Source: piece_picker.cpp of libtorrent 2.1, function by function; comments there say why. A set of pieces is an int
whose bit p is piece p.

Fidelity boundary: piece priorities, sequential download, suggested pieces, parole and affinity to extents are not
modelled. Blocks count as on disk when they arrive. Nothing arrives corrupt.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Final

from edgecoder.core.rng import Stream
from edgecoder_sim.swarm.settings import Torrent

RAREST: Final = 1
PARTIALS: Final = 2
REVERSE: Final = 4

_OPEN, _PARTIAL, _FULL, _FINISHED = range(4)
_FREE, _REQUESTED, _WRITTEN = range(3)
_PRIORITY_STEP: Final = 12
"""(priority_levels - default_priority) * prio_factor."""
_MOST_PARTIAL_BLOCKS: Final = 2048
NOBODY: Final = -1


class _Part:
    """A piece of which blocks were asked for (downloading_piece)."""

    __slots__ = ("askers", "is_reverse", "owner", "requested", "state", "written")

    def __init__(self, blocks: int, is_reverse: bool) -> None:
        self.state = [_FREE] * blocks
        self.owner = [NOBODY] * blocks
        self.askers = [0] * blocks
        self.requested = 0
        self.written = 0
        self.is_reverse = is_reverse


class _Pick:
    """One pick under way."""

    __slots__ = ("asker", "backup", "blocks", "contiguous", "flags", "ignored", "left", "mask")

    def __init__(self, mask: int, count: int, contiguous: int, asker: int, flags: int) -> None:
        self.mask = mask
        self.left = count
        self.contiguous = contiguous
        self.asker = asker
        self.flags = flags
        self.blocks: list[int] = []
        self.backup: list[int] = []
        self.ignored: set[int] = set()

    def take_backup(self) -> bool:
        """Fill up from the backup blocks. Whether that was enough."""
        taken = self.backup[: max(self.left, 0)]
        self.blocks += taken
        del self.backup[: len(taken)]
        self.left -= len(taken)
        return self.left <= 0


class Picker:
    """What one peer has, what it has asked for, and how rare it believes each piece to be."""

    def __init__(self, torrent: Torrent, stream: Stream) -> None:
        """A peer that has nothing yet."""
        self.have = 0
        self.have_count = 0
        self._pieces = torrent.pieces
        self._blocks = torrent.blocks
        self._per_piece = torrent.blocks_per_piece
        self._stream = stream
        self._seeds = 0
        self._peers = [0] * self._pieces
        self._state = [_OPEN] * self._pieces
        self._parts: dict[int, _Part] = {}
        self._partial: list[int] = []
        self._full: list[int] = []
        # Pieces by priority, in random order within one.
        self._priority = [-1] * self._pieces
        self._place = [-1] * self._pieces
        self._buckets: dict[int, list[int]] = {}
        self._order: list[int] = []

    # -- what there is -------------------------------------------------------------------------------------------------

    @property
    def started(self) -> int:
        """Pieces under way, up to their check."""
        return len(self._parts)

    @property
    def missing(self) -> int:
        """Pieces that have not passed their check."""
        return self._pieces - self.have_count

    def add_seed(self) -> None:
        """A peer that has everything is there."""
        self._seeds += 1
        if self._seeds == 1:
            for piece in range(self._pieces):
                self._rank(piece)

    def add_piece(self, piece: int) -> None:
        """A peer that had not everything from the start has this piece."""
        self._peers[piece] += 1
        self._rank(piece)

    def askers(self, block: int) -> int:
        """How many peers the block is asked of; 0 once it is here."""
        part = self._parts.get(block // self._per_piece)
        return 0 if part is None else part.askers[block % self._per_piece]

    def is_written(self, block: int) -> bool:
        """Whether the block is here."""
        piece = block // self._per_piece
        if self.have >> piece & 1:
            return True
        part = self._parts.get(piece)
        return part is not None and part.state[block % self._per_piece] == _WRITTEN

    def free_blocks(self, block: int) -> int:
        """Blocks of this one's piece that nobody was asked for."""
        part = self._parts.get(block // self._per_piece)
        return 0 if part is None else len(part.state) - part.requested - part.written

    # -- what happens --------------------------------------------------------------------------------------------------

    def mark(self, block: int, asker: int, flags: int) -> bool:
        """The block is asked of `asker`. False if it is here already."""
        piece, index = divmod(block, self._per_piece)
        part = self._parts.get(piece)
        if part is None:
            part = self._parts[piece] = _Part(self._blocks_in(piece), bool(flags & REVERSE))
            self._state[piece] = _PARTIAL
            insort(self._partial, piece)
        elif part.state[index] == _WRITTEN:
            return False
        elif not flags & REVERSE:
            part.is_reverse = False
        elif part.requested == 0:
            part.is_reverse = True
        part.owner[index] = asker
        part.askers[index] += 1
        if part.state[index] == _FREE:
            part.state[index] = _REQUESTED
            part.requested += 1
        self._settle(piece, part)
        return True

    def abort(self, block: int, asker: int) -> None:
        """The block is no longer asked of `asker`."""
        piece, index = divmod(block, self._per_piece)
        part = self._parts.get(piece)
        if part is None or part.state[index] != _REQUESTED:
            return
        part.askers[index] -= 1
        if part.owner[index] == asker:
            part.owner[index] = NOBODY
        if part.askers[index] > 0:
            return
        part.owner[index] = NOBODY
        part.state[index] = _FREE
        part.requested -= 1
        if part.requested + part.written == 0:
            self._drop(piece)
            self._rank(piece)
        else:
            self._settle(piece, part)

    def write(self, block: int, asker: int) -> bool:
        """The block is here. Whether that makes its piece whole."""
        piece, index = divmod(block, self._per_piece)
        part = self._parts.get(piece)
        if part is None:
            self.mark(block, asker, 0)
            part = self._parts[piece]
        if part.state[index] == _REQUESTED:
            part.requested -= 1
        part.state[index] = _WRITTEN
        part.owner[index] = asker
        part.askers[index] = 0
        part.written += 1
        self._settle(piece, part)
        return part.written == len(part.state)

    def passed(self, piece: int) -> None:
        """The piece has passed its check."""
        self._drop(piece)
        self.have |= 1 << piece
        self.have_count += 1
        self._rank(piece)

    # -- the pick ------------------------------------------------------------------------------------------------------

    def pick(self, mask: int, count: int, contiguous: int, asker: int, flags: int, connections: int) -> list[int]:
        """Blocks to ask `asker` for, the best first: `count` of them or more, fewer if there are no more.

        `mask` is what the peer has; `contiguous` is how many blocks in a row are preferred, 0 for none. Blocks that are
        asked of others come last, and one at the most.
        """
        partial = len(self._partial)
        if partial > connections * 3 // 2 or partial * self._per_piece > _MOST_PARTIAL_BLOCKS:
            flags |= PARTIALS
            contiguous = 0
        pick = _Pick(mask, count, contiguous, asker, flags)
        if flags & PARTIALS and self._pick_partials(pick):
            return pick.blocks
        if self._pick_rarest(pick) if flags & RAREST else self._pick_random(pick):
            return pick.blocks
        if not pick.take_backup():
            self._pick_busy(pick)
        return pick.blocks

    def _pick_partials(self, pick: _Pick) -> bool:
        pieces = [piece for piece in self._partial if pick.mask >> piece & 1]
        if pick.flags & RAREST:
            pieces.sort(key=lambda p: (self._peers[p], -self._parts[p].requested - self._parts[p].written))
        for piece in pieces:
            self._take_partial(pick, piece)
            if pick.left <= 0:
                return True
            if len(pick.backup) >= pick.left:
                break
        return pick.take_backup()

    def _pick_rarest(self, pick: _Pick) -> bool:
        step = -1 if pick.flags & REVERSE else 1
        mask = pick.mask
        for priority in self._order[::step]:
            for piece in self._buckets[priority][::step]:
                if mask >> piece & 1:
                    self._take(pick, piece)
                    if pick.left <= 0:
                        return True
        return False

    def _pick_random(self, pick: _Pick) -> bool:
        wanted = pick.mask & ~self.have
        start = piece = self._stream.below(self._pieces)
        while pick.left > 0:
            while not wanted >> piece & 1 or piece in pick.ignored:
                piece = (piece + 1) % self._pieces
                if piece == start:
                    return False
            if pick.contiguous > 1 and self._state[piece] == _OPEN:
                piece = self._take_run(pick, piece)
            else:
                self._take(pick, piece)
                piece += 1
            if piece == self._pieces:
                piece = 0
            if piece == start:
                break
        return pick.left <= 0

    def _pick_busy(self, pick: _Pick) -> None:
        """End game: one random block that only others were asked for, of one random piece."""
        pieces = [piece for piece in self._full if pick.mask >> piece & 1]
        while pieces:
            chosen = self._stream.below(len(pieces))
            piece = pieces[chosen]
            part = self._parts[piece]
            busy = [
                index
                for index, state in enumerate(part.state)
                if state == _REQUESTED and part.owner[index] != pick.asker
            ]
            if busy:
                pick.blocks.append(piece * self._per_piece + self._stream.choice(busy))
                return
            pieces[chosen] = pieces[-1]
            pieces.pop()

    def _take(self, pick: _Pick, piece: int) -> None:
        """Blocks of one piece, and of those beside it if many in a row are preferred (add_blocks)."""
        state = self._state[piece]
        if piece in pick.ignored or state not in {_OPEN, _PARTIAL}:
            return
        if state == _PARTIAL:
            if not pick.flags & PARTIALS:
                self._take_partial(pick, piece)
        elif pick.contiguous == 0:
            first = piece * self._per_piece
            count = min(self._blocks_in(piece), pick.left)
            pick.blocks += range(first, first + count)
            pick.left -= count
        else:
            contiguous = pick.contiguous
            self._take_run(pick, piece)
            pick.contiguous = contiguous
            pick.left = max(pick.left, 0)

    def _take_run(self, pick: _Pick, piece: int) -> int:
        """All blocks of the pieces around this one that nobody was asked for. Returns the piece after them."""
        start, end = self._expand(piece, pick.contiguous, pick.mask)
        for other in range(start, end):
            if other in pick.ignored:
                pick.contiguous -= 1
                if pick.contiguous == 0 and pick.left <= 0:
                    break
                continue
            pick.ignored.add(other)
            first = other * self._per_piece
            for block in range(first, first + self._blocks_in(other)):
                pick.blocks.append(block)
                pick.left -= 1
                pick.contiguous -= 1
                if pick.contiguous == 0 and pick.left <= 0:
                    break
        return end

    def _take_partial(self, pick: _Pick, piece: int) -> None:
        """Free blocks of a piece that others may be fetching too (add_blocks_downloading)."""
        part = self._parts[piece]
        first, run, is_shared = _longest_run(part, pick.asker) if pick.contiguous else (0, 0, False)
        blocks = len(part.state)
        free = [index % blocks for index in range(first, first + blocks) if part.state[index % blocks] == _FREE]
        base = piece * self._per_piece
        if pick.contiguous > run and is_shared:
            if len(pick.backup) < pick.left:
                pick.backup += [base + index for index in free]
            return
        contiguous = pick.contiguous
        for index in free:
            pick.blocks.append(base + index)
            pick.left -= 1
            if contiguous > 0:
                contiguous -= 1
            elif pick.left <= 0:
                return

    def _expand(self, piece: int, contiguous: int, mask: int) -> tuple[int, int]:
        """The run of untouched pieces around `piece`, as long as `contiguous` blocks (expand_piece)."""
        whole = -(-contiguous // self._per_piece)
        free = mask & ~self.have
        start, lowest = piece, max(0, piece - whole + 1)
        while start > lowest and free >> (start - 1) & 1 and self._state[start - 1] == _OPEN:
            start -= 1
        end, highest = piece + 1, min(start + whole, self._pieces)
        while end < highest and free >> end & 1 and self._state[end] == _OPEN:
            end += 1
        return start, end

    # -- order ---------------------------------------------------------------------------------------------------------

    def _blocks_in(self, piece: int) -> int:
        return min(self._per_piece, self._blocks - piece * self._per_piece)

    def _settle(self, piece: int, part: _Part) -> None:
        """Give a piece under way the state that its blocks call for."""
        state = _FULL if part.requested else _FINISHED
        if part.requested + part.written < len(part.state):
            state = _PARTIAL
        if state != self._state[piece]:
            self._unlist(piece)
            self._state[piece] = state
            if state != _FINISHED:
                insort(self._partial if state == _PARTIAL else self._full, piece)
        self._rank(piece)

    def _drop(self, piece: int) -> None:
        self._unlist(piece)
        self._state[piece] = _OPEN
        del self._parts[piece]

    def _unlist(self, piece: int) -> None:
        if self._state[piece] in {_PARTIAL, _FULL}:
            pieces = self._partial if self._state[piece] == _PARTIAL else self._full
            del pieces[bisect_left(pieces, piece)]

    def _rank(self, piece: int) -> None:
        """Put a piece among those of its priority, at random."""
        priority = self._wanted_priority(piece)
        old = self._priority[piece]
        if priority == old:
            return
        if old >= 0:
            bucket = self._buckets[old]
            last = bucket.pop()
            if last != piece:
                bucket[self._place[piece]] = last
                self._place[last] = self._place[piece]
        self._priority[piece] = priority
        if priority < 0:
            return
        if priority not in self._buckets:
            self._buckets[priority] = []
            insort(self._order, priority)
        bucket = self._buckets[priority]
        place = self._stream.below(len(bucket) + 1)
        if place == len(bucket):
            bucket.append(piece)
        else:
            moved = bucket[place]
            bucket.append(moved)
            self._place[moved] = len(bucket) - 1
            bucket[place] = piece
        self._place[piece] = place

    def _wanted_priority(self, piece: int) -> int:
        """Lower is better; -1 is not to be picked (piece_pos::priority)."""
        state, peers = self._state[piece], self._peers[piece]
        if self.have >> piece & 1 or peers + self._seeds == 0 or state in {_FULL, _FINISHED}:
            return -1
        adjustment = -2
        if state == _PARTIAL:
            adjustment = -1 if self._parts[piece].is_reverse else -3
        return (peers + 1) * _PRIORITY_STEP + adjustment


def _longest_run(part: _Part, asker: int) -> tuple[int, int, bool]:
    """Where the longest run of free blocks begins, its length, and whether another peer is sending (requested_from)."""
    first = longest = run = 0
    is_shared = False
    for index, state in enumerate(part.state):
        if state == _FREE:
            run += 1
            continue
        if run > longest:
            first, longest = index - run, run
        run = 0
        owner = part.owner[index]
        if state == _REQUESTED and owner not in {asker, NOBODY}:
            is_shared = True
    if run > longest:
        first, longest = len(part.state) - run, run
    return first, longest, is_shared
