"""Faults: what goes wrong in a simulated world, when, and to whom; written down, or drawn from the seed."""
