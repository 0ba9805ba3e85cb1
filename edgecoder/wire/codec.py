"""Messages to bytes and back: msgpack maps with camelCase keys.

Decoding is total: bytes from outside give a message or a `RemoteProtocolError`, never another exception. Unknown fields
are dropped; a field out of its range is an error (a range refuses NaN and infinity too, so every float has one).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from edgecoder.errors import UNREADABLE, Reason, RemoteProtocolError
from edgecoder.wire.messages import TYPES, Load, Message, load_from_wire, load_to_wire


def _to_wire(value: Any) -> Any:
    if isinstance(value, Load):
        return load_to_wire(value)
    raise NotImplementedError(f"no wire form for {type(value).__name__}")


def _from_wire(kind: type, value: Any) -> Any:
    if kind is Load and isinstance(value, int):
        return load_from_wire(value)
    raise ValueError(f"no {kind.__name__} in {type(value).__name__}")


_decoders = {
    name: msgspec.msgpack.Decoder(kind, dec_hook=_from_wire, ext_hook=lambda code, data: None)
    for name, kind in TYPES.items()
}


def is_text(text: str) -> bool:
    """Whether `text` can go on the wire: a Python string may hold half of a surrogate pair, UTF-8 may not."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


encode_body: Callable[[Message], bytes] = msgspec.msgpack.Encoder(enc_hook=_to_wire).encode
"""The msgpack bytes of a message."""


def decode_body(type_name: str, body: bytes | msgspec.Raw) -> Message:
    """The message in `body`. Raises RemoteProtocolError: unknown_type, bad_frame."""
    decoder = _decoders.get(type_name)
    if decoder is None:
        raise RemoteProtocolError(Reason.UNKNOWN_TYPE, type_name[:64])
    try:
        message: Message = decoder.decode(body)
    except UNREADABLE as error:
        raise RemoteProtocolError(Reason.BAD_FRAME, f"{type_name}: {error}") from None
    return message
