"""What a bad input to the analysis raises: one line that names the field, the value, the constraint and the remedy."""

from __future__ import annotations

from collections.abc import Iterable

from scaling.specs.base import suggest


class AnalysisError(ValueError):
    """A bad input to the analysis: one line naming the field, the value, the constraint and the remedy."""


def suggest_name(field: str, name: str, valid: Iterable[str]) -> AnalysisError:
    """Returns the error for an unknown name, with the nearest valid one, or all of them where none is near.

    >>> suggest_name("law", "chinchila", ["chinchilla", "power"])
    AnalysisError("law='chinchila' is unknown; did you mean 'chinchilla'?")
    """
    return AnalysisError(f"{field}={name!r} is unknown; {suggest(name, map(str, valid))}")
