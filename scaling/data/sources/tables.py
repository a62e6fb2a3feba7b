"""Tables as sources: one example a row, columns of numbers, categories and words."""

import collections
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scaling.data.source import Source, count_numbers, draw_evaluation, hold_out
from scaling.data.sources.table_files import Table, read_table
from scaling.specs.base import InputError, suggest
from scaling.specs.data import Column, TableSource

# Of fewer rows, more than half may have classes of their own.
FEW_ROWS = 20

# --- from a table to a source ---------------------------------------------------------------------------------------


def load_table(spec: TableSource, evaluation_size: int) -> Source:
    """Returns the rows of a table, its label column as classes in alphabetical order or as numbers.

    What the inputs owe to other rows - medians and categories - they owe to the pool alone.

    Raises:
      InputError: the file is missing or malformed, a column does not exist or does not hold what it should, or the
        evaluation table does not fit.
    """
    table = read_table(Path(spec.path), "path", spec.delimiter, spec.header)
    columns = _Columns.find(spec, table)
    labels, classes = _read_labels(spec, table, columns.labels, None)
    groups = _read_groups(table, columns.group)
    values = [_parse(spec, columns, table, index) for index in columns.inputs]
    if len(table) >= FEW_ROWS and len(classes) > len(table) / 2:
        raise InputError(
            f"{table.where}: the label, {table.call(columns.labels[0])}, has {len(classes)} different values in "
            f"{len(table)} rows, which are no classes to learn; set data.source.task='regress' for numbers, or name "
            "the column of the classes in data.source.label_column"
        )
    name = table.path.name
    if spec.evaluation_path is None:
        pool, chosen = hold_out(name, len(table), evaluation_size, groups)
        eval_labels, eval_values = labels, values
    else:
        held_out = read_table(Path(spec.evaluation_path), "evaluation_path", spec.delimiter, spec.header)
        _check_alike(table, held_out)
        pool, chosen = np.arange(len(table)), draw_evaluation(len(held_out), evaluation_size)
        eval_values = [_parse(spec, columns, held_out, index) for index in columns.inputs]
        eval_labels, _ = _read_labels(spec, held_out, columns.labels, classes)
        eval_groups = _read_groups(held_out, columns.group)
        if groups is not None and eval_groups is not None and len(shared := np.intersect1d(groups, eval_groups)):
            raise InputError(
                f"{held_out.where} and data.source.path share {len(shared)} groups of data.source.group_column="
                f"{spec.group_column!r}, for example {str(shared[0])!r}; remove their rows from one of the tables"
            )
    encoded = [
        _encode(spec, table, index, index in columns.text, own[pool], others[chosen])
        for index, own, others in zip(columns.inputs, values, eval_values, strict=True)
    ]
    inputs, eval_inputs = (np.concatenate(parts, axis=1) for parts in zip(*encoded, strict=True))
    return Source(
        name=name,
        inputs=inputs,
        labels=labels[pool],
        eval_inputs=eval_inputs,
        eval_labels=eval_labels[chosen],
        num_classes=count_numbers(labels) if spec.task == "regress" else len(classes),
        objective=spec.task,
        scaling="standardize",
        groups=None if groups is None else np.unique(groups, return_inverse=True)[1][pool],
    )


@dataclasses.dataclass(frozen=True)
class _Columns:
    """Positions of columns by what they are for."""

    labels: tuple[int, ...]
    group: int | None
    categorical: frozenset[int]
    text: frozenset[int]
    inputs: tuple[int, ...]

    @classmethod
    def find(cls, spec: TableSource, table: Table) -> "_Columns":
        """Returns the columns that a specification names; what it does not name are numbers.

        Raises:
          InputError: one does not exist or is for two things, or none is left as input.
        """
        uses: dict[int, str] = {}

        def claim(field: str, column: Column) -> int:
            index = _find_column(table, field, column)
            if index in uses:
                raise InputError(
                    f"data.source.{field}={column!r}: {table.call(index)} is data.source.{uses[index]} already; name "
                    "it once"
                )
            uses[index] = field
            return index

        named = spec.label_column if isinstance(spec.label_column, tuple) else (spec.label_column,)
        labels = tuple(claim("label_column", column) for column in named)
        group = None if spec.group_column is None else claim("group_column", spec.group_column)
        several = {
            field: frozenset(claim(field, column) for column in getattr(spec, field))
            for field in ("ignore", "categorical", "text")
        }
        left_out = {*labels, group, *several["ignore"]}
        inputs = tuple(index for index in range(len(table.columns)) if index not in left_out)
        if not inputs:
            raise InputError(f"{table.where} has no column left as input; leave fewer out by data.source.ignore")
        return cls(labels, group, several["categorical"], several["text"], inputs)


def _find_column(table: Table, field: str, column: Column) -> int:
    """Returns the position of a column from 0."""
    if isinstance(column, int):
        count = len(table.columns)
        if not -count <= column < count:
            raise InputError(
                f"data.source.{field}={column} is outside the {count} columns of {table.path}; choose 0 to {count - 1}"
            )
        return column % count
    if table.names is None:
        raise InputError(
            f"data.source.{field}={column!r} is a name, but {table.path} has no header with a name for each column; "
            f"set data.source.header=true if it has, or give the position, 0 to {len(table.columns) - 1}"
        )
    places = [index for index, name in enumerate(table.names) if name == column]
    if not places:
        raise InputError(f"data.source.{field}={column!r} is no column of {table.path}; {suggest(column, table.names)}")
    if len(places) > 1:
        raise InputError(
            f"data.source.{field}={column!r} names the columns {places} of {table.path}; give the position of one"
        )
    return places[0]


def _read_labels(
    spec: TableSource, table: Table, places: Sequence[int], known: Sequence[str] | None
) -> tuple[np.ndarray, Sequence[str]]:
    """Returns labels, [n] int32 or float32 or [n, M] float32, and the names of the classes, in order.

    Args:
      spec: the specification of the source.
      table: whose rows are labelled.
      places: the indices of the label columns; one for classes.
      known: classes of the pool, which these rows must keep to; None where they make the classes.
    """
    texts: Sequence[str] = ()
    for index in places:
        texts = table.texts(index)
        gone = [row for row, text in enumerate(texts) if not text or text == spec.missing]
        if gone:
            raise InputError(
                f"{table.where}: the label, {table.call(index)}, is missing in {len(gone)} rows, the first of them row "
                f"{gone[0]}; remove them"
            )
    if spec.task == "regress":
        remedy = "and labels to regress on must be numbers; choose data.source.task='classify' for classes"
        columns = [table.numbers(index, None, remedy) for index in places]
        return (columns[0] if len(columns) == 1 else np.stack(columns, axis=1)), ()
    classes = sorted(set(texts)) if known is None else known
    numbers = {name: number for number, name in enumerate(classes)}
    unseen = sorted(set(texts) - set(numbers))
    if unseen:
        dotted = all(name.endswith(".") and name[:-1] in numbers for name in unseen)
        remedy = "remove the dot after each label" if dotted else "remove such rows, or write labels alike"
        raise InputError(
            f"{table.where} holds {', '.join(map(repr, unseen[:3]))}, which no row of data.source.path has as label "
            f"({', '.join(map(repr, classes[:3]))}{', …' if len(classes) > 3 else ''}); {remedy}"
        )
    return np.array([numbers[text] for text in texts], np.int32), classes


def _read_groups(table: Table, index: int | None) -> np.ndarray | None:
    if index is None:
        return None
    remedy = "and every row must belong to a group; give each row without one a group of its own"
    return np.array(table.categories(index, None, remedy))


def _check_alike(table: Table, held_out: Table) -> None:
    if len(table.columns) != len(held_out.columns):
        raise InputError(
            f"{held_out.where} has {len(held_out.columns)} columns but data.source.path {len(table.columns)}; give a "
            "table of the same columns"
        )
    if table.names != held_out.names:
        raise InputError(
            f"{held_out.where} has the columns {held_out.names} but data.source.path {table.names}; give a table of "
            "the same columns in the same order"
        )


# --- from a column to inputs ----------------------------------------------------------------------------------------


def _parse(spec: TableSource, columns: _Columns, table: Table, index: int) -> np.ndarray:
    """Returns the values of a column, [n]: texts, or float32 with NaN where one is missing.

    Raises:
      InputError: a value is missing that must not be, or is no number.
    """
    if index in columns.text:
        return np.array(table.texts(index), object)
    if index in columns.categorical:
        remedy = "a missing category; set data.source.missing to its text, or to '' where it is empty"
        return np.array(table.categories(index, spec.missing, remedy), object)
    remedy = (
        "and every column but the label must be a number (has it a header line?); name the column in "
        "data.source.categorical, text or ignore, or give the text of missing values as data.source.missing"
    )
    return table.numbers(index, spec.missing, remedy)


def _encode(
    spec: TableSource, table: Table, index: int, is_text: bool, values: np.ndarray, eval_values: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the inputs that a column gives, of the pool [n, k] and of the evaluation set [e, k], float32."""
    if is_text:
        return _count_words(values, spec.text_features), _count_words(eval_values, spec.text_features)
    if values.dtype == object:
        return _one_hot(values, eval_values, spec.max_categories)
    if np.isnan(values).all():
        raise InputError(
            f"{table.where}: {table.call(index)} has no value in the training examples; name it in data.source.ignore"
        )
    return _fill(values, eval_values)


def _fill(numbers: np.ndarray, eval_numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns numbers [n, 1] with the pool's median where one is missing, beside which of them were, if any [n, 2]."""
    is_missing, eval_is_missing = np.isnan(numbers), np.isnan(eval_numbers)
    # Float64, since the mean of the two middle values can leave float32.
    median = np.median(numbers[~is_missing].astype(np.float64))
    filled, eval_filled = (
        np.where(gone, median, values).astype(np.float32)[:, None]
        for gone, values in ((is_missing, numbers), (eval_is_missing, eval_numbers))
    )
    if not is_missing.any():
        return filled, eval_filled
    return (
        np.concatenate([filled, is_missing[:, None]], axis=1, dtype=np.float32),
        np.concatenate([eval_filled, eval_is_missing[:, None]], axis=1, dtype=np.float32),
    )


def _one_hot(values: np.ndarray, eval_values: np.ndarray, max_categories: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns a column for each of the pool's most frequent categories, in alphabetical order, and one for others."""
    counts = collections.Counter(values)
    kept = sorted(sorted(counts, key=lambda value: (-counts[value], value))[:max_categories])
    places = {value: place for place, value in enumerate(kept)}

    def mark(texts: np.ndarray) -> np.ndarray:
        marks = np.zeros((len(texts), len(kept) + 1), np.float32)
        marks[np.arange(len(texts)), [places.get(text, len(kept)) for text in texts]] = 1.0
        return marks

    return mark(values), mark(eval_values)


def _count_words(texts: np.ndarray, num_features: int) -> np.ndarray:
    """Returns how often each text has words of each hash, [n, num_features] float32."""
    from sklearn.feature_extraction.text import HashingVectorizer

    vectorizer = HashingVectorizer(n_features=num_features, alternate_sign=False, norm=None, dtype=np.float32)
    return vectorizer.transform(texts).toarray()
