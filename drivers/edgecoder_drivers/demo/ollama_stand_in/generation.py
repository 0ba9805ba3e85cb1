"""How the stand-in answers a prompt: llama.cpp in a thread, its parts as Ollama's lines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

from edgecoder_drivers.demo.ollama_stand_in.runners import Runner

CRASH = "model runner has unexpectedly stopped, check ollama server logs for details"
_NS_PER_S = 1_000_000_000


async def generated(
    using: AbstractAsyncContextManager[Runner], prompt: str, options: dict[str, Any]
) -> AsyncIterator[dict[str, Any]]:
    """The lines of an answer; closed early, llama.cpp stops at its next token."""
    async with using as runner:
        loop = asyncio.get_running_loop()
        parts: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        is_over = asyncio.Event()

        def put(part: dict[str, Any] | None) -> bool:
            loop.call_soon_threadsafe(parts.put_nowait, part)
            return is_over.is_set()

        def run() -> None:
            runner.llama.handle_completions(
                {
                    "prompt": prompt,
                    "stream": True,
                    "max_tokens": min(int(options.get("num_predict", 64)), runner.context_tokens),
                    "temperature": float(options.get("temperature", 0.8)),
                    "seed": int(options.get("seed", 0)),
                },
                put,
            )
            put(None)

        began = loop.time()
        thread = asyncio.ensure_future(asyncio.to_thread(run))
        try:
            tokens, reason = 0, "stop"
            while (part := await parts.get()) is not None:
                if runner.has_crashed.is_set():
                    yield {"error": CRASH}
                    return
                if "error" in part:
                    yield {"error": "the input length exceeds the context length"}
                    return
                tokens = part.get("timings", {}).get("predicted_n", tokens)
                for choice in part["choices"]:
                    reason = choice["finish_reason"] or reason
                    if choice["text"]:
                        yield {"response": choice["text"], "done": False}
            duration_ns = int((loop.time() - began) * _NS_PER_S)
            yield {"done": True, "done_reason": reason, "eval_count": tokens, "eval_duration": max(1, duration_ns)}
        finally:
            is_over.set()
            await asyncio.shield(thread)
