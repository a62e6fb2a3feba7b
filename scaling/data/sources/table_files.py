"""Tables as they lie in files: delimited text and Parquet, as named columns of text or numbers."""

import collections
import csv
import dataclasses
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scaling.data.sources.archives import read_bytes
from scaling.specs.base import InputError

# The csv module refuses longer values, by default those above 128 KiB, which documents in a text column exceed.
LONGEST_VALUE = 1 << 30


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """A table by columns.

    Attributes:
      path: the path of its file.
      field: the field of the specification, which names it.
      names: the names of the columns; None where there are none, or not one for each.
      columns: texts without surrounding spaces, [n]; of Parquet, pyarrow's arrays.
    """

    path: Path
    field: str
    names: tuple[str, ...] | None
    columns: Sequence[Any]

    @property
    def where(self) -> str:
        """What messages begin with."""
        return f"data.source.{self.field}={str(self.path)!r}"

    def __len__(self) -> int:
        return len(self.columns[0])

    def call(self, index: int) -> str:
        """Returns how messages call a column."""
        return f"column {index}" if self.names is None else f"column {self.names[index]!r}"

    def texts(self, index: int) -> Sequence[str]:
        """Returns a column as texts [n]; a null of Parquet is the empty one."""
        column = self.columns[index]
        if isinstance(column, list):
            return column
        return ["" if value is None or value != value else str(value).strip() for value in column.to_pylist()]

    def numbers(self, index: int, missing: str | None, remedy: str) -> np.ndarray:
        """Returns a column as numbers, [n] float32; NaN where a value is missing.

        Raises:
          InputError: a value is missing though `missing` is None, is no number or is not finite.
        """
        column = self.columns[index]
        if isinstance(column, list) or not _holds_numbers(column):
            texts = self.texts(index)
            is_missing = _find_missing(texts, missing)
            filled = ["0" if gone else text for text, gone in zip(texts, is_missing, strict=True)]
            try:
                with np.errstate(over="ignore"):  # what float32 cannot hold is found below
                    numbers = np.array(filled, np.float32)
            except ValueError:
                row = next(i for i, text in enumerate(filled) if not _is_number(text))
                raise InputError(f"{self._name_value(index, row)}, {remedy}") from None
        else:
            values = column.cast("float64", safe=False).to_numpy()
            is_missing = np.isnan(values)
            if missing is None and is_missing.any():
                raise InputError(f"{self._name_value(index, int(np.argmax(is_missing)))}, {remedy}")
            with np.errstate(over="ignore"):
                numbers = np.where(is_missing, 0.0, values).astype(np.float32)
        finite = np.isfinite(numbers)
        if not finite.all():
            raise InputError(
                f"{self._name_value(index, int(np.argmin(finite)))}, which is not finite; remove or fill such rows "
                "first, or say that it means a missing value by data.source.missing"
            )
        numbers[is_missing] = np.nan
        return numbers

    def categories(self, index: int, missing: str | None, remedy: str) -> Sequence[str]:
        """Returns a column as categories, [n]; all that is missing is the empty one.

        Raises:
          InputError: a value is missing though `missing` is None.
        """
        texts = self.texts(index)
        if missing is None and "" in texts:
            raise InputError(f"{self._name_value(index, texts.index(''))}, {remedy}")
        return ["" if text == missing else text for text in texts] if missing else texts

    def _name_value(self, index: int, row: int) -> str:
        value = self.texts(index)[row]
        shown = value if len(value) <= 40 else value[:37] + "..."
        return f"{self.where}: {self.call(index)} of row {row} holds {shown!r}"


def read_table(path: Path, field: str, delimiter: str, header: bool) -> Table:
    """Returns a table of delimited text, gzipped or not, or of a .parquet file.

    Values between tabs are taken as they are; with any other delimiter, values may stand in double quotes (RFC 4180).
    Empty lines are passed over.

    Raises:
      InputError: the file is missing, holds no rows, or rows of different lengths.
    """
    table = _read_parquet(path, field) if path.suffix == ".parquet" else _read_text(path, field, delimiter, header)
    if not table.columns or not len(table):
        raise InputError(f"{table.where} holds no rows; give a table with one example a row")
    return table


def _read_text(path: Path, field: str, delimiter: str, header: bool) -> Table:
    where = f"data.source.{field}={str(path)!r}"
    content = read_bytes(path, f"data.source.{field}")
    try:
        lines = _split_lines(content.decode("utf-8-sig"), delimiter)
        names = tuple(next(lines, [])) if header else None
        rows = [row for row in lines if delimiter.join(row).strip()]
    except UnicodeDecodeError as error:
        raise InputError(f"{where} is not UTF-8 text (byte {error.start}); convert it first") from None
    except csv.Error as error:
        raise InputError(f"{where} is no table of text delimited by {delimiter!r} ({error}); mend the quotes") from None
    widths = collections.Counter(len(row) for row in rows)
    if len(widths) > 1:
        usual = widths.most_common(1)[0][0]
        odd = next(i for i, row in enumerate(rows) if len(row) != usual)
        raise InputError(
            f"{where}: rows have {sorted(widths)} columns; give a table whose rows are equally long (row {odd} has "
            f"{len(rows[odd])}: {delimiter.join(rows[odd])[:40]!r})"
        )
    columns = [list(column) for column in zip(*rows, strict=True)]
    return Table(path, field, names if names is not None and len(names) == len(columns) else None, columns)


def _split_lines(text: str, delimiter: str) -> Iterator[list[str]]:
    """Returns the values of each line, without surrounding spaces."""
    csv.field_size_limit(LONGEST_VALUE)
    lines = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        quoting=csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL,
        # Lets a quote begin after a space; between spaces as delimiters it would swallow empty values.
        skipinitialspace=not delimiter.isspace(),
        strict=True,
    )
    return ([value.strip() for value in row] for row in lines)


def _read_parquet(path: Path, field: str) -> Table:
    import pyarrow as pa
    from pyarrow import parquet

    where = f"data.source.{field}={str(path)!r}"
    if path.is_dir():
        raise InputError(f"{where} is a folder; give the path of a file")
    if not path.is_file():
        raise InputError(f"{where} does not exist; give the path of a file")
    try:
        table = parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{where} is no whole Parquet file ({str(error).splitlines()[0]}); write it again") from None
    # pandas keeps a frame's unnamed index as a column, which numbers the rows and is no input.
    names = tuple(name for name in table.column_names if not name.startswith("__index_level_"))
    if len(set(names)) < len(names):
        raise InputError(f"{where} has two columns of one name; rename one")
    return Table(path, field, names, [table.column(name) for name in names])


def _holds_numbers(column: Any) -> bool:
    from pyarrow import types

    return types.is_integer(column.type) or types.is_floating(column.type) or types.is_boolean(column.type)


def _find_missing(texts: Sequence[str], missing: str | None) -> np.ndarray:
    """Returns which values [n] are missing."""
    if missing is None:
        return np.zeros(len(texts), bool)
    return np.array([text in ("", missing) for text in texts], bool)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
