"""What stands in HTTP, read and written; and how fast a node sends."""

from __future__ import annotations

import base64

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecoder.errors import Reason
from edgecoder.seeding.pieces import LEAF_BYTES, layout_of
from edgecoder.seeding.uploads import REFUSALS
from edgecoder.wire.messages import Ticket
from edgecoder_drivers.bare.heads import HEAD_BYTES_MAX, range_of
from edgecoder_drivers.bare.pace import BURST_S, PART_BYTES_MIN, Bucket
from edgecoder_drivers.transfer import wire
from edgecoder_drivers.transfer.lines import Place
from tests.drivers.sources import made
from tests.strategies import examples

ids = st.binary(min_size=32, max_size=32)
counters = st.integers(0, (1 << 63) - 1)
tickets = st.builds(Ticket, ids, counters, counters, st.binary(min_size=64, max_size=64))
headers = st.one_of(st.none(), st.text(max_size=80), st.binary(max_size=200).map(lambda data: data.decode("latin-1")))


@settings(examples(4))
@given(receiver=ids, ticket=tickets, cut=st.integers(0, 400))
def test_a_ticket_comes_out_as_it_went_in_or_not_at_all(receiver: bytes, ticket: Ticket, cut: int) -> None:
    written = wire.write_pass(receiver, ticket)
    shown = wire.read_pass(written)
    assert shown is not None
    assert (shown.node, shown.ticket) == (receiver, ticket)
    part = wire.read_pass(written[:cut])
    assert part is None or part == shown


@settings(examples(4))
@given(value=st.one_of(st.binary(max_size=300), st.lists(st.one_of(st.binary(max_size=70), st.integers(-9, 9)))))
def test_what_is_no_ticket_is_none(value: object) -> None:
    data = value if isinstance(value, bytes) else msgspec.msgpack.encode(value)
    assert wire.read_pass(f"EdgeCoder {base64.urlsafe_b64encode(data).decode()}") is None


@settings(examples(4))
@given(header=headers, size=st.integers(1, 1 << 45))
def test_whatever_stands_in_a_header_is_read(header: str | None, size: int) -> None:
    wire.read_pass(header)
    assert 0 <= wire.read_have(header, 9) < 1 << 9
    assert wire.refusal_of(header) in REFUSALS
    wire.endpoint_of(header or "")
    wire.target_of((header or "").encode("utf-8", "replace"))
    span = range_of(header, size)
    assert span is None or 0 <= span.start < span.stop <= size


@settings(examples(4))
@given(size=st.integers(1, 1000), first=st.integers(0, 1100), last=st.integers(0, 1100))
def test_a_range_is_what_it_says(size: int, first: int, last: int) -> None:
    whole = range(size)
    assert (range_of(f"bytes={first}-{last}", size) or range(0)) == whole[first : last + 1]
    assert (range_of(f"bytes={first}-", size) or range(0)) == whole[first:]
    assert (range_of(f"bytes=-{last}", size) or range(0)) == whole[max(0, size - last) :]


@settings(examples(4))
@given(have=st.integers(0, (1 << 300) - 1), more=st.integers(0, 20))
def test_a_have_map_comes_out_as_it_went_in(have: int, more: int) -> None:
    count = max(1, have.bit_length()) + more
    assert wire.read_have(wire.write_have(have, count), count) == have
    assert wire.read_have(wire.write_have(have, count), count + 8) == 0


def test_the_longest_have_map_fits_into_a_head() -> None:
    assert len(wire.write_have((1 << 65_536) - 1, 65_536)) < HEAD_BYTES_MAX - 2_000


@settings(examples(4))
@given(leaves=st.integers(1, 100), power=st.integers(0, 4), data=st.data())
def test_a_byte_is_in_its_piece_and_leaf(leaves: int, power: int, data: st.DataObject) -> None:
    layout = layout_of(leaves * LEAF_BYTES - 7, LEAF_BYTES << power)
    byte = data.draw(st.integers(0, layout.file_size_bytes - 1))
    piece, leaf = wire.place_of(layout, byte)
    assert layout.leaves_of(piece)[leaf] == byte // LEAF_BYTES


def test_addresses_name_files_and_their_hashes() -> None:
    entry = made("some")
    for is_hashes in (False, True):
        path = wire.path_of(entry, is_hashes=is_hashes)
        assert wire.target_of(path.encode()) == (entry.sha256, is_hashes)
        assert wire.target_of(f"{path}\n".encode()) is None
        assert wire.target_of(f"http://x{path}".encode()) is None


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("192.0.2.7:4303", ("192.0.2.7", 4303)),
        ("[2001:db8::1]:1", ("2001:db8::1", 1)),
        ("pi.local:65535", ("pi.local", 65_535)),
        ("192.0.2.7", None),
        ("192.0.2.7:0", None),
        ("192.0.2.7:65536", None),
        ("a@192.0.2.7:80", None),
        ("192.0.2.7:80/x", None),
        ("192.0.2.7:80\n", None),
        ("-x:80", None),
        ("", None),
    ],
)
def test_an_endpoint_is_a_host_and_a_port(text: str, place: tuple[str, int] | None) -> None:
    assert wire.endpoint_of(text) == place
    assert place is None or Place(*place).name == text


def test_no_sender_ends_a_download_with_its_word() -> None:
    for reason in set(Reason) - REFUSALS:
        assert wire.refusal_of(reason.value) is Reason.INVALID


@settings(examples(4))
@given(
    rate=st.integers(1_000, 10**9),
    takes=st.lists(st.tuples(st.floats(0, 3), st.integers(1, 1 << 20)), min_size=1, max_size=40),
)
def test_no_more_flows_than_the_rate_and_one_burst(rate: int, takes: list[tuple[float, int]]) -> None:
    bucket, now = Bucket(rate), 1_000.0
    least = bucket.part_bytes
    assert PART_BYTES_MIN <= least <= max(PART_BYTES_MIN, rate)
    turns: list[tuple[float, int]] = []
    for pause, size in takes:
        now += pause
        at = now + bucket.take(size, now)
        assert not turns or at >= turns[-1][0] - 1e-6, "who came later is served before"
        turns.append((at, size))
    burst = max(rate * BURST_S, PART_BYTES_MIN)
    for index, (began, _) in enumerate(turns):
        sent = 0
        for at, size in turns[index + 1 :]:
            sent += size
            assert sent <= burst + rate * (at - began) * (1 + 1e-9) + 1


def test_what_is_not_limited_never_waits() -> None:
    bucket = Bucket(0)
    assert [bucket.take(1 << 40, float(now)) for now in range(3)] == [0.0] * 3
