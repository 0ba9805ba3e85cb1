"""What an engine and its child tell each other: length-prefixed msgpack over two pipes. Neither trusts the other with
a length: a frame beyond the bound ends the child."""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from edgecoder.errors import Reason

FRAME_BYTES_MAX: Final = 1 << 21
"""A prompt has 1 MB at most (`prompt_bytes_max`)."""
LENGTH: Final = struct.Struct(">I")


class Load(msgspec.Struct, frozen=True, tag=True):
    """The first thing that a child is told: the file to load, as it was when its digest was computed, and how."""

    path: bytes
    """Paths need not be text."""
    folder: bytes
    """For whatever it needs a folder for while it loads; then it goes."""
    size_bytes: int
    identity: tuple[int, int] | None
    context_tokens: int
    cache_bytes_per_token: int
    overhead_bytes: int
    slots: int
    threads: int | None


class Generate(msgspec.Struct, frozen=True, tag=True):
    """Answer a prompt."""

    task: int
    prompt: str
    max_tokens: int


class Cancel(msgspec.Struct, frozen=True, tag=True):
    """Stop answering; Ended follows."""

    task: int


class Alive(msgspec.Struct, frozen=True, tag=True):
    """Said by a child that has a model, again and again."""


class Loaded(msgspec.Struct, frozen=True, tag=True):
    """The model is there."""

    tokens_per_s: float
    """That it writes, for one task."""


class NotLoaded(msgspec.Struct, frozen=True, tag=True):
    """It could not be loaded."""

    reason: Reason
    detail: str


class Wrote(msgspec.Struct, frozen=True, tag=True):
    """A part of an answer; without tokens, a sign that the task has got a slot, or that its prompt is being read."""

    task: int
    text: str
    tokens: int


class Ended(msgspec.Struct, frozen=True, tag=True):
    """An answer is over, whole unless there is a reason."""

    task: int
    reason: Reason | None = None
    detail: str = ""


ToChild = Load | Generate | Cancel
FromChild = Alive | Loaded | NotLoaded | Wrote | Ended
to_child: Final = msgspec.msgpack.Decoder(ToChild)
from_child: Final = msgspec.msgpack.Decoder(FromChild)


def frame(message: ToChild | FromChild) -> bytes:
    """A message with its length before it."""
    body = msgspec.msgpack.encode(message)
    return LENGTH.pack(len(body)) + body
