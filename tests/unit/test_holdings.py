"""What a node keeps of its files: which pieces and leaves count, when that is written, and what a new life believes."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecoder.config import ClusterConfig, NodeConfig
from edgecoder.core.context import Context
from edgecoder.core.effects import Persist, Trace
from edgecoder.core.events import Persisted, PersistFailed
from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder.seeding.holdings import KEY, Holding, Holdings, decode, encode
from edgecoder.trace import Dropped
from edgecoder_sim.crypto import crypto, node_id
from tests.catalogs import SMALL, entry

PIECES, LEAVES = 13, 4
SHARED = entry("shared", file_size_bytes=PIECES * LEAVES * 16_384 - 3 * 16_384, piece_root="ab" * 32)
"""Its last piece is one leaf long."""
LAYOUT, DIGEST = SHARED.layout, bytes.fromhex(SHARED.sha256)
maps = st.integers(0, LAYOUT.all_pieces)
numbers = st.integers(-3, PIECES + 3) | st.integers(-(1 << 63), (1 << 63) - 1)


class Bench:
    """Holdings, and what they write."""

    def __init__(self) -> None:
        signer, _ = crypto(node_id("here"), "edgecoder", encoded=False)
        self.context = Context(ClusterConfig(), NodeConfig(), signer, 1)
        self.context.epoch = self.context.ops.epoch = 1
        self.context.out = []
        self.holdings = Holdings(self.context)
        self.holding = self.holdings.begin(SHARED)

    @property
    def writes(self) -> list[Persist]:
        """What was written of the file."""
        writes = [effect for effect in self.context.out if isinstance(effect, Persist)]
        assert all(write.key == KEY + SHARED.sha256 for write in writes)
        return writes

    def written(self, number: int) -> None:
        """A write is durable."""
        self.context.ops.complete(Persisted(self.writes[number].op))

    def drops(self) -> list[Reason]:
        """What was told to be thrown away."""
        records = [effect.record for effect in self.context.out if isinstance(effect, Trace)]
        return [record.reason for record in records if isinstance(record, Dropped)]

    def restore(self, snapshot: dict[str, bytes], *known: CatalogEntry) -> dict[bytes, Holding]:
        """Begin another life with what is on the disk."""
        holdings = Holdings(self.context)
        by_digest = {each.sha256: each for each in known}
        holdings.restore(snapshot, by_digest.get)
        return holdings.by_file


@pytest.fixture
def bench() -> Bench:
    return Bench()


# -- the durable form --------------------------------------------------------------------------------------------------


@given(have=maps, leaves=st.dictionaries(st.integers(0, PIECES - 2), st.integers(1, LEAVES - 1)))
def test_a_record_comes_back_without_leaves_of_whole_pieces(have: int, leaves: dict[int, int]) -> None:
    rest = {piece: count for piece, count in leaves.items() if not have >> piece & 1}
    assert decode(encode(have, PIECES, leaves), LAYOUT) == (have, rest)


@given(st.binary(max_size=40) | st.builds(lambda *what: msgspec.msgpack.encode(what), st.binary(max_size=4), st.none()))
def test_a_damaged_record_is_refused_or_within_the_file(value: bytes) -> None:
    believes_only_what_may_be(value)


@given(have=st.binary(min_size=2, max_size=2), leaves=st.dictionaries(numbers, numbers, max_size=5))
def test_leaves_that_the_file_has_not_are_left_out(have: bytes, leaves: dict[int, int]) -> None:
    believes_only_what_may_be(msgspec.msgpack.encode((have, leaves)))


def believes_only_what_may_be(value: bytes) -> None:
    """Whatever stands on the disk, only pieces and leaves of the file come of it."""
    try:
        have, leaves = decode(value, LAYOUT)
    except ValueError:
        return
    assert 0 <= have <= LAYOUT.all_pieces
    for piece, count in leaves.items():
        assert not have >> piece & 1
        assert 0 < count < len(LAYOUT.leaves_of(piece))


def test_no_leaves_are_none() -> None:
    assert decode(encode(0, PIECES, {0: 0, 1: LEAVES, 2: 1, PIECES - 1: 1}), LAYOUT) == (0, {2: 1})


# -- keeping -----------------------------------------------------------------------------------------------------------


def test_a_piece_is_new_once(bench: Bench) -> None:
    assert bench.holdings.keep(bench.holding, 3)
    assert not bench.holdings.keep(bench.holding, 3)
    assert bench.holding.have == 1 << 3
    assert len(bench.writes) == 1


def test_leaves_count_where_there_are_more_than_before(bench: Bench) -> None:
    keep = bench.holdings.keep_leaves
    assert [keep(bench.holding, 0, count) for count in (2, 1, 2, 0, -1, 3, LEAVES, LEAVES + 1)] == [
        2, 0, 0, 0, 0, 1, 0, 0,
    ]  # fmt: skip
    assert bench.holding.leaves == {0: 3}
    assert keep(bench.holding, 1, LEAVES) == LEAVES - 1, "a whole piece would have been said to be one"
    assert keep(bench.holding, PIECES - 1, 1) == 0, "the one leaf of the last piece is all of it"


def test_a_whole_piece_has_no_leaves(bench: Bench) -> None:
    bench.holdings.keep_leaves(bench.holding, 0, 2)
    bench.holdings.keep(bench.holding, 0)
    assert bench.holding.leaves == {}
    assert bench.holdings.keep_leaves(bench.holding, 0, 3) == 0


def test_an_installed_file_is_whole(bench: Bench) -> None:
    bench.holdings.keep_leaves(bench.holding, 0, 2)
    assert bench.holdings.installed(SHARED) is bench.holding
    assert bench.holding.is_whole
    assert bench.holding.leaves == {}
    assert bench.holdings.begin(SHARED) is bench.holding


# -- writing -----------------------------------------------------------------------------------------------------------


def test_what_comes_during_a_write_is_written_together_next(bench: Bench) -> None:
    for piece in range(3):
        bench.holdings.keep(bench.holding, piece)
    bench.holdings.keep_leaves(bench.holding, 7, 2)
    assert [decode(write.value, LAYOUT) for write in bench.writes] == [(0b1, {})]
    bench.written(0)
    assert [decode(write.value, LAYOUT) for write in bench.writes] == [(0b1, {}), (0b111, {7: 2})]
    bench.written(1)
    assert len(bench.writes) == 2


def test_a_write_that_fails_is_told_and_the_next_one_has_all(bench: Bench) -> None:
    bench.holdings.keep(bench.holding, 0)
    bench.context.ops.complete(PersistFailed(bench.writes[0].op, Reason.STORE_FAILED))
    assert bench.drops() == [Reason.STORE_FAILED]
    bench.holdings.keep(bench.holding, 1)
    assert decode(bench.writes[1].value, LAYOUT) == (0b11, {})


def test_nothing_is_written_of_a_file_that_was_forgotten(bench: Bench) -> None:
    """A record that came after the erasure would outlive the file."""
    bench.holdings.keep(bench.holding, 0)
    bench.holdings.keep(bench.holding, 1)
    bench.holdings.forget(SHARED)
    bench.holdings.drop_record(SHARED)
    bench.written(0)
    assert [write.value == b"" for write in bench.writes] == [False, True]


def test_a_file_that_was_forgotten_begins_anew(bench: Bench) -> None:
    bench.holdings.keep(bench.holding, 0)
    bench.holdings.forget(SHARED)
    anew = bench.holdings.begin(SHARED)
    bench.holdings.keep(anew, 5)
    bench.written(0)
    assert [decode(write.value, LAYOUT) for write in bench.writes] == [(0b1, {}), (1 << 5, {})]


# -- another life ------------------------------------------------------------------------------------------------------


def test_another_life_has_what_was_written(bench: Bench) -> None:
    snapshot = {KEY + SHARED.sha256: encode(0b1010, PIECES, {0: 3}), "inventory": b"other"}
    found = bench.restore(snapshot, SHARED)
    assert list(found) == [DIGEST]
    assert (found[DIGEST].have, found[DIGEST].leaves) == (0b1010, {0: 3})


@pytest.mark.parametrize("value", [b"", b"\xc1", encode(1, PIECES + 8), encode(1, 200)])
def test_what_cannot_be_read_counts_as_nothing(bench: Bench, value: bytes) -> None:
    assert bench.restore({KEY + SHARED.sha256: value}, SHARED) == {}
    assert bench.drops() == ([Reason.STORE_FAILED] if value else [])


def test_what_the_catalog_has_not_or_without_a_tree_counts_as_nothing(bench: Bench) -> None:
    snapshot = {KEY + SHARED.sha256: encode(1, PIECES), KEY + SMALL.sha256: encode(1, 64)}
    assert bench.restore(snapshot, SMALL) == {}
    assert bench.drops() == []
