"""The addresses of one coordinator, and which of them is dialled next.

Each stands with who named it: the configuration, the coordinator itself by a row that it has signed, or somebody on
this machine's network, who may be anybody. They are tried in this order, the one that worked last before all others,
each once a round; only a handshake shows who listens there. So whoever announces false addresses costs a round some
dials, and never keeps the true one out of it.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from edgecoder.protocol import ENDPOINTS_MAX


class Source(IntEnum):
    """Who has named an address: the smaller, the sooner it is tried."""

    CONFIGURED = 0
    TOLD = 1
    SEEN = 2


class _Address(msgspec.Struct):
    endpoint: str
    source: Source
    is_tried: bool = False
    """In this round."""


class Addresses:
    """Those of one coordinator, without doubles."""

    def __init__(self) -> None:
        self._known: list[_Address] = []
        self._good = ""

    def __bool__(self) -> bool:
        return bool(self._known)

    def configure(self, endpoint: str) -> None:
        """The user says that it is here."""
        if all(each.endpoint != endpoint for each in self._known):
            self._known.append(_Address(endpoint, Source.CONFIGURED))

    @property
    def following(self) -> str:
        """The one to dial next; empty where there is none. Past the last of a round, the first of the next."""
        untried = [each for each in self._known if not each.is_tried] or self._known
        return min(untried, key=lambda each: (each.endpoint != self._good, each.source)).endpoint if untried else ""

    def tried(self, endpoint: str) -> bool:
        """This one brought no link. Whether the round is over."""
        for each in self._known:
            if each.endpoint == endpoint:
                each.is_tried = True
        if not all(each.is_tried for each in self._known):
            return False
        self._begin_round()
        return True

    def worked(self, endpoint: str) -> None:
        """This one brought a link."""
        self._good = endpoint
        self._begin_round()

    def tell(self, endpoints: tuple[str, ...]) -> bool:
        """What the coordinator says of itself now, in place of what it said before. Whether one of them is new."""
        known = {each.endpoint for each in self._known}
        kept = {each.endpoint: each for each in self._known if each.source is not Source.TOLD}
        before = {each.endpoint: each for each in self._known}
        for endpoint in endpoints[:ENDPOINTS_MAX]:
            if endpoint not in kept or kept[endpoint].source is Source.SEEN:
                is_tried = endpoint in before and before[endpoint].is_tried
                kept[endpoint] = _Address(endpoint, Source.TOLD, is_tried)
        self._known = list(kept.values())
        return any(endpoint not in known for endpoint in endpoints[:ENDPOINTS_MAX])

    def see(self, endpoint: str) -> bool:
        """Somebody on the network says that it is here. Whether that is worth a dial at once: one that takes the place
        of another waits for its turn."""
        if any(each.endpoint == endpoint for each in self._known):
            return False
        seen = [each for each in self._known if each.source is Source.SEEN]
        if len(seen) >= ENDPOINTS_MAX:
            oldest = next((each for each in seen if each.endpoint != self._good), seen[0])
            self._known.remove(oldest)
            self._known.append(_Address(endpoint, Source.SEEN, is_tried=True))
            return False
        self._known.append(_Address(endpoint, Source.SEEN))
        return True

    def _begin_round(self) -> None:
        for each in self._known:
            each.is_tried = False
