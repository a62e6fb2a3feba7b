"""Text tables: read by the layout that was found in them, with numbers as the file writes them."""

from __future__ import annotations

import io
import warnings
from collections.abc import Collection
from typing import Any

import pandas as pd

from analysis.tables.files.commas import is_written_with_comma, read_commas
from analysis.tables.files.content import BrokenError, decode, first_line
from analysis.tables.files.headers import join_names, name_columns
from analysis.tables.files.layout import SPACES, Layout, check_rows, find_layout
from analysis.tables.files.values import finish_columns, may_hold_text

# From pandas 3.1 floats are read exactly and the option is deprecated; before, the default could lose the last digit.
EXACT: dict[str, Any] = (
    {} if (*map(int, pd.__version__.split(".")[:2]),) >= (3, 1) else {"float_precision": "round_trip"}
)


def read_delimited(content: bytes, suffix: str, texts: Collection[str] = ()) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Returns the table of a file of delimited text, and sentences of what was guessed.

    Args:
      content: The file.
      suffix: Of its name; where several delimiters make a table, the suffix's own does.
      texts: Names of columns that stay text, whatever they hold.

    Raises:
      BrokenError: if the file is empty or no text, has no names above its rows, or a row with more fields than names.

    >>> read_delimited(bytes([78, 59, 68, 10, 49, 59, 52, 44, 53]), ".csv")[1]  # N;D over 1;4,5
    ('read with ; between columns and , as decimal point (4,5 is 4.5)',)
    """
    text, encoding = decode(content)
    if not text or text.isspace():
        raise BrokenError("it is empty")
    said = (f"it is no UTF-8 and read as {encoding}",) if encoding else ()
    layout = find_layout(text, suffix)
    frame, names, more = _read(text, layout, texts)
    numeric = [place for place in layout.told if pd.api.types.is_numeric_dtype(frame[place])]
    if layout.told and not numeric:  # the rows that were judged by were no sample of the others
        layout = find_layout(text, suffix, most_rows=1)
        frame, names, more = _read(text, layout, texts)
    named, renamed = name_columns(frame, names)
    return named, (*said, *layout.said, *more, *renamed)


def _read(text: str, layout: Layout, texts: Collection[str]) -> tuple[pd.DataFrame, list[str], tuple[str, ...]]:
    """Returns the table with places as names, its names, and what to say of its numbers."""
    names = join_names(layout.headers, layout.width)
    frame = _parse(text, layout, None)
    said: tuple[str, ...] = ()
    judged = None
    if layout.delimiter in (";", "\t") and _has_commas(frame):
        judged = read_commas(_parse(text, layout, str), names, layout.delimiter)
    if judged is not None:
        for place, column in judged.columns.items():
            frame[place] = column
        said = (judged.said,)
    frame, _ = finish_columns(frame)
    kept = [place for place, name in enumerate(names) if name.strip() in texts]
    if kept:
        frame[kept] = _parse(text, layout, str)[kept]
    return frame, names, said


def _has_commas(frame: pd.DataFrame) -> bool:
    columns = [frame[name] for name in frame.columns if may_hold_text(frame[name])]
    return any(
        is_written_with_comma(value) for column in columns for value in column.unique() if isinstance(value, str)
    )


def _parse(text: str, layout: Layout, kind: type | None) -> pd.DataFrame:
    """Returns the rows below the header, columns by their places; an empty field is missing, all else is as written."""
    places = list(range(layout.width))
    content = text[layout.start :].encode()
    if not content or content.isspace():
        return pd.DataFrame({place: pd.Series(dtype=object) for place in places})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # fields would be lost
            return pd.read_csv(
                io.BytesIO(content),
                sep=r"\s+" if layout.delimiter == SPACES else layout.delimiter,
                header=None,
                names=places,
                index_col=False,
                dtype=kind,
                keep_default_na=False,
                na_values=[""],
                skipinitialspace=True,
                low_memory=False,
                **EXACT,
            )
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        check_rows(text, layout)
        raise BrokenError(first_line(error)) from None
    except pd.errors.EmptyDataError:
        return pd.DataFrame({place: pd.Series(dtype=object) for place in places})
