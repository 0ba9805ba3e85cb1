"""EdgeCoder's simulator: worlds of virtual nodes that run the protocol core on SimPy, from a scenario to a report."""
