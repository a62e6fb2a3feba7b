"""The laws by name: importing this module registers every form."""

from __future__ import annotations

from analysis.errors import suggest_name
from analysis.laws import (  # noqa: F401  (these register themselves)
    breaks,
    classical,
    downstream,
    kaplan,
    learning_curves,
    lr_batch,
    precision,
    repeated_data,
    size_and_data,
    sparse,
    whole_curves,
)
from analysis.laws.law import LAWS, Law


def get_law(law: str | Law) -> Law:
    """Returns the law of that name (a `Law` passes through).

    Raises:
      AnalysisError: if no law has the name; the nearest one is named.
    """
    if isinstance(law, Law):
        return law
    if law not in LAWS:
        raise suggest_name("law", law, LAWS)
    return LAWS[law]
