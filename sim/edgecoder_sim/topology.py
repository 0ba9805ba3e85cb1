"""Topologies of the federation: which coordinators have a link, from graphs that networkx makes.

Fidelity boundary: a topology is there from the start and stays; nobody finds a coordinator or chooses another.
"""

from __future__ import annotations

from typing import Final

import networkx as nx

from edgecoder.core.rng import Stream
from edgecoder_sim.scenario_model import Federation, Topology

SMALL_WORLD_SHARE: Final = 0.1
"""Share of a lattice's links that a small world leads elsewhere: from there on paths are about as short as in a random
graph (Watts and Strogatz, Nature 393:440, 1998, figure 2)."""
RANDOM_SHARE: Final = 5.0
"""Exchanges a link after which nothing of the lattice is left (I; each link is then moved ten times on average)."""
_SWAP_ENDS: Final = {Topology.RING: 0.0, Topology.SMALL_WORLD: SMALL_WORLD_SHARE, Topology.RANDOM: RANDOM_SHARE}


def federation(count: int, wanted: Federation, stream: Stream) -> list[tuple[int, int]]:
    """Which of `count` coordinators are linked: pairs (i, j) with i < j, sorted. The graph is connected. Where nobody
    would have more than `degree` neighbours all pairs are linked; else each has at most `degree`, and the same number
    but in `campuses`, where `count` is a multiple of `degree`."""
    if wanted.topology is Topology.COMPLETE or count <= wanted.degree + 1:
        graph = nx.complete_graph(count)
    elif wanted.topology is Topology.CAMPUSES:
        graph = nx.ring_of_cliques(count // wanted.degree, wanted.degree)
    else:
        graph = nx.circulant_graph(count, list(range(1, wanted.degree // 2 + 1)))
        exchanges = round(_SWAP_ENDS[wanted.topology] * graph.number_of_edges())
        if exchanges:  # swaps of ends keep everybody's degree, which rewiring one end (Watts-Strogatz) does not
            nx.connected_double_edge_swap(graph, exchanges, seed=stream.below(1 << 32))
    return sorted((min(i, j), max(i, j)) for i, j in graph.edges)
