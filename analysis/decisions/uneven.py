"""Runs of one budget that spent unequal FLOPs: their losses moved to what the budget's mean would have given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.laws.law import Array

UNEVEN = 0.02  # spread of C in a budget: 2 % moves a loss by .1 %, as a size does that is a quarter off the optimum
BENDS = 3  # budgets from which on the slope of the loss in log C may itself change with C
SLOPES = (-1.0, 0.0)  # of log loss in log C at one size: it falls with more data, and not faster than 1 / C


def measure_spread(flops: Array) -> float:
    """Returns by which share of the smallest the FLOPs of one budget's runs differ.

    >>> round(measure_spread(np.array([1e18, 1.25e18])), 6)
    0.25
    """
    return float(flops.max() / flops.min() - 1)


def find_moves(flops: Array, sizes: Array, losses: Array, weights: Array, groups: Sequence[Array]) -> Array | None:
    """Returns what to add to each log loss `[n]` so that it is that of its budget's mean FLOPs, to first order.

    The slope d log L / d log C at the run's size is that of a quadratic in log C and log N through all runs: a budget
    alone cannot tell it from the slope in N, and only this slope has to be right and not the surface. It is taken
    halfway to the mean. Budgets within 2 % stay as they are.

    Args:
      flops: C of each run `[n]`.
      sizes: N.
      losses: The target, above 0.
      weights: Of the runs.
      groups: The places of each budget's runs.

    Returns:
      0 where nothing is to be moved; None where the runs cannot tell the slope: one budget alone, or too few of them.

    >>> C, N = np.repeat([1e18, 1e19], 5) * np.tile([1, 1.2, 1, 1.1, 1], 2), np.tile(np.geomspace(1e8, 1e9, 5), 2)
    >>> groups = [np.arange(5), np.arange(5, 10)]
    >>> moves = find_moves(C, N, C**-0.1, np.ones(10), groups)
    >>> levelled = C**-0.1 * np.exp(moves)
    >>> [round(float(np.ptp(np.log(levelled[places]))), 9) for places in groups]
    [0.0, 0.0]
    """
    moves = np.zeros(len(flops))
    uneven = [places for places in groups if measure_spread(flops[places]) > UNEVEN]
    if not uneven:
        return moves
    used = weights > 0
    c, n, y = np.log(flops), np.log(sizes), np.log(losses)
    c_middle, n_middle = c[used].mean(), n[used].mean()
    x, z = c - c_middle, n - n_middle
    terms = [np.ones_like(x), x, z, x * z, z**2, *([x**2] if len(groups) >= BENDS else [])]
    basis, root = np.stack(terms, axis=1)[used], np.sqrt(weights[used])
    scale = np.abs(basis).max(axis=0)
    if len(groups) < 2 or len(basis) <= len(terms) or not scale.all():
        return None
    solved, _, rank, _ = np.linalg.lstsq(root[:, None] * basis / scale, root * y[used], rcond=None)
    if rank < len(terms):
        return None
    solved = solved / scale
    bend = solved[5] if len(terms) > 5 else 0.0
    for places in uneven:
        away = c[places] - c[places].mean()
        slope = solved[1] + solved[3] * z[places] + 2 * bend * (x[places] - away / 2)
        moves[places] = -np.clip(slope, *SLOPES) * away
    return moves
