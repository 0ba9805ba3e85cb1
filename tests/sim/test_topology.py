"""Topologies: connected, bounded, short where they promise it, and the same for the same seed."""

from __future__ import annotations

import networkx as nx
import pytest

from edgecoder.core.rng import Stream
from edgecoder_sim.scenario_model import Federation, Topology
from edgecoder_sim.topology import federation


def _graph(count: int, topology: Topology, degree: int = 4, seed: int = 1) -> nx.Graph:
    edges = federation(count, Federation(topology=topology, degree=degree), Stream(seed, b"", "test"))
    graph = nx.Graph(edges)
    graph.add_nodes_from(range(count))
    return graph


@pytest.mark.parametrize("topology", [Topology.RING, Topology.SMALL_WORLD, Topology.RANDOM])
@pytest.mark.parametrize(("count", "degree"), [(7, 5), (8, 4), (9, 2), (100, 5), (100, 4)])
def test_bounded_shapes_are_connected_and_give_all_the_same_degree(topology: Topology, count: int, degree: int) -> None:
    graph = _graph(count, topology, degree)
    assert nx.is_connected(graph)
    assert {neighbours for _, neighbours in graph.degree} == {degree // 2 * 2}


@pytest.mark.parametrize("topology", Topology)
@pytest.mark.parametrize("count", [2, 3, 5])
def test_few_coordinators_are_all_linked(topology: Topology, count: int) -> None:
    assert _graph(count, topology).number_of_edges() == count * (count - 1) // 2


def test_complete_is_complete_beyond_the_degree() -> None:
    assert _graph(20, Topology.COMPLETE).number_of_edges() == 190


def test_ways_get_shorter_and_cliques_go() -> None:
    ring, small, random = (_graph(200, shape) for shape in (Topology.RING, Topology.SMALL_WORLD, Topology.RANDOM))
    ways = [nx.average_shortest_path_length(graph) for graph in (ring, small, random)]
    assert ways[0] > 25
    assert 10 > ways[1] > ways[2] > 3.8
    assert nx.average_clustering(ring) == pytest.approx(0.5)
    assert nx.average_clustering(small) > 0.25
    assert nx.average_clustering(random) < 0.05


def test_a_seed_gives_one_graph_and_another_seed_another() -> None:
    first, again, other = (sorted(_graph(50, Topology.RANDOM, seed=seed).edges) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_campuses_are_cliques_on_a_ring() -> None:
    graph = _graph(20, Topology.CAMPUSES, degree=5)
    assert nx.is_connected(graph)
    assert max(neighbours for _, neighbours in graph.degree) == 5
    assert sorted(len(clique) for clique in nx.find_cliques(graph)) == [2, 2, 2, 2, 5, 5, 5, 5]
    assert nx.is_isomorphic(nx.quotient_graph(graph, lambda a, b: a // 5 == b // 5), nx.cycle_graph(4))
