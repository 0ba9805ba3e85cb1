"""An agent's catalog: which file, which addresses, and what is said of a mistake."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edgecoder.errors import ConfigError
from edgecoder.models.catalog import Platform
from edgecoder_drivers.addresses import Logins
from edgecoder_drivers.catalogs import check_cdn, load_catalog
from tests.catalogs import SMALL

ENTRY = """
- modelId: tiny
  displayName: Tiny
  paramSize: 0.5
  quantization: Q8_0
  fileSizeBytes: 1000
  sha256: {digest}
  minMemoryMb: 64
  platforms: [ios, node]
  downloadUrls: ["cdn:models/tiny.gguf", "https://mirror.example/tiny.gguf"]
"""


def test_the_packaged_one_is_there() -> None:
    entry = load_catalog(None, None).resolve("qwen2.5-coder:1.5b", Platform.IOS)
    assert entry.param_size == 1.5
    assert entry.download_urls == ()


def test_addresses_on_the_cdn_get_its_name(tmp_path: Path) -> None:
    path = tmp_path / "catalog.yaml"
    path.write_text(ENTRY.format(digest="ab" * 32), encoding="utf-8")
    (entry,) = load_catalog(path, "https://cdn.example/edge/").entries
    assert entry.download_urls == ("https://mirror.example/tiny.gguf", "https://cdn.example/edge/models/tiny.gguf")


@pytest.mark.parametrize("cdn", ["http://localhost:8000", "http://127.0.0.1", "http://[::1]:80", "https://192.168.1.5"])
def test_a_cdn_that_can_be_asked(cdn: str) -> None:
    load_catalog(None, cdn)


@pytest.mark.parametrize(
    ("cdn", "problem"),
    [
        ("http://192.168.1.5:8000", "is not HTTPS, and plain HTTP is for this machine only; give one such as https"),
        ("models.example", "is no address; give one such as https"),
        ("https://", "is no address"),
        ("https://[::1", "is no address"),
    ],
)
def test_a_cdn_that_cannot(cdn: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load_catalog(None, cdn)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("just words", "a catalog file is"),
        ("models: []", ":1: the catalog's version is"),
        ("version: 0\nmodels: []", ":1: the catalog's version is 0"),
        ("version: 1\nmodels: {}", ":2: `models` is"),
        ("version: 1\nmodels: []\nsigned: yes", ":3: a catalog has no"),
        (ENTRY.format(digest="nothing"), "sha256"),
        (ENTRY.format(digest="ab" * 32).replace("paramSize: 0.5", "paramSize: -1"), "paramSize"),
        (ENTRY.format(digest="ab" * 32) + ENTRY.format(digest="cd" * 32), "claimed by two files"),
    ],
)
def test_a_mistake_is_located(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "catalog.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=problem):
        load_catalog(path, None)


@pytest.mark.parametrize(
    "url", ["http://user:secret@other.example/c", "ftp://user:secret@x/c?secret", "user:secret@x/c", "http://[secret"]
)
def test_an_address_that_is_refused_is_shown_without_its_secrets(url: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_cdn(url)
    assert "secret" not in str(error.value)


def test_logins_of_a_file_do_not_get_into_the_catalog(tmp_path: Path) -> None:
    path, logins = tmp_path / "catalog.json", Logins()
    own = msgspec.structs.replace(SMALL, download_urls=("https://me:own@a.example/x.gguf", "cdn:y.gguf"))
    path.write_bytes(msgspec.json.encode([own]))
    (entry,) = load_catalog(path, "https://user:secret@b.example:8443/f", logins).entries
    assert entry.download_urls == ("https://a.example/x.gguf", "https://b.example:8443/f/y.gguf")
    asked = [logins.asking(url) for url in (*entry.download_urls, "https://b.example/z")]
    assert asked == [
        "https://me:own@a.example/x.gguf",
        "https://user:secret@b.example:8443/f/y.gguf",
        "https://b.example/z",
    ]
