"""Puts a value that does not fit its type into words.

msgspec decides whether a value fits; this module walks value and type together, finds the first place that does not fit
and says what is there and what was expected. It is asked only after msgspec refused, so it never decides anything.

A type says what it is called by `Meta(extra={"noun": "a count"})`, and how text of a pattern looks by
`Meta(extra={"form": "…"})`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import msgspec.inspect as mi

from edgecoder.models.catalog import MODEL_NAME

Where = tuple[str | int, ...]
"""The way to a value from the top of a document: keys of mappings and positions in lists."""

SHOWN_CHARS_MAX: Final = 40
NAMES_MAX: Final = 12
"""So many names are listed in a hint; more are counted."""
BOUND_SHOWN_MAX: Final = 1000
"""A larger upper bound is there to stop nonsense, and is mentioned only to who meets it."""

_FORMS: Final = {
    f"^{MODEL_NAME}$": "lower-case letters, digits, `.`, `_` and `-`, with at most one `/` and one `:tag`",
    "^[0-9a-f]{64}$": "64 lower-case hexadecimal digits",
    "^([0-9a-f]{64})?$": "64 lower-case hexadecimal digits, or empty",
}
"""How text of a pattern looks, for the core's types."""


class Fault(NamedTuple):
    """The first thing that is wrong in a value."""

    where: Where
    problem: str
    hint: str


class _Call(NamedTuple):
    """What is known about the value at hand: where it is, and what its type is called."""

    where: Where
    noun: str = "it"
    form: str = ""


def dotted(where: Where) -> str:
    """A way as people write it: `workload.tasks[0].deadline_s`."""
    text = ""
    for step in where:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text or "the file"


def show(value: object) -> str:
    """A value as it stands in a message: short, and in YAML's words."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, str):
        value = value if len(value) <= SHOWN_CHARS_MAX else f"{value[:SHOWN_CHARS_MAX]}…"
        return '"' + value.encode("unicode_escape").decode("ascii") + '"' if not value.isprintable() else f'"{value}"'
    return f"{value:g}" if isinstance(value, float) and value == round(value, 6) else str(value)


def one_of(lead: str, names: Iterable[str], wrong: str = "") -> str:
    """A hint: the names close to a wrong one, else `lead` and the names there are."""
    known = list(names)
    close = difflib.get_close_matches(wrong, known, n=2, cutoff=0.66)
    if close:
        return f"did you mean {' or '.join(close)}?"
    if not known:
        return "there is none yet"
    if len(known) == 1:
        return f"{lead} {known[0]}"
    more = f" and {len(known) - NAMES_MAX} more" if len(known) > NAMES_MAX else ""
    return f"{lead} one of {', '.join(known[:NAMES_MAX])}{more}"


def first_fault(value: object, type_: mi.Type, where: Where = ()) -> Fault | None:
    """The first place in `value` that does not fit `type_`, in the value's own order; None where all fits."""
    return _fault(value, type_, _Call(where))


def _fault(value: object, type_: mi.Type, call: _Call) -> Fault | None:
    if isinstance(type_, mi.Metadata):
        extra = type_.extra or {}
        noun, form = extra.get("noun", call.noun), extra.get("form", call.form)
        return _fault(value, type_.type, _Call(call.where, noun, form))
    explain = _EXPLAIN.get(type(type_))
    return explain(value, type_, call) if explain else None


def _expected(value: object, call: _Call, what: str) -> Fault:
    return Fault(call.where, f"{dotted(call.where)} is {show(value)}", f"{call.noun} is {what}")


def _struct(value: object, type_: mi.StructType, call: _Call) -> Fault | None:
    names = [field.encode_name for field in type_.fields]
    if not isinstance(value, dict):
        return _expected(value, call, _words(type_))
    fields = {field.encode_name: field for field in type_.fields}
    for key, item in value.items():
        below = (*call.where, key)
        if key not in fields:
            return Fault(below, f"unknown key {dotted(below)}", one_of("the key is", names, str(key)))
        if fault := _fault(item, fields[key].type, _Call(below)):
            return fault
    for field in type_.fields:
        if field.required and field.encode_name not in value:
            missing = (*call.where, field.encode_name)
            return Fault(missing, f"{dotted(missing)} is missing", f"{_noun(field.type)} is {_words(field.type)}")
    return None


def _dict(value: object, type_: mi.DictType, call: _Call) -> Fault | None:
    if not isinstance(value, dict):
        return _expected(value, call, "a mapping of `key: value`")
    for key, item in value.items():
        below = (*call.where, key)
        if _fault(_key(key, type_.key_type), type_.key_type, _Call(below)):
            problem = f"{dotted(call.where)} has the key {show(key)}"
            return Fault(below, problem, f"{_noun(type_.key_type, 'a key')} is {_words(type_.key_type)}")
        if fault := _fault(item, type_.value_type, _Call(below)):
            return fault
    return None


def _key(key: str, type_: mi.Type) -> object:
    """A key, which is text in the document, as the number that it may mean."""
    bare = type_.type if isinstance(type_, mi.Metadata) else type_
    if isinstance(bare, mi.FloatType | mi.IntType):
        try:
            return float(key) if isinstance(bare, mi.FloatType) else int(key)
        except ValueError:
            return key
    return key


def _list(value: object, type_: mi.ListType | mi.VarTupleType, call: _Call) -> Fault | None:
    if not isinstance(value, list | tuple):
        return _expected(value, call, _words(type_))
    if not (type_.min_length or 0) <= len(value) <= (type_.max_length or len(value)):
        problem = f"{dotted(call.where)} has {len(value)} elements"
        return Fault(call.where, problem, f"{call.noun} has {_range(type_.min_length, le=type_.max_length)}")
    return _first(value, [type_.item_type] * len(value), call.where)


def _tuple(value: object, type_: mi.TupleType, call: _Call) -> Fault | None:
    if not isinstance(value, list | tuple):
        return _expected(value, call, _words(type_))
    if len(value) != len(type_.item_types):
        return Fault(call.where, f"{dotted(call.where)} has {len(value)} elements", f"{call.noun} is {_words(type_)}")
    return _first(value, type_.item_types, call.where)


def _first(values: Iterable[object], types: Iterable[mi.Type], where: Where) -> Fault | None:
    for position, (item, type_) in enumerate(zip(values, types, strict=True)):
        if fault := _fault(item, type_, _Call((*where, position))):
            return fault
    return None


def _union(value: object, type_: mi.UnionType, call: _Call) -> Fault | None:
    faults = [_fault(value, option, call) for option in type_.types]
    if None in faults:
        return None
    for option, fault in zip(type_.types, faults, strict=True):
        if fault is not None and _same_kind(value, option):
            return fault
    noun = next((noun for option in type_.types if (noun := _noun(option)) != "it"), call.noun)
    return _expected(value, _Call(call.where, noun), _words(type_))


def _same_kind(value: object, type_: mi.Type) -> bool:
    """Whether the value is of the type's kind, so that only its size, form or parts can be wrong."""
    bare = type_.type if isinstance(type_, mi.Metadata) else type_
    if isinstance(value, bool):
        return False
    if isinstance(value, dict):
        return isinstance(bare, mi.StructType | mi.DictType)
    if isinstance(value, list):
        return isinstance(bare, mi.ListType | mi.VarTupleType | mi.TupleType)
    if isinstance(value, str):
        return isinstance(bare, mi.StrType | mi.EnumType)
    return isinstance(bare, mi.IntType if isinstance(value, int) else mi.FloatType) or (
        isinstance(value, int) and isinstance(bare, mi.FloatType)
    )


def _number(value: object, type_: mi.IntType | mi.FloatType, call: _Call) -> Fault | None:
    kinds = int if isinstance(type_, mi.IntType) else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds):
        return _expected(value, call, _words(type_))
    low = (type_.ge is not None and value < type_.ge) or (type_.gt is not None and value <= type_.gt)
    high = (type_.le is not None and value > type_.le) or (type_.lt is not None and value >= type_.lt)
    if low:
        return _expected(value, call, _range(type_.ge, type_.gt))
    return _expected(value, call, _range(lt=type_.lt, le=type_.le)) if high else None


def _text(value: object, type_: mi.StrType, call: _Call) -> Fault | None:
    if not isinstance(value, str):
        quotes = " in quotes" if isinstance(value, bool | int | float) else ""
        return _expected(value, call, f"text{quotes}")
    if not (type_.min_length or 0) <= len(value) <= (type_.max_length or len(value)):
        problem = f"{dotted(call.where)} has {len(value)} characters"
        return Fault(call.where, problem, f"{call.noun} has {_range(type_.min_length, le=type_.max_length)}")
    if type_.pattern is not None and not re.search(type_.pattern, value):
        return _expected(value, call, call.form or _FORMS.get(type_.pattern, f"text like {type_.pattern}"))
    return None


def _enum(value: object, type_: mi.EnumType, call: _Call) -> Fault | None:
    names = [str(member.value) for member in type_.cls]
    return None if value in names else _expected(value, call, one_of("", names).strip())


def _bool(value: object, type_: mi.BoolType, call: _Call) -> Fault | None:
    return None if isinstance(value, bool) else _expected(value, call, _words(type_))


def _none(value: object, type_: mi.NoneType, call: _Call) -> Fault | None:
    return None if value is None else _expected(value, call, _words(type_))


_EXPLAIN: Final[dict[type[mi.Type], Callable[[Any, Any, _Call], Fault | None]]] = {
    mi.StructType: _struct,
    mi.DictType: _dict,
    mi.ListType: _list,
    mi.VarTupleType: _list,
    mi.TupleType: _tuple,
    mi.UnionType: _union,
    mi.IntType: _number,
    mi.FloatType: _number,
    mi.StrType: _text,
    mi.EnumType: _enum,
    mi.BoolType: _bool,
    mi.NoneType: _none,
}


def _noun(type_: mi.Type, default: str = "it") -> str:
    extra = type_.extra if isinstance(type_, mi.Metadata) else None
    return str((extra or {}).get("noun", default))


def _words(type_: mi.Type) -> str:
    """What a value of this type is, to a reader."""
    if isinstance(type_, mi.Metadata):
        form = (type_.extra or {}).get("form")
        return str(form) if form else _words(type_.type)
    if isinstance(type_, mi.IntType | mi.FloatType):
        kind = "a whole number" if isinstance(type_, mi.IntType) else "a number"
        le = type_.le if (type_.le or 0) <= BOUND_SHOWN_MAX else None
        limits = _range(type_.ge, type_.gt, type_.lt, le)
        return f"{kind}, {limits}" if limits else kind
    if isinstance(type_, mi.StrType):
        return _FORMS.get(type_.pattern or "", "text")
    if isinstance(type_, mi.EnumType):
        return one_of("", [str(member.value) for member in type_.cls]).strip()
    if isinstance(type_, mi.StructType):
        names = [field.encode_name for field in type_.fields]
        return f"a mapping with {', '.join(names[:4])}{', …' if len(names) > 4 else ''}"
    if isinstance(type_, mi.TupleType):
        return f"a list of {len(type_.item_types)}, each {_words(type_.item_types[0])}"
    if isinstance(type_, mi.UnionType):
        return " or ".join(_words(option) for option in type_.types)
    return _KINDS.get(type(type_), "another value")


_KINDS: Final[dict[type[mi.Type], str]] = {
    mi.BoolType: "true or false",
    mi.NoneType: "null",
    mi.DictType: "a mapping of `key: value`",
    mi.ListType: "a list",
    mi.VarTupleType: "a list",
}


def _range(ge: float | None = None, gt: float | None = None, lt: float | None = None, le: float | None = None) -> str:
    """A range in words; empty where there is none."""
    low = f"more than {gt:g}" if gt is not None else f"{_plain(ge)} or more" if ge is not None else ""
    high = f"less than {lt:g}" if lt is not None else f"at most {_plain(le)}" if le is not None else ""
    if ge is not None and le is not None and gt is None:
        return f"from {_plain(ge)} to {_plain(le)}"
    return " and ".join(part for part in (low, high) if part)


def _plain(number: float | None) -> str:
    """A number without an exponent where it is whole."""
    return str(int(number)) if number is not None and number == int(number) else f"{number:g}"
