"""Makes tiny GGUF files of llama's architecture with random weights, which llama.cpp loads and writes nonsense with.

The same arguments give the same bytes, whatever machine: a digest can be pinned.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final, NamedTuple

import gguf
import numpy as np

from edgecoder.models.catalog import CatalogEntry, Platform

CONTEXT_TOKENS: Final = 512
ENDLESS_TOKENS: Final = 65_536
"""Context of an endless model; llama.cpp gives a slot no more than a model has."""
WORDS: Final = "the mesh swap model node peer hello world def return print code a of to"
TEMPLATE: Final = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"


class Shape(NamedTuple):
    """The size of a model."""

    width: int
    layers: int
    heads: int
    cached_heads: int
    inner: int


SHAPES: Final = {
    "nano": Shape(64, 1, 4, 2, 128),
    "micro": Shape(64, 2, 4, 2, 256),
    "small": Shape(128, 4, 4, 2, 512),
    "medium": Shape(256, 6, 8, 4, 1024),
    "big": Shape(512, 8, 8, 4, 2048),
}
"""Files of 76 KB (Q8_0) to 127 MB (F32)."""
END_OF_TEXT: Final = 2
FIRST_BYTE: Final = 3
"""The token of byte 0."""
LAST_OF_TEMPLATE: Final = FIRST_BYTE + 256 + 1 + ord(":") - 33
LOUD: Final = 100
"""So much longer is an embedding than others that the layers add nothing to it: what it is alike to comes next."""
FILE_TYPES: Final = {
    "F32": gguf.LlamaFileType.ALL_F32,
    "F16": gguf.LlamaFileType.MOSTLY_F16,
    "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
}


def make(
    path: Path,
    shape: str = "nano",
    rng_seed: int = 0,
    *,
    name: str = "",
    weights: str = "F16",
    endless: bool = False,
    template: str | None = TEMPLATE,
    has_bos: bool = True,
    says: int | None = None,
) -> CatalogEntry:
    """Write a file; its entry in a catalog. One that is endless never ends an answer by itself: the token that would
    never is among the forty likeliest, of which llama.cpp draws. One that `says` a token says it first, after
    `TEMPLATE`."""
    size, model = SHAPES[shape], name or f"tiny-{shape}-{rng_seed}"
    tokens, scores, kinds = _vocabulary()
    tensors = _tensors(size, len(tokens))
    parameters = sum(int(np.prod(dimensions)) for dimensions in tensors.values())
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(model)
    writer.add_basename("tiny")
    writer.add_size_label(f"{parameters / 1e6:.1f}M" if parameters >= 1e6 else f"{parameters / 1e3:.0f}K")
    writer.add_file_type(FILE_TYPES[weights])
    writer.add_uint64("general.parameter_count", parameters)
    writer.add_context_length(ENDLESS_TOKENS if endless else CONTEXT_TOKENS)
    _add_shape(writer, size, len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(END_OF_TEXT)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(value=has_bos)
    writer.add_add_eos_token(value=False)
    if template is not None:
        writer.add_chat_template(template)
    _add_tensors(writer, tensors, rng_seed, gguf.GGMLQuantizationType[weights], endless=endless, says=says)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return entry_of(path, model, parameters / 1e9, weights)


def entry_of(path: Path, name: str, param_size: float = 0.001, weights: str = "F16") -> CatalogEntry:
    """The entry of a file, whatever is in it."""
    content = path.read_bytes()
    return CatalogEntry(
        model_id=name,
        display_name=name,
        param_size=param_size,
        quantization=weights,
        file_size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        min_memory_mb=1,
        platforms=(Platform.IOS, Platform.NODE),
    )


def _vocabulary() -> tuple[list[bytes], list[float], list[gguf.TokenType]]:
    """As SentencePiece has it: specials, all bytes, a space and printable ASCII, some words."""
    tokens = [b"<unk>", b"<s>", b"</s>"]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    tokens += [f"<0x{byte:02X}>".encode() for byte in range(256)]
    kinds += [gguf.TokenType.BYTE] * 256
    scores = [0.0] * len(tokens)
    words = ["\u2581", *(chr(code) for code in range(33, 127)), *("\u2581" + word for word in WORDS.split())]
    tokens += [word.encode() for word in words]
    kinds += [gguf.TokenType.NORMAL] * len(words)
    scores += [-float(number) for number in range(len(words))]
    while len(tokens) % 32:
        tokens.append(f"<pad{len(tokens)}>".encode())
        kinds.append(gguf.TokenType.UNUSED)
        scores.append(-1e4)
    return tokens, scores, kinds


def _add_shape(writer: gguf.GGUFWriter, size: Shape, vocabulary: int) -> None:
    writer.add_embedding_length(size.width)
    writer.add_block_count(size.layers)
    writer.add_feed_forward_length(size.inner)
    writer.add_head_count(size.heads)
    writer.add_head_count_kv(size.cached_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(size.width // size.heads)
    writer.add_vocab_size(vocabulary)


def _tensors(size: Shape, vocabulary: int) -> dict[str, tuple[int, ...]]:
    """Names and dimensions, in the file's order. The output shares the embedding."""
    width, inner, cached = size.width, size.inner, size.cached_heads * (size.width // size.heads)
    tensors: dict[str, tuple[int, ...]] = {"token_embd.weight": (vocabulary, width), "output_norm.weight": (width,)}
    for layer in range(size.layers):
        parts: dict[str, tuple[int, ...]] = {
            "attn_norm": (width,), "ffn_norm": (width,), "attn_q": (width, width), "attn_k": (cached, width),
            "attn_v": (cached, width), "attn_output": (width, width), "ffn_gate": (inner, width),
            "ffn_up": (inner, width), "ffn_down": (width, inner),
        }  # fmt: skip
        tensors |= {f"blk.{layer}.{part}.weight": dimensions for part, dimensions in parts.items()}
    return tensors


def _add_tensors(
    writer: gguf.GGUFWriter,
    tensors: dict[str, tuple[int, ...]],
    rng_seed: int,
    kind: gguf.GGMLQuantizationType,
    *,
    endless: bool,
    says: int | None,
) -> None:
    rng = np.random.default_rng(rng_seed)
    for name, dimensions in tensors.items():
        if len(dimensions) == 1:  # norms stay F32, as llama.cpp expects
            writer.add_tensor(name, np.ones(dimensions, np.float32))
            continue
        values = (rng.standard_normal(dimensions) / np.sqrt(dimensions[-1])).astype(np.float32)
        if endless and name == "token_embd.weight":
            values[END_OF_TEXT] = 0
        if says is not None and name == "token_embd.weight":
            values[LAST_OF_TEMPLATE] *= LOUD
            values[says] = 2 * values[LAST_OF_TEMPLATE]
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
