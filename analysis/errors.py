"""What a bad input to the analysis raises: one line that names the field, the value, the constraint and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AnalysisError(ValueError):
    """A bad input to the analysis: one line naming the field, the value, the constraint and the remedy."""


def suggest_name(field: str, name: str, valid: Iterable[str]) -> AnalysisError:
    """Returns the error for an unknown name, with the nearest valid one (or all of them when nothing is near)."""
    names = sorted(str(item) for item in valid)
    near = difflib.get_close_matches(name, names, n=1)
    remedy = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(names) or '(there are none)'}"
    return AnalysisError(f"{field}={name!r} is unknown; {remedy}")
