"""What a GGUF file says of itself that a catalog tells: its name, size, quantisation and context."""

from __future__ import annotations

from collections.abc import Mapping
from mmap import mmap
from types import MappingProxyType
from typing import Final, NamedTuple

from edgecoder.models.catalog import PARAM_SIZE_MAX, parse_param_size
from edgecoder_drivers.llamacpp.header import cache_bytes_per_token, check

FILE_TYPES: Final[Mapping[int, str]] = MappingProxyType(
    {
        0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
        12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS",
        20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M",
        28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4_MOE",
    }
)  # fmt: skip
"""What most tensors of a file are (`general.file_type`; llama.h, llama_ftype)."""
_NO_TYPE: Final = 1 << 31
SIGNIFICANT: Final = 4
"""Digits of a size that is counted."""


class Description(NamedTuple):
    """What a file says of itself."""

    name: str
    """Empty where it does not say."""
    architecture: str
    param_size: float
    """Billions of parameters: as it calls itself (`0.5B`), else as its tensors have them."""
    quantization: str
    """Empty where it does not say."""
    context_length: int
    """Tokens; 0 where it does not say."""
    cache_bytes_per_token: int
    license: str


def describe(data: bytes | mmap) -> Description:
    """Read the header of a whole file. Raises BadHeader."""
    architecture, values, parameters = check(data)
    said = parse_param_size(values.text("general.size_label"))
    is_said = said is not None and 0 < said <= PARAM_SIZE_MAX
    return Description(
        name=values.text("general.name"),
        architecture=architecture,
        param_size=said if said is not None and is_said else float(f"{parameters / 1e9:.{SIGNIFICANT}g}"),
        quantization=FILE_TYPES.get(values.number("general.file_type", _NO_TYPE), ""),
        context_length=values.number(f"{architecture}.context_length"),
        cache_bytes_per_token=cache_bytes_per_token(architecture, values),
        license=values.text("general.license"),
    )
