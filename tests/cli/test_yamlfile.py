"""YAML files: values as they are in YAML 1.2, lines as an editor counts them, mistakes located."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecoder import yamlfile
from edgecoder.errors import ConfigError
from edgecoder.yamlfile import parse_yaml, read_yaml


def test_values_and_lines() -> None:
    text = "# a comment\nname: office\nphones:\n  count: 200\n  models: [a, b]\nfaults:\n  - at_s: 1.5\n  - at_s: 2\n"
    file = parse_yaml(text, "office.yaml")
    assert file.data == {
        "name": "office",
        "phones": {"count": 200, "models": ["a", "b"]},
        "faults": [{"at_s": 1.5}, {"at_s": 2}],
    }
    assert [file.line(where) for where in [("name",), ("phones", "count"), ("faults", 1), ("faults", 1, "at_s")]] == [
        2, 4, 8, 8,
    ]  # fmt: skip


def test_a_missing_value_has_the_line_of_what_is_around_it() -> None:
    file = parse_yaml("a: 1\nphones:\n  count: 2\n", "x.yaml")
    assert file.line(("phones", "nowhere", "at", "all")) == 2
    assert file.line(("nowhere",)) is None


def test_yaml_1_2_words_are_text() -> None:
    assert parse_yaml("[yes, no, on, off, true, null, 010]", "x").data == ["yes", "no", "on", "off", True, None, 10]


def test_an_empty_file_is_none() -> None:
    assert parse_yaml("# nothing\n", "x.yaml").data is None


@pytest.mark.parametrize(
    ("text", "where", "problem"),
    [
        ("a: 1\nb: 2\na: 3\n", "x.yaml:3", "duplicate key"),
        ("a: [1\nb: 2\n", "x.yaml:2", "expected"),
        ("a: 1\nb: *nobody\n", "x.yaml:2", "undefined alias"),
        ("a: 1\nb: !!python/object:os.system x\n", "x.yaml:2", "could not determine a constructor"),
        ("a: b: c\n", "x.yaml:1", "not allowed here"),
        ("a: 1\n\tb: 2\n", "x.yaml:2", "cannot start any token"),
        ("a: 1\n---\nb: 2\n", "x.yaml:2", "another document"),
        ("a: \x01\n", "x.yaml", "special characters are not allowed"),
        ("a: 2026-02-31\n", "x.yaml", "day is out of range"),
        ("[" * 5000, "x.yaml", "nested too deep"),
    ],
)
def test_mistakes_are_located(text: str, where: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "x.yaml")
    line = str(caught.value)
    assert line.startswith(f"{where}: ")
    assert problem in line.lower()
    assert "\n" not in line


def test_aliases_cannot_blow_a_file_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yamlfile, "VALUES_MAX", 1000)
    rows = ["a0: &a0 [1, 1, 1, 1]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 4)}]" for i in range(1, 30)]
    with pytest.raises(ConfigError, match="more than 1000 values"):
        parse_yaml("\n".join(rows), "x.yaml")


def test_an_alias_of_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yamlfile, "VALUES_MAX", 1000)
    with pytest.raises(ConfigError, match="values"):
        parse_yaml("a: &a [*a]\n", "x.yaml")


@pytest.mark.parametrize(
    ("content", "problem"), [(None, "there is no such file"), (b"a: \xff\n", "no UTF-8"), ("folder", "cannot be read")]
)
def test_files_that_cannot_be_read(tmp_path: Path, content: bytes | str | None, problem: str) -> None:
    path = tmp_path / "x.yaml"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "folder":
        path.mkdir()
    with pytest.raises(ConfigError, match=problem):
        read_yaml(path)


@given(st.text(alphabet=":-[]{}&*!|>'\"%@`,?#<~. \n\tab01é\x00\ufeff", max_size=40))
def test_no_text_raises_anything_else(text: str) -> None:
    with contextlib.suppress(ConfigError):
        parse_yaml(text, "x.yaml")
