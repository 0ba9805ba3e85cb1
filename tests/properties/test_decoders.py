"""Whatever stands on a node's disk, in a journal or in a file of settings is read or refused, and nothing else.

The wire's own decoders are in `test_wire`; those of drivers in `tests/drivers/test_hostile_decoders`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecoder.core.events import HeldFile, QueryModels
from edgecoder.core.ids import Role
from edgecoder.errors import ConfigError, Reason
from edgecoder.models.catalog import Catalog, Platform
from edgecoder.models.held import decode_files, encode_files, with_held
from edgecoder.models.inventory import DownloadState, FileRow, decode_rows, encode_rows
from edgecoder.models.mending import known, mend
from edgecoder.models.swap import SwapJournal
from edgecoder.seeding import holdings
from edgecoder.settings import load_settings
from edgecoder.trace import Dropped
from edgecoder.wire.messages import Receipt, Whereabouts
from edgecoder.yamlio.document import parse
from tests.catalogs import LARGE, SMALL, entry
from tests.harness import Cluster
from tests.hostile import near
from tests.strategies import examples

PIECED: Final = entry("pieced", piece_root="ab" * 32)
CATALOG: Final = Catalog((SMALL, LARGE, PIECED))
INSTALLED: Final = FileRow(DownloadState.INSTALLED, SMALL.file_size_bytes)
ROWS: Final = encode_rows({SMALL.sha256: INSTALLED, LARGE.sha256: FileRow(), PIECED.sha256: FileRow(is_wanted=True)})
FILES: Final = encode_files([HeldFile("mine:1b", "ab" * 32, 1_000, "7.6B", "Q4_0", "qwen2", 4_096)])
HOLDING: Final = holdings.encode(0b101, PIECED.layout.piece_count, {1: 2})
RECEIPT: Final = Receipt(bytes(32), bytes(32), bytes(16), 1, 2, 3, bytes(64))
KEPT: Final = {
    "rows": [Whereabouts(bytes(32), b"", ("hub.example:4301",), 1, 2_000_000_000_000, bytes(64))],
    "named": [(bytes(32), [bytes(32)])],
    "until_ms": {bytes(32): 2_000_000_000_000},
}
DISK: Final[dict[str, bytes]] = {
    "epoch": (7).to_bytes(4, "big"),
    "held": FILES,
    "inventory": ROWS,
    "ledger/1": msgspec.msgpack.encode([RECEIPT]),
    "ledger/x": msgspec.msgpack.encode([]),
    f"pieces/{PIECED.sha256}": HOLDING,
    "pieces/of-nothing": HOLDING,
    "receipt/0": msgspec.msgpack.encode(RECEIPT),
    "receipt/-1": msgspec.msgpack.encode(RECEIPT),
    "swap": msgspec.msgpack.encode(SwapJournal(SMALL.sha256, LARGE.sha256)),
    "whereabouts": msgspec.msgpack.encode(KEPT),
    "withdrawn": msgspec.msgpack.encode([SMALL, LARGE]),
}
"""What nodes keep, under each of their keys."""


@pytest.mark.parametrize("key", DISK)
@pytest.mark.parametrize("role", [Role.COORDINATOR, Role.AGENT])
@given(data=st.data())
def test_a_node_begins_its_life_whatever_its_disk_says(role: Role, key: str, data: st.DataObject) -> None:
    """One of the values is hostile; the invariants of the harness hold, and its user is answered."""
    cluster = Cluster(catalog=CATALOG)
    host = cluster.add("one", role, platform=Platform.NODE, start=False)
    host.disk.update(DISK)
    host.disk[key] = data.draw(near(DISK[key]))
    host.wall_ms = 1_900_000_000_000
    host.start()
    if role is Role.AGENT:
        asked = host.ask(QueryModels), host.swap("small")
    cluster.run_for(700_000)
    if role is Role.AGENT:
        assert all(command in host.replies for command in asked)


@pytest.mark.parametrize(("role", "refused"), [(Role.COORDINATOR, ["ledger"]), (Role.AGENT, [])])
def test_what_the_examples_say_is_taken(role: Role, refused: list[str]) -> None:
    """Else the changed ones would be refused for what is wrong with all. The ledger counts what it has written."""
    cluster = Cluster(catalog=CATALOG)
    host = cluster.add("one", role, platform=Platform.NODE, start=False)
    host.disk.update(DISK)
    host.wall_ms = 1_900_000_000_000
    host.start()
    cluster.run_for(10)
    drops = [record.what for record in host.traced(Dropped) if record.reason is Reason.STORE_FAILED]
    assert drops == refused


def read_settings(content: bytes) -> None:
    """As `edgecoder config show --config FILE` does."""
    with contextlib.suppress(UnicodeDecodeError):
        parse(content.decode(), "config.yaml")


SOUND: Final[dict[str, tuple[Callable[[bytes], Any], bytes, type[Exception]]]] = {
    "rows": (decode_rows, ROWS, ValueError),
    "files": (decode_files, FILES, ValueError),
    "holding": (lambda value: holdings.decode(value, PIECED.layout), HOLDING, ValueError),
    "known": (lambda value: known({"inventory": value}), ROWS, ValueError),
    "mend": (lambda value: mend({"inventory": value}, {SMALL.sha256: 1}, {LARGE.sha256: 1}), ROWS, ValueError),
    "held": (lambda value: with_held({"held": value, "inventory": ROWS}, None), FILES, ValueError),
    "held rows": (lambda value: with_held({"held": FILES, "inventory": value}, None), ROWS, ValueError),
    "yaml": (read_settings, b"node:\n  slots: 2\n  coordinators: [a, 'b']\ncluster: {network_id: x}\n", ConfigError),
}
"""What reads, a sound example, and how it refuses."""


@pytest.mark.parametrize("name", SOUND)
@given(data=st.data())
@examples(4)
def test_it_is_read_or_refused(name: str, data: st.DataObject) -> None:
    read, sound, refusal = SOUND[name]
    read(sound)
    with contextlib.suppress(refusal):
        read(data.draw(near(sound)))


SETTINGS: Final = b"preset: laptop\nnode:\n  slots: 2\n  coordinators: []\ncluster:\n  network_id: mine\n"


@given(content=near(SETTINGS))
def test_settings_are_taken_or_refused(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "config.yaml"
    path.write_bytes(content)
    with contextlib.suppress(ConfigError):
        load_settings(preset=None, file=path, environ={}, overrides=())
