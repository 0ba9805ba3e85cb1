"""Bytes for whatever reads bytes: noise, what is almost right, and what has broken other decoders.

`near(valid…)` draws from sound examples that are cut, changed, repeated, and (JSON, MessagePack) those in which one
value is another; from numbers, texts and nesting that no honest writer makes; and from noise.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import msgspec
from hypothesis import strategies as st

ODD: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 1 << 31, 1 << 63, (1 << 64) - 1, -(1 << 63), 1e308, -0.5, "", "\x00", "a" * 300,
    "9" * 5_000, "../../etc/passwd", "\ud800", "\u202e", "1e9", [], {}, [[[[[[[[]]]]]]]],
    {"": {"": {"": None}}}, [None] * 300,
)  # fmt: skip
"""Values where others are expected."""
BROKEN: Final = (
    b"", b"\x00", b"\xff" * 64, b"\xef\xbb\xbf{}", b"[" * 5_000, b'{"a":' * 5_000, b"\x91" * 5_000,
    b"\x81\xa1a" * 2_000,
    b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xc9\xff\xff\xff\xff\x00", b"\xc1",
    b"1e999", b"-1e999", b"NaN", b"[NaN, Infinity]", b"9" * 5_000, b'"\\ud800"', b'"\xff\xfe"', b'{"a": 1, "a": 2}',
    b"- - - - -\n" * 500, b"&a [*a, *a]\n", b"!!python/object:os.system x\n", b"\t:\n",
)  # fmt: skip
"""What somebody's decoder has stumbled over: nesting, lengths that lie, numbers out of range, broken text."""


@st.composite
def changed(draw: st.DrawFn, valid: bytes) -> bytes:
    """A sound example with a cut, some other bytes, or a part twice."""
    how = draw(st.integers(0, 3))
    first = draw(st.integers(0, len(valid)))
    last = draw(st.integers(first, len(valid)))
    if how == 0:
        return valid[:first]
    if how == 1:
        return valid[:first] + draw(st.binary(max_size=8)) + valid[last:]
    if how == 2:
        return valid[:last] + valid[first:]
    flipped = bytearray(valid)
    for at in draw(st.lists(st.integers(0, len(valid) - 1), min_size=1, max_size=4)):
        flipped[at] ^= 1 << draw(st.integers(0, 7))
    return bytes(flipped)


def _with_odd(draw: st.DrawFn, value: Any) -> Any:
    """The same with one value that is another, or is missing."""
    if isinstance(value, dict) and value and draw(st.integers(0, 3)):
        key = draw(st.sampled_from(sorted(value, key=repr)))
        if not draw(st.integers(0, 5)):
            return {other: each for other, each in value.items() if other != key}
        return {**value, key: _with_odd(draw, value[key])}
    if isinstance(value, list | tuple) and value and draw(st.integers(0, 3)):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], _with_odd(draw, value[at]), *value[at + 1 :]]
    return draw(st.one_of(st.sampled_from(ODD), st.integers(-(1 << 63), (1 << 64) - 1), st.text(max_size=8)))


def _as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _as_msgpack(value: Any) -> bytes:
    try:
        return msgspec.msgpack.encode(value)
    except (UnicodeEncodeError, OverflowError):  # a lone surrogate, for one
        return b"\xa3\xed\xa0\x80"


@st.composite
def otherwise(draw: st.DrawFn, valid: bytes) -> bytes:
    """A sound example of JSON or MessagePack that is well formed still, and says something else."""
    decode: Callable[[bytes], Any]
    for decode, encode in ((json.loads, _as_json), (msgspec.msgpack.decode, _as_msgpack)):
        try:
            value = decode(valid)
        except (ValueError, msgspec.DecodeError):
            continue
        return encode(_with_odd(draw, value))
    return draw(changed(valid))


def near(*valid: bytes) -> st.SearchStrategy[bytes]:
    """Bytes that are like the examples, or like nothing. None of them is empty."""
    sound = st.sampled_from(valid)
    return st.one_of(
        sound,
        sound.flatmap(changed),
        sound.flatmap(otherwise),
        st.sampled_from(BROKEN),
        st.binary(max_size=200),
        st.sampled_from(ODD).map(_as_json),
        st.sampled_from(ODD).map(_as_msgpack),
    )
