"""What sharing in whole bytes promises: strict max-min, no order, no byte lost, no time lost between pieces."""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecoder_sim.bandwidth import SECOND_US, Flow, FlowNetwork, progressive_filling
from edgecoder_sim.kernel import Kernel
from tests.sim.max_min import Transfer, exact_rates

NODES = 5
MB = 1_000_000
FLOWS = st.lists(
    st.tuples(st.integers(0, NODES - 1), st.integers(0, NODES - 1), st.one_of(st.just(1 << 62), st.integers(0, 60))),
    min_size=1,
    max_size=14,
)
Flows = list[tuple[int, int, int]]
CAPACITIES = st.lists(st.one_of(st.integers(0, 60), st.just(1 << 62)), min_size=NODES, max_size=NODES)


def fill(flows: list[tuple[int, int, int]], up: list[int], down: list[int]) -> list[int]:
    src, dst, cap = (np.array(column, dtype=np.int64) for column in zip(*flows, strict=True))
    result: list[int] = progressive_filling(src, dst, cap, np.array(up), np.array(down)).tolist()
    return result


@settings(max_examples=1500, deadline=None)
@given(FLOWS, CAPACITIES, CAPACITIES)
def test_no_flow_can_be_raised_without_lowering_one_that_has_no_more(
    flows: Flows, up: list[int], down: list[int]
) -> None:
    shares = fill(flows, up, down)
    for kind, capacity in ((0, up), (1, down)):
        for node in range(NODES):
            assert sum(x for x, f in zip(shares, flows, strict=True) if f[kind] == node) <= capacity[node]
    for x, (s, d, c) in zip(shares, flows, strict=True):
        if x == c:
            continue
        assert 0 <= x < c

        on_up = [y for y, flow in zip(shares, flows, strict=True) if flow[0] == s]
        on_down = [y for y, flow in zip(shares, flows, strict=True) if flow[1] == d]
        # A byte that even division leaves over goes to one of several equals: hence one byte more.
        assert (sum(on_up) == up[s] and max(on_up) <= x + 1) or (sum(on_down) == down[d] and max(on_down) <= x + 1)


@settings(max_examples=500, deadline=None)
@given(FLOWS, CAPACITIES, CAPACITIES, st.randoms(use_true_random=False))
def test_the_order_of_insertion_is_irrelevant(flows: Flows, up: list[int], down: list[int], rng: random.Random) -> None:
    order = list(range(len(flows)))
    rng.shuffle(order)
    shuffled = [flows[i] for i in order]
    assert sorted(zip(flows, fill(flows, up, down), strict=True)) == sorted(
        zip(shuffled, fill(shuffled, up, down), strict=True)
    )


def test_pieces_one_after_the_other_lose_nothing_at_the_quanta() -> None:
    kernel = Kernel(tick_us=1)
    network = FlowNetwork(kernel)
    a, b = network.add_node(2 * MB, 2 * MB), network.add_node(2 * MB, 2 * MB)
    left = [100]
    ends_us: list[int] = []

    def following(_: Flow) -> None:
        left[0] -= 1
        if left[0]:
            network.start(a, b, 256_000, following)
        else:
            ends_us.append(kernel.now)

    kernel.call_at(12_345, lambda _a, _b: network.start(a, b, 256_000, following))
    kernel.run()
    assert ends_us == [12_345 + 12_800_000]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([1, 1000]))
def test_bytes_are_conserved_and_links_never_over(seed: int, tick: int) -> None:
    rng = random.Random(seed)
    kernel = Kernel(tick)
    network = FlowNetwork(kernel)
    up = [rng.randrange(1, 20) * 100_000 for _ in range(4)]
    down = [rng.randrange(1, 20) * 100_000 for _ in range(4)]
    for u, d in zip(up, down, strict=True):
        network.add_node(u, d)
    flows: list[Flow] = []
    done: list[Flow] = []
    for _ in range(12):
        args = (rng.randrange(4), rng.randrange(4), rng.randrange(1, 600_000), done.append)
        kernel.call_at(rng.randrange(3_000_000), lambda a, _: flows.append(network.start(*a)), args)
    cancelled: list[tuple[Flow, int]] = []
    kernel.call_at(1_500_000, lambda _a, _b: cancelled.extend((f, network.cancel(f)) for f in flows[:2]))
    last: dict[int, int] = {}
    step = 10_000
    for k in range(1, 20000):
        kernel.run(k * step)
        sent, received = [0] * 4, [0] * 4
        for f in flows:
            p = network.progress(f)
            gained = p - last.get(id(f), 0)
            assert gained >= 0
            last[id(f)] = p
            sent[f.src] += gained
            received[f.dst] += gained
        for n in range(4):
            # whole bytes: each flow's count is up to a byte off at both ends
            assert sent[n] <= up[n] * step // SECOND_US + len(flows) + 1
            assert received[n] <= down[n] * step // SECOND_US + len(flows) + 1
        if not len(network) and len(flows) == 12:
            break
    assert not len(network)
    stopped = {id(f) for f, _ in cancelled if f not in done}
    assert all(network.progress(f) == f.size_bytes for f in done)
    assert {id(f) for f in done} | stopped == {id(f) for f in flows}


def test_shares_are_the_fluid_ones_within_a_byte_a_flow() -> None:
    rng = random.Random(5)
    for _ in range(100):
        n = rng.randrange(2, 9)
        flows = [
            (rng.randrange(n), rng.randrange(n), rng.choice([1 << 40, rng.randrange(1, 10**6)])) for _ in range(20)
        ]
        up = [rng.randrange(10**6) for _ in range(n)]
        down = [rng.randrange(10**6) for _ in range(n)]
        exact = exact_rates([Transfer(Fraction(0), s, d, 1, c) for s, d, c in flows], up, down)
        for x, y in zip(fill(flows, up, down), exact, strict=True):
            assert abs(x - y) <= len(flows)
