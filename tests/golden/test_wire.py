"""The bytes on the wire, checked in: a change of any of them is a change of the protocol.

`python -m tests.golden.test_wire` writes them anew.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgecoder.wire.codec import decode_body, encode_body
from edgecoder.wire.envelope import ByteVerifier
from edgecoder.wire.messages import NAMES, TYPES
from edgecoder_sim.crypto import IdealKeys
from tests.golden.messages import MESSAGES, SENDER, envelope

FILE = Path(__file__).with_name("wire.json")


def made() -> dict[str, dict[str, str]]:
    """Body and envelope of every message, hex."""
    return {
        name: {"body": encode_body(message).hex(), "envelope": envelope(message, seq).hex()}
        for seq, (name, message) in enumerate(MESSAGES.items(), start=1)
    }


def golden() -> dict[str, dict[str, str]]:
    """What is checked in."""
    kept: dict[str, dict[str, str]] = json.loads(FILE.read_text(encoding="utf-8"))
    return kept


def test_every_type_has_golden_bytes() -> None:
    assert {NAMES[type(message)] for message in MESSAGES.values()} == set(TYPES)
    assert list(golden()) == list(MESSAGES)


@pytest.mark.parametrize("name", MESSAGES)
def test_messages_become_these_bytes(name: str) -> None:
    assert made()[name] == golden()[name]


@pytest.mark.parametrize("name", MESSAGES)
def test_these_bytes_become_messages(name: str) -> None:
    message = MESSAGES[name]
    kept = golden()[name]
    assert decode_body(NAMES[type(message)], bytes.fromhex(kept["body"])) == message
    verified = ByteVerifier(IdealKeys(), "edgecoder").open(bytes.fromhex(kept["envelope"]))
    assert verified.message == message
    assert verified.header.sender == SENDER
    assert (verified.header.epoch, verified.header.ttl_ms) == (3, 45_000)
    assert verified.header.seq == list(MESSAGES).index(name) + 1


if __name__ == "__main__":
    FILE.write_text(json.dumps(made(), indent=1) + "\n", encoding="utf-8")
