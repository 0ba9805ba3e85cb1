"""Whatever drivers read from disks, networks and other programs is read or refused, and nothing else.

More of it: envelopes and what nodes keep (`tests/properties`), frames of links (`test_links_handshake`), heads and
tickets of transfers (`test_transfer_wire`), announcements (`test_lan`), headers of GGUF files (`test_gguf_header`).
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecoder.config import NodeConfig
from edgecoder.core.events import SwapModel
from edgecoder.core.ids import Role
from edgecoder.errors import UNREADABLE, ConfigError, Reason
from edgecoder.journal.format import MARK, DamagedError, framed, lives
from edgecoder.journal.replay import replay
from edgecoder.yamlio.document import load
from edgecoder_drivers.catalogs import read_edition
from edgecoder_drivers.http import digests, wire
from edgecoder_drivers.http.contract import Body, ImportBody, PullBody, SwapBody, TaskBody
from edgecoder_drivers.http.problems import Rejected
from edgecoder_drivers.http.registry import _range_of
from edgecoder_drivers.identity import load_identity
from edgecoder_drivers.links.admission import Admission, read_list
from edgecoder_drivers.links.handshake import Guest, Peer, joining
from edgecoder_drivers.llamacpp import messages
from edgecoder_drivers.ollama.copies import Copies
from edgecoder_drivers.ollama.noted import Loaded, Note
from edgecoder_drivers.origin_catalog import KEPT, OriginCatalog
from edgecoder_drivers.store.files import RealFiles
from edgecoder_drivers.store.registry import Registry
from tests.catalogs import SMALL
from tests.drivers.memory import MemoryDriver
from tests.drivers.mesh_rig import identity
from tests.drivers.rig import has, living
from tests.hostile import near
from tests.strategies import examples


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For files that are written anew for each example."""
    return tmp_path_factory.mktemp("hostile")


# -- files -------------------------------------------------------------------------------------------------------------


NOTE: Final = msgspec.json.encode(Loaded("ab" * 32, is_ours=False, until_s=1_900_000_000.5))
COPIES: Final = msgspec.json.encode({"ab" * 32: "cd" * 32})
LISTED: Final = f"# ours\nmember {'ab' * 32}\ncoordinator {'cd' * 32}  # far\n".encode()
INVITATION: Final = msgspec.json.encode({"token": "ab" * 16, "kind": "member", "until_s": 4_000_000_000})
GUEST: Final = identity(1)


def read_note(path: Path) -> None:
    note = Note(path).read()
    assert note is None or isinstance(note.keep_alive, int | str)


def read_copies(path: Path) -> None:
    assert all(isinstance(original, str) for original in Copies(path).originals("cd" * 32))


def read_invitation(path: Path) -> None:
    """One that lies there under any name lets nobody in who does not know its token, and breaks no list of keys."""
    door = path.parent / f"door-{path.name}"
    for name in ("invitations", "enrolled"):
        (door / name).mkdir(parents=True, exist_ok=True)
        for file in ("x", "é" * 32, "g" * 64, GUEST.public_bytes.hex()):
            (door / name / file).write_bytes(path.read_bytes())
    comes = Guest(Peer(GUEST.node_id, Role.AGENT, GUEST.public_bytes), b"digest", (joining("made up", b"digest"),))
    admission = Admission(door)
    admission.admits(comes)
    assert admission.public_keys() == [GUEST.public_bytes]


def read_kept_catalog(path: Path) -> None:
    at = path.parent / "kept"
    at.mkdir(exist_ok=True)
    (at / KEPT).write_bytes(path.read_bytes())
    origin = OriginCatalog(ORIGIN, None, at, NodeConfig())
    origin._restore()
    assert origin.version >= 0


ORIGIN: Final = "https://models.example/catalog.json"
CATALOG: Final = msgspec.json.encode({"version": 3, "models": [SMALL]})
KEPT_CATALOG: Final = msgspec.json.encode(
    {"url": ORIGIN, "tag": '"x"', "heard_ms": 1_900_000_000_000, "content": CATALOG.decode(), "version": 3}
)
FILES: Final[dict[str, tuple[Callable[[Path], Any], bytes]]] = {
    "note": (read_note, NOTE),
    "copies": (read_copies, COPIES),
    "key": (load_identity, bytes(range(32))),
    "members": (read_list, LISTED),
    "invitation": (read_invitation, INVITATION),
    "catalog": (lambda path: read_edition(load(path)), CATALOG),
    "kept catalog": (read_kept_catalog, KEPT_CATALOG),
}
"""What reads a file, and a sound one."""


@pytest.mark.parametrize("name", FILES)
@given(data=st.data())
def test_a_file_is_read_or_refused(name: str, data: st.DataObject, folder: Path) -> None:
    read, sound = FILES[name]
    path = folder / name
    for content in (sound, data.draw(near(sound))):
        path.write_bytes(content)
        path.chmod(0o600)
        with contextlib.suppress(ConfigError):
            read(path)


values = st.one_of(st.none(), st.integers(-(1 << 63), (1 << 63) - 1), st.floats(), st.text(max_size=9), st.binary())


@given(columns=st.tuples(values, values, values, values, values), kept=st.tuples(values, values))
def test_rows_of_a_database_that_somebody_has_changed_are_read(
    columns: tuple[Any, ...], kept: tuple[Any, ...], folder: Path
) -> None:
    """A column of SQLite takes values of any type."""
    path = folder / "registry.sqlite"
    Registry(RealFiles(), path).close()
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        for table in ("files", "kept"):
            database.execute(f"DELETE FROM {table}")
        with contextlib.suppress(sqlite3.IntegrityError, UnicodeEncodeError):
            database.execute("REPLACE INTO files VALUES (?, ?, ?, ?, ?)", columns)
            database.execute("REPLACE INTO kept VALUES (?, ?)", kept)
    registry = Registry(RealFiles(), path)
    try:
        assert all(row.synced_bytes >= 0 for row in registry.rows().values())
        assert all(isinstance(value, bytes) for value in registry.kept().values())
    finally:
        registry.close()


# -- journals ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The values of a journal."""
    path = tmp_path_factory.mktemp("life") / "life.journal"

    async def live() -> None:
        async with living([MemoryDriver()], has(SMALL), journal=path) as host:
            await host.ask(SwapModel, model="small")

    asyncio.run(live())
    (told,) = (list(life) for life in lives(path))
    return told


def replayed(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with contextlib.suppress(ConfigError):
        list(replay(path))
    with contextlib.suppress(DamagedError):
        for told in lives(path):
            list(told)


@given(data=st.data())
def test_a_journal_is_replayed_or_refused(data: st.DataObject, life: list[bytes], folder: Path) -> None:
    whole = MARK + b"".join(map(framed, life))
    replayed(folder / "a.journal", data.draw(near(whole)))


@given(data=st.data())
def test_a_journal_that_somebody_has_sealed_anew_is_replayed_or_refused(
    data: st.DataObject, life: list[bytes], folder: Path
) -> None:
    """Its checksums are right; one of its values is not."""
    at = data.draw(st.integers(0, len(life) - 1))
    changed = [*life[:at], data.draw(near(life[at])), *life[at + 1 :]]
    replayed(folder / "b.journal", MARK + b"".join(map(framed, changed)))


# -- ports -------------------------------------------------------------------------------------------------------------


BODIES: Final = {
    TaskBody: b'{"prompt": "add", "model": "small", "maxTokens": 5.0, "minParamSize": 1, "stream": true}',
    SwapBody: b'{"model": "small", "wait": true}',
    PullBody: b'{"model": "small", "wait": false}',
    ImportBody: b'{"path": "/models/small.gguf"}',
}


@pytest.mark.parametrize("kind", BODIES, ids=lambda kind: kind.__name__)
@given(data=st.data())
@examples(2)
def test_a_body_is_taken_or_refused(kind: type[Body], data: st.DataObject) -> None:
    def taken(content: bytes) -> Body:
        async def body() -> bytes:
            return content

        request: Any = SimpleNamespace(headers={"content-type": "application/json"}, body=body)
        return asyncio.run(wire.read(request, kind, "required"))

    assert isinstance(taken(BODIES[kind]), kind)
    with contextlib.suppress(Rejected):
        assert isinstance(taken(data.draw(near(BODIES[kind]))), kind)


@given(text=st.one_of(st.text(), st.from_regex(r"bytes=\d{0,30}-\d{0,30}")), size=st.integers(1, 1 << 40))
@examples(4)
def test_a_range_lies_within_the_file_or_is_refused(text: str, size: int) -> None:
    request: Any = SimpleNamespace(headers={"range": text})
    with contextlib.suppress(Rejected):
        first, end = _range_of(request, size)
        assert 0 <= first < end <= size


@given(text=st.one_of(st.text(), st.from_regex("sha-256=:[A-Za-z0-9+/]{43}[A-Za-z0-9+/=]:")))
@examples(4)
def test_a_digest_is_one_or_none(text: str) -> None:
    assert len(digests.read(text)) in {0, 64}


# -- the engine's process ----------------------------------------------------------------------------------------------


SPOKEN: Final = (
    messages.Load(b"/m.gguf", b"/tmp", 1_000, (1, 2), 512, 16, 0, 1, None),
    messages.Generate(1, "def", 5),
    messages.Cancel(1),
    messages.Alive(),
    messages.Loaded(30.5),
    messages.NotLoaded(Reason.NO_MODEL, "none"),
    messages.Wrote(1, "pass", 2),
    messages.Ended(1, Reason.CANCELLED),
)


@pytest.mark.parametrize("decoder", [messages.from_child, messages.to_child], ids=["from", "to"])
@given(data=st.data())
def test_what_a_process_says_is_a_message_or_none(decoder: msgspec.msgpack.Decoder[Any], data: st.DataObject) -> None:
    sound = [msgspec.msgpack.encode(message) for message in SPOKEN]
    with contextlib.suppress(*UNREADABLE):
        assert type(decoder.decode(data.draw(near(*sound)))) in {type(message) for message in SPOKEN}
