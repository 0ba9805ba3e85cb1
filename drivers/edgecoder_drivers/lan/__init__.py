"""Coordinators on this machine's networks: they announce themselves by multicast DNS (RFC 6762, 6763), nodes listen."""
