"""From the proportions of a mixture of corpora to the loss on one of them."""

from __future__ import annotations

from typing import Any

from analysis.laws.law import Law, register
from analysis.laws.maths import exp

SLOPE = (-20.0, 20.0)  # e^20 between a mixture without a corpus and one of nothing else: beyond what any loss shows
EXAMPLE = (-2.0, 0.4, -0.3, 0.2)  # plausible: the first corpus is what the loss is measured on


def _terms(*at: Any) -> tuple[Any, ...]:
    """Returns 1 and exp(sum_j t_j r_j): the proportions come first, then as many slopes."""
    half = len(at) // 2
    return 1.0, exp(sum(proportion * slope for proportion, slope in zip(at[:half], at[half:], strict=True)))


# Proportions sum to 1, so that one corpus is left out: its slope would only rescale k, and the others are beside it.
for free in range(1, 5):
    register(
        Law(
            name=f"mixture{free + 1}",
            formula=f"L = c + k e^(sum_j t_j r_j), j = 1 … {free}" if free > 1 else "L = c + k e^(t_1 r_1)",
            source="Ye et al. 2024, arXiv 2403.16952",
            variables=tuple(f"mixture_{j}" for j in range(1, free + 1)),
            linear=("c", "k"),
            nonlinear={f"t_{j}": SLOPE for j in range(1, free + 1)},
            terms=_terms,
            may_be_zero=True,
            units={"loss": "nats on one corpus", **{f"mixture_{j}": "share of tokens" for j in range(1, free + 1)}},
            example={"c": 1.5, "k": 1.2, **{f"t_{j}": EXAMPLE[j - 1] for j in range(1, free + 1)}},
            design={f"mixture_{j}": (0.02, 0.9 / free) for j in range(1, free + 1)},
        )
    )
