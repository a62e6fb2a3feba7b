"""A table that knows what was done to it: conventions for the fits made of it, and sentences for whoever reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Provenance:
    """What was done to a table on its way here.

    Attributes:
      columns: Our name to the name or the expression of theirs that it was made of, as it would be typed.
      conventions: By name, what was derived, computed or taken away; a fit records it.
      said: Sentences about what was guessed, converted or doubted when the table was read.
      counts_copies: Whether rows that repeat another one count like any other, since somebody said so.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    conventions: Mapping[str, str] = field(default_factory=dict)
    said: tuple[str, ...] = ()
    counts_copies: bool = False


class Table(pd.DataFrame):
    """A DataFrame with its `provenance`, which rows and columns chosen from it have too.

    What pandas makes of several tables, by `concat` or `merge`, begins without one.
    """

    _metadata: ClassVar[list[str]] = ["provenance"]
    provenance: Provenance = Provenance()

    @property
    def _constructor(self) -> type[Table]:
        return Table


def provenance_of(table: pd.DataFrame) -> Provenance:
    """Returns what is known of a table: nothing, where it is a DataFrame like any other."""
    return table.provenance if isinstance(table, Table) else Provenance()


def note(table: pd.DataFrame, name: str, text: str) -> Table:
    """Returns the table with one more convention on record; the table given is left as it is.

    >>> provenance_of(note(pd.DataFrame({"loss": [3.0]}), "keep loss<4", "0 of 1 rows taken away")).conventions
    {'keep loss<4': '0 of 1 rows taken away'}
    """
    known = provenance_of(table)
    return attach(table, replace(known, conventions={**known.conventions, name: text}))


def say(table: pd.DataFrame, *sentences: str | None) -> Table:
    """Returns the table with sentences for whoever reads it, each once; None is nothing to say."""
    known = provenance_of(table)
    added = [sentence for sentence in sentences if sentence]
    return attach(table, replace(known, said=tuple(dict.fromkeys([*known.said, *added]))))


def describe(table: pd.DataFrame) -> dict[str, str]:
    """Returns what was said of a table as a fit records it: under `table`, or nothing where nothing was said."""
    said = " ".join(f"{sentence}." for sentence in provenance_of(table).said)
    return {"table": said} if said else {}


def attach(table: pd.DataFrame, provenance: Provenance) -> Table:
    """Returns the table, sharing its values, with another provenance."""
    found = Table(table, copy=False)
    found.provenance = provenance
    return found


def name_row(table: pd.DataFrame, place: int) -> int:
    """Returns the number of a row, from 1, in the table that it was read from."""
    label = table.index[place]
    return int(label) + 1 if isinstance(label, int | np.integer) and table.index.is_unique else place + 1
