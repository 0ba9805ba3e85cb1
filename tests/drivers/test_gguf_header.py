"""The header of a GGUF file: a sound one is read, and no lie gets past."""

from __future__ import annotations

import struct
import tracemalloc
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import gguf
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgecoder_drivers.demo.tiny_gguf import make
from edgecoder_drivers.llamacpp.header import (
    BLOCKS,
    ELEMENTS_MAX,
    HEADER_BYTES_MAX,
    ITEMS_MAX,
    KEYS_MAX,
    TENSORS_MAX,
    TEXT_BYTES_MAX,
    BadHeader,
    Header,
    read_header,
)

UINT8, UINT32, INT32, FLOAT32, TEXT, ARRAY, UINT64 = 0, 4, 5, 6, 8, 9, 10
HUGE = (1 << 64) - 1
MIB = 1 << 20


@cache
def sound() -> bytes:
    """A file that llama.cpp loads."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "sound.gguf"
        make(path)
        return path.read_bytes()


def text(value: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(value) if length is None else length) + value


def key(name: bytes, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def array(kind: int, length: int, items: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, length) + items


def tensor(name: bytes, dimensions: list[int], kind: int = 0, offset: int = 0, count: int | None = None) -> bytes:
    shape = struct.pack(f"<I{len(dimensions)}Q", len(dimensions) if count is None else count, *dimensions)
    return text(name) + shape + struct.pack("<IQ", kind, offset)


ARCHITECTURE = key(b"general.architecture", TEXT, text(b"llama"))


def file(
    *keys: bytes,
    tensors: tuple[bytes, ...] = (),
    version: int = 3,
    key_count: int | None = None,
    tensor_count: int | None = None,
    data: bytes = bytes(64),
) -> bytes:
    counts = (
        len(tensors) if tensor_count is None else tensor_count,
        len(keys) + 1 if key_count is None else key_count,
    )
    header = b"GGUF" + struct.pack("<IQQ", version, *counts) + ARCHITECTURE + b"".join(keys) + b"".join(tensors)
    return header + bytes(-len(header) % 32) + data


def test_a_sound_file_is_read() -> None:
    layers, heads, width = 1, 2, 16
    assert read_header(sound()) == Header("llama", True, layers * heads * 2 * width * 2)
    assert read_header(file()) == Header("llama", False, 0)
    assert read_header(file(version=2, tensors=(tensor(b"a", [4, 2]), tensor(b"b", [8], 0, 32))))


@pytest.mark.parametrize("template", [key(b"t", TEXT, text(b"")), key(b"t", UINT32, bytes(4))])
def test_a_template_of_nothing_is_none(template: bytes) -> None:
    assert not read_header(file(template.replace(text(b"t"), text(b"tokenizer.chat_template")))).has_chat_template


def test_layers_may_have_caches_of_their_own_sizes() -> None:
    heads = key(b"llama.attention.head_count_kv", ARRAY, array(UINT32, 3, struct.pack("<3I", 4, 2, 1)))
    lengths = [
        key(f"llama.attention.{part}_length".encode(), UINT32, struct.pack("<I", 8)) for part in ("key", "value")
    ]
    assert read_header(file(heads, *lengths)).cache_bytes_per_token == (4 + 2 + 1) * (8 + 8) * 2


def test_long_texts_are_not_kept() -> None:
    longest = "\N{GRINNING FACE}".encode() + bytes(TEXT_BYTES_MAX - 4)
    content = file(*(key(str(number).encode(), TEXT, text(longest)) for number in range(HEADER_BYTES_MAX // MIB - 1)))
    tracemalloc.start()
    try:
        assert read_header(content).architecture == "llama"
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()


def test_types_are_those_of_llama_cpp() -> None:
    assert {int(kind): sizes for kind, sizes in gguf.GGML_QUANT_SIZES.items()} == dict(BLOCKS)


BOMBS = {
    "empty": b"",
    "no magic": b"GGML" + bytes(100),
    "magic alone": b"GGUF",
    "version 1": file(version=1),
    "big-endian": file(version=3 << 24),
    "a great many keys": file(key_count=HUGE),
    "more keys than may be": file(key_count=KEYS_MAX + 1),
    "more keys than are there": file(key_count=50),
    "a great many tensors": file(tensor_count=HUGE),
    "more tensors than may be": file(tensor_count=TENSORS_MAX + 1),
    "a long key": file(text(b"k", HUGE)),
    "a long text": file(key(b"k", TEXT, text(b"", 1 << 40))),
    "a text that is too long": file(key(b"k", TEXT, text(bytes(TEXT_BYTES_MAX + 1)))),
    "a text that wraps around": file(key(b"k", TEXT, text(b"", HUGE - 7))),
    "a long array": file(key(b"k", ARRAY, array(UINT64, HUGE))),
    "an array whose bytes wrap around": file(key(b"k", ARRAY, array(UINT64, 1 << 61))),
    "an array that is not there": file(key(b"k", ARRAY, array(UINT64, ITEMS_MAX))),
    "many long arrays": file(key(b"a", ARRAY, array(UINT8, 1, b"x")), key(b"b", ARRAY, array(UINT8, ITEMS_MAX))),
    "texts that are not there": file(key(b"k", ARRAY, array(TEXT, ITEMS_MAX, bytes(8 * 10)))),
    "a long text among many": file(key(b"k", ARRAY, array(TEXT, 2, text(b"a") + text(b"", HUGE)))),
    "a text that ends behind the file": file(key(b"k", ARRAY, array(TEXT, 1, text(b"", TEXT_BYTES_MAX)))),
    "arrays in arrays": file(key(b"k", ARRAY, array(ARRAY, 1, array(ARRAY, 1, array(UINT8, 1, b"x"))))),
    "no type": file(key(b"k", 13, bytes(8))),
    "an array of no type": file(key(b"k", ARRAY, array(99, 1, bytes(8)))),
    "a key twice": file(key(b"k", UINT8, b"x"), key(b"k", UINT8, b"x")),
    "a key that is no text": file(key(b"\xff\xfe", UINT8, b"x")),
    "no architecture": file().replace(b"general.architecture", b"general.architectura"),
    "an architecture that is a number": file()
    .replace(text(b"llama"), b"")
    .replace(struct.pack("<I", TEXT), struct.pack("<I", UINT32), 1),
    "alignment 0": file(key(b"general.alignment", UINT32, bytes(4))),
    "alignment 3": file(key(b"general.alignment", UINT32, struct.pack("<I", 3))),
    "alignment of 2 GiB": file(key(b"general.alignment", UINT32, struct.pack("<I", 1 << 31))),
    "alignment that is text": file(key(b"general.alignment", TEXT, text(b"32"))),
    "layers below zero": file(key(b"llama.block_count", INT32, struct.pack("<i", -1))),
    "heads below zero": file(key(b"llama.attention.head_count_kv", ARRAY, array(INT32, 2, struct.pack("<2i", 9, -1)))),
    "a width that is text": file(key(b"llama.embedding_length", TEXT, text(b"64"))),
    "a tensor twice": file(tensors=(tensor(b"a", [4]), tensor(b"a", [4]))),
    "a tensor with a long name": file(tensors=(tensor(bytes(64), [4]),)),
    "a tensor of five dimensions": file(tensors=(tensor(b"a", [1] * 5),)),
    "a tensor of many dimensions": file(tensors=(tensor(b"a", [1], count=(1 << 32) - 1),)),
    "a tensor of nothing": file(tensors=(tensor(b"a", [4, 0]),)),
    "a tensor whose size wraps around": file(tensors=(tensor(b"a", [1 << 32, 1 << 32, 1, 1]),)),
    "a tensor that is too large": file(tensors=(tensor(b"a", [ELEMENTS_MAX]),)),
    "a tensor of half a block": file(tensors=(tensor(b"a", [16], kind=8),)),
    "a tensor of no type": file(tensors=(tensor(b"a", [4], kind=4),)),
    "a tensor that begins behind the file": file(tensors=(tensor(b"a", [4], offset=1 << 40),)),
    "a tensor whose end wraps around": file(tensors=(tensor(b"a", [4], offset=HUGE - 31),)),
    "a tensor that ends behind the file": file(tensors=(tensor(b"a", [17]),)),
    "a tensor between two": file(tensors=(tensor(b"a", [4], offset=1),)),
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_lie_is_seen(bomb: bytes) -> None:
    with pytest.raises(BadHeader):
        read_header(bomb)


def test_a_header_has_a_bound() -> None:
    longest = HEADER_BYTES_MAX // TEXT_BYTES_MAX
    keys = [key(str(number).encode(), TEXT, text(bytes(TEXT_BYTES_MAX))) for number in range(longest)]
    with pytest.raises(BadHeader, match="more of the header are not there"):
        read_header(file(*keys))


def test_a_refusal_says_where() -> None:
    with pytest.raises(BadHeader, match=r"byte 16: 18446744073709551615 keys, of which there may be 4096"):
        read_header(file(key_count=HUGE))
    with pytest.raises(BadHeader, match=r"tensor 'a': no type is 4"):
        read_header(file(tensors=(tensor(b"a", [4], kind=4),)))


def test_no_file_that_is_cut_off_is_sound() -> None:
    content = sound()
    for end in [*range(0, 2000, 7), *range(2000, len(content), 1009), len(content) - 1]:
        with pytest.raises(BadHeader):
            read_header(content[:end])


@given(st.binary(max_size=400))
@example(b"")
def test_whatever_follows_the_magic_is_read_or_refused(rest: bytes) -> None:
    read_or_refused(b"GGUF\x03\x00\x00\x00" + rest)


@given(st.lists(st.tuples(st.integers(0, 20_000), st.integers(1, 255)), min_size=1, max_size=4))
def test_a_file_with_wrong_bits_is_read_or_refused(flips: list[tuple[int, int]]) -> None:
    content = bytearray(sound())
    for position, bits in flips:
        content[position] ^= bits
    read_or_refused(bytes(content))


@given(st.sampled_from(sorted(BOMBS)), st.integers(0, 300), st.integers(0, HUGE))
def test_a_file_with_a_wrong_number_is_read_or_refused(name: str, position: int, number: int) -> None:
    content = BOMBS[name]
    read_or_refused(content[:position] + struct.pack("<Q", number) + content[position + 8 :])


def read_or_refused(content: bytes) -> None:
    """Nothing else comes of it."""
    with suppress(BadHeader):
        assert isinstance(read_header(content), Header)
