"""EdgeCoder's drivers: adapters that run the protocol core on real hardware."""
