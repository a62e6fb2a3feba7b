"""The laws by name: importing this module registers every form."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.errors import AnalysisError, suggest_name
from analysis.laws import (  # noqa: F401  (these register themselves)
    breaks,
    classical,
    downstream,
    kaplan,
    learning_curves,
    lr_batch,
    mixtures,
    precision,
    repeated_data,
    size_and_data,
    sparse,
    whole_curves,
)
from analysis.laws.law import LAWS, Law
from scaling.specs.base import InputError
from scaling.specs.code import brought_modules, resolve


def get_law(law: str | Law) -> Law:
    """Returns the law of that name (a `Law` passes through): a registered one, or a user's.

    A user's law is one that a file which this process was given, or a module that an installed package offers, has at
    its top; `name:attribute` says which. No code is taken from a store.

    Raises:
      AnalysisError: if no law has the name; the nearest one is named.
    """
    if isinstance(law, Law):
        return law
    if ":" in law:
        return _own_law(law)
    if law not in LAWS:
        for found in _brought_laws():
            if found.name == law:
                return found
        raise AnalysisError(f"{suggest_name('law', law, LAWS)}; a study's own is found with --study FILE")
    return LAWS[law]


def _own_law(reference: str) -> Law:
    try:
        found = resolve(reference)
    except InputError as error:
        raise AnalysisError(f"law={error}") from None
    if not isinstance(found, Law):
        raise AnalysisError(f"law={reference!r} is {type(found).__name__}; name a Law")
    return found


def _brought_laws() -> Iterator[Law]:
    for module in brought_modules():
        yield from (thing for thing in vars(module).values() if isinstance(thing, Law))
