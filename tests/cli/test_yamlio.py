"""Located documents: YAML 1.2 values, their lines, changes by flags, and mistakes in words."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecoder.errors import ConfigError
from edgecoder.yamlio.document import FILE_SIZE_BYTES_MAX, Document, load, parse
from edgecoder.yamlio.explain import dotted, first_fault, one_of, show

Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000, extra={"noun": "a count"})]


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    size: Annotated[float, msgspec.Meta(gt=0, le=100)]
    colour: Colour = Colour.RED


class Best(msgspec.Struct, frozen=True):
    name: str


class Whole(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    count: Count
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=4, pattern="^[a-z]+$")] = "a"
    parts: tuple[Part, ...] = ()
    weights: dict[str, Annotated[float, msgspec.Meta(ge=0)]] = {}
    sizes: dict[float, int] = {}
    pair: tuple[int, int] = (1, 2)
    limit: Count | None = None
    few: Annotated[list[int], msgspec.Meta(max_length=2)] = []
    on: bool = False
    settings: dict[str, bool | int | str] = {}
    best: Best | None = None


WHOLE = msgspec.inspect.type_info(Whole)
TEXT = """\
# a comment
count: 3
parts:
  - size: 1
    colour: blue
  - {size: 2.5}
weights:
  x.1: 1
  y: 2
"""


def failure(function: Callable[[], object]) -> str:
    """The message of the ConfigError that a call raises."""
    with pytest.raises(ConfigError) as caught:
        function()
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_values_and_lines() -> None:
    document = parse(TEXT, "x.yaml")
    assert document.convert(Whole) == Whole(3, parts=(Part(1, Colour.BLUE), Part(2.5)), weights={"x.1": 1, "y": 2})
    wheres: list[tuple[str | int, ...]] = [
        ("count",), ("parts",), ("parts", 0), ("parts", 0, "colour"), ("parts", 1), ("parts", 1, "size"),
        ("weights", "y"),
    ]  # fmt: skip
    assert [document.place(where).line for where in wheres] == [2, 3, 4, 5, 6, 6, 9]


def test_a_missing_value_has_the_line_of_what_is_around_it() -> None:
    document = parse(TEXT, "x.yaml")
    assert document.place(("parts", 0, "weight", "unit")).line == 4
    assert document.place(("nowhere",)).line == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"), ("off", "off"), ("1_000", "1_000"), ("2026-01-31", "2026-01-31"), ("12:30", "12:30"),
        ("010", 10), ("0o17", 15), ("0xff", 255), ("-7", -7), ("1e3", 1000.0), (".5", 0.5), ("3.", 3.0),
        ("true", True), ("FALSE", False), ("~", None), ("null", None), ("''", ""), ("'1'", "1"), ('"true"', "true"),
        ("[1, {a: b}]", [1, {"a": "b"}]), ("|\n a\n b\n", "a\nb\n"), (">-\n a\n b\n", "a b"), ("0.1: x", {"0.1": "x"}),
        ("9223372036854775807", 2**63 - 1),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    read = parse(text, "x").data
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "there is no such file; check the path"),
        (lambda path: path.mkdir(), "this is a directory; name a file in it"),
        (lambda path: path.write_bytes(b" " * 1048577), "the file is larger than 1 MiB; is it the right file?"),
        (lambda path: path.write_bytes(b"a: 1\nb: \xff\n"), "2: this is no UTF-8 text; save the file as UTF-8"),
        (lambda path: path.write_bytes("a: 1\n".encode("utf-16")), "1: this is no UTF-8 text; save the file as UTF-8"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_read(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    path = tmp_path / "x.yaml"
    make(path)
    separator = ":" if message[0].isdigit() else ": "
    assert failure(lambda: load(path)) == f"{path}{separator}{message}"


def test_a_file_of_the_largest_size_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"a: 1\n#" + b"x" * (FILE_SIZE_BYTES_MAX - 6))
    assert load(path, "shown").data == {"a": 1}


@pytest.mark.parametrize("content", [b"", b"# only a comment\n", b"---\n", b"~\n"])
def test_a_file_that_says_nothing_is_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    assert load(path).data is None


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    document = load(path)
    assert document.data == {"a": 1, "b": 2}
    assert document.place(("b",)).line == 2


def test_an_alias_bomb_is_refused_before_it_grows() -> None:
    bomb = "a: &a [x, x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}, *{a}]\n" for a, b in pairwise("abcdefghi"))
    assert failure(lambda: parse(bomb, "x")) == (
        "x:1: `&a` is an anchor; write the value out; anchors are not supported"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("count: -3", "x:1: count is -3; a count is 0 or more"),
        ("count: 2000000", "x:1: count is 2000000; a count is at most 1000000"),
        ("count: true", "x:1: count is true; a count is a whole number, 0 or more"),
        ("name: b", "x:1: count is missing; a count is a whole number, 0 or more"),
        ("count: 1\nname: abcde", "x:2: name has 5 characters; it has from 1 to 4"),
        ("count: 1\nname: A", 'x:2: name is "A"; it is text like ^[a-z]+$'),
        ("count: 1\nname: 5", "x:2: name is 5; it is text in quotes"),
        ("count: 1\nname: [a]", "x:2: name is a list; it is text"),
        ("count: 1\nparts:\n  - size: 1\n  - size: 0", "x:4: parts[1].size is 0; it is more than 0"),
        ("count: 1\nparts: [{}]", "x:2: parts[0].size is missing; it is a number, more than 0 and at most 100"),
        ("count: 1\nparts: [{size: 1, colour: rde}]", 'x:2: parts[0].colour is "rde"; it is one of red, blue'),
        ("count: 1\nparts: [{size: 1, color: red}]", "x:2: unknown key parts[0].color; did you mean colour?"),
        ("count: 1\nparts: [3]", "x:2: parts[0] is 3; it is a mapping with size, colour"),
        ("count: 1\nparts: {}", "x:2: parts is a mapping; it is a list"),
        ("count: 1\nweights:\n  a: 1\n  b: -1", "x:4: weights.b is -1; it is 0 or more"),
        ("count: 1\nsizes: {big: 1}", 'x:2: sizes has the key "big"; a key is a number'),
        ("count: 1\npair: [1]", "x:2: pair has 1 elements; it is a list of 2, each a whole number"),
        ("count: 1\npair: [1, x]", 'x:2: pair[1] is "x"; it is a whole number'),
        ("count: 1\nfew: [1, 2, 3]", "x:2: few has 3 elements; it has at most 2"),
        ("count: 1\nlimit: -1", "x:2: limit is -1; a count is 0 or more"),
        ("count: 1\nlimit: low", 'x:2: limit is "low"; a count is a whole number, 0 or more or null'),
        ("count: 1\non: 1", "x:2: on is 1; it is true or false"),
        ("count: 1\nsettings: {a: [1]}", "x:2: settings.a is a list; it is true or false or a whole number or text"),
        ("- 1", "x:1: the file is a list; it is a mapping with count, name, parts, weights, …"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_put_into_words(text: str, message: str) -> None:
    document = parse(text, "x")
    assert failure(lambda: document.convert(Whole)) == message


def test_defaults_stand_in_for_missing_keys() -> None:
    document = parse("part: {size: 2}\nother:\n", "x")
    assert document.convert(Part, ("part",), {"size": 1.0, "colour": "blue"}) == Part(2, Colour.BLUE)
    assert document.convert(Part, ("other",), {"size": 1.0}) == Part(1)
    assert failure(lambda: document.convert(Part, ("part",), {"colour": "green"})) == (
        'x:1: part.colour is "green"; it is one of red, blue'
    )


@pytest.mark.parametrize(
    ("key", "text", "where", "value"),
    [
        ("count", "4", ("count",), 4),
        ("name", "b", ("name",), "b"),
        ("parts.0.size", "7", ("parts", 0, "size"), 7),
        ("parts[1].colour", "red", ("parts", 1, "colour"), "red"),
        ("weights.x.1", "9", ("weights", "x.1"), 9),
        ("weights.z.2", "9", ("weights", "z.2"), 9),
        ('weights."p.q"', "9", ("weights", "p.q"), 9),
        ("pair", "[3, 4]", ("pair",), [3, 4]),
        ("limit", "", ("limit",), None),
        ("name", "7", ("name",), "7"),
        ("name", "'7'", ("name",), "7"),
        ("name", "", ("name",), ""),
        ("best.name", "true", ("best", "name"), "true"),
        ("new.deep.key", "{a: 1}", ("new", "deep", "key"), {"a": 1}),
    ],
)
def test_set_changes_one_value(key: str, text: str, where: tuple[str | int, ...], value: object) -> None:
    document, before = parse(TEXT, "x"), parse(TEXT, "x")
    document.override(f"{key}={text}", WHOLE)
    assert document.get(where) == value
    assert document.place(where).line is None
    assert str(document.error(where, "problem", "hint")) == f"--set {key}={text}: problem; hint"
    assert document.error(("nowhere",), "problem", "hint").line == 1
    unchanged = [other for other in before.places() if other and other[0] != where[0]]
    assert [document.get(other) for other in unchanged] == [before.get(other) for other in unchanged]


def test_a_complaint_is_about_the_field_that_was_written_last() -> None:
    document = parse("part:\n  low: 3\n  high: 9\n", "x")
    complaint = ConfigError("low", None, "low is 3, high 2", "lower it")
    document.override("part.high=2")
    assert str(document.blame(("part",), complaint)) == "--set part.high=2: part: low is 3, high 2; lower it"
    document.override("part.low=3")
    assert str(document.blame(("part",), complaint)) == "--set part.low=3: part: low is 3, high 2; lower it"
    elsewhere = ConfigError("size", None, "size is 1", "")
    assert str(document.blame(("part",), elsewhere)) == "x:1: part: size is 1"


def test_set_finds_elements_by_name() -> None:
    document = parse("tasks:\n- {name: chat, rate: 1}\n- {name: chat.long, rate: 2}\n", "x")
    document.override("tasks.chat.long.rate=5")
    document.override("tasks.chat.rate=4")
    assert document.get(("tasks",)) == [{"name": "chat", "rate": 4}, {"name": "chat.long", "rate": 5}]
    assert failure(lambda: document.override("tasks.cat.rate=1")) == (
        "--set tasks.cat.rate=1: tasks has no element cat; did you mean chat?"
    )
    assert failure(lambda: document.override("tasks.7.rate=1")) == (
        "--set tasks.7.rate=1: tasks has no element 7; an element is one of chat, chat.long"
    )


def test_a_flag_replaces_all_that_was_below() -> None:
    document = parse(TEXT, "x")
    document.override("parts=[{size: -1}]")
    assert failure(lambda: document.convert(Whole)) == (
        "--set parts=[{size: -1}]: parts[0].size is -1; it is more than 0"
    )
    assert document.place(("parts", 1)).line is None


def test_a_grafted_document_keeps_its_own_lines() -> None:
    document = parse("count: 1\nparts: other.yaml\n", "x.yaml")
    document.graft(("parts",), parse("# parts\n- size: 1\n- size: 101\n", "other.yaml"))
    assert failure(lambda: document.convert(Whole)) == "other.yaml:3: parts[1].size is 101; it is at most 100"
    assert document.place(("count",)).line == 1


def test_filled_in_values_were_written_by_nobody() -> None:
    document = parse("part:\n  colour: red\n", "x")
    document.fill(("part",), {"size": -1, "colour": "blue"})
    document.fill(("part", "colour"), {"ignored": 1})
    assert document.get(("part",)) == {"colour": "red", "size": -1}
    assert not document.has(("part", "size"))
    assert failure(lambda: document.convert(Part, ("part",))) == "x:1: part.size is -1; it is more than 0"
    document.remove(("part", "colour"))
    assert not document.has(("part", "colour"))
    assert document.get(("part",)) == {"size": -1}


def test_names_and_values_as_they_are_shown() -> None:
    assert dotted(("workload", "tasks", 0, "deadline_s")) == "workload.tasks[0].deadline_s"
    assert dotted(()) == "the file"
    assert show("x" * 60) == '"' + "x" * 40 + '…"'
    assert show("a\nb") == '"a\\nb"'
    samples: list[object] = [None, True, 2.0, 0.1, {}, []]
    assert [show(sample) for sample in samples] == ["empty", "true", "2", "0.1", "a mapping", "a list"]
    assert one_of("use", []) == "there is none yet"
    assert one_of("use", ["a"]) == "use a"
    assert one_of("use", map(str, range(14))) == "use one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 2 more"


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
nearly_right = st.fixed_dictionaries(
    {},
    optional={
        "count": values | st.integers(0, 9),
        "name": values | st.just("a"),
        "parts": values
        | st.lists(st.fixed_dictionaries({"size": scalars}, optional={"colour": scalars, "x": scalars})),
        "weights": values | st.dictionaries(st.text(), scalars),
        "sizes": values | st.dictionaries(st.text() | st.just("1.5"), scalars),
        "pair": values | st.lists(scalars, min_size=1, max_size=3),
        "limit": values,
        "few": values | st.lists(st.integers(), max_size=4),
        "on": values,
        "settings": values | st.dictionaries(st.text(), scalars),
        "other": values,
    },
)


@settings(deadline=None)
@given(nearly_right | values)
def test_whatever_msgspec_refuses_has_an_explanation(value: Any) -> None:
    try:
        msgspec.convert(value, Whole, str_keys=True)
    except msgspec.ValidationError:
        fault = first_fault(value, WHOLE)
        assert fault is not None
        assert fault.problem
        assert fault.hint
    else:
        assert first_fault(value, WHOLE) is None


@settings(deadline=None)
@given(st.text(max_size=200) | st.text("ab01:-[]{},&*!|>'\"#%@?~. \n\t", max_size=80))
def test_no_text_raises_anything_but_a_located_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        document = parse(text, "x")
        document.convert(Whole)
        assert isinstance(document.data, dict)


@settings(deadline=None)
@given(st.text(max_size=30), st.text(max_size=30))
def test_no_flag_raises_anything_but_a_located_error(key: str, value: str) -> None:
    document: Document = parse(TEXT, "x")
    with contextlib.suppress(ConfigError):
        document.override(f"{key}={value}", WHOLE)
        document.convert(Whole)
