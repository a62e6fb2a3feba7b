"""Settings written into names: a pattern such as `curve_N{num_params}_D{data_seen}` makes columns of its fields."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

import pandas as pd

from analysis.errors import AnalysisError
from analysis.tables.files.content import split_name
from analysis.tables.files.values import may_hold_text, to_array
from analysis.tables.words import list_names
from scaling.specs.counts import parse_number

FIELD = re.compile(r"\{([^{}]*)\}")
NAME = re.compile(r"[\w.\-]*", re.ASCII)
# A number with a scale in lower case; other spellings are those of `parse_number`.
LOWER = re.compile(r"\d+(?:\.\d+)?[mbt]", re.ASCII)
# Underscores stand between thousands or are no part of a number: 1_2 is a name.
UNDERSCORES = re.compile(r"[^_]*|[+-]?\d{1,3}(?:_\d{3})+[^_]*", re.ASCII)
EXAMPLE = "like 'curve_N{num_params}_D{data_seen}.csv'"


class Pattern(NamedTuple):
    """A pattern as typed, its fields in order, and what stands before, between and after them."""

    text: str
    fields: list[str]
    pieces: list[str]


def parse_pattern(text: str) -> Pattern:
    """Returns a pattern; a field without a name, `{}` or `{_}`, matches and is left out.

    Raises:
      AnalysisError: if it has no named field, one twice, two side by side, or braces that are no field.

    >>> parse_pattern("N{num_params}-{}").fields
    ['num_params', '']
    """
    pieces = FIELD.split(text)
    fields, between = [name if name != "_" else "" for name in pieces[1::2]], pieces[0::2]
    named = [name for name in fields if name]
    if not named:
        raise AnalysisError(f"name={text!r} has no field in braces; name one for each setting, {EXAMPLE}")
    for name in named:
        if not NAME.fullmatch(name):
            raise AnalysisError(f"name={text!r}: {{{name}}} must be named by letters, digits, _ . and -")
    if len(set(named)) < len(named):
        twice = next(name for name in named if named.count(name) > 1)
        raise AnalysisError(f"name={text!r} has the field {twice!r} twice; write {{}} where it stands again")
    if any(sign in piece for piece in between for sign in "{}"):
        raise AnalysisError(f"name={text!r} has a brace alone; put each field's name between {{ and }}, {EXAMPLE}")
    if any(not piece for piece in between[1:-1]):
        raise AnalysisError(f"name={text!r} has two fields side by side; write what stands between them")
    return Pattern(text, fields, between)


def read_names(
    frame: pd.DataFrame, name: str, files: Sequence[str], counts: Sequence[int]
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Returns the table with a column for each field of a pattern, and sentences of what was matched and converted.

    Args:
      frame: The table of all files.
      name: `PATTERN`, which is looked for in the names of files and else in columns of text; or `COLUMN=PATTERN`.
      files: The files' paths.
      counts: How many rows each of them has.

    Raises:
      AnalysisError: if nothing matches, two columns match as well, or the table has a column of a field's name.
    """
    column, sign, rest = name.partition("=")
    by_file: list[dict[str, str] | None] = []
    if sign and "{" not in column and column in frame.columns:
        pattern = parse_pattern(rest)
        found, place = _match_column(frame[column], pattern), column
        if all(item is None for item in found):
            raise _show_unmatched(pattern, frame[column].dropna().astype(str).tolist(), f"no value of {column!r}")
    else:
        pattern = parse_pattern(name)
        by_file = _match(pattern, [_find_spellings(file, pattern) for file in files])
        if any(item is not None for item in by_file):
            found, place = _repeat(by_file, counts), ""
        else:
            found, place = _find_column(frame, pattern, files)
    taken = [field for field in pattern.fields if field and field in frame.columns]
    if taken:
        raise AnalysisError(
            f"name={name!r}: the table has a column {taken[0]!r} already; call the field otherwise, or write {{}}"
        )
    columns, said = _convert(pattern, found)
    if place:
        missing = sum(item is None for item in found)
        said.insert(0, f"{pattern.text!r} is read from the column {place!r}")
        said += [f"{missing} of {len(found)} rows do not match it and are empty in its columns"] if missing else []
    else:
        others = [PurePath(file).name for file, item in zip(files, by_file, strict=True) if item is None]
        if others:
            said.append(f"{len(others)} of {len(files)} files do not match {pattern.text!r}: {list_names(others)}")
    return frame.assign(**columns), tuple(said)


def _find_spellings(file: str, pattern: Pattern) -> list[str]:
    """Returns how a file's name is written, without suffixes first; as a path where the pattern is one."""
    path = PurePath(file)
    stem, suffix, packing = split_name(file)
    names = [stem, path.name.removesuffix(path.suffix) if packing and suffix else path.name, path.name]
    if any("/" in piece for piece in pattern.pieces):
        folder = file.rpartition("/")[0]
        return [f"{folder}/{name}" for name in names]
    return names


def _match_column(column: pd.Series, pattern: Pattern) -> list[dict[str, str] | None]:
    return _match(pattern, [[value] if isinstance(value, str) else [] for value in column])


def _match(pattern: Pattern, spellings: Sequence[Sequence[str]]) -> list[dict[str, str] | None]:
    """Returns the fields of each name; where it is read in two ways, that with more fields that are numbers throughout.

    A field takes as little as it can, or as much: in `gpt-2-7e9` with `{label}-{num_params}` only the latter leaves
    a number.
    """
    is_path = any("/" in piece for piece in pattern.pieces)
    ways = []
    for more in ("+?", "+"):
        body = "".join(
            re.escape(piece) + (f"({'[^/]' if is_path else '.'}{more})" if place < len(pattern.fields) else "")
            for place, piece in enumerate(pattern.pieces)
        )
        expression = re.compile(("(?:.*/)?" if is_path else "") + body, re.DOTALL)
        known: dict[tuple[str, ...], dict[str, str] | None] = {}
        found = []
        for names in spellings:
            key = tuple(names)
            if key not in known:
                match = next(filter(None, map(expression.fullmatch, names)), None)
                groups = zip(pattern.fields, match.groups(), strict=True) if match else ()
                known[key] = {field: value for field, value in groups if field} if match else None
            found.append(known[key])
        ways.append(found)
    return max(ways, key=lambda found: _count_numeric(pattern, found))


def _count_numeric(pattern: Pattern, found: Sequence[dict[str, str] | None]) -> int:
    texts = [[item[field] for item in found if item is not None] for field in pattern.fields if field]
    return sum(bool(values) and all(_to_number(value) is not None for value in values) for values in texts)


def _repeat(items: Sequence[Any], counts: Sequence[int]) -> list[Any]:
    return [item for item, count in zip(items, counts, strict=True) for _ in range(count)]


def _find_column(
    frame: pd.DataFrame, pattern: Pattern, files: Sequence[str]
) -> tuple[list[dict[str, str] | None], str]:
    """Returns the fields of each row from the column of text whose values match most, and its name."""
    texts = [name for name in frame.columns if may_hold_text(frame[name])]
    matched = {str(name): _match_column(frame[name], pattern) for name in texts}
    counts = {name: sum(item is not None for item in found) for name, found in matched.items()}
    most = max(counts.values(), default=0)
    best = [name for name, count in counts.items() if count == most]
    if not most:
        names = [PurePath(file).name for file in files]
        raise _show_unmatched(
            pattern, names, f"no name of a file and no value of {list_names(texts)}" if texts else "no name of a file"
        )
    if len(best) > 1:
        raise AnalysisError(
            f"name={pattern.text!r} matches as many values of {list_names(best)}; say which one, "
            f"like {best[0] + '=' + pattern.text!r}"
        )
    return matched[best[0]], best[0]


def _show_unmatched(pattern: Pattern, names: Sequence[str], where: str) -> AnalysisError:
    shown = f", for example {names[0]!r}" if names else ""
    return AnalysisError(f"name={pattern.text!r} matches {where}{shown}; write it as the names are, {EXAMPLE}")


def _to_number(text: str) -> float | None:
    """Returns the number that a setting is written as; words such as nan and inf are names.

    >>> _to_number("7e9"), _to_number("70M"), _to_number("70m"), _to_number("nan"), _to_number("1_2")
    (7000000000.0, 70000000.0, 70000000.0, None, None)
    """
    if (
        not re.search(r"\d", text, re.ASCII)
        or not text.isascii()
        or not UNDERSCORES.fullmatch(text)
        or text != text.strip()
    ):
        return None
    return parse_number(text.upper() if LOWER.fullmatch(text) else text)


def _convert(pattern: Pattern, found: Sequence[dict[str, str] | None]) -> tuple[dict[str, Any], list[str]]:
    """Returns the columns, of numbers where all of a field's values are, and a sentence with one example."""
    columns: dict[str, Any] = {}
    examples, texts_only = [], []
    for field in filter(None, pattern.fields):
        texts = [None if item is None else item[field] for item in found]
        known = {text: _to_number(text) for text in dict.fromkeys(texts) if text is not None}
        if any(number is None for number in known.values()):
            columns[field] = pd.Series(texts, dtype=object).infer_objects()
            texts_only.append(field)
            continue
        numbers = [None if text is None else known[text] for text in texts]
        whole = [int(n) if n is not None and float(n).is_integer() and abs(n) < 2**53 else n for n in numbers]
        columns[field] = to_array(whole)
        text, number = next(iter(known.items()))
        examples.append(f"{field}={number:.12g} from {text!r}")
    said = [f"read from names: {', '.join(examples)}"] if examples else []
    return columns, said + ([f"read from names as text: {list_names(texts_only)}"] if texts_only else [])
