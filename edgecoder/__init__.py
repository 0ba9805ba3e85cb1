"""EdgeCoder's protocol core: pure state machines that a host feeds with events and that answer with effects."""

__version__ = "0.1.0"
