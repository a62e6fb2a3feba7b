"""How a text is a table, found from its first lines: what stands between columns, and which rows are the header."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from analysis.tables.files.commas import is_readable
from analysis.tables.files.content import BrokenError, first_line
from analysis.tables.files.headers import check_names, count_header_rows, is_title, join_names, say_joined
from analysis.tables.files.values import is_missing, is_plain_number

# What may stand between columns, the likeliest first where two do as well.
DELIMITERS = (",", ";", "\t", "|")
OWN = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
SPACES = " "  # any number of them
# Rows and letters from which a file is judged before it is read, and titles above its names.
ROWS, LETTERS, TITLES = 100, 1 << 22, 5
# The line by which Excel is told what stands between columns.
SEPARATOR = re.compile(r'"?sep=([,;\t|])"?', re.IGNORECASE)
HOW = "give each row at most as many fields as there are names, and quote a field that holds {delimiter!r}"


class Row(NamedTuple):
    """A row's fields, and where in the text and in which line it ends."""

    fields: list[str]
    end: int
    line: int


class Layout(NamedTuple):
    """How a text is a table.

    Args:
      delimiter: What stands between columns.
      headers: The rows of names.
      told: Columns, by place, that show these to be several rows.
      start: Where in the text the rows below begin.
      width: How many columns there are.
      said: What was guessed, in sentences.
    """

    delimiter: str
    headers: list[list[str]]
    told: list[int]
    start: int
    width: int
    said: tuple[str, ...]


def find_layout(text: str, suffix: str, most_rows: int | None = None) -> Layout:
    """Returns how a text is a table.

    Args:
      text: With more than blanks in it.
      suffix: Of the file's name.
      most_rows: How many rows the header has, where that is known.

    Raises:
      BrokenError: if there are no names, or the first row has more fields than names.

    >>> find_layout("N;loss  1;4,17".replace("  ", chr(10)), ".csv")[:2]
    (';', [['N', 'loss']])
    """
    start, given, remarks = _pass_remarks(text)
    delimiter = given or _choose_delimiter(text[start : start + LETTERS], suffix, bool(remarks))
    is_number = is_readable if delimiter in (";", "\t") else is_plain_number
    rows = _judge(text, start, delimiter)
    headers: list[list[str]] = []
    if remarks and (not rows or any(map(is_number, rows[0].fields))):
        remarks, headers = _find_names(remarks, delimiter, max((len(row.fields) for row in rows), default=0))
    said = [_say_remarks(remarks)] if remarks else []
    told: list[int] = []
    if not headers:
        for _ in range(TITLES):
            if is_title([row.fields for row in rows], is_number):
                said.append(f"the title above the names is passed over, {next(filter(str.strip, rows[0].fields))!r}")
                start += rows[0].end
                rows = _judge(text, start, delimiter)
        if not rows:
            raise BrokenError("it has lines that begin with # and no others", "write names of columns and rows")
        fields = [row.fields for row in rows]
        count, told = count_header_rows(fields, is_number) if most_rows is None else (most_rows, [])
        headers = fields[:count]
        start, rows = start + rows[count - 1].end, rows[count:]
        said += check_names(headers[0], is_number)
    width = max(map(len, headers))
    if len(headers) > 1:
        said.append(say_joined(headers, join_names(headers, width)))
    layout = Layout(delimiter, headers, told, start, width, tuple(said))
    if rows and len(rows[0].fields) > width:
        check_rows(text, layout)
    return layout


def check_rows(text: str, layout: Layout) -> None:
    """Checks that no row has more fields than there are names, and that quotes end.

    Raises:
      BrokenError: for the first row that has, with its line.
    """
    before = sum(1 for _ in io.StringIO(text[: layout.start], newline=""))
    line = last = 0
    for row in _split(text[layout.start :], layout.delimiter):
        if len(row.fields) > layout.width:
            raise BrokenError(
                f"line {before + row.line} has {len(row.fields)} fields where the header has {layout.width}",
                HOW.format(delimiter=layout.delimiter),
            )
        line, last = row.line, line
    if line > last + 1:
        raise BrokenError(f"a quote does not end that begins in line {before + last + 1} or below", "end it")


def _split(text: str, delimiter: str) -> Iterator[Row]:
    """Yields a text's rows but for blank ones; quotes that do not end make a row of all that follows."""
    end = 0

    def read_lines() -> Iterator[str]:
        nonlocal end
        for line in io.StringIO(text, newline=""):
            end += len(line)
            yield line

    if delimiter == SPACES:
        for number, line in enumerate(read_lines(), 1):
            if line.strip():
                yield Row(line.split(), end, number)
        return
    reader = csv.reader(read_lines(), delimiter=delimiter, skipinitialspace=True)
    try:
        for fields in reader:
            if len(fields) > 1 or (fields and fields[0].strip()):
                yield Row(fields, end, reader.line_num)
    except csv.Error as error:
        raise BrokenError(f"line {reader.line_num}: {first_line(error)}") from None


def _judge(text: str, start: int, delimiter: str) -> list[Row]:
    """Returns the first rows, without one that the letters to judge by cut off."""
    rows: list[Row] = []
    for row in _split(text[start : start + LETTERS], delimiter):
        rows.append(row)
        if len(rows) == ROWS:
            return rows
    if start + LETTERS < len(text):
        rows.pop()
        return rows or list(_split(text[start:], delimiter))[:ROWS]
    return rows


def _pass_remarks(text: str) -> tuple[int, str, list[str]]:
    """Returns where the lines begin that are no remarks, what they say stands between columns, and the remarks.

    A number sign alone between delimiters is no remark: it is the name of a column that numbers the rows.
    """
    start, given, remarks = 0, "", list[str]()
    for line in io.StringIO(text[:LETTERS], newline=""):
        stripped = line.strip()
        if match := SEPARATOR.fullmatch(line.strip("\r\n")):
            given = match[1]
        elif stripped.startswith("#") and stripped[1:2] not in DELIMITERS:
            remarks.append(stripped)
        elif stripped:
            break
        start += len(line)
    return start, given, remarks


def _find_names(remarks: list[str], delimiter: str, width: int) -> tuple[list[str], list[list[str]]]:
    """Returns the remarks without the last one that has a name for each column, and these names if there are any."""
    for at in range(len(remarks) - 1, -1, -1):
        for split in dict.fromkeys((delimiter, SPACES)):
            fields = next((row.fields for row in _split(remarks[at].lstrip("#").strip(), split)), [])
            if fields and len(fields) == (width or len(fields)) and not any(map(is_plain_number, fields)):
                return remarks[:at] + remarks[at + 1 :], [fields]
    return remarks, []


def _say_remarks(remarks: Sequence[str]) -> str:
    count = f"{len(remarks)} lines that begin" if len(remarks) > 1 else "a line that begins"
    return f"{count} with # before the names {'are' if len(remarks) > 1 else 'is'} passed over, {remarks[0][:60]!r}"


def _choose_delimiter(head: str, suffix: str, has_remarks: bool, titles: int = TITLES) -> str:
    """Returns what stands between columns: of those by which all rows have as many fields, the suffix's own.

    Another one is chosen where it alone gives numbers, or gives nothing else: in `a, nats;b` over `4,17;3`, as many
    commas are in the names as in the rows.
    """
    own = OWN[suffix]
    order = [own, *(delimiter for delimiter in DELIMITERS if delimiter != own)]
    found: dict[str, list[list[str]]] = {}
    for delimiter in filter(head.__contains__, order):
        try:
            rows = [row.fields for row in _judge(head, 0, delimiter)]
        except BrokenError:
            continue
        if rows and len(rows[0]) > 1:
            found[delimiter] = rows
    if len(found) == 1:
        return next(iter(found))
    if found:
        ranks = {delimiter: _rank(delimiter, rows) for delimiter, rows in found.items()}
        return max(ranks, key=lambda delimiter: ranks[delimiter])  # the first of the best ones
    if _is_spaced(head, is_likely=has_remarks or suffix == ".txt", has_names=not has_remarks):
        return SPACES
    _, _, below = head.partition("\n")
    return _choose_delimiter(below, suffix, has_remarks, titles - 1) if titles and below.strip() else own


def _rank(delimiter: str, rows: Sequence[Sequence[str]]) -> tuple[int, bool, bool]:
    """Returns how good a table a delimiter makes: even rows or at least none too long, with numbers, or only these."""
    widths = [len(row) for row in rows]
    level = 2 if min(widths) == max(widths) else 1 if max(widths) == widths[0] else 0
    known = [is_readable(field) for row in rows[1:] for field in row if not is_missing(field)]
    return level, any(known) or not known, delimiter == ";" and bool(known) and all(known)


def _is_spaced(head: str, *, is_likely: bool, has_names: bool) -> bool:
    """Returns whether spaces stand between columns: all rows are as long, of numbers, or where likely with some."""
    words = [line.split() for line in head.split("\n")[: ROWS + 1] if line.strip()][:ROWS]
    if not words or len(words[0]) < 2 or len({len(row) for row in words}) > 1:
        return False
    body = words[1:] if has_names and len(words) > 1 else words
    judge = any if is_likely else all
    return all(judge(map(is_plain_number, row)) for row in body) or (is_likely and len(words) == 1)
