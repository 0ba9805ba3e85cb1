"""What a table of a run is made of: columns with a type and a line of help, and the kinds that there are."""

from __future__ import annotations

from typing import Final

import msgspec
import pyarrow as pa

SECONDS: Final = pa.float64()
NODE: Final = pa.int32()
INTEGER: Final = pa.int64()
NUMBER: Final = pa.float64()
TEXT: Final = pa.string()
FLAG: Final = pa.bool_()


class Column(msgspec.Struct, frozen=True):
    """A column: its name with the unit last, its Arrow type, what it holds, and whether it may be empty."""

    name: str
    type: pa.DataType
    help: str
    nullable: bool = False


class Table(msgspec.Struct, frozen=True):
    """A table: what one row stands for, and its columns in order."""

    name: str
    help: str
    columns: tuple[Column, ...]

    @property
    def file_name(self) -> str:
        """Its file in a run directory."""
        return f"{self.name}.parquet"

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema, with the lines of help as metadata."""
        fields = [
            pa.field(column.name, column.type, nullable=column.nullable, metadata={"help": column.help})
            for column in self.columns
        ]
        return pa.schema(fields, metadata={"help": self.help})


def maybe(name: str, kind: pa.DataType, text: str) -> Column:
    """A column that may be empty."""
    return Column(name, kind, text, nullable=True)
