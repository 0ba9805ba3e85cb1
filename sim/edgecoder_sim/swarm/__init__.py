"""A BitTorrent swarm as libtorrent 2.1 makes one, the peer to beat: `swarm.Swarm` runs it.

Fidelity boundary: that of its modules, each for its part.
"""
