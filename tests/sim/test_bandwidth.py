"""Max-min sharing: its defining property, conservation of bytes, closed forms, and the exact oracle."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecoder_sim.bandwidth import SECOND_US, Flow, FlowNetwork, progressive_filling
from edgecoder_sim.kernel import Kernel
from tests.sim.max_min import Transfer, exact_finishes, exact_rates

MB = 1_000_000
NODES = 5
flows_ = st.lists(
    st.tuples(st.integers(0, NODES - 1), st.integers(0, NODES - 1), st.integers(0, 2000)), min_size=1, max_size=12
)
capacities = st.lists(st.integers(0, 1000), min_size=NODES, max_size=NODES)


def fill(flows: list[tuple[int, int, int]], up: list[int], down: list[int]) -> list[int]:
    src, dst, cap = (np.array(column, dtype=np.int64) for column in zip(*flows, strict=True))
    shares: list[int] = progressive_filling(src, dst, cap, np.array(up), np.array(down)).tolist()
    return shares


@given(flows_, capacities, capacities)
def test_no_link_is_over_and_no_flow_can_be_raised(
    flows: list[tuple[int, int, int]], up: list[int], down: list[int]
) -> None:
    shares = fill(flows, up, down)
    sent = [sum(s for s, flow in zip(shares, flows, strict=True) if flow[0] == n) for n in range(NODES)]
    received = [sum(s for s, flow in zip(shares, flows, strict=True) if flow[1] == n) for n in range(NODES)]
    assert all(used <= capacity for used, capacity in zip(sent, up, strict=True))
    assert all(used <= capacity for used, capacity in zip(received, down, strict=True))
    for share, (src, dst, cap) in zip(shares, flows, strict=True):
        assert 0 <= share <= cap
        assert share == cap or sent[src] == up[src] or received[dst] == down[dst]


@given(flows_, capacities, capacities)
def test_shares_are_fair_but_for_the_bytes_left_over(
    flows: list[tuple[int, int, int]], up: list[int], down: list[int]
) -> None:
    """Rates in rationals are the fair ones; whole bytes differ by less than the flows that can be left a byte short."""
    transfers = [Transfer(Fraction(0), src, dst, 1, max(1, cap)) for src, dst, cap in flows]
    exact = exact_rates(transfers, up, down)
    whole = fill([(src, dst, max(1, cap)) for src, dst, cap in flows], up, down)
    for share, rate in zip(whole, exact, strict=True):
        assert abs(share - rate) <= 2 * len(flows)


@given(flows_, capacities, capacities, st.randoms(use_true_random=False))
def test_the_order_of_flows_moves_only_single_bytes(
    flows: list[tuple[int, int, int]], up: list[int], down: list[int], random: object
) -> None:
    order = list(range(len(flows)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shares = fill(flows, up, down)
    shuffled = fill([flows[i] for i in order], up, down)
    assert all(abs(shuffled[k] - shares[i]) <= 2 * len(flows) for k, i in enumerate(order))


def simulate(transfers: list[Transfer], up: list[int], down: list[int]) -> list[float]:
    """Finish times in seconds on the kernel."""
    kernel = Kernel()
    network = FlowNetwork(kernel)
    for u, d in zip(up, down, strict=True):
        network.add_node(u, d)
    finishes = [0.0] * len(transfers)

    def begin(index: int, transfer: Transfer) -> None:
        def done(flow: Flow) -> None:
            assert network.progress(flow) == transfer.size_bytes
            finishes[index] = kernel.now / SECOND_US

        network.start(transfer.src, transfer.dst, transfer.size_bytes, done, transfer.cap_bytes_per_s)

    for index, transfer in enumerate(transfers):
        kernel.call_at(round(transfer.start_s * SECOND_US), begin, index, transfer)
    kernel.run()
    assert len(network) == 0
    return finishes


def test_one_flow_takes_size_over_capacity() -> None:
    assert simulate([Transfer(Fraction(0), 0, 1, 100 * MB)], [10 * MB, MB], [MB, 5 * MB]) == [
        pytest.approx(20, rel=0.01)
    ]


def test_equal_flows_share_the_source() -> None:
    transfers = [Transfer(Fraction(0), 0, n, 20 * MB) for n in range(1, 5)]
    assert simulate(transfers, [8 * MB] * 5, [8 * MB] * 5) == [pytest.approx(10, rel=0.01)] * 4


def test_a_cap_leaves_the_rest_to_the_others() -> None:
    transfers = [Transfer(Fraction(0), 0, 1, 10 * MB, MB), Transfer(Fraction(0), 0, 2, 90 * MB)]
    assert simulate(transfers, [10 * MB] * 3, [10 * MB] * 3) == [pytest.approx(10, rel=0.01)] * 2


many = st.lists(
    st.builds(
        lambda start, src, dst, size: Transfer(Fraction(start, 10), src, dst, size * MB),
        st.integers(0, 300),
        st.integers(0, 2),
        st.integers(3, 5),
        st.integers(2_000, 20_000),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=40, deadline=None)
@given(many, st.lists(st.integers(1, 10), min_size=6, max_size=6))
def test_finishes_are_those_of_the_exact_solver(transfers: list[Transfer], rates: list[int]) -> None:
    """Within 1 %: a quantum of 50 ms may be lost at each start and end, of transfers that take minutes."""
    up = down = [rate * MB for rate in rates]
    exact = exact_finishes(transfers, up, down)
    for transfer, simulated, finish in zip(transfers, simulate(transfers, up, down), exact, strict=True):
        duration = float(finish - transfer.start_s)
        assert simulated - float(transfer.start_s) == pytest.approx(duration, rel=0.01)


def test_cancel_frees_the_link_and_tells_what_arrived() -> None:
    kernel = Kernel()
    network = FlowNetwork(kernel)
    a, b, c = (network.add_node(10 * MB, 10 * MB) for _ in range(3))
    done: list[int] = []
    doomed = network.start(a, b, 100 * MB, lambda _: done.append(-1))
    network.start(a, c, 50 * MB, lambda _: done.append(kernel.now))
    kernel.run(4 * SECOND_US)
    assert network.cancel(doomed) == pytest.approx(20 * MB, rel=0.02)
    kernel.run()
    assert done == [pytest.approx(7 * SECOND_US, rel=0.02)], "5 MB/s for 4 s, then 10 MB/s for 3 s"
    assert network.progress(doomed) < 100 * MB


def test_capacity_may_change_under_way_even_to_nothing() -> None:
    kernel = Kernel()
    network = FlowNetwork(kernel)
    a, b = network.add_node(10 * MB, 10 * MB), network.add_node(10 * MB, 10 * MB)
    done: list[int] = []
    network.start(a, b, 100 * MB, lambda _: done.append(kernel.now))
    kernel.call_at(5 * SECOND_US, lambda _, __: network.set_capacity(a, 0, 0))
    kernel.call_at(15 * SECOND_US, lambda _, __: network.set_capacity(a, 5 * MB, 0))
    kernel.run()
    assert done == [pytest.approx(25 * SECOND_US, rel=0.01)]


def test_an_idle_network_makes_no_events() -> None:
    kernel = Kernel()
    network = FlowNetwork(kernel)
    a, b = network.add_node(MB, MB), network.add_node(MB, MB)
    network.start(a, b, MB, lambda _: None)
    kernel.run(10 * SECOND_US)
    before = kernel.events
    kernel.run(1000 * SECOND_US)
    assert kernel.events == before


def test_a_flow_without_bytes_is_refused() -> None:
    network = FlowNetwork(Kernel())
    with pytest.raises(ValueError, match="1 byte or more"):
        network.start(network.add_node(1, 1), network.add_node(1, 1), 0, lambda _: None)
