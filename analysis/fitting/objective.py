"""What a fit minimises, exactly: which residual, how its size is charged, and that it is a plain weighted sum."""

from __future__ import annotations

import math
from typing import assert_never, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict

from analysis.errors import AnalysisError, suggest_name
from analysis.laws.law import Array
from scaling.specs.fits import DELTA, ObjectiveName

# LAD is the limit of Huber as delta goes to 0: at 1e-9 its optimum agrees with the exact one to 9 digits.
LAD_DELTA = 1e-9


class Objective(BaseModel):
    """An objective: sum over the points of weight × charge(residual); no fitted scale, sums and not means.

    | name | residual r | charge |
    | --- | --- | --- |
    | `huber` | log y_hat - log y | r²/2 below `delta`, delta (abs(r) - delta/2) above |
    | `lad` | log y_hat - log y | abs(r) |
    | `asymmetric` | log y_hat - log y | 2 tilt abs(r) where the fit is above the point, 2 (1 - tilt) abs(r) below |
    | `log_mse` | log y_hat - log y | r² |
    | `mse` | y_hat - y | r² |

    Attributes:
      name: One of the above.
      delta: Where Huber's quadratic ends, in log y; 0 for the others.
      tilt: Share of the charge on predictions above the points; 0.5 is LAD.
      value: What a fit reached; None before one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: ObjectiveName
    delta: float = 0.0
    tilt: float = 0.5
    value: float | None = None

    @property
    def is_log(self) -> bool:
        """Returns whether residuals are of logarithms, which needs positive targets."""
        return self.name != "mse"

    @property
    def residual(self) -> str:
        """Returns the residual in words."""
        return "log(y_hat) - log(y)" if self.is_log else "y_hat - y"

    @property
    def threshold(self) -> float:
        """Returns the delta of the Huber function that the solver minimises in place of the objective."""
        match self.name:
            case "huber":
                return self.delta
            case "lad" | "asymmetric":
                return LAD_DELTA
            case "log_mse" | "mse":
                return math.inf
            case _:
                assert_never(self.name)

    def lean(self, residual: Array) -> Array | float:
        """Returns what the charge is multiplied by: 2 `tilt` above the points, 2 (1 - `tilt`) below; 1 without tilt."""
        return 1.0 if self.tilt == 0.5 else 2 * np.where(residual > 0, self.tilt, 1 - self.tilt)

    def follows_median(self, size: Array) -> bool:
        """Returns whether most residuals of these sizes `[n]` are charged by their size, and not by its square."""
        match self.name:
            case "lad" | "asymmetric":
                return True
            case "huber":
                return bool(np.median(size) > self.delta)
            case "log_mse" | "mse":
                return False
            case _:
                assert_never(self.name)

    def measure(self, fitted: Array, y: Array, weights: Array | None = None) -> float:
        """Returns the objective of fitted values `[n]` beside targets `[n]`, with weights `[n]`.

        >>> round(make_objective("huber", 1e-3).measure(np.array([np.e]), np.array([1.0])), 9)
        0.0009995
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            r = np.log(fitted) - np.log(y) if self.is_log else fitted - y
        size = np.abs(r)
        match self.name:
            case "huber":
                charge = np.where(size < self.delta, r**2 / 2, self.delta * (size - self.delta / 2))
            case "lad" | "asymmetric":
                charge = size * self.lean(r)
            case "log_mse" | "mse":
                charge = r**2
            case _:
                assert_never(self.name)
        total = float((charge if weights is None else charge * weights).sum())
        return total if math.isfinite(total) else math.inf


def make_objective(name: str | Objective, delta: float = DELTA, tilt: float = 0.5) -> Objective:
    """Returns the objective of that name (an `Objective` passes through).

    Raises:
      AnalysisError: on an unknown name, or a delta or tilt out of range.
    """
    if isinstance(name, Objective):
        return name
    if name not in get_args(ObjectiveName):
        raise suggest_name("objective", name, get_args(ObjectiveName))
    if not (delta > 0 and math.isfinite(delta)):
        raise AnalysisError(
            f"delta={delta} must be positive and finite; use 1e-3, or objective='lad' for the limit at 0 and "
            "'log_mse' for the one at infinity"
        )
    if not 0 < tilt < 1:
        raise AnalysisError(f"tilt={tilt} must lie between 0 and 1; 0.5 charges both sides alike")
    return Objective(
        name=name,
        delta=delta if name == "huber" else 0.0,
        tilt=tilt if name == "asymmetric" else 0.5,
    )
