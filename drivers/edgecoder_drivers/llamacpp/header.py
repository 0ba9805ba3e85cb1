"""The header of a GGUF file, looked at before llama.cpp may: every count, length and offset is checked against a bound
and against the file, in Python, where a lie costs an exception and no more.

What a header says beyond that (whether the tensors make a model) is left to llama.cpp. The format:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from mmap import mmap
from types import MappingProxyType
from typing import Final, NamedTuple

MAGIC: Final = b"GGUF"
VERSIONS: Final = (2, 3)
HEADER_BYTES_MAX: Final = 1 << 26
"""Vocabularies of 262,144 tokens with their scores take some 10 MB."""
KEYS_MAX: Final = 4096
TENSORS_MAX: Final = 65_536
ITEMS_MAX: Final = 1 << 22
"""Items of all arrays together: what bounds the time that a header takes."""
KEY_BYTES_MAX: Final = 65_535
TEXT_BYTES_MAX: Final = 1 << 20
"""Chat templates are the longest texts, some 20 KB."""
NAME_BYTES_MAX: Final = 63
DIMENSIONS_MAX: Final = 4
ELEMENTS_MAX: Final = 1 << 40
ALIGNMENT_MAX: Final = 65_536
LAYERS_MAX: Final = 1024
"""Longer arrays are vocabularies, which nobody here asks for."""
CACHE_BYTES_PER_VALUE: Final = 2
"""The cache holds keys and values as F16."""

_UINT32: Final = 4
_BOOL: Final = 7
_STRING: Final = 8
_ARRAY: Final = 9
_UINT64: Final = 10
_SCALARS: Final[Mapping[int, struct.Struct]] = MappingProxyType(
    {number: struct.Struct("<" + code) for number, code in enumerate("BbHhIif?")}
    | {number: struct.Struct("<" + code) for number, code in ((10, "Q"), (11, "q"), (12, "d"))}
)
BLOCKS: Final[Mapping[int, tuple[int, int]]] = MappingProxyType(
    {
        0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40),
        10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
        16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
        23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2),
        34: (256, 54), 35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18),
    }
)  # fmt: skip
"""Elements and bytes of a block of each type of tensor (ggml.c)."""

Scalar = int | float | bool


class BadHeader(ValueError):
    """The file is no GGUF, or lies about itself. `str()` says where."""


class Header(NamedTuple):
    """What is worth knowing of a file before it is loaded."""

    architecture: str
    has_chat_template: bool
    cache_bytes_per_token: int
    """Of keys and values, by the header; 0 where it does not say."""


class _Reader:
    """Takes values off a buffer, from the front on."""

    def __init__(self, data: bytes | mmap) -> None:
        self._data = data
        self._end = min(len(data), HEADER_BYTES_MAX)
        self._items = 0
        self.position = 0

    def skip(self, count: int) -> int:
        """Where `count` bytes begin that are passed over."""
        start = self.position
        if count > self._end - start:
            raise BadHeader(f"byte {start}: {count} more of the header are not there")
        self.position = start + count
        return start

    def scalar(self, kind: int) -> Scalar:
        """A number or truth value."""
        form = _SCALARS.get(kind)
        if form is None:
            raise BadHeader(f"byte {self.position}: no type of value is {kind}")
        value: Scalar = form.unpack_from(self._data, self.skip(form.size))[0]
        return value

    def count(self, bound: int, what: str, kind: int = _UINT64) -> int:
        """A number that may be at most `bound`."""
        start, value = self.position, int(self.scalar(kind))
        if value > bound:
            raise BadHeader(f"byte {start}: {value} {what}, of which there may be {bound}")
        return value

    def text(self, bound: int, what: str) -> str:
        """A string."""
        length = self.count(bound, f"bytes of {what}")
        start = self.skip(length)
        try:
            return self._data[start : start + length].decode()
        except UnicodeDecodeError:
            raise BadHeader(f"byte {start}: {what} is no UTF-8") from None

    def pass_over(self, kind: int) -> None:
        """A value of any type, which is not kept."""
        if kind == _ARRAY:
            self._pass_over_array()
        elif kind == _STRING:
            self.skip(self.count(TEXT_BYTES_MAX, "bytes of text"))
        else:
            self.scalar(kind)

    def _pass_over_array(self) -> None:
        kind, start = int(self.scalar(_UINT32)), self.position
        length = self.count(ITEMS_MAX, "items")
        self._items += length
        if self._items > ITEMS_MAX:
            raise BadHeader(f"byte {start}: more than {ITEMS_MAX} items in all arrays")
        if kind == _STRING:
            self._skip_texts(length)
        elif kind in _SCALARS:
            self.skip(length * _SCALARS[kind].size)
        else:  # arrays of arrays are allowed by the format, but llama.cpp knows none
            raise BadHeader(f"byte {start}: no array holds values of type {kind}")

    def scalars(self) -> list[Scalar]:
        """An array that has been passed over once; nothing of one that is longer than any that is asked for."""
        kind, length = int(self.scalar(_UINT32)), int(self.scalar(_UINT64))
        return [self.scalar(kind) for _ in range(length)] if kind in _SCALARS and length <= LAYERS_MAX else []

    def _skip_texts(self, count: int) -> None:
        """Pass over a vocabulary. Tokens need not be text."""
        unpack, data, end, position = struct.Struct("<Q").unpack_from, self._data, self._end, self.position
        for _ in range(count):
            if position + 8 > end:
                raise BadHeader(f"byte {position}: the header ends among {count} texts")
            length = unpack(data, position)[0]
            if length > TEXT_BYTES_MAX:
                raise BadHeader(f"byte {position}: {length} bytes of text, of which there may be {TEXT_BYTES_MAX}")
            position += 8 + length
        if position > end:
            raise BadHeader(f"byte {position}: the header ends among {count} texts")
        self.position = position


class Values:
    """Where the values of a header are: no more is kept of them, however many and long they are."""

    def __init__(self, reader: _Reader, keys: int) -> None:
        self._reader = reader
        self._places: dict[bytes, tuple[int, int]] = {}
        for _ in range(keys):
            start, key = reader.position, reader.text(KEY_BYTES_MAX, "key").encode()
            if key in self._places:
                raise BadHeader(f"byte {start}: {key.decode()[:80]!r} is there twice")
            kind = int(reader.scalar(_UINT32))
            self._places[key] = kind, reader.position
            reader.pass_over(kind)

    def text(self, key: str) -> str:
        """Of a key; empty where there is none."""
        return self._reader.text(TEXT_BYTES_MAX, key) if self._go_to(key) == _STRING else ""

    def number(self, key: str, otherwise: int = 0) -> int:
        """Of a key; `otherwise` where there is none, or an array. No number that is asked for may be below zero."""
        kind = self._go_to(key)
        if kind is None or kind == _ARRAY:
            return otherwise
        return self._whole(key, self._reader.scalar(kind) if kind in _SCALARS else None)

    def numbers(self, key: str) -> list[int]:
        """Of a key that has an array; nothing where there is none."""
        found = self._reader.scalars() if self._go_to(key) == _ARRAY else []
        return [self._whole(key, value) for value in found]

    def _go_to(self, key: str) -> int | None:
        kind, place = self._places.get(key.encode(), (None, self._reader.position))
        self._reader.position = place
        return kind

    def _whole(self, key: str, value: Scalar | None) -> int:
        if not isinstance(value, int) or value < 0:
            raise BadHeader(f"{key} is {'text' if value is None else value}")
        return value


class Checked(NamedTuple):
    """A header that is in order."""

    architecture: str
    values: Values
    parameters: int
    """Elements of all tensors together."""


def read_header(data: bytes | mmap) -> Header:
    """Check the header of a whole file. Raises BadHeader."""
    architecture, values, _ = check(data)
    return Header(
        architecture, values.text("tokenizer.chat_template") != "", cache_bytes_per_token(architecture, values)
    )


def check(data: bytes | mmap) -> Checked:
    """The same, for who asks it more. Raises BadHeader."""
    reader = _Reader(data)
    if bytes(data[:4]) != MAGIC:
        raise BadHeader("byte 0: no GGUF file begins so")
    reader.skip(4)
    version = int(reader.scalar(_UINT32))
    if version not in VERSIONS:
        raise BadHeader(f"byte 4: version {version}, of which 2 and 3 are known")
    tensors = reader.count(TENSORS_MAX, "tensors")
    keys = reader.count(KEYS_MAX, "keys")
    values = Values(reader, keys)
    tensors_start = reader.position
    alignment = values.number("general.alignment", 32)
    if not 0 < alignment <= ALIGNMENT_MAX or alignment & (alignment - 1):
        raise BadHeader(f"general.alignment is {alignment}, which is no power of two up to {ALIGNMENT_MAX}")
    reader.position = tensors_start
    parameters = _check_tensors(reader, tensors, alignment, len(data))
    architecture = values.text("general.architecture")
    if not architecture:
        raise BadHeader("no general.architecture")
    return Checked(architecture, values, parameters)


def _check_tensors(reader: _Reader, count: int, alignment: int, file_bytes: int) -> int:
    """Whether all tensors lie in the file, behind the header; how many elements they have."""
    names: set[str] = set()
    ends = parameters = 0
    for _ in range(count):
        start, name = reader.position, reader.text(NAME_BYTES_MAX, "name")
        if name in names:
            raise BadHeader(f"byte {start}: tensor {name!r} is there twice")
        names.add(name)
        elements = 1
        for _ in range(reader.count(DIMENSIONS_MAX, "dimensions", _UINT32)):
            elements *= reader.count(ELEMENTS_MAX, "elements")
        kind, offset = int(reader.scalar(_UINT32)), int(reader.scalar(_UINT64))
        block = BLOCKS.get(kind)
        if block is None:
            raise BadHeader(f"tensor {name!r}: no type is {kind}")
        if not 0 < elements <= ELEMENTS_MAX or elements % block[0]:
            raise BadHeader(f"tensor {name!r}: {elements} elements")
        if offset % alignment:
            raise BadHeader(f"tensor {name!r}: begins at {offset}, which is no multiple of {alignment}")
        parameters += elements
        ends = max(ends, offset + elements // block[0] * block[1])
    data_start = -(-reader.position // alignment) * alignment
    if count and data_start + ends > file_bytes:
        raise BadHeader(f"the tensors end at byte {data_start + ends}, the file at {file_bytes}")
    return parameters


def cache_bytes_per_token(architecture: str, values: Values) -> int:
    """What keys and values of a token of context take, bytes; 0 where the header does not say. Raises BadHeader."""

    def number(name: str) -> int:
        return values.number(f"{architecture}.{name}")

    layers, heads, width = number("block_count"), number("attention.head_count"), number("embedding_length")
    key = number("attention.key_length") or (width // heads if heads else 0)
    value = number("attention.value_length") or key
    per_layer = sum(values.numbers(f"{architecture}.attention.head_count_kv"))
    cached = per_layer or number("attention.head_count_kv") * layers or heads * layers
    return cached * (key + value) * CACHE_BYTES_PER_VALUE
