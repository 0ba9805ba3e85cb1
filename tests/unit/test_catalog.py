"""Names and sizes of models: the grammar, aliases, one file a platform, and the units of sizes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecoder.errors import UnknownModel
from edgecoder.models.catalog import (
    Catalog,
    CatalogEntry,
    Platform,
    is_model_name,
    names_of,
    normalise,
    param_size_of,
    parse_param_size,
    show_param_size,
)
from tests.catalogs import AGENT_ONLY, CATALOG, LARGE, LATEST, PHONE_ONLY, SMALL, entry

GOOD_NAMES = [
    "a",
    "0",
    "qwen2.5-coder:7b",
    "library/qwen:latest",
    "a_b.c-d",
    "x" * 96,
    f"{'x' * 96}/{'y' * 96}:{'z' * 96}",
]
BAD_NAMES = [
    "",
    "A",
    ".hidden",
    "-x",
    "a b",
    "a/b/c",
    "a:b:c",
    "a:",
    "/a",
    "a/",
    "x" * 97,
    "../../etc/passwd",
    "a/../b",
    "a\\b",
    "a\n",
    "a\x00b",
    "é",
]


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_names_that_fit_the_grammar(name: str) -> None:
    assert is_model_name(name)
    assert entry(name).model_id == name


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_do_not_fit_are_refused_by_the_constructor(name: str) -> None:
    assert not is_model_name(name)
    with pytest.raises(ValueError, match="model name"):
        entry(name)
    with pytest.raises(ValueError, match="model name"):
        entry("good", aliases=(name,))


def raw(**fields: Any) -> dict[str, Any]:
    """An entry as a catalog file holds it."""
    builtins: dict[str, Any] = msgspec.to_builtins(SMALL)
    return builtins | fields


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_do_not_fit_are_refused_by_the_decoder(name: str) -> None:
    for fields in ({"modelId": name}, {"aliases": [name]}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(raw(**fields), CatalogEntry)


@pytest.mark.parametrize(
    "fields",
    [
        {"sha256": "ab" * 31},
        {"sha256": "AB" * 32},
        {"sha256": "ab" * 32 + "\n"},
        {"paramSize": 0},
        {"paramSize": float("nan")},
        {"fileSizeBytes": 0},
        {"minMemoryMb": 0},
        {"platforms": ["android"]},
        {"size": 1},
    ],
)
def test_other_fields_have_ranges(fields: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(raw(**fields), CatalogEntry)


def test_an_entry_round_trips() -> None:
    assert msgspec.json.decode(msgspec.json.encode(SMALL), type=CatalogEntry) == SMALL
    assert b'"modelId":"small"' in msgspec.json.encode(SMALL)


@given(st.from_regex(r"[a-z0-9][a-z0-9._-]{0,10}(/[a-z0-9]{1,5})?(:[a-z0-9]{1,5})?", fullmatch=True))
def test_names_that_the_grammar_makes_are_names(name: str) -> None:
    assert is_model_name(name)


@given(st.text(max_size=30))
def test_normalising_twice_changes_nothing_more_for_a_name(text: str) -> None:
    if is_model_name(text):
        assert normalise(normalise(text)) == normalise(text)


@pytest.mark.parametrize("spelling", ["small", "SMALL", "small:latest", "Small:LATEST", "small-coder:1.5b"])
def test_every_spelling_finds_the_file(spelling: str) -> None:
    assert CATALOG.resolve(spelling, Platform.IOS) is SMALL
    assert CATALOG.knows(spelling)


def test_platforms_are_kept_apart() -> None:
    assert CATALOG.find("pocket", Platform.NODE) is None
    assert CATALOG.find("pocket", Platform.IOS) is PHONE_ONLY
    assert CATALOG.find("desk", Platform.NODE) is AGENT_ONLY
    assert CATALOG.knows("desk")


def test_an_unknown_name_is_an_error() -> None:
    assert not CATALOG.knows("nobody")
    with pytest.raises(UnknownModel, match="nobody"):
        CATALOG.resolve("nobody", Platform.IOS)


def test_one_name_may_mean_a_file_a_platform() -> None:
    """Ollama's build of a model and its GGUF release differ; a query by any of their names finds both."""
    gguf = entry("coder-gguf", platforms=(Platform.IOS,), aliases=("coder:7b",))
    ollama = entry("coder-ollama", platforms=(Platform.NODE,), aliases=("coder:7b", "coder"))
    catalog = Catalog([gguf, ollama])
    assert catalog.resolve("coder:7b", Platform.IOS) is gguf
    assert catalog.resolve("coder:7b", Platform.NODE) is ollama
    assert catalog.same_model("coder:7b") == {"coder-gguf", "coder-ollama", "coder:7b", "coder"}
    assert catalog.same_model("coder") == {"coder-ollama", "coder:7b", "coder"}


@pytest.mark.parametrize("other", ["small", "small:latest", "small-coder:1.5b"])
def test_two_files_may_not_claim_one_name_on_one_platform(other: str) -> None:
    with pytest.raises(ValueError, match="claimed by two files"):
        Catalog([SMALL, entry("other", aliases=(other,), platforms=(Platform.IOS,))])


def test_an_unknown_name_is_the_same_model_as_itself() -> None:
    assert CATALOG.same_model("Mine:latest") == {"mine"}


def test_names_are_normalised_and_each_stands_once() -> None:
    assert names_of(LATEST) == ("newest-gguf", "newest")
    assert names_of(entry("x", aliases=("x:latest", "y"))) == ("x", "y")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("7.6B", 7.6),
        ("494.03M", 0.49403),
        ("8x7B", 56.0),
        ("270m", 0.27),
        (" 70.6 B ", 70.6),
        ("7", None),
        ("", None),
        ("4683087332", None),
        ("7BB", None),
        ("B", None),
        ("-7B", None),
        ("7.B", None),
    ],
)
def test_sizes_have_units(text: str, size: float | None) -> None:
    assert parse_param_size(text) == size


@pytest.mark.parametrize(
    ("name", "details", "size"),
    [
        ("qwen2.5-coder:7b-instruct-q4_K_M", "", 7),
        ("qwen2.5-coder:7b", "7.6B", 7),
        ("gemma3:270m", "268.10M", 0.27),
        ("phi4-mini:latest", "3.8B", 3.8),
        ("library/mixtral:8x22b", "", 176),
        ("qwen2.5:latest", "", None),
        ("llama3.1", "8.0B", 8.0),
        ("mine:q4_0", "4683087332", None),
    ],
)
def test_the_size_of_a_model_that_ollama_lists(name: str, details: str, size: float | None) -> None:
    assert param_size_of(name, details) == size


def test_the_catalogs_size_comes_first() -> None:
    assert param_size_of("large:70b", "70B", LARGE) == 7.0


def test_a_file_of_this_machine_takes_an_alias_and_no_id() -> None:
    catalog = Catalog((SMALL, LARGE))
    mine = entry("small-coder:1.5b", platforms=(Platform.NODE,))
    catalog.add_local(mine)
    assert catalog.find("small-coder:1.5b", Platform.NODE) is mine
    assert catalog.find("small-coder:1.5b", Platform.IOS) is SMALL
    assert catalog.same_model("small-coder:1.5b") == {"small", "small-coder:1.5b"}
    assert catalog.entries[-1] is catalog.by_digest[mine.sha256] is mine
    with pytest.raises(ValueError, match="another file's id"):
        catalog.add_local(entry("large", platforms=(Platform.NODE,)))
    catalog.remove_local(mine)
    assert catalog.find("small-coder:1.5b", Platform.NODE) is SMALL
    assert catalog.local == ()


@pytest.mark.parametrize(
    ("billions", "text"),
    [(7.6, "7.6B"), (32.8, "32.8B"), (1.0, "1B"), (0.49403, "494M"), (6.163e-05, "61.6K"), (None, "")],
)
def test_sizes_are_shown_as_ollama_shows_them(billions: float | None, text: str) -> None:
    assert show_param_size(billions) == text
    assert parse_param_size(text) == (None if text.endswith("K") or not text else pytest.approx(billions, rel=0.01))


@pytest.mark.parametrize("name", ["mine", "mine:1b", "mine:" + "x" * 96, "of/mine:1b"])
def test_a_file_of_this_machine_gives_its_name_up_where_an_edition_lists_another_under_it(name: str) -> None:
    """It was found, shown and asked for as if it were the one that is listed."""
    catalog = Catalog((SMALL,), version=1)
    mine = entry(name, platforms=(Platform.NODE,))
    catalog.add_local(mine)
    listed = msgspec.structs.replace(mine, sha256="ab" * 32)
    catalog.release(2, (SMALL, listed), lambda _: False)
    assert catalog.find(name, Platform.NODE) is listed
    (local,) = catalog.local
    assert (local.sha256, local.model_id) != (listed.sha256, listed.model_id)
    assert local.model_id.endswith(mine.sha256[:8])
    assert catalog.find(local.model_id, Platform.NODE) is local
    assert local.model_id not in catalog.same_model(name)


def test_a_file_of_this_machine_keeps_its_name_beside_one_of_another_platform() -> None:
    catalog = Catalog((SMALL,), version=1)
    mine = entry("mine", platforms=(Platform.NODE,))
    catalog.add_local(mine)
    listed = msgspec.structs.replace(mine, sha256="ab" * 32, platforms=(Platform.IOS,))
    catalog.release(2, (SMALL, listed), lambda _: False)
    assert catalog.find("mine", Platform.NODE) is mine
    assert catalog.find("mine", Platform.IOS) is listed
