"""Completion in bash of words with a colon or an equals sign in them, such as `qwen2.5-coder:7b` or `--log=debug`.

Bash parts words at these, so that what is completed looks like several arguments, and it replaces only what stands
behind the last one. Other shells part words at blanks alone.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, redirect_stdout
from typing import Final

COMPLETE: Final = "_EDGECODER_COMPLETE"
_IN_BASH: Final = "complete_bash"
_JOINTS: Final = frozenset(":=")


@contextmanager
def whole_words(environ: MutableMapping[str, str]) -> Iterator[None]:
    """Where bash asks for completions, give the block words as its user sees them, and bash what it is to put in."""
    if environ.get(COMPLETE) != _IN_BASH:
        yield
        return
    kept, out = _join(environ), sys.stdout
    with redirect_stdout(io.StringIO()) as offered:
        try:
            yield
        finally:
            out.write("".join(f"{line.removeprefix(kept)}\n" for line in offered.getvalue().splitlines()))


def _join(environ: MutableMapping[str, str]) -> str:
    """Put together what bash has parted, up to the word that is completed. What bash keeps of that word's value."""
    parted = environ["COMP_WORDS"].split("\n")[: int(environ["COMP_CWORD"]) + 1]
    words: list[str] = []
    is_open, last = False, 0
    for part in parted:
        is_joint = bool(part) and _JOINTS.issuperset(part)
        if words and (is_joint or is_open):
            words[-1] += part
        else:
            words.append(part)
        is_open, last = is_joint, 0 if is_joint else len(part)
    environ["COMP_WORDS"], environ["COMP_CWORD"] = "\n".join(words), str(len(words) - 1)
    return words[-1][: len(words[-1]) - last].rpartition("=")[2]
