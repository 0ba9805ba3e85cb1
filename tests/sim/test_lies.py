"""Members of a swarm that lie in their messages, in a whole world. Most lies are told in `unit/test_broker_lies.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecoder.core.context import Context
from edgecoder.core.ids import LinkId
from edgecoder.trace import PieceKept, TransferEnded
from edgecoder.wire.messages import Announce, Have, Heartbeat, Message
from tests.sim.crowd import FILE_BYTES, PIECES, Crowd

FILE = bytes.fromhex("5c" * 32)
LAST_S = 60
"""Without the lie it is 36 s, and was 226 s with it."""
COPIES = 1.5
"""Without the lie it is one; they were 3.3."""


def test_who_says_that_it_fetches_all_keeps_the_others_from_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two phones that want nothing say so with each heartbeat, while twelve agents want the file."""
    crowd = Crowd(tmp_path, "phones={count: 2, network: line, devices: {phone_mid: 1}}")
    liars = {place.sim.node_id for place in crowd.world.phones}
    send, lies = Context.send, []

    def lying(context: Context, link: LinkId, message: Message, ttl_ms: int) -> None:
        send(context, link, message, ttl_ms)
        if context.node_id in liars and isinstance(message, Heartbeat):
            announce = Announce(file=FILE, have=bytes(PIECES // 8), wants=True, slots=4, up_kbit_per_s=16_000)
            for said in (announce, Have(file=FILE, taking=tuple(range(PIECES)))):
                send(context, link, said, ttl_ms)
                lies.append(said)

    monkeypatch.setattr(Context, "send", lying)
    crowd.run()
    ended = crowd.times_s(TransferEnded)
    assert lies
    assert len(ended) == len(crowd.agents)
    assert max(ended.values()) - 10 <= LAST_S
    kept = [record for record in crowd.of(PieceKept) if record.source == "cdn"]
    assert sum(record.size_bytes for record in kept) / FILE_BYTES <= COPIES
