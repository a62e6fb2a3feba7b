"""Points of a power law with a floor, and what a fit of them warns of."""

from __future__ import annotations

import numpy as np


def series(E, A, alpha, *, sizes=11, runs=1, noise=0.01, seed=0):
    rng = np.random.default_rng(seed)
    m = np.repeat(np.geomspace(100, 6e4, sizes), runs)
    return m, (E + A * m**-alpha) * np.exp(noise * rng.standard_normal(len(m)))


def codes(fit):
    return {notice.code for notice in fit.warnings}
