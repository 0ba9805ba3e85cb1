"""The kinds of fields that messages have, with the bounds that a decoder holds them to."""

from __future__ import annotations

from typing import Annotated

import msgspec

from edgecoder.protocol import ATTEMPT_MAX, NODE_ID_BYTES, PIECES_MAX, SLOTS_MAX

WireNodeId = Annotated[bytes, msgspec.Meta(min_length=NODE_ID_BYTES, max_length=NODE_ID_BYTES)]
WireTaskId = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
WireHash = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
WireNonce = Annotated[bytes, msgspec.Meta(max_length=8)]
WireDigest = Annotated[bytes, msgspec.Meta(max_length=32)]
WireName = Annotated[str, msgspec.Meta(max_length=300)]
"""A model's name: as long as the grammar in `models.catalog` allows."""
ParamSize = Annotated[float, msgspec.Meta(ge=0, le=10_000)]
"""Billions of parameters."""
Counter = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
Generation = Annotated[int, msgspec.Meta(ge=0)]
"""epoch · 2³² + counter: all 64 bits that msgpack has, because epochs pass 2³¹ in 2038."""
Slots = Annotated[int, msgspec.Meta(ge=0, le=SLOTS_MAX)]
Hops = Annotated[int, msgspec.Meta(ge=0, le=255)]
Attempt = Annotated[int, msgspec.Meta(ge=0, le=ATTEMPT_MAX)]
Percent = Annotated[int, msgspec.Meta(ge=0, le=100)]
PieceIndex = Annotated[int, msgspec.Meta(ge=0, lt=PIECES_MAX)]
WireBitmap = Annotated[bytes, msgspec.Meta(max_length=PIECES_MAX // 8)]
