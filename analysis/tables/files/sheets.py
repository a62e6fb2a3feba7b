"""Tables in spreadsheets, Excel's and OpenDocument's: the sheet that is asked for, or the first one with rows."""

from __future__ import annotations

import datetime as dt
import io
import re
import zipfile
import zlib
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError, suggest_name
from analysis.tables.files.content import NAME_IT, BrokenError, first_line, hint
from analysis.tables.files.headers import check_names, count_header_rows, is_title, join_names, name_columns, say_joined
from analysis.tables.files.layout import ROWS, TITLES
from analysis.tables.files.values import finish_columns, is_nothing, is_plain_number
from analysis.tables.words import count_things, list_names

# Rows and columns as .xlsx names them in its cells, and the most cells that are held at once: some gigabytes.
ROW = re.compile(rb"""\sr\s*=\s*["'][A-Z]*(\d{1,10})""")
COLUMN = re.compile(rb"""\sr\s*=\s*["']([A-Z]{1,7})""")
MOST_CELLS = 100_000_000


def read_sheet(content: bytes, suffix: str, sheet: str | None) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Returns the table of one sheet, and sentences of what was guessed.

    Args:
      content: The file.
      suffix: Of its name.
      sheet: The sheet's name; None for the first one with rows.

    Raises:
      AnalysisError: if there is no such sheet, or the package that reads them is not installed.
      BrokenError: if the file cannot be read, or no sheet has rows.
    """
    sheets = {str(name): _crop(cells) for name, cells in _read_cells(content, suffix).items()}
    filled = [name for name, (cells, _) in sheets.items() if len(cells) > 1]
    if sheet is not None and sheet not in sheets:
        raise suggest_name("sheet", sheet, sheets)
    if sheet is None and not filled:
        raise BrokenError("none of its sheets has rows below names" if sheets else "it has no sheets")
    name = filled[0] if sheet is None else sheet
    others = [other for other in filled if other != name]
    said = [f"sheet {name!r} is read, and not {list_names(others)}"] if others and sheet is None else []
    cells, num_blank = sheets[name]
    if not len(cells):
        raise BrokenError(f"its sheet {name!r} is empty")
    said += [f"{count_things(num_blank, 'blank row')} passed over"] if num_blank else []
    frame, more = _read_table(cells)
    return frame, (*said, *more)


def _read_cells(content: bytes, suffix: str) -> dict[Any, pd.DataFrame]:
    try:
        import python_calamine  # noqa: F401
    except ImportError:
        raise AnalysisError(
            f"a {suffix} file needs python-calamine; install it with pip install scaling[excel]"
        ) from None
    _check_extent(content)
    try:
        return pd.read_excel(
            io.BytesIO(content),
            sheet_name=None,
            header=None,
            engine="calamine",
            dtype=object,
            keep_default_na=False,
            na_filter=False,
        )
    except BaseException as error:  # calamine, zipfile and pandas share no base, and Rust's panic is no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        kind = hint(content, suffix)
        remedy = NAME_IT if kind else "save it again, without a password"
        raise BrokenError(f"{first_line(error)}{kind}", remedy) from None


def _check_extent(content: bytes) -> None:
    """Checks that no sheet's corner is so far out that to hold all cells up to it would end the process.

    Raises:
      BrokenError: if one is, as by a letter that slipped into the last cell of all.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as book:
            sheets = [book.read(name) for name in book.namelist() if name.startswith("xl/worksheets/")]
    except (OSError, ValueError, KeyError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return  # no .xlsx, or a broken one: its reader says so
    for cells in sheets:
        rows = max(map(int, ROW.findall(cells)), default=0)
        columns = max((_count_columns(name) for name in set(COLUMN.findall(cells))), default=0)
        if rows * columns > MOST_CELLS:
            raise BrokenError(
                f"a sheet has cells as far out as row {rows} and column {columns}", "delete what is far from the table"
            )


def _count_columns(letters: bytes) -> int:
    """Returns which column a name such as AB is, from 1."""
    count = 0
    for letter in letters:
        count = 26 * count + letter - ord("A") + 1
    return count


def _is_blank(value: Any) -> bool:
    return not value.strip() if isinstance(value, str) else is_nothing(value)


def _crop(cells: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Returns the cells without blank rows and columns, and how many blank rows were between others."""
    if cells.empty:
        return cells, 0
    filled = ~cells.map(_is_blank).to_numpy(dtype=bool)
    rows, columns = filled.any(axis=1), filled.any(axis=0)
    places = np.flatnonzero(rows)
    num_blank = int(places[-1] - places[0] + 1 - len(places)) if len(places) else 0
    return cells.iloc[places, np.flatnonzero(columns)].reset_index(drop=True), num_blank


def _read_table(cells: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Returns the table whose names are in the first rows of the cells."""
    said: list[str] = []
    fields = [[_to_text(value) for value in row] for row in cells.head(ROWS).to_numpy(dtype=object)]
    first = 0
    while first < TITLES and (_begins_with_sign(fields[first:]) or is_title(fields[first:], is_plain_number)):
        title = next(filter(None, fields[first]))
        said.append(f"the title above the names is passed over, {title!r}")
        first += 1
    count, _ = count_header_rows(fields[first:], is_plain_number)
    headers = _spread(fields[first : first + count])
    said += check_names(headers[0], is_plain_number)
    if count > 1:
        said.append(say_joined(headers, join_names(headers, len(cells.columns))))
    body = cells.iloc[first + count :].reset_index(drop=True)
    body.columns = pd.RangeIndex(len(body.columns))
    body = body.map(lambda value: None if _is_blank(value) else value).astype(object)
    frame, converted = finish_columns(body)
    for place in frame.columns:
        frame[place] = frame[place].infer_objects()
    names = join_names(headers, len(cells.columns))
    if converted:
        listed = list_names([names[int(place)] for place in converted])
        said.append(f"numbers in cells of text are read as numbers: {listed}")
    frame, renamed = name_columns(frame, names)
    return frame, [*said, *renamed]


def _begins_with_sign(rows: list[list[str]]) -> bool:
    """Returns whether the first row is a remark: a text with a number sign, alone."""
    filled = [field for field in rows[0] if field] if len(rows) > 1 else []
    return len(filled) == 1 and filled[0].startswith("#") and len(rows[0]) > 1


def _to_text(value: Any) -> str:
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    return "" if _is_blank(value) else str(value).strip()


def _spread(headers: list[list[str]]) -> list[list[str]]:
    """Returns a header with the names of merged cells over each column below them, not the first alone."""
    for above, below in pairwise(headers):
        for place in range(1, len(above)):
            if not above[place] and below[place]:
                above[place] = above[place - 1]
    return headers
