"""What the CDN alone would give: to all who want a file, as a broker reckons it, and to one download."""

from __future__ import annotations

from edgecoder.config import ClusterConfig, NodeConfig
from edgecoder.coordinator.alone import LoneOrigin
from edgecoder.core.context import Context
from edgecoder.core.effects import Source
from edgecoder.core.ids import Micros
from edgecoder.seeding.outlook import Alone, CdnOutlook
from edgecoder.seeding.rates import Meter, Rates
from edgecoder_sim.crypto import crypto, node_id

SECOND: Micros = 1_000_000
MB = 1_000_000
PIECE = 1 << 20


def name(number: int) -> bytes:
    return node_id(f"node-{number}")


def outlook(size_bytes: int, **cluster: int) -> CdnOutlook:
    signer, _ = crypto(name(0), "edgecoder", encoded=False)
    context = Context(ClusterConfig(**cluster), NodeConfig(), signer, 1)  # type: ignore[arg-type]
    return CdnOutlook(context, Rates(), PIECE, size_bytes)


def test_an_origin_without_a_limit_has_as_many_shares_as_receivers() -> None:
    origin = LoneOrigin(0, MB)
    origin.join(name(1), 0, 100 * MB, 0)
    assert origin.shares(7, 0) == 7


def test_a_limited_origin_is_shared_evenly_among_those_who_can_take_it() -> None:
    origin = LoneOrigin(10 * MB, 100 * MB)
    for number in range(4):
        origin.join(name(number), 0, 1000 * MB, 0)
    assert origin.shares(4, 0) == 4
    for number in range(4, 13):  # nine who take 0.1 MB/s each leave 9.1 MB/s to four
        origin.join(name(number), MB // 10, 1000 * MB, 0)
    assert origin.shares(13, 0) == 10 * MB // (9_100_000 // 4)


def test_who_the_origin_alone_would_have_served_by_now_takes_no_share() -> None:
    origin = LoneOrigin(10 * MB, 100 * MB)
    origin.join(name(1), 0, 10 * MB, 0)
    origin.join(name(2), 0, 100 * MB, 0)
    assert origin.shares(2, 0) == 2
    assert origin.shares(2, 1 * SECOND) == 2
    assert origin.shares(2, 3 * SECOND) == 1
    origin.leave(name(2))
    assert origin.shares(0, 4 * SECOND) == 1


def test_one_that_has_peers_is_still_served_by_the_origin_alone() -> None:
    """Peers may have served it meanwhile: without them it would still take its share."""
    origin = LoneOrigin(10 * MB, 100 * MB)
    origin.join(name(1), 0, 100 * MB, 0)
    origin.join(name(2), 0, 100 * MB, 0)
    origin.join(name(1), 0, 1 * MB, 2 * SECOND)
    assert origin.shares(1, 3 * SECOND) == 2


def test_a_download_alone_ends_by_the_rates_that_held() -> None:
    alone = Alone(0, SECOND, 100 * MB)
    alone.pass_time(0, 10 * MB)
    assert alone.ends == 11 * SECOND
    alone.pass_time(6 * SECOND, 10 * MB)  # half has come
    alone.pass_time(6 * SECOND, 5 * MB)
    assert alone.ends == 16 * SECOND
    alone.pass_time(60 * SECOND, 5 * MB)
    assert alone.ends == 16 * SECOND
    alone.pass_time(90 * SECOND, MB)
    assert alone.ends == 16 * SECOND


def test_the_time_to_the_first_byte_does_not_make_a_meter_slow() -> None:
    meter = Meter()
    meter.begin(0, first_byte=SECOND)
    meter.note(2 * MB)
    assert meter.bytes_per_s(3 * SECOND) == MB


def test_shares_of_a_limited_cdn_lower_the_rate() -> None:
    seen = outlook(100 * MB, cdn_kbit_per_s=80_000, cdn_egress_kbit_per_s=80_000)
    assert seen.bytes_per_s() == 10 * MB
    seen.told(4)
    assert seen.bytes_per_s() == 10 * MB // 4
    assert seen.alone_ends() == seen.first_byte + 40 * SECOND


def test_a_download_is_no_faster_than_the_way_to_this_node() -> None:
    signer, _ = crypto(name(0), "edgecoder", encoded=False)
    context = Context(ClusterConfig(cdn_kbit_per_s=80_000), NodeConfig(download_kbit_per_s=8_000), signer, 1)
    seen = CdnOutlook(context, Rates(), PIECE, 100 * MB)
    assert seen.bytes_per_s() == MB
    assert seen.alone_ends() == seen.first_byte + 100 * SECOND


def test_what_peers_took_of_the_access_the_cdn_alone_would_have_had() -> None:
    seen = outlook(100 * MB, cdn_kbit_per_s=80_000)
    for source in (Source.CDN, Source.MESH):
        seen._rates.begin(source, 0)
        seen._rates.note(source, 4 * PIECE)
        seen._rates.end(source, 4 * SECOND)
    assert seen.bytes_per_s() == 2 * PIECE


def test_nobody_to_share_it_with_is_one_share() -> None:
    seen = outlook(100 * MB, cdn_kbit_per_s=80_000, cdn_egress_kbit_per_s=80_000)
    seen.told(0)
    assert seen.bytes_per_s() == 10 * MB


def test_requests_outlast_the_time_to_the_first_byte() -> None:
    fast = outlook(10_000 * MB, cdn_kbit_per_s=8_000_000, cdn_first_byte_ms=500)
    assert fast.pieces_per_request() * PIECE > fast.bytes_per_s()
    slow = outlook(10_000 * MB, cdn_kbit_per_s=8_000, cdn_first_byte_ms=100)
    assert slow.pieces_per_request() * PIECE <= 2 * slow.bytes_per_s()


def test_a_measured_rate_counts_once_enough_has_come() -> None:
    seen = outlook(100 * MB, cdn_kbit_per_s=80_000)
    seen._rates.begin(Source.CDN, 0)
    seen._context.now = 4 * SECOND
    seen._rates.note(Source.CDN, PIECE)
    assert seen.bytes_per_s() == 10 * MB
    seen._rates.note(Source.CDN, 3 * PIECE)
    assert seen.bytes_per_s() == PIECE


def test_what_is_on_its_way_does_not_make_the_cdn_alone_late() -> None:
    """A download that had measured little so far gave itself more time than the CDN alone would have taken."""
    seen = outlook(100 * MB, cdn_kbit_per_s=80_000)
    ends = seen.alone_ends()
    seen._rates.begin(Source.CDN, 0)
    seen.under_way, seen.granted = 2, 3
    seen._context.now = SECOND
    seen._rates.note(Source.CDN, 5 * PIECE)
    assert seen.bytes_per_s() == 5 * PIECE + 5 * PIECE // 2
    assert seen.alone_ends() == ends


def test_a_request_is_a_small_part_of_a_file() -> None:
    """One that asked for all that the CDN gives in two seconds asked for most of a small file."""
    seen = outlook(64 * PIECE, cdn_kbit_per_s=160_000, cdn_first_byte_ms=1)
    assert seen.pieces_per_request() == 2


def test_shares_that_are_told_first_have_held_before() -> None:
    """A node that came back took the whole CDN for its own until its broker answered, and was behind at once."""
    seen = outlook(100 * MB, cdn_kbit_per_s=80_000, cdn_egress_kbit_per_s=80_000)
    for second in (2, 4):
        seen._context.now = second * SECOND
        seen.alone_ends()
    seen.told(4)
    assert seen.alone_ends() == seen.first_byte + 40 * SECOND
    seen._context.now += 10 * SECOND
    seen.told(2)
    left = 100 * MB - (14 * SECOND - seen.first_byte) * 10 * MB // 4 // SECOND
    assert abs(seen.alone_ends() - (14 * SECOND + left * 2 // 10)) < 10


def test_what_peers_have_on_its_way_does_not_make_the_cdn_alone_late() -> None:
    seen = outlook(100 * MB, cdn_kbit_per_s=80_000)
    ends = seen.alone_ends()
    seen._rates.begin(Source.CDN, 0)
    seen._rates.begin(Source.MESH, 0)
    seen._context.now = SECOND
    seen._rates.note(Source.CDN, 9 * PIECE)
    assert seen.bytes_per_s() < 10 * MB
    assert seen.alone_ends() == ends
