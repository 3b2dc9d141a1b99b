"""A table in a Parquet file with a checksum: damaged, or none of ours, it is refused."""

import zlib
from collections.abc import Sequence, Set
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rlcore.files import replacing
from tuners.errors import BadInput
from tuners.login import error_line

MAX_VALUES, MAX_BYTES = 100_000_000, 2**30  # of a file
_KEY, _EMPTY = b"shapesweep.crc32", b"00000000"
UNSEALED = {_KEY: _EMPTY}


def read_table(
    path: Path, wanted: pa.Schema, full: Set[str], columns: Sequence[str] | None = None
) -> pa.Table:
    """Returns a table that ``write_table`` wrote.

    Args:
        path: the file.
        wanted: columns that it must have, of these types.
        full: names of columns that may have no gaps.
        columns: those to read; all by default.

    Raises:
        FileNotFoundError: there is none.
        BadInput: it is damaged, or not such a table.
        OSError: of the disk.
    """
    try:
        content = path.read_bytes()
        _check_seal(content)
        with pq.ParquetFile(pa.BufferReader(content)) as file:
            _check_form(file, wanted)
            table = _read_bounded(file, columns)
            for name in full & set(table.column_names):
                if table[name].null_count:
                    raise ValueError(f"its column {name} has gaps")
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, EOFError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk, not the file
        reason = error_line(error)
        raise BadInput(f"{path} is damaged ({reason}); restore it from a copy") from error
    return table


def _check_form(file: pq.ParquetFile, wanted: pa.Schema) -> None:
    """Refuses a file that lacks a column, or is larger than any of ours, before it is read.

    A few bytes can stand for millions of equal values.

    Raises:
        ValueError: what is wrong.
    """
    found, footer = file.schema_arrow, file.metadata
    for field in wanted:
        if field.name not in found.names or found.field(field.name).type != field.type:
            raise ValueError(f"it has no column {field.name} of {field.type}")
    groups = map(footer.row_group, range(footer.num_row_groups))
    values = sum(
        group.column(number).num_values for group in groups for number in range(group.num_columns)
    )
    if values > MAX_VALUES:
        raise ValueError(f"it has more than {MAX_VALUES:,} values")


def _read_bounded(file: pq.ParquetFile, columns: Sequence[str] | None) -> pa.Table:
    """Returns the table, unless its texts turn out to be longer than any of ours."""
    batches, size = [], 0
    for batch in file.iter_batches(batch_size=1024, columns=columns):
        batches.append(batch)
        size += batch.nbytes
        if size > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
    return pa.Table.from_batches(batches) if batches else file.read(columns=columns)


def write_table(path: Path, table: pa.Table) -> None:
    """Writes a table with a checksum of the whole file among its metadata.

    Parquet's own checksums leave out the footer, and a flipped bit there can crash the reader.
    """
    metadata = {**(table.schema.metadata or {}), **UNSEALED}
    with replacing(path) as beside:
        pq.write_table(table.replace_schema_metadata(metadata), beside)
        seal(beside)


def seal(path: Path) -> None:
    """Writes the checksum into a Parquet file that has ``UNSEALED`` among its metadata."""
    content = path.read_bytes()
    with path.open("r+b") as file:
        file.seek(_place_of_seal(content))
        file.write(_seal_of(content))


def _check_seal(content: bytes) -> None:
    """Compares a file with its checksum.

    Raises:
        ValueError: they differ, or it has none.
    """
    place = _place_of_seal(content)
    if place < 0 or content[place : place + len(_EMPTY)] != _seal_of(content):
        raise ValueError("its checksum differs")


def _place_of_seal(content: bytes) -> int:
    """Returns where the checksum stands, -1 if there is none."""
    mark = _KEY + b"\x18" + bytes([len(_EMPTY)])  # as Parquet's footer goes from key to value
    place = content.rfind(mark)
    return place if place < 0 else place + len(mark)


def _seal_of(content: bytes) -> bytes:
    """Returns the checksum of a file, itself left out."""
    place, view = _place_of_seal(content), memoryview(content)
    crc = zlib.crc32(view[place + len(_EMPTY) :], zlib.crc32(view[:place]))
    return f"{crc:08x}".encode()
