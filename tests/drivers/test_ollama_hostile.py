"""An Ollama that hangs, talks nonsense or breaks off: everything ends in time, with a reason that the core knows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from edgecoder.core.effects import DeleteFile, FetchFile, HashFile
from edgecoder.errors import Reason
from edgecoder_drivers.driver import Refused
from edgecoder_drivers.ollama.client import Client, Said, Timeouts, Unreachable
from tests.drivers.ollama_double.faults import Faults
from tests.drivers.ollama_rig import CONTEXT_TOKENS, SHORT, Site, refusal, run, site, tiny, until

NONSENSE = {
    "nothing": b"",
    "half": b'{"models": [{"mod',
    "no text": b"\xff\xfe\x00",
    "list": b"[]",
    "null": b"null",
    "number": b"7",
    "wrong types": b'{"models": 3, "version": [1], "done": {}, "response": 5, "modelfile": 1, "status": []}',
    "rows of nothing": b'{"models": [null], "version": null}',
    "deep": b"[" * 100_000,
    "page": b"<html>Sign in to the hotel's network</html>",
}
ASKED = ["/api/version", "/api/tags", "/api/ps", "/api/show", "/api/generate"]
FILES_ASKED = ["/api/tags", "/api/show", "/api/pull", "/api/delete", "/api/create"]
MAY_BE_TOLD = {None, Reason.UNAVAILABLE, Reason.NO_SOURCE, Reason.STORE_FAILED, Reason.NOT_HELD}


class Talk:
    """What can be asked of an engine and its files, each with what may come of it."""

    def __init__(self, there: Site, timeouts: Timeouts) -> None:
        self.engine = there.engine(timeouts=timeouts)
        self.files = there.files(timeouts)
        self.entry, self.path = tiny(there.folder, "good", endless=True)
        self.other, self.other_path = tiny(there.folder, "other", 1)

    async def of_engine(self) -> list[Reason | None]:
        return [await reason_of(ask()) for ask in (self._load, self._answer, self._unload)]

    async def of_files(self) -> list[Reason | None]:
        entry, files = self.entry, self.files
        table = files.operations()
        return [
            await reason_of(table[FetchFile](FetchFile(1, self.other, 0))),
            await reason_of(table[HashFile](HashFile(2, entry))),
            await reason_of(files.give(entry)),
            await reason_of(files.take(self.other, self.other_path)),
            await reason_of(table[DeleteFile](DeleteFile(3, entry))),
        ]

    async def _load(self) -> None:
        await self.engine.load(self.entry, CONTEXT_TOKENS)

    async def _answer(self) -> None:
        async for _ in self.engine.generate("def", 5):
            pass

    async def _unload(self) -> None:
        await self.engine.unload()


async def reason_of(asked: Awaitable[object]) -> Reason | None:
    """Why it was refused; None where it was not. Raises whatever else it raises."""
    try:
        await asked
    except Refused as refused:
        return refused.reason
    return None


def with_fault(
    tmp_path: Path, timeouts: Timeouts, fault: Callable[[Faults], None], ask: Callable[[Talk], Awaitable[None]]
) -> None:
    """Ask while the server has a fault."""

    async def test() -> None:
        async with site("double", tmp_path) as there:
            talk = Talk(there, timeouts)
            await there.files().take(talk.entry, talk.path)
            fault(there.double.faults)
            await ask(talk)
            there.double.faults.says.clear()
            there.double.faults.hangs.clear()
            await talk.engine.close()

    run(test)


@pytest.mark.parametrize("body", NONSENSE.values(), ids=list(NONSENSE))
def test_nonsense_is_a_refusal(body: bytes, tmp_path: Path) -> None:
    async def test() -> None:
        async with site("double", tmp_path) as there:
            good, path = tiny(tmp_path, "good", endless=True)
            await there.files().take(good, path)
            faults = there.double.faults
            for asked in ASKED:
                talk = Talk(there, Timeouts(unload=0.2))
                faults.says = {asked: body}
                assert (await talk.of_engine())[0] is Reason.UNAVAILABLE, asked
                faults.says.clear()
                await talk.engine.close()
            for asked in FILES_ASKED:
                talk = Talk(there, Timeouts())
                faults.says = {asked: body}
                told = await talk.of_files()
                faults.says.clear()
                assert set(told) <= MAY_BE_TOLD, asked
                assert Reason.UNAVAILABLE in told or asked == "/api/delete", asked
                await there.files().take(good, path)
                await there.others.delete(talk.other.aliases[0])

    run(test)


@pytest.mark.parametrize("path", ASKED)
def test_a_server_that_hangs_is_waited_for_no_longer_than_that(path: str, tmp_path: Path) -> None:
    async def ask(talk: Talk) -> None:
        assert (await talk.of_engine())[0] is Reason.UNAVAILABLE

    with_fault(tmp_path, SHORT, lambda faults: faults.hangs.add(path), ask)


@pytest.mark.parametrize("path", FILES_ASKED)
def test_files_are_waited_for_no_longer_than_that(path: str, tmp_path: Path) -> None:
    async def ask(talk: Talk) -> None:
        assert Reason.UNAVAILABLE in await talk.of_files()

    with_fault(tmp_path, SHORT, lambda faults: faults.hangs.add(path), ask)


def streaming(tmp_path: Path, timeouts: Timeouts, fault: Callable[[Faults], None], reason: Reason) -> None:
    """An answer is refused, and whether the model counts as lost depends on why; the next one is whole."""

    async def test() -> None:
        async with site("double", tmp_path) as there:
            talk = Talk(there, Timeouts())
            await there.files().take(talk.entry, talk.path)
            client = there.client()
            engine = there.watched(type(talk.engine)(client, talk.engine._config, tmp_path / "loaded", poll_s=60))
            await engine.load(talk.entry, CONTEXT_TOKENS)
            client.timeouts = timeouts
            fault(there.double.faults)

            async def answer() -> int:
                return sum([part.tokens async for part in engine.generate("def add", 20)])

            assert await refusal(answer()) is reason
            there.double.faults.cuts_after = there.double.faults.fails_after = None
            there.double.faults.first_line_s = 0.0
            client.timeouts = Timeouts()
            if reason in (Reason.ENGINE_CRASHED, Reason.NO_MODEL):
                assert there.failed == [reason]
                await engine.load(talk.entry, CONTEXT_TOKENS)
            else:
                assert there.failed == []
            assert await answer() == 20

    run(test)


def test_half_a_line_is_a_refusal(tmp_path: Path) -> None:
    streaming(tmp_path, Timeouts(), lambda faults: setattr(faults, "cuts_after", 3), Reason.UNAVAILABLE)


def test_a_slow_first_part_is_waited_for_no_longer_than_that(tmp_path: Path) -> None:
    short = Timeouts(first_part=0.1)
    streaming(tmp_path, short, lambda faults: setattr(faults, "first_line_s", 30.0), Reason.UNAVAILABLE)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("model runner has unexpectedly stopped", Reason.ENGINE_CRASHED),
        ("llama-server process has terminated: signal: killed", Reason.ENGINE_CRASHED),
        ("an error was encountered while running the model: unexpected EOF", Reason.ENGINE_CRASHED),
        ("the input length exceeds the context length", Reason.TOO_LARGE),
        ("server busy, please try again", Reason.UNAVAILABLE),
        ("", Reason.UNAVAILABLE),
    ],
)
def test_an_error_within_a_stream_says_why(words: str, reason: Reason, tmp_path: Path) -> None:
    streaming(tmp_path, Timeouts(), lambda faults: setattr(faults, "fails_after", (2, words)), reason)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("model requires more system memory (9 GiB) than is available (8 GiB)", Reason.INSUFFICIENT_MEMORY),
        ("llama-server process has terminated: CUDA error: out of memory", Reason.OUT_OF_MEMORY),
        ("llama-server process has terminated: exit status 2: error loading model: bad", Reason.LOAD_FAILED),
        ("llama-server process has terminated: signal: killed", Reason.ENGINE_CRASHED),
        ("timed out waiting for llama-server to start - progress 0.1", Reason.LOAD_TIMEOUT),
        ("unable to load model", Reason.LOAD_FAILED),
    ],
)
def test_a_load_that_fails_says_why(words: str, reason: Reason, tmp_path: Path) -> None:
    async def ask(talk: Talk) -> None:
        assert (await talk.of_engine())[0] is reason

    with_fault(tmp_path, Timeouts(), lambda faults: faults.refuses.update({"/api/generate": (500, words)}), ask)


@pytest.mark.parametrize(("status", "reason"), [(503, Reason.UNAVAILABLE), (404, Reason.NOT_INSTALLED)])
def test_a_load_is_told_by_its_status_too(status: int, reason: Reason, tmp_path: Path) -> None:
    async def ask(talk: Talk) -> None:
        assert (await talk.of_engine())[0] is reason

    with_fault(tmp_path, Timeouts(), lambda faults: faults.refuses.update({"/api/generate": (status, "no")}), ask)


def test_a_model_that_was_deleted_meanwhile_is_no_model(tmp_path: Path) -> None:
    async def test() -> None:
        async with site("double", tmp_path) as there:
            talk = Talk(there, Timeouts())
            await there.files().take(talk.entry, talk.path)
            engine = there.watched(there.engine(poll_s=60))
            await engine.load(talk.entry, CONTEXT_TOKENS)
            await there.others.delete(talk.entry.aliases[0])
            assert await refusal(anext(engine.generate("def", 5))) is Reason.NO_MODEL
            assert there.failed == [Reason.NO_MODEL]

    run(test)


@pytest.mark.parametrize("path", ["/api/tags", "/api/pull", "/api/generate", "/api/version"])
@pytest.mark.parametrize("packing", ["", "Content-Encoding: gzip\r\n"])
@pytest.mark.parametrize("status", ["200 OK", "500 Oops"])
def test_an_answer_without_end_is_given_up(path: str, packing: str, status: str) -> None:
    async def test() -> None:
        taken = 0

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal taken
            await reader.readuntil(b"\r\n\r\n")
            head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{packing}Connection: close\r\n\r\n"
            writer.write(head.encode() + b'{"status": "')
            with suppress(ConnectionError):
                while taken < 64 << 20:
                    writer.write(b"a" * (1 << 20))
                    await writer.drain()
                    taken += 1 << 20
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        client = Client(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        asks: dict[str, Callable[[], Awaitable[object]]] = {
            "/api/tags": client.held,
            "/api/version": client.check,
            "/api/pull": lambda: anext(client.pull("x")),
            "/api/generate": lambda: client.load("x", 512),
        }
        with pytest.raises(Unreachable, match=r"makes no sense: it (has more|is packed)"):
            await asks[path]()
        await client.close()
        server.close()
        assert taken < 32 << 20

    run(test)


@pytest.mark.parametrize(
    "row",
    [
        {"model": "x", "digest": "d", "expires_at": "9999-12-31T23:59:59-14:00"},
        {"model": "x", "digest": "d", "expires_at": "0001-01-01T00:00:00"},
        {"model": "x", "digest": "d", "expires_at": "0001-01-01T00:00:00Z", "size": -1, "context_length": -1},
        {"model": "x", "digest": "d", "size": 10**18, "context_length": 10**18},
        {"model": None, "digest": None, "size": None, "expires_at": None},
        {"model": "x", "digest": "d", "expires_at": "soon"},
    ],
)
def test_odd_rows_end_no_watch(row: dict[str, Any], tmp_path: Path) -> None:
    async def test() -> None:
        async with site("double", tmp_path) as there:
            entry, path = tiny(tmp_path, "good")
            await there.files().take(entry, path)
            engine = there.watched(there.engine())
            await engine.load(entry, CONTEXT_TOKENS)
            faults = there.double.faults
            for asked in ("/api/ps", "/api/tags"):
                faults.says = {asked: json.dumps({"models": [row]}).encode()}
                faults.asked.clear()
                await until(lambda: faults.asked.count("/api/ps") > 3)
            faults.says = {}
            await until(lambda: engine.is_healthy)
            await engine.load(entry, CONTEXT_TOKENS)

    run(test)


def test_a_list_without_end_is_none(tmp_path: Path) -> None:
    async def test() -> None:
        async with site("double", tmp_path) as there:
            there.double.faults.says = {"/api/tags": json.dumps({"models": [{"model": "x"}] * 2_001}).encode()}
            with pytest.raises(Unreachable, match="2001 models"):
                await there.others.held()

    run(test)


def test_a_long_stream_of_short_lines_is_no_long_answer() -> None:
    async def test() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
            for _ in range(24):
                writer.write(b'{"status": "pulling"}\n' * 4_000)
                await writer.drain()
            writer.write(b'{"status": "success"}\n')
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        client = Client(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        assert len([line async for line in client.pull("x")]) == 96_001
        await client.close()
        server.close()

    run(test)


def test_words_are_cut_and_nobody_is_followed_elsewhere() -> None:
    async def test() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            body = b"x" * 10_000
            head = "HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 10000\r\n\r\n"
            writer.write(head.encode() + body)
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        client = Client(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(Said) as said:
            await client.load("x", 512)
        assert (said.value.status, str(said.value)) == (307, "x" * 500)
        await client.close()
        server.close()

    run(test)
