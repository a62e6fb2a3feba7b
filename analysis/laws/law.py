"""What a law is: a formula split into linear coefficients and non-linear parameters, and the registry of all of them.

`y = link(offset + sum_j c_j t_j(x; theta); theta)`: the coefficients `c` are found exactly by least squares once the
few non-linear parameters `theta` are given, which is what makes fits global. A law is about fifteen lines:

    register(Law(
        name="power_floor", formula="y = E + A x^-alpha", source="Hestness et al. 2017",
        variables=("data_unique",), linear=("E", "A"), nonlinear={"alpha": (1e-3, 3.0)},
        terms=lambda x, alpha: (1.0, x ** -alpha),
    ))
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.errors import AnalysisError, suggest_name
from scaling.specs.fits import OBJECTIVE, ObjectiveName

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[Any]
EXPONENT = (1e-3, 3.0)  # published exponents lie in [0.03, 1]; above 3 a term only fits the noise of the first points
TARGET = "target"  # what `Range.of` calls the fitted column


@dataclass(frozen=True)
class Range:
    """Bounds of a non-linear parameter, and how it is searched.

    Attributes:
      low: Lower bound.
      high: Upper bound.
      log: Whether it is searched, and stepped, in its logarithm; the bounds must be positive then.
      of: A variable, or `target`: the bounds are then multiples of its smallest and of its largest value, for
        parameters with units, like the place of a break.
    """

    low: float
    high: float
    log: bool = False
    of: str | None = None

    def resolve(self, columns: Mapping[str, Array]) -> tuple[float, float]:
        """Returns the bounds for these columns, in the parameter's own units."""
        if self.of is None:
            return self.low, self.high
        values = columns[self.of]
        return self.low * float(values.min()), self.high * float(values.max())


@dataclass(frozen=True, eq=False)
class Law:
    """A formula that a fit can estimate.

    `terms` and the other formulas take arrays of any library and shape that broadcast: columns `[n]` with scalars in
    a fit, `[R, 1]` parameters in a prediction. Operators work on all of them; for functions use `analysis.laws.maths`.

    Attributes:
      name: What the user types.
      formula: The formula in the paper's symbols.
      source: The paper.
      variables: Columns of the table that the law sees, in the order in which `terms` takes them.
      linear: Names of the coefficients, one for each term; none where `terms` returns the value itself.
      nonlinear: Bounds of each non-linear parameter: a `Range`, or a pair.
      terms: `terms(*variables, *nonlinear)` gives one array (or a constant) for each linear coefficient.
      signed: Coefficients that may be negative; the others are at least 0.
      link: `link(sum, *nonlinear)` gives y from the sum of the terms; None where that is y.
      unlink: The inverse, `unlink(y, *nonlinear)`.
      offset: `offset(*variables, *nonlinear)`, added to the sum; what `hold` makes of held coefficients.
      target: The column that is fitted unless the user names another.
      objective: The objective that is minimised unless the user names another.
      derived: Other quantities by name, from the parameters: `derived(params)`, on floats or on arrays of draws.
      starts: `starts(columns, y)` gives points `[s, q]` of the non-linear parameters to search beside the grid.
      units: Units of variables and parameters.
      example: Published or typical parameters, for samples.
      design: Smallest and largest value of each variable in samples.
      held: Parameters that `hold` has fixed.
      has_closed_form: Whether it is L = E + A/N^alpha + B/D^beta in these parameters, in this order, so that its
        optimum and its frontier have closed forms.
      may_be_zero: Whether its variables may be 0, as proportions may; they must be positive otherwise.
      of_best: Whether the target is the best value of a setting at each point, so that it is fitted to the optima of a
        sweep (`find_best_settings`) and not to its runs.
    """

    name: str
    formula: str
    source: str
    variables: tuple[str, ...]
    linear: tuple[str, ...]
    nonlinear: Mapping[str, Range | tuple[float, float]]
    terms: Callable[..., Any]
    signed: tuple[str, ...] = ()
    link: Callable[..., Any] | None = None
    unlink: Callable[..., Any] | None = None
    offset: Callable[..., Any] | None = None
    target: str = "loss"
    objective: ObjectiveName = OBJECTIVE
    derived: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    starts: Callable[[Sequence[Array], Array], Array] | None = None
    units: Mapping[str, str] = field(default_factory=dict)
    example: Mapping[str, float] = field(default_factory=dict)
    design: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    held: Mapping[str, float] = field(default_factory=dict)
    has_closed_form: bool = False
    may_be_zero: bool = False
    of_best: bool = False

    @property
    def params(self) -> tuple[str, ...]:
        """Returns all parameter names: the linear coefficients, then the non-linear parameters."""
        return (*self.linear, *self.nonlinear)

    @property
    def ranges(self) -> dict[str, Range]:
        """Returns the `Range` of every non-linear parameter."""
        return {
            name: bounds if isinstance(bounds, Range) else Range(*bounds) for name, bounds in self.nonlinear.items()
        }

    def bind(self, variables: Sequence[str]) -> Law:
        """Returns the same law on other columns, for example a power law in `num_params`.

        Raises:
          AnalysisError: if the number of columns is not the law's.
        """
        if len(variables) != len(self.variables):
            raise AnalysisError(
                f"variables={tuple(variables)!r} has {len(variables)} columns but law {self.name} takes "
                f"{len(self.variables)}; give as many as {self.variables!r}"
            )
        names = dict(zip(self.variables, variables, strict=True))
        nonlinear = {
            name: dataclasses.replace(bounds, of=names.get(bounds.of or "", bounds.of))
            for name, bounds in self.ranges.items()
        }
        design = {names[name]: bounds for name, bounds in self.design.items() if name in names}
        return dataclasses.replace(self, variables=tuple(variables), nonlinear=nonlinear, design=design)

    def hold(self, values: Mapping[str, float]) -> Law:
        """Returns the law with some parameters fixed, which a fit then leaves alone.

        Raises:
          AnalysisError: if the law has no such parameter, or none would be left to fit.

        >>> from analysis.laws.registry import get_law
        >>> law = get_law("power_floor").hold({"E": 1.0})
        >>> law.params, float(law.predict({"A": 8.0, "alpha": 0.5}, {"data_unique": [16.0]})[0])
        (('A', 'alpha'), 3.0)
        """
        if not values:
            return self
        for name in values:
            if name not in self.params:
                raise suggest_name(f"law {self.name} cannot hold the parameter", name, self.params)
        if set(values) == set(self.params):
            raise AnalysisError(f"hold={dict(values)!r} fixes every parameter of law {self.name}; leave one to fit")
        whole, split = self, len(self.variables)
        kept = [index for index, name in enumerate(self.linear) if name not in values]
        fixed = [(index, float(values[name])) for index, name in enumerate(self.linear) if name in values]

        def fill(free: Sequence[Any]) -> list[Any]:
            given = iter(free)
            return [float(values[name]) if name in values else next(given) for name in whole.nonlinear]

        def terms(*at: Any) -> Any:
            parts = whole.terms(*at[:split], *fill(at[split:]))
            return tuple(parts[index] for index in kept) if whole.linear else parts

        def offset(*at: Any) -> Any:
            columns, theta = at[:split], fill(at[split:])
            total = whole.offset(*columns, *theta) if whole.offset else 0.0
            parts = whole.terms(*columns, *theta) if fixed else ()
            return total + sum(parts[index] * value for index, value in fixed)

        def through(function: Callable[..., Any] | None) -> Callable[..., Any] | None:
            return None if function is None else lambda value, *free: function(value, *fill(free))

        def value(*at: Any) -> Any:  # where no coefficient is left, the law is its value itself
            total = offset(*at)
            return whole.link(total, *fill(at[split:])) if whole.link else total

        starts, free_places = self.starts, [i for i, name in enumerate(self.nonlinear) if name not in values]
        return dataclasses.replace(
            self,
            linear=tuple(self.linear[index] for index in kept),
            nonlinear={name: bounds for name, bounds in self.nonlinear.items() if name not in values},
            terms=terms if kept or not self.linear else value,
            offset=offset if kept and (fixed or self.offset) else None,
            link=through(self.link) if kept else None,
            unlink=through(self.unlink) if kept else None,
            derived=None if self.derived is None else lambda params: whole.derived({**params, **values}),  # type: ignore[misc]
            starts=None if starts is None else lambda columns, y: np.asarray(starts(columns, y))[:, free_places],
            held={**self.held, **{name: float(value) for name, value in values.items()}},
        )

    def read(self, columns: Mapping[str, Any]) -> list[Array]:
        """Returns this law's variables as float arrays, in its own order.

        Raises:
          AnalysisError: if a column is missing, not finite or not positive.
        """
        arrays = []
        for name in self.variables:
            if name not in columns:
                raise suggest_name(f"law {self.name} needs a column that is missing: column", name, columns)
            values = np.asarray(columns[name], dtype=np.float64)
            bad = ~(np.isfinite(values) & ((values >= 0) if self.may_be_zero else (values > 0)))
            if bad.any():
                need, rule = ("not negative", ">=0") if self.may_be_zero else ("positive", ">0")
                raise AnalysisError(
                    f"{name}={values[bad].flat[0]} must be finite and {need} ({int(bad.sum())} of {values.size} "
                    f"values are not); drop such rows with --keep '{name}{rule}'"
                )
            arrays.append(values)
        return arrays

    def evaluate(self, columns: Sequence[Any], params: Sequence[Any]) -> Any:
        """Returns y from columns and from one array or scalar for each parameter, in any array library."""
        k = len(self.linear)
        theta = params[k:]
        parts = self.terms(*columns, *theta)
        if not self.linear:
            return parts
        total = sum(
            (c * t for c, t in zip(params[:k], parts, strict=True)),
            start=self.offset(*columns, *theta) if self.offset else 0.0,
        )
        return self.link(total, *theta) if self.link else total

    def predict(self, params: Mapping[str, float], columns: Mapping[str, Any]) -> Array:
        """Returns the law's value at every row of `columns`.

        >>> from analysis.laws.registry import get_law
        >>> law = get_law("power_floor")
        >>> float(law.predict({"E": 1.0, "A": 8.0, "alpha": 0.5}, {"data_unique": [16.0]})[0])
        3.0
        """
        return self.predict_many(np.array([[params[name] for name in self.params]]), columns)[0]

    def predict_many(self, params: Array, columns: Mapping[str, Any]) -> Array:
        """Returns the law's values `[R, n]` for many parameter vectors `[R, p]` in the order of `self.params`."""
        arrays = self.read(columns)
        values = self.evaluate(arrays, [params[:, index, None] for index in range(params.shape[1])])
        return np.broadcast_to(values, (len(params), arrays[0].shape[0])).astype(np.float64)

    def sample(
        self,
        *,
        columns: Mapping[str, Any] | None = None,
        params: Mapping[str, float] | None = None,
        levels: int = 6,
        seeds: int = 1,
        noise: float = 0.005,
        seed: int = 0,
    ) -> pd.DataFrame:
        """Returns a synthetic table of this law: its variables, `seed`, and the target with log-normal noise.

        Args:
          columns: The design, `[n]` each; by default a grid of `levels` log-spaced values of each variable of `design`.
          params: The truth; by default the published `example`.
          levels: Values of each variable.
          seeds: Runs at each point.
          noise: Standard deviation of log y.
          seed: Seed of the noise.

        Raises:
          AnalysisError: if the law has no example or design and none is given.
        """
        import pandas as pd

        params = params or self.example
        if not params or (columns is None and not self.design):
            raise AnalysisError(f"law {self.name} has no example; give params of {self.params!r} and columns")
        if columns is None:
            axes = [np.geomspace(*self.design[name], levels) for name in self.variables]
            grid = np.meshgrid(*axes, indexing="ij")
            columns = {name: axis.ravel() for name, axis in zip(self.variables, grid, strict=True)}
        clean = self.predict(params, columns)
        rng = np.random.default_rng(seed)
        tables = [
            pd.DataFrame({**columns, "seed": run, self.target: clean * np.exp(noise * rng.standard_normal(len(clean)))})
            for run in range(seeds)
        ]
        return pd.concat(tables, ignore_index=True)


LAWS: dict[str, Law] = {}


def register(law: Law) -> Law:
    """Returns the law after adding it to the registry under its name.

    Raises:
      AnalysisError: if the name is taken, a bound is empty, or a formula lacks its inverse.
    """
    if law.name in LAWS:
        raise AnalysisError(f"law={law.name!r} is already registered; choose another name")
    for name, bounds in law.ranges.items():
        if not (bounds.low < bounds.high or (bounds.of and bounds.low == bounds.high)):
            raise AnalysisError(
                f"{law.name}.{name} has bounds ({bounds.low}, {bounds.high}); the lower must be below the upper"
            )
        if bounds.log and bounds.low <= 0:
            raise AnalysisError(f"{law.name}.{name} is searched in logarithms from {bounds.low}; it must be above 0")
    if (law.link is None) != (law.unlink is None):
        raise AnalysisError(f"law={law.name!r} has one of link and unlink; give both or neither")
    LAWS[law.name] = law
    return law
