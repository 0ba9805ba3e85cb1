"""What a libtorrent session can be told, by libtorrent's own names, with its own defaults.

The numbers of this package are S, read from the source of libtorrent 2.1 (branch RC_2_1 of arvidn/libtorrent, August
2026), unless their docstring says otherwise. None is fitted to what a run shows.

Fidelity boundary: only settings that move bytes in a swarm of one torrent over plain TCP are here. Encryption, uTP,
trackers, DHT, peer exchange, web seeds, super seeding and the limit on connections are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

KIB: Final = 1024
BLOCK_BYTES: Final = 16 * KIB
"""What one request asks for (default_block_size)."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One session's settings. The defaults are those of settings_pack.cpp."""

    unchoke_slots_limit: int = 8
    unchoke_interval_s: int = 15
    optimistic_unchoke_interval_s: int = 30
    num_optimistic_unchoke_slots: int = 0
    """0 means a fifth of the slots, at least one."""
    seeding_piece_quota: int = 20
    """Pieces that a peer gets from a seed before another one's turn, after a minute at the least."""
    request_queue_time_s: int = 3
    max_allowed_in_request_queue: int = 2000
    """Requests at once that a peer allows. It says so in its extension handshake, and that takes the place of the
    other end's max_out_request_queue (500), which is why the latter is not here."""
    whole_pieces_threshold_s: int = 20
    """A connection that is fast enough for a piece in this time asks for whole pieces."""
    initial_picker_threshold: int = 4
    """Pieces that are picked at random, before the rarest first."""
    prioritize_partial_pieces: bool = False
    strict_end_game_mode: bool = True
    allowed_fast_set_size: int = 5
    request_timeout_s: int = 60
    piece_timeout_s: int = 20
    send_buffer_low_watermark_bytes: int = 10 * KIB
    send_buffer_watermark_bytes: int = 500 * KIB
    send_buffer_watermark_percent: int = 50
    """Of what was sent in the last second (send_buffer_watermark_factor)."""
    tick_interval_ms: int = 500
    """How often the rate limiter hands out quota."""

    def __post_init__(self) -> None:
        """Refuse what libtorrent takes to mean something that is not modelled."""
        for name in ("unchoke_slots_limit", "unchoke_interval_s", "optimistic_unchoke_interval_s", "tick_interval_ms"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it is 1 or more here")


DEFAULT: Final = Settings()
TUNED: Final = Settings(
    unchoke_interval_s=2,
    optimistic_unchoke_interval_s=4,
    unchoke_slots_limit=4,
    request_queue_time_s=1,
    send_buffer_watermark_bytes=64 * KIB,
    send_buffer_low_watermark_bytes=16 * KIB,
    initial_picker_threshold=1,
)
"""What makes a flash crowd faster: few slots that change hands often, short queues (I: found by trying)."""


@dataclass(frozen=True, slots=True)
class Torrent:
    """One file, cut into pieces of 16 KiB blocks."""

    size_bytes: int
    piece_bytes: int

    def __post_init__(self) -> None:
        """Refuse what cannot be cut so."""
        if self.size_bytes < 1:
            raise ValueError(f"size_bytes is {self.size_bytes}; a file has 1 byte or more")
        if self.piece_bytes < BLOCK_BYTES or self.piece_bytes % BLOCK_BYTES:
            raise ValueError(f"piece_bytes is {self.piece_bytes}; a piece is a multiple of {BLOCK_BYTES}")

    @property
    def pieces(self) -> int:
        """How many pieces there are."""
        return -(-self.size_bytes // self.piece_bytes)

    @property
    def blocks_per_piece(self) -> int:
        """Blocks of every piece but, maybe, the last."""
        return self.piece_bytes // BLOCK_BYTES

    @property
    def blocks(self) -> int:
        """Blocks of the whole file. Block b is in piece b // blocks_per_piece."""
        return -(-self.size_bytes // BLOCK_BYTES)

    def block_bytes(self, block: int) -> int:
        """The size of a block: that of the last one is what is left."""
        return min(BLOCK_BYTES, self.size_bytes - block * BLOCK_BYTES)
