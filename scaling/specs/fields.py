"""The fields of specifications as flat values, under the paths that `--set` takes, and which of them vary."""

import collections
import functools
import operator
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import create_model

from scaling.specs.base import InputError, Json, Spec, all_fields, canonical_json, parse
from scaling.specs.cell import Cell

# The last name of a path whose value says which fields its part has.
KIND = "kind"


def flatten(value: Any, path: str = "") -> Json:
    """Returns the values of a specification by their dotted paths; lists are their JSON text, empty parts left out.

    >>> flatten({"model": {"kind": "mlp", "widths": [8, 4]}, "training": None})
    {'model.kind': 'mlp', 'model.widths': '[8,4]', 'training': None}
    """
    if isinstance(value, Mapping):
        parts = (flatten(item, f"{path}.{name}" if path else str(name)) for name, item in value.items())
        return {name: item for part in parts for name, item in part.items()}
    return {path: canonical_json(value) if isinstance(value, list | tuple) else value}


def flatten_cell(cell: Json) -> Json:
    """Returns the fields of a cell given as JSON, those at their default too.

    A cell that this version cannot read keeps what its JSON says.
    """
    if not cell.keys() <= Cell.model_fields.keys():
        return flatten(cell)
    values, flat = {}, {}
    try:
        for field in Cell.model_fields:  # cells share most of their parts, which are read once
            text = canonical_json(cell[field]) if field in cell else None
            values[field], part = _flatten_part(field, text)
            flat.update(part)
        Cell(**values)
    except InputError:
        return flatten(cell)
    return flat


@functools.lru_cache(maxsize=1 << 14)
def _flatten_part(field: str, text: str | None) -> tuple[Any, Json]:
    """Returns a field of a cell as its specification has it, and the values below it by their paths.

    Args:
      field: its name.
      text: its JSON; None where the cell leaves it out.

    Raises:
      InputError: this version cannot read it.
    """
    value = getattr(parse(_part_of(field), "{}" if text is None else f'{{"{field}":{text}}}', "cell"), field)
    return value, flatten({field: all_fields(value)})


@functools.cache
def _part_of(field: str) -> type[Spec]:
    """Returns a specification of one field of a cell."""
    info = Cell.model_fields[field]
    fields: dict[str, Any] = {field: (info.annotation, info)}
    return create_model(f"CellWith_{field}", __base__=Spec, **fields)


def find_varying(cells: Sequence[Json]) -> list[str]:
    """Returns the paths whose values differ among flattened cells, in their order.

    Values are compared among the cells that have the path. A path that only some have counts where it is their choice:
    where cells of the same kinds (of model, optimiser, …) lack it.

    >>> find_varying([{"model.kind": "mlp", "model.depth": 2}, {"model.kind": "mlp", "model.depth": 3}])
    ['model.depth']
    >>> find_varying([{"model.kind": "mlp", "model.depth": 2}, {"model.kind": "ridge"}])
    ['model.kind']
    """
    alike: dict[tuple[str, ...], list[Json]] = {}
    for cell in cells:
        alike.setdefault(tuple(cell), []).append(cell)
    values: dict[str, set[Any]] = {}
    having: dict[str, dict[Any, int]] = {}
    sizes: dict[Any, int] = {}
    for names, found in alike.items():
        for kinds, group in _group_kinds(names, found).items():
            sizes[kinds] = sizes.get(kinds, 0) + len(group)
            for name in names:
                column = list(map(operator.itemgetter(name), group))
                values.setdefault(name, set()).update(column)
                count = having.setdefault(name, {})
                count[kinds] = count.get(kinds, 0) + len(column) - column.count(None)

    def is_choice(name: str) -> bool:
        return any(0 < count < sizes[kinds] for kinds, count in having[name].items())

    return [name for name, seen in values.items() if (len(seen) > 1 and seen != {None}) or is_choice(name)]


def _group_kinds(names: Sequence[str], cells: Sequence[Json]) -> dict[frozenset[tuple[str, Any]], list[Json]]:
    """Returns flattened cells, which all have the same paths, by their kinds of parts."""
    wanted = [name for name in names if name.rpartition(".")[2] == KIND]
    groups: dict[tuple[Any, ...], list[Json]] = {}
    for cell in cells:
        groups.setdefault(tuple([cell[name] for name in wanted]), []).append(cell)
    return {frozenset(zip(wanted, kinds, strict=True)): group for kinds, group in groups.items()}


def shorten(paths: Sequence[str]) -> dict[str, str]:
    """Returns for each path its shortest end that no other path ends in.

    >>> shorten(["training.optimizer.peak_lr", "model.kind", "data.source.kind"])
    {'training.optimizer.peak_lr': 'peak_lr', 'model.kind': 'model.kind', 'data.source.kind': 'source.kind'}
    """
    ends = {path: [path.split(".", cut)[-1] for cut in range(path.count("."), -1, -1)] for path in paths}
    count = collections.Counter(end for each in ends.values() for end in each)
    return {path: next((end for end in each if count[end] == 1), path) for path, each in ends.items()}


def to_columns(cells: Sequence[Json], names: Sequence[str]) -> list[Json]:
    """Returns the values of flattened cells under some paths; a path with text and numbers has text alone."""
    columns = {name: to_column(cells, name) for name in names}
    return [{name: column[place] for name, column in columns.items()} for place in range(len(cells))]


def to_column(cells: Sequence[Json], name: str) -> list[Any]:
    """Returns the values of flattened cells under a path; text alone where some are text and some are not."""
    column = [cell.get(name) for cell in cells]
    kinds = {type(item) for item in column if item is not None}
    if str in kinds and len(kinds) > 1:
        return [item if item is None or isinstance(item, str) else canonical_json(item) for item in column]
    return column
