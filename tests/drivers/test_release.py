"""A release among processes: a model that one device has comes to others, by a coordinator's word and without a CDN."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from edgecoder.models.catalog import CatalogEntry
from tests.drivers.coordinator_process import QUICK, CoordinatorProcess
from tests.drivers.device_process import TURN_S, TURNS, DeviceProcess, make_models
from tests.files import hashes_of


def with_root(folder: Path, entry: CatalogEntry) -> CatalogEntry:
    data = (folder / f"{entry.model_id}.gguf").read_bytes()
    return msgspec.structs.replace(entry, piece_root=hashes_of(entry.layout, data).root.hex())


def test_a_model_that_one_device_has_comes_to_another(tmp_path: Path) -> None:
    (plain,) = make_models(tmp_path, 1)
    catalog = msgspec.json.encode([with_root(tmp_path, plain)])
    for name in ("seed", "taker"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "catalog.json").write_bytes(catalog)
    (tmp_path / "seed" / "tiny-0.gguf").write_bytes((tmp_path / "tiny-0.gguf").read_bytes())
    with CoordinatorProcess(tmp_path / "hub", "--catalog", str(tmp_path / "seed" / "catalog.json")) as hub:
        more = ("--coordinator", hub.address, *QUICK)
        with (
            DeviceProcess(tmp_path / "seed", *more, "--join", hub.invite()) as seed,
            DeviceProcess(tmp_path / "taker", *more, "--join", hub.invite()) as taker,
        ):
            assert seed.import_model(0)[0] == 200
            for device in (seed, taker):
                for _ in range(TURNS):
                    if device.status()["online"]:
                        break
                    time.sleep(TURN_S)
            status, said = taker.ask("POST", "/model/pull", {"model": "tiny-0", "wait": True})
            assert status == 200, said
            assert taker.swap(0)[0] == 200
