"""`edgecoder catalog build`: what it writes of GGUF files, what it leaves alone, and what it says of a mistake."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import gguf
import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from edgecoder.errors import ConfigError
from edgecoder.models.catalog import MODEL_NAME, CatalogEntry, Platform, is_model_name
from edgecoder.models.editions import Edition
from edgecoder.seeding.merkle import leaf_hashes
from edgecoder.yamlio.document import load, parse
from edgecoder_drivers.catalogs import load_catalog, read_edition
from edgecoder_drivers.commands.catalog import command
from edgecoder_drivers.commands.catalog_files import Change, Draft
from edgecoder_drivers.demo import tiny_gguf
from edgecoder_drivers.llamacpp.describing import FILE_TYPES

TEXTS = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), max_size=40)
NAMES = st.from_regex(MODEL_NAME, fullmatch=True).filter(is_model_name)


@st.composite
def catalog_entries(draw: st.DrawFn) -> CatalogEntry:
    """Whatever an entry may be."""
    return CatalogEntry(
        model_id=draw(NAMES),
        display_name=draw(TEXTS),
        param_size=draw(st.none() | st.floats(0.0001, 10_000)),
        quantization=draw(TEXTS),
        file_size_bytes=draw(st.integers(1, 1 << 40)),
        sha256=draw(st.binary(min_size=32, max_size=32)).hex(),
        min_memory_mb=draw(st.integers(1, 1 << 20)),
        platforms=tuple(draw(st.lists(st.sampled_from(Platform), unique=True))),
        download_urls=tuple(draw(st.lists(TEXTS, max_size=2))),
        languages=tuple(draw(st.lists(TEXTS, max_size=2))),
        aliases=tuple(draw(st.lists(NAMES, max_size=2))),
        license=draw(TEXTS),
        piece_root=draw(st.just("") | st.binary(min_size=32, max_size=32).map(bytes.hex)),
    )


def build(*arguments: object) -> dict[str, Any]:
    """One call; what it prints."""
    result = CliRunner().invoke(command, ["build", *map(str, arguments), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    told: dict[str, Any] = json.loads(result.stdout)
    return told


def refusal(*arguments: object) -> ConfigError:
    """What is said of a mistake."""
    with pytest.raises(ConfigError) as caught:
        CliRunner().invoke(command, ["build", *map(str, arguments)], catch_exceptions=False)
    return caught.value


def test_an_entry_says_what_the_file_is(tmp_path: Path) -> None:
    path = tmp_path / "Tiny Model.gguf"
    made = tiny_gguf.make(path, "medium", weights="Q8_0", name="tiny")
    told = build(path, "--out", tmp_path / "catalog.yaml", "--alias", "tiny:5m", "--language", "python")
    assert (told["version"], told["added"]) == (1, ["tiny-model"])
    (entry,) = load_catalog(tmp_path / "catalog.yaml", "https://models.example").entries
    content = path.read_bytes()
    assert entry.sha256 == hashlib.sha256(content).hexdigest()
    assert entry.file_size_bytes == len(content)
    assert entry.param_size == pytest.approx(made.param_size, rel=0.05)
    assert (entry.quantization, entry.architecture, entry.context_length) == ("Q8_0", "llama", 512)
    assert entry.kv_bytes_per_token == 6 * 4 * (256 // 8) * 2 * 2
    assert (entry.display_name, entry.aliases, entry.languages) == ("tiny", ("tiny:5m",), ("python",))
    assert entry.platforms == tuple(Platform)
    assert entry.download_urls == ("https://models.example/Tiny%20Model.gguf",)
    leaves = (tmp_path / "Tiny Model.gguf.leaves").read_bytes()
    assert leaves == b"".join(leaf_hashes(content))


def test_every_file_type_has_the_name_that_the_format_gives_it() -> None:
    theirs = {kind.value: kind.name.partition("_")[2] for kind in gguf.LlamaFileType if kind.name != "GUESSED"}
    assert all(theirs[number] == name for number, name in FILE_TYPES.items())


def test_a_folder_is_built_and_built_again(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / ".hidden").mkdir()
    for name in ("a.gguf", "sub/b.gguf", ".hidden/c.gguf"):
        tiny_gguf.make(tmp_path / name, rng_seed=len(name))
    assert build(tmp_path)["added"] == ["a", "b"]
    before = (tmp_path / "catalog.yaml").read_bytes()
    again = build(tmp_path)
    assert (again["version"], again["unchanged"]) == (1, ["a", "b"])
    assert (tmp_path / "catalog.yaml").read_bytes() == before
    urls = [entry.download_urls for entry in read_edition(load(tmp_path / "catalog.yaml")).entries]
    assert urls == [("a.gguf",), ("sub/b.gguf",)]


OLD = """# Models of our team.
# Ask Ann before you change one.

- modelId: ours      # the good one
  displayName: Ours
  paramSize: 0.5
  quantization: Q8_0
  fileSizeBytes: 1000
  sha256: "{digest}"
  minMemoryMb: 64    # measured
  platforms: [ios]
"""


def test_a_catalog_that_exists_keeps_its_words(tmp_path: Path) -> None:
    path = tmp_path / "catalog.yaml"
    path.write_text(OLD.format(digest="ab" * 32), encoding="utf-8")
    tiny_gguf.make(tmp_path / "a.gguf")
    assert build(tmp_path)["version"] == 1
    text = path.read_text(encoding="utf-8")
    for words in ("# Models of our team.\n", "# the good one", "# measured", "platforms: [ios]", "version: 1\n"):
        assert words in text
    assert text.startswith("# Models of our team.")
    edition = read_edition(load(path))
    assert [entry.model_id for entry in edition.entries] == ["ours", "a"]


def test_a_file_that_is_there_changes_only_where_somebody_says_so(tmp_path: Path) -> None:
    file = tmp_path / "a.gguf"
    tiny_gguf.make(file)
    build(tmp_path, "--licence", "mit", "--language", "python")
    told = build(file, "--out", tmp_path / "catalog.yaml", "--alias", "b")
    assert (told["version"], told["changed"]) == (2, ["a"])
    (entry,) = read_edition(load(tmp_path / "catalog.yaml")).entries
    assert (entry.license, entry.languages, entry.aliases) == ("mit", ("python",), ("b",))


def test_another_file_under_an_id_that_is_taken(tmp_path: Path) -> None:
    first, second = tmp_path / "a.gguf", tmp_path / "new" / "a.gguf"
    second.parent.mkdir()
    tiny_gguf.make(first)
    tiny_gguf.make(second, rng_seed=1)
    out = tmp_path / "catalog.yaml"
    build(first, "--out", out)
    error = refusal(second, "--out", out)
    assert "a is the id of another file" in error.problem
    assert build(second, "--out", out, "--replace")["version"] == 2
    (entry,) = read_edition(load(out)).entries
    assert entry.sha256 == hashlib.sha256(second.read_bytes()).hexdigest()


def test_a_file_outside_the_catalogs_folder_has_no_address(tmp_path: Path) -> None:
    (tmp_path / "catalogs").mkdir()
    tiny_gguf.make(tmp_path / "a.gguf")
    out = tmp_path / "catalogs" / "catalog.yaml"
    assert "give one with --url" in build(tmp_path / "a.gguf", "--out", out)["warnings"][0]
    build(tmp_path / "a.gguf", "--out", out, "--url", "https://models.example/a.gguf")
    assert load_catalog(out, None).entries[0].download_urls == ("https://models.example/a.gguf",)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.gguf", b"", "the file is empty"),
        ("a.gguf", b"PK\x03\x04" * 100, "no GGUF file, or a broken one: byte 0"),
        ("a.gguf", b"GGUF\x03\x00\x00\x00", "a broken one: byte 8"),
    ],
)
def test_what_is_no_model(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert problem in str(refusal(tmp_path / name, "--out", tmp_path / "catalog.yaml"))
    assert not (tmp_path / "catalog.yaml").exists()


def test_mistakes_of_a_newcomer(tmp_path: Path) -> None:
    tiny_gguf.make(tmp_path / "a.gguf")
    tiny_gguf.make(tmp_path / "b.gguf", rng_seed=1)
    (tmp_path / "empty").mkdir()
    assert "no .gguf file is in this folder" in refusal(tmp_path / "empty").problem
    assert "no such file" in refusal(tmp_path / "c.gguf").problem
    assert "name one folder alone" in refusal(tmp_path, tmp_path / "a.gguf").hint
    assert refusal(tmp_path / "a.gguf", "--id", "No Such Id!").path == "--id"
    assert refusal(tmp_path, "--id", "x").path == "--id"
    (tmp_path / "catalog.yaml").write_text("models: {}\nversion: 1\n", encoding="utf-8")
    assert refusal(tmp_path).line == 1


@settings(max_examples=40, phases=[Phase.explicit, Phase.generate])
@given(entries=st.lists(catalog_entries(), max_size=2, unique_by=lambda entry: entry.sha256), version=st.booleans())
def test_what_is_written_is_read(entries: list[CatalogEntry], version: bool) -> None:
    """Whatever is in an entry; `Draft.save` compares too."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "catalog.yaml"
        if version:
            path.write_bytes(msgspec.json.encode({"version": 7, "models": []}))
        draft = Draft(path)
        kept = []
        for entry in entries:
            try:
                assert draft.put(entry, ()) is Change.ADDED
                kept.append(entry)
            except ConfigError:
                pass
        draft.save()
        if kept:
            assert read_edition(load(path)) == Edition(8 if version else 1, tuple(kept))


@given(st.text(max_size=200))
def test_the_decoder_is_total(text: str) -> None:
    with contextlib.suppress(ConfigError):
        read_edition(parse(text, "catalog.yaml"))
