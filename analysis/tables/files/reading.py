"""Anybody's files as one table: CSV, TSV and other text, JSON, Parquet and spreadsheets, packed or not, one or many."""

from __future__ import annotations

import glob
from collections.abc import Collection, Sequence
from pathlib import PurePath
from typing import NamedTuple

import pandas as pd

from analysis.errors import AnalysisError
from analysis.tables.files.charts import RUN, join_charts, read_chart
from analysis.tables.files.content import (
    JSONS,
    SHEETS,
    SUFFIXES,
    TEXTS,
    BrokenError,
    check_address,
    first_line,
    one_line,
    read_content,
    refuse_kind,
    split_name,
)
from analysis.tables.files.delimited import read_delimited
from analysis.tables.files.json_files import read_json
from analysis.tables.files.names import read_names
from analysis.tables.files.parquet import read_parquet
from analysis.tables.files.sheets import read_sheet
from analysis.tables.files.values import finish_columns, is_missing, may_hold_text
from analysis.tables.words import list_names

FILE = "file"
WILD = "*?["


class Read(NamedTuple):
    """A table, and sentences of what was guessed, joined, renamed or left out on the way, for people to read."""

    frame: pd.DataFrame
    said: tuple[str, ...]


class _File(NamedTuple):
    """One file's table, what is said of it, and where it was an exported chart its first axis."""

    frame: pd.DataFrame
    said: tuple[str, ...]
    axis: str | None = None


def is_file_name(source: str) -> bool:
    """Returns whether a source is named as a file of a table, packed or not.

    >>> is_file_name("runs/A.CSV.gz"), is_file_name("curves/*.jsonl"), is_file_name("runs"), is_file_name("x.gz")
    (True, True, False, False)
    """
    return bool(split_name(source)[1])


def read_files(sources: Sequence[str], *, sheet: str | None = None, name: str | None = None) -> Read:
    """Returns the table of one file, or of several below each other.

    Columns are those of all files. Where there are several files, the column `file` holds each one's name, without
    suffixes, and with as much of its folder as tells them apart, unless the files have such a column. Exported charts
    of several metrics of the same runs are joined by run and axis.

    Args:
      sources: Paths or globs, local or of `gs://`; the files of a glob in the order of their names.
      sheet: Of spreadsheets, the name of the sheet.
      name: A pattern whose fields become columns, such as `curve_N{num_params}_D{data_seen}`; see `read_names`.

    Raises:
      AnalysisError: if a file is missing, cannot be read or is of an unknown kind, if a glob or a pattern matches
        nothing, or if there is no such sheet.
    """
    paths, said = _find_files(sources)
    if sheet is not None and not any(split_name(path)[1] in SHEETS for path in paths):
        raise AnalysisError(f"sheet={sheet!r}: {paths[0]!r} is no spreadsheet ({', '.join(SHEETS)}); leave sheet out")
    reads = [_read_file(path, sheet) for path in paths]
    for place, texts in _find_texts([read.frame for read in reads], paths).items():
        reads[place] = _read_file(paths[place], sheet, texts)
    said += _gather(paths, reads)
    frame, files = reads[0].frame, paths
    if len(paths) > 1:
        frames = [read.frame for read in reads]
        joined = join_charts(frames, [read.axis for read in reads])
        if joined is None:
            frame, more = _stack(frames, paths)
        else:
            frame, files = joined, []
            more = [f"{len(paths)} charts are joined by {RUN} and {reads[0].axis}: {len(joined)} rows"]
        said += more
    if name is not None:
        frame, settings = read_names(frame, name, files, [len(read.frame) for read in reads][: len(files)])
        said += settings
    return Read(frame, tuple(said))


def _find_files(sources: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the files of paths and globs, each once, and what to say of those that are left out."""
    from etils import epath

    paths: list[str] = []
    said = []
    for source in sources:
        check_address(source)
        if not any(sign in source for sign in WILD) or _is_file(source):
            paths.append(source)
            continue
        if "://" in source:
            base, rest = _split_glob(source)
            with one_line(source, "listed"):
                found = sorted(str(path) for path in epath.Path(base).glob(rest))
        else:
            found = sorted(glob.glob(source, recursive=True))  # noqa: PTH207 it may begin at the root
        files = [path for path in found if is_file_name(path)]
        if not files:
            others = f", but {len(found)} of other kinds" if found else ""
            raise AnalysisError(
                f"source={source!r} matches no {', '.join(SUFFIXES)} file{others}; check the folder and the pattern"
            )
        if len(files) < len(found):
            others = list_names([PurePath(path).name for path in found if path not in files])
            said.append(f"what {source!r} matches and is no file of a table is passed over: {others}")
        paths += files
    if not paths:
        raise AnalysisError("sources=[] names no file; give at least one")
    unique = list(dict.fromkeys(paths))
    if len(unique) < len(paths):
        said.append(f"{len(paths) - len(unique)} files are named twice and read once")
    return unique, said


def _is_file(source: str) -> bool:
    from etils import epath

    try:
        return "://" not in source and bool(epath.Path(source).exists())
    except (OSError, ValueError):
        return False


def _split_glob(source: str) -> tuple[str, str]:
    """Returns the folder of a glob without signs in it, and the rest.

    >>> _split_glob("gs://bucket/runs/*/loss.csv")
    ('gs://bucket/runs', '*/loss.csv')
    """
    parts = source.split("/")
    first = next(place for place, part in enumerate(parts) if any(sign in part for sign in WILD))
    return "/".join(parts[:first]), "/".join(parts[first:])


def _read_file(source: str, sheet: str | None, texts: Collection[str] = ()) -> _File:
    from etils import epath

    _, suffix, packing = split_name(source)
    try:
        path = epath.Path(source)
        if not suffix:
            raise refuse_kind(source, exists="://" in source or path.exists())
        content = read_content(path, suffix, packing)
        if suffix in JSONS:
            return _File(*read_json(content, suffix))
        if suffix == ".parquet":
            return _File(*read_parquet(content))
        if suffix in TEXTS:
            frame, said = read_delimited(content, suffix, texts)
        else:
            frame, said = read_sheet(content, suffix, sheet)
        chart, more = read_chart(frame)
        return _File(chart, (*said, *more), str(chart.columns[1]) if more else None)
    except BrokenError as error:
        raise AnalysisError(
            f"source={source!r} is no readable {suffix} file ({error.reason}); {error.remedy}"
        ) from None
    except AnalysisError as error:
        raise AnalysisError(str(error) if repr(source) in str(error) else f"source={source!r}: {error}") from None
    except (ValueError, OSError, OverflowError, RecursionError, MemoryError) as error:
        raise AnalysisError(
            f"source={source!r} is no readable {suffix} file ({first_line(error)}); write it again"
        ) from None


def _gather(paths: Sequence[str], reads: Sequence[_File]) -> list[str]:
    """Returns what was said of the files, each sentence once, after the names of those that it is of."""
    found: dict[str, list[str]] = {}
    for path, read in zip(paths, reads, strict=True):
        for sentence in read.said:
            found.setdefault(sentence, []).append(PurePath(path).name)
    return [f"{files[0] if len(files) == 1 else list_names(files)}: {sentence}" for sentence, files in found.items()]


def _holds_text(column: pd.Series) -> bool:
    """Returns whether a column is of texts, and not of words for missing values alone."""
    return may_hold_text(column) and any(isinstance(value, str) and not is_missing(value) for value in column.dropna())


def _find_texts(frames: Sequence[pd.DataFrame], paths: Sequence[str]) -> dict[int, list[str]]:
    """Returns, by file, the columns of numbers that are text in another file, where they have to be text, too.

    A label that is `7` in one file and `x7` in the next one is text as it stands, and not the number 7.
    """
    if len(frames) < 2:
        return {}
    texts = {name for frame in frames for name in frame.columns if _holds_text(frame[name])}
    found: dict[int, list[str]] = {}
    for place, (frame, path) in enumerate(zip(frames, paths, strict=True)):
        names = [name for name in frame.columns if name in texts and not _holds_text(frame[name])]
        if names and split_name(path)[1] in TEXTS and any(frame[name].notna().any() for name in names):
            found[place] = names
    return found


def _stack(frames: Sequence[pd.DataFrame], paths: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """Returns the rows of all files below each other, and what to say of it."""
    columns = list(dict.fromkeys(name for frame in frames for name in frame.columns))
    names = _name_files(paths)
    has_files = FILE in columns
    # an empty column has no say in the type of the others, and pandas is about to change whether it has
    parts = [_drop_empty(frame) for frame in frames if len(frame)]
    order = columns if has_files else [*columns, FILE]
    stacked = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=order)
    if not has_files:
        stacked[FILE] = [name for frame, name in zip(frames, names, strict=True) for _ in range(len(frame))]
    stacked, converted = finish_columns(stacked.reindex(columns=order), texts_are_numbers=False)
    said = [
        f"{len(frames)} files are one table of {len(stacked)} rows" + ("" if has_files else f", by the column {FILE!r}")
    ]
    empty = [PurePath(path).name for path, frame in zip(paths, frames, strict=True) if not len(frame)]
    said += [f"files without rows: {list_names(empty)}"] if empty else []
    lacking = [name for name in columns if any(name not in frame.columns for frame in frames)]
    said += [f"columns that some files lack are empty there: {list_names(lacking)}"] if lacking else []
    said += [f"numbers that are text in some files are read as numbers: {list_names(converted)}"] if converted else []
    return stacked, said


def _drop_empty(frame: pd.DataFrame) -> pd.DataFrame:
    empty = [name for name in frame.columns if frame[name].iloc[:1].isna().all() and frame[name].isna().all()]
    return frame.drop(columns=empty) if empty else frame


def _name_files(paths: Sequence[str]) -> list[str]:
    """Returns names of files without suffixes, with as many of the last folders as tell them apart.

    >>> _name_files(["runs/a/loss.csv", "runs/b/loss.csv"]), _name_files(["x/a.csv", "y/b.csv.gz"])
    (['a/loss', 'b/loss'], ['a', 'b'])
    """
    stems = [(*PurePath(path).parts[:-1], split_name(path)[0]) for path in paths]
    for depth in range(1, max(map(len, stems)) + 1):
        names = ["/".join(parts[-depth:]) for parts in stems]
        if len(set(names)) == len(names):
            return names
    return list(paths)
