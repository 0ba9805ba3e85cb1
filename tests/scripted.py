"""A node without a core: it says what a test tells it to, and keeps what it hears."""

from __future__ import annotations

from types import SimpleNamespace

from edgecoder.config import NodeConfig
from edgecoder.core.effects import Effect
from edgecoder.core.events import Event, Started, Wake
from edgecoder.core.ids import Micros


class Script:
    """Stands where a node does, with hosts real and simulated."""

    context = SimpleNamespace(node_id=bytes(32))
    setup = SimpleNamespace(config=NodeConfig())

    def __init__(self) -> None:
        self.to_say: list[Effect] = []
        self.heard: list[Event] = []

    def handle(self, now: Micros, event: Event) -> list[Effect]:  # noqa: ARG002
        """Take an event; say what there is to say."""
        if not isinstance(event, Started | Wake):
            self.heard.append(event)
        said, self.to_say = self.to_say, []
        return said
