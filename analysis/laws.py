"""The law forms: one registry of formulas, each split into linear coefficients and non-linear parameters.

Every law is a sum of terms, `y = sum_j c_j * t_j(x; theta)`, with non-negative coefficients `c_j` that a linear
solver finds exactly once the few non-linear parameters `theta` are given. Symbols are those of the papers; x is
whatever column the law is bound to (m = `data_unique`, N = `num_params`, D = `data_seen`). A new law is one
`register(Law(...))`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]  # real, or complex while a derivative is taken by a complex step
Terms = Callable[..., tuple[Array | float, ...]]


class AnalysisError(ValueError):
    """A bad input to the analysis: one line naming the field, the value, the constraint and the remedy."""


def suggest_name(field: str, name: str, valid: Iterable[str]) -> AnalysisError:
    """Returns the error for an unknown name, with the nearest valid one (or all of them when nothing is near)."""
    names = sorted(str(item) for item in valid)
    near = difflib.get_close_matches(name, names, n=1)
    remedy = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(names) or '(there are none)'}"
    return AnalysisError(f"{field}={name!r} is unknown; {remedy}")


@dataclass(frozen=True)
class Law:
    """A formula that a fit can estimate.

    Attributes:
      name: What the user types.
      formula: The formula in the paper's symbols.
      source: The paper.
      variables: Columns of the table that the law sees, in the order in which `terms` takes them.
      linear: Names of the non-negative coefficients, one for each term.
      nonlinear: Name and bounds of each non-linear parameter.
      terms: `terms(*variables, *nonlinear)` gives one array (or a constant) per linear coefficient. Variables arrive as
        `[n]`, parameters as `[..., 1]`, so ordinary broadcasting gives `[..., n]`. Terms must be non-zero and analytic
        (`exp`, `log`, powers: no `abs`, no `maximum`), because derivatives are taken by complex steps.
    """

    name: str
    formula: str
    source: str
    variables: tuple[str, ...]
    linear: tuple[str, ...]
    nonlinear: Mapping[str, tuple[float, float]]
    terms: Terms

    @property
    def params(self) -> tuple[str, ...]:
        """Returns all parameter names: the linear coefficients, then the non-linear parameters."""
        return (*self.linear, *self.nonlinear)

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
        return replace(self, variables=tuple(variables))

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
            if not (np.isfinite(values).all() and (values > 0).all()):
                worst = values[~(np.isfinite(values) & (values > 0))].flat[0]
                raise AnalysisError(
                    f"{name}={worst} must be finite and positive; drop such rows with --keep '{name}>0'"
                )
            arrays.append(values)
        return arrays

    def basis(self, columns: Sequence[Array], nonlinear: Array) -> Array:
        """Returns the design matrix `[..., n, k]` of the terms at `nonlinear` `[..., q]`.

        >>> power_floor.basis([np.array([1.0, 4.0])], np.array([0.5])).tolist()
        [[1.0, 1.0], [1.0, 0.5]]
        """
        theta = np.asarray(nonlinear)
        shape = (*theta.shape[:-1], len(columns[0]))
        parts = self.terms(*columns, *(theta[..., i, None] for i in range(theta.shape[-1])))
        return np.stack([np.broadcast_to(np.asarray(part), shape) for part in parts], axis=-1)

    def predict(self, params: Mapping[str, float], columns: Mapping[str, Any]) -> Array:
        """Returns the law's value at every row of `columns`.

        >>> float(power_floor.predict({"E": 1.0, "A": 8.0, "alpha": 0.5}, {"data_unique": [16.0]})[0])
        3.0
        """
        replicate = np.array([[params[name] for name in self.params]])
        return self.predict_many(replicate, columns)[0]

    def predict_many(self, params: Array, columns: Mapping[str, Any]) -> Array:
        """Returns the law's values `[R, n]` for many parameter vectors `[R, p]` in the order of `self.params`."""
        k = len(self.linear)
        return (self.basis(self.read(columns), params[:, k:]) * params[:, None, :k]).sum(-1)


def normalise_basis(law: Law, columns: Sequence[Array], nonlinear: Array) -> tuple[Array, Array]:
    """Returns the basis with every term divided by its geometric mean over the rows, and those means `[..., k]`.

    For powers this is the same as centring log x, which takes Gauss-Newton's condition number on Chinchilla's points
    from 9.9e6 to 1.1e4, and it works for every other term too.
    """
    basis = law.basis(columns, nonlinear)
    scale = np.exp(0.5 * np.log(basis * basis).mean(axis=-2))
    return basis / scale[..., None, :], scale


def differentiate_basis(law: Law, columns: Sequence[Array], nonlinear: Array) -> tuple[Array, Array, Array]:
    """Returns the normalised basis `[..., n, k]`, its gradient `[..., n, k, q]` and its Hessian `[..., n, k, q, q]`.

    The gradient is a complex step (exact to rounding); the Hessian a central difference of it, which is all that
    Newton needs.
    """
    theta = np.asarray(nonlinear, dtype=np.float64)
    units = np.eye(theta.shape[-1])

    def gradient(at: Array) -> tuple[Array, Array]:
        stepped = [normalise_basis(law, columns, at + 1e-30j * unit)[0] for unit in units]
        return stepped[0].real, np.stack([part.imag for part in stepped], axis=-1) * 1e30

    value, first = gradient(theta)
    step = 1e-4
    second = np.stack(
        [(gradient(theta + step * unit)[1] - gradient(theta - step * unit)[1]) / (2 * step) for unit in units], -1
    )
    return value, first, second


LAWS: dict[str, Law] = {}


def register(law: Law) -> Law:
    """Returns the law after adding it to the registry under its name.

    Raises:
      AnalysisError: if the name is taken or a bound is empty.
    """
    if law.name in LAWS:
        raise AnalysisError(f"law={law.name!r} is already registered; choose another name")
    for name, (low, high) in law.nonlinear.items():
        if not low < high:
            raise AnalysisError(f"{law.name}.{name} has bounds ({low}, {high}); the lower must be below the upper")
    LAWS[law.name] = law
    return law


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


def decay(x: Array, exponent: Array) -> Array:
    """Returns x^-exponent; through `exp`, which numpy computes several times faster than a complex power."""
    return np.exp(-exponent * np.log(x))


# Published exponents lie in [0.03, 1]; above 3 a term is gone after the first two points and only fits their noise.
EXPONENT = (1e-3, 3.0)

power = register(
    Law(
        name="power",
        formula="y = A x^-alpha",
        source="Alabdulmohsin et al. 2022, arXiv 2209.06640, M1",
        variables=("data_unique",),
        linear=("A",),
        nonlinear={"alpha": (0.0, 3.0)},
        terms=lambda x, alpha: (decay(x, alpha),),
    )
)

power_floor = register(
    Law(
        name="power_floor",
        formula="y = E + A x^-alpha",
        source="Hestness et al. 2017, arXiv 1712.00409; Alabdulmohsin et al. 2022, arXiv 2209.06640, M2",
        variables=("data_unique",),
        linear=("E", "A"),
        nonlinear={"alpha": EXPONENT},
        terms=lambda x, alpha: (1.0, decay(x, alpha)),
    )
)

chinchilla = register(
    Law(
        name="chinchilla",
        formula="L = E + A/N^alpha + B/D^beta",
        source="Hoffmann et al. 2022, arXiv 2203.15556",
        variables=("num_params", "data_seen"),
        linear=("E", "A", "B"),
        nonlinear={"alpha": EXPONENT, "beta": EXPONENT},
        terms=lambda N, D, alpha, beta: (1.0, decay(N, alpha), decay(D, beta)),
    )
)
