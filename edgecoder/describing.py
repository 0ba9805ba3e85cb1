"""What the docstrings below a struct's fields say, for schemas and contracts that are made of the struct."""

from __future__ import annotations

import ast
import inspect
import sys
from functools import cache
from itertools import pairwise

import msgspec


@cache
def field_docs(struct: type[msgspec.Struct]) -> dict[str, str]:
    """The docstring below each field, as one line, by the field's name in code; none where the source is not there."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[struct.__module__]))
    except OSError:
        return {}
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == struct.__name__)
    docs: dict[str, str] = {}
    for field, doc in pairwise(body):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(doc, ast.Expr) and isinstance(doc.value, ast.Constant) and isinstance(doc.value.value, str):
            docs[field.target.id] = " ".join(doc.value.value.split())
    return docs
