"""The default router as pure functions: whom it draws, whom it takes, and what it makes of old news."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from edgecoder.config import DeviceType, NodeConfig
from edgecoder.core.rng import Stream
from edgecoder.mesh.router import Candidate, Why
from edgecoder.mesh.soonest import Offer, ProbeRouter, work_ms
from edgecoder.wire.messages import Load, Probe, ProbeReply
from tests.strategies import TASK_ID, task_request

CONFIG = NodeConfig()


def candidate(name: str = "n", **fields: object) -> Candidate:
    """A laptop with nothing to do."""
    base = Candidate(name.encode().ljust(32), 7.0, Load.of(0), DeviceType.LAPTOP, 100, None, 0.0, 100, tokens_per_s=20)
    return msgspec.structs.replace(base, **fields)


def router(rng_seed: int = 1) -> ProbeRouter:
    return ProbeRouter(CONFIG, Stream(rng_seed, b"n", "routing"))


def drawn(candidates: list[Candidate], times: int = 4_000) -> Counter[str]:
    """How often each is the only one drawn."""
    chooser = router()
    return Counter(chooser.sample(candidates, 1)[0].node.decode().strip() for _ in range(times))


def test_a_sample_has_different_ones_of_those_there_are() -> None:
    everybody = [candidate(f"{number}") for number in range(5)]
    for _ in range(50):
        sample = router().sample(everybody, 3)
        assert len({each.node for each in sample}) == 3
    assert router().sample(everybody[:2], 3) == everybody[:2]
    assert router().sample([], 3) == []


@pytest.mark.parametrize(
    ("fields", "share"),
    [
        ({"tokens_per_s": 60}, 0.75),
        ({"slots": 3}, 0.75),
        ({"fail_rate": 0.5}, 1 / 3),
        ({"quality": 50}, 1 / 3),
        ({"age_ms": CONFIG.capabilities_ttl_ms}, 1 / 3),
        ({"unanswered": 2}, 0.2),
    ],
)
def test_faster_more_reliable_and_fresher_ones_are_drawn_more_often(fields: dict[str, object], share: float) -> None:
    counts = drawn([candidate("other"), candidate("it", **fields)])
    assert counts["it"] / counts.total() == pytest.approx(share, abs=0.03)


def test_load_does_not_count_for_the_sample() -> None:
    """What was advertised of it is old by the time it is used: that is what the probes are for."""
    counts = drawn([candidate("busy", load=Load.of(8)), candidate("idle")])
    assert counts["busy"] / counts.total() == pytest.approx(0.5, abs=0.03)


def test_an_offer_adds_queue_way_work_and_battery() -> None:
    request = task_request(max_tokens=100, prompt="x" * 3_000)
    read_ms = 3_000 // CONFIG.prompt_bytes_per_token * 100  # at 10 tokens a second
    reply = ProbeReply(task_id=TASK_ID, queue_ms=700, tokens_per_s=10, battery_pct=60, on_external_power=False)
    phone = candidate("phone", device_type=DeviceType.PHONE, kbit_per_s=300)
    offer = router().offer(phone, request, reply, 40)
    assert offer.wait_ms == 740
    assert offer.finish_ms == 740 + 10_000 + read_ms + 80 + 40 * CONFIG.battery_ms_per_pct
    wired = candidate("laptop")
    assert router().offer(wired, request, reply, 40).finish_ms == 740 + 10_000 + read_ms
    charging = msgspec.structs.replace(reply, on_external_power=True)
    assert router().offer(phone, request, charging, 0).finish_ms == 700 + 10_000 + read_ms + 80


def test_a_long_prompt_goes_to_a_fast_node_though_the_answer_is_short() -> None:
    """A phone that has nothing else to do reads 6 kB for a quarter of a minute."""
    idle, fast = candidate("idle", tokens_per_s=12), candidate("fast", tokens_per_s=60, load=Load.of(1))
    brief, long = (task_request(max_tokens=20, prompt="x" * size) for size in (100, 6_000))
    assert router().choose([idle, fast], brief).node == idle.node
    assert router().choose([idle, fast], long).node == fast.node
    probe = Probe(task_id=TASK_ID, model=None, min_param_size=0, max_tokens=20, prompt_bytes=6_000)
    assert router().choose([idle, fast], probe) == router().choose([idle, fast], long)
    assert router().at_best_ms(idle, long) == (20 + 6_000 // CONFIG.prompt_bytes_per_token) * 1000 // 12


def test_the_soonest_is_taken_and_ties_are_random() -> None:
    offers = [Offer(b"late", 30, 0), Offer(b"a", 20, 5), Offer(b"b", 20, 9)]
    chooser = router()
    taken = Counter(best.node for _ in range(400) if (best := chooser.best(offers)) is not None)
    assert set(taken) == {b"a", b"b"}
    assert min(taken.values()) > 150
    assert chooser.best([]) is None


def test_without_a_round_trip_known_load_and_what_was_sent_since_count() -> None:
    request = task_request(max_tokens=100)
    queue = candidate("queue", load=Load.of(1))
    asked = candidate("asked", asked=1)
    idle = candidate("idle", tokens_per_s=15)
    assert router().choose([queue, asked, idle], request).node == idle.node
    two_slots = msgspec.structs.replace(queue, slots=2)
    decision = router().choose([two_slots, idle], request)
    assert (decision.node, decision.cost, decision.eligible) == (two_slots.node, 5_001.0, 2)


def test_of_two_with_a_free_slot_the_idler_is_taken() -> None:
    both = [candidate("half", slots=2, load=Load.of(1)), candidate("idle", slots=2)]
    assert {router(seed).choose(both, task_request()).node for seed in range(20)} == {both[1].node}


def test_who_is_loading_or_ruled_out_is_not_chosen() -> None:
    ruled_out = [candidate("a", load=Load.LOADING), candidate("b", excluded=Why.WRONG_MODEL)]
    decision = router().choose(ruled_out, task_request())
    assert (decision.node, decision.cost, decision.eligible) == (None, None, 0)
    assert decision.excluded == {Why.IS_LOADING.value: 1, Why.WRONG_MODEL.value: 1}


def test_work_is_never_endless_or_negative() -> None:
    assert work_ms(100, 50) == 2_000
    assert work_ms(1 << 62, 0) == (1 << 20) * 1_000
    assert work_ms(0, 50) == 0
