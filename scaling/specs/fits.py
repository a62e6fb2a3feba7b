"""How a law may be fitted: what is minimised, what is drawn anew for intervals, and the fit that a study declares."""

from typing import Literal

from pydantic import PositiveFloat, PositiveInt

from scaling.specs.base import Spec

# What a study may declare; `analysis.fitting.objective` says what each charges.
DeclaredObjective = Literal["huber", "lad", "log_mse", "mse"]
# The last one has a tilt, which a study does not declare.
ObjectiveName = Literal[DeclaredObjective, "asymmetric"]
# Ways to draw points anew; `analysis.uncertainty.resampling` has them, and chooses where a user leaves it to it.
Scheme = Literal["seed", "wild", "residual", "pairs"]
AnyScheme = Literal["auto", Scheme]
# How the ends of an interval are read from the draws.
IntervalKind = Literal["percentile", "bca"]

METRIC = "loss"
LAW = "power_floor"
OBJECTIVE: DeclaredObjective = "huber"
DELTA = 1e-3
RESAMPLES = 1000


class FitSpec(Spec):
    """How the study's laws will be fitted, declared before its cells are trained.

    Attributes:
      law: a registered law, see `analysis/laws/`.
      objective: what the fit minimises; `mse` acts on plain residuals, the others on those of logarithms.
      delta: where Huber's quadratic ends, in log units; near 0 the fit follows medians, at the noise means.
      smallest_size: m from which on points are fitted; below it learners may do little better than guess, where no
        power law holds (Hestness et al. 2017).
    """

    law: str = LAW
    objective: DeclaredObjective = OBJECTIVE
    delta: PositiveFloat = DELTA
    smallest_size: PositiveInt = 1
