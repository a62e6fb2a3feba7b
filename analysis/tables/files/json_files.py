"""Tables in JSON: lines, one array, or one document of rows, of columns or of a single run; nested names are dotted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.tables.files.content import BrokenError, decode
from analysis.tables.files.headers import name_columns
from analysis.tables.files.values import finish_columns
from analysis.tables.words import list_names

LINES = (".jsonl", ".ndjson")
OUTER = "{} (file)"  # what the document says beside its rows, where these have a value of that name


class _TwiceError(ValueError):
    """An object that gives one name two values."""


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields nested values under dotted names; lists and empty objects stay what they are.

    >>> dict(flatten({"model": {"depth": 2, "sizes": [1, 2]}, "lr": 0.1}))
    {'model.depth': 2, 'model.sizes': [1, 2], 'lr': 0.1}
    """
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def read_json(content: bytes, suffix: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Returns the table of a file of JSON, and sentences of what was guessed.

    Lines and documents are told apart by what they hold, for either goes under either suffix.

    Args:
      content: The file.
      suffix: Of its name: where the file is one line of one object, `.jsonl` says that this is a row as it is.

    Raises:
      BrokenError: if the file is empty, no JSON, or holds no rows; with the line, where that is known.

    >>> read_json(b'{"a": {"b": 1}} {"a": {"b": 2}}'.replace(b"} {", b"}" + bytes([10]) + b"{"), ".jsonl")[0]
       a.b
    0    1
    1    2
    """
    text, encoding = decode(content)
    said = [f"it is no UTF-8 and read as {encoding}"] if encoding else []
    if not text.strip():
        raise BrokenError("it is empty")
    rows, how = _read_rows(text, suffix)
    said += how
    frame, converted = finish_columns(_to_frame(rows), texts_are_numbers=False)
    if mixed := _without_words(converted, rows):
        said.append(f"numbers that are written as text are read as numbers: {list_names(mixed)}")
    named, renamed = name_columns(frame, [str(name) for name in frame.columns])
    return named, (*said, *renamed)


def _read_rows(text: str, suffix: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Returns the rows of a text, and what to say of how it holds them; only a line feed ends a line."""
    numbered = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if len(numbered) == 1:
        number, line = numbered[0]
        value = _load(line, number)
        return ([value], []) if isinstance(value, dict) and suffix in LINES else _read_document(value)
    if not _is_whole(numbered[0][1]):
        try:
            document = _load(text, 1)
        except BrokenError:
            number, line = numbered[0]
            if line.lstrip().startswith("{") and line.rstrip().endswith("}"):
                _load(line, number)  # more likely a line that is broken than a document
            raise
        return _read_document(document)
    rows = []
    for number, line in numbered:
        row = _load(line, number)
        if not isinstance(row, dict):
            raise BrokenError(f"line {number} holds {_name_kind(row)} where an object is needed")
        rows.append(row)
    return rows, []


def _is_whole(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _load(text: str, line: int) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_join)
    except json.JSONDecodeError as error:
        raise BrokenError(
            f"line {line + error.lineno - 1} is no JSON ({error.msg} at character {error.colno})",
            "write it again, or remove a last line that was cut off",
        ) from None
    except _TwiceError as error:
        raise BrokenError(
            f"{'line ' + str(line) if line > 1 else 'an object'} {error}", "name each value once"
        ) from None
    except (ValueError, RecursionError) as error:  # a whole number of thousands of digits; objects in objects
        raise BrokenError(f"line {line} is no JSON that can be read ({str(error)[:60]})") from None


def _join(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        known: dict[str, Any] = {}
        for name, value in pairs:
            if name in known and known[name] != value and not known[name] != known[name]:
                raise _TwiceError(f"holds {name!r} twice, as {known[name]!r} and {value!r}")
            known[name] = value
    return found


def _name_kind(value: Any) -> str:
    kinds: dict[type, str] = {list: "an array", str: "a text", bool: "a truth value", type(None): "null"}
    return kinds.get(type(value), "a number")


def _check_rows(rows: Any) -> list[dict[str, Any]]:
    if not isinstance(rows, list):
        raise BrokenError(f"it holds {_name_kind(rows)} where objects are needed")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise BrokenError(f"element {number} of its array is {_name_kind(row)} where an object is needed")
    return rows


def _is_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _read_document(document: Any) -> tuple[list[dict[str, Any]], list[str]]:
    """Returns the rows of a document, and what to say of how it holds them."""
    if not isinstance(document, dict):
        return _check_rows(document), []
    values = list(document.values())
    if {"columns", "data"} <= document.keys() and _are_lists(document["data"], document["columns"]):
        names = [".".join(map(str, name)) if isinstance(name, list) else str(name) for name in document["columns"]]
        return [dict(zip(names, row, strict=True)) for row in document["data"]], [
            "it is read as names of columns beside rows of values"
        ]
    is_even = values and all(isinstance(value, list) and len(value) == len(values[0]) for value in values)
    if is_even and (len(values) > 1 or not _is_objects(values[0])):
        columns = [dict(zip(document, row, strict=True)) for row in zip(*values, strict=True)]
        return columns, [f"it is read as {len(values)} columns of {len(values[0])} values"]
    if values and all(isinstance(value, dict) and value for value in values):
        if all(name.isdigit() for name in document):
            return values, ["it is read as rows by their numbers"]
        keys = list(values[0])
        if all(name.isdigit() for name in keys) and all(list(value) == keys for value in values):
            rows = [{name: column[key] for name, column in document.items()} for key in keys]
            return rows, [f"it is read as {len(values)} columns of {len(keys)} values"]
    lists = [name for name, value in document.items() if _is_objects(value)]
    if len(lists) != 1:
        return [document], []
    return _repeat(document, lists[0])


def _are_lists(rows: Any, columns: Any) -> bool:
    is_named = isinstance(columns, list) and len({str(name) for name in columns}) == len(columns) > 0
    return (
        is_named and isinstance(rows, list) and all(isinstance(row, list) and len(row) == len(columns) for row in rows)
    )


def _repeat(document: dict[str, Any], name: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Returns the rows under a name, each with the other values of the document."""
    outer = dict(flatten({key: value for key, value in document.items() if key != name}))
    inner = {key for row in document[name] for key, _ in flatten(row)}
    both = [key for key in outer if key in inner]
    others = {OUTER.format(key) if key in inner else key: value for key, value in outer.items()}
    said = [f"the objects in {name!r} are read as rows" + (", with the values beside them repeated" if others else "")]
    if both:
        said.append(f"values beside the rows that these have too are called by other names, {OUTER.format(both[0])!r}")
    return [{**row, **others} for row in document[name]], said


def _to_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    flat = []
    for number, row in enumerate(rows, 1):
        pairs = list(flatten(row))
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(name for name, _ in pairs if sum(name == other for other, _ in pairs) > 1)
            raise BrokenError(f"object {number} holds {twice!r} both as a name and nested", "name each value once")
        flat.append(found)
    return pd.DataFrame(flat) if any(flat) else pd.DataFrame(index=range(len(flat)))


def _without_words(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns those columns in which numbers stand as text, but for NaN and Infinity, which JSON has to write so."""
    return [
        name
        for name in names
        if any(
            isinstance(value, str) and value[-1:].isdigit()
            for row in rows
            for key, value in flatten(row)
            if key == name
        )
    ]
