"""Parts of sentences: names in a row, and numbers of things."""

from __future__ import annotations

from collections.abc import Sequence

# Names of columns or files in a sentence, before "and 12 others".
NAMED = 3


def list_names(names: Sequence[str]) -> str:
    """Returns names for a sentence, the first few of them.

    >>> list_names(["a", "b", "c", "d", "e"])
    "'a', 'b', 'c' and 2 others"
    """
    shown = ", ".join(map(repr, names[:NAMED]))
    more = len(names) - NAMED
    return shown if more <= 0 else f"{shown} and {count_things(more, 'other')}"


def count_things(number: int, what: str) -> str:
    """Returns a number of things in words.

    >>> count_things(1, "row"), count_things(3, "row")
    ('1 row', '3 rows')
    """
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
