"""EdgeCoder's drivers: adapters that run the protocol core on real hardware.

There is no driver yet. The package exists so that the import rules, which keep drivers and simulator apart, hold from
the first day.
"""
