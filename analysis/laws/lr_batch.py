"""Laws of the best learning rate and batch: powers of size, data and compute, fitted as lines in logarithms.

They are of optima: `fit` refuses the runs of a sweep, and `find_best_settings` makes optima of them.
"""

from __future__ import annotations

import math

from analysis.laws.law import Law, register
from analysis.laws.maths import exp, log


def _make_log_linear(
    name: str,
    symbol: str,
    variables: dict[str, str],
    factor: str,
    target: str,
    source: str,
    example: dict[str, float],
    design: dict[str, tuple[float, float]],
    units: dict[str, str],
) -> Law:
    """Returns the law target = factor prod_i x_i^exponent_i: linear in log(factor) and the exponents.

    Args:
      name: Of the law.
      symbol: Of the target, in the formula.
      variables: Column to the name of its exponent.
      factor: Name of the factor; the fitted coefficient is its logarithm, `log_<factor>`.
      target: Column.
      source: Paper.
      example: Factor and exponents.
      design: Of samples.
      units: Of the columns.
    """
    coefficient = f"log_{factor}"
    linear = (coefficient, *variables.values())
    return Law(
        name=name,
        formula=f"{symbol} = {factor} " + " ".join(f"{column}^{power}" for column, power in variables.items()),
        source=source,
        variables=tuple(variables),
        linear=linear,
        nonlinear={},
        terms=lambda *columns: (1.0, *(log(column) for column in columns)),
        signed=linear,
        link=exp,
        unlink=log,
        target=target,
        objective="log_mse",
        derived=lambda p: {factor: exp(p[coefficient])},
        units=units,
        example={coefficient: math.log(example[factor]), **{power: example[power] for power in variables.values()}},
        design=design,
        of_best=True,
    )


_STEP = "Li et al. 2025, arXiv 2503.04715 (Step Law)"
_DEEPSEEK = "DeepSeek-AI 2024, arXiv 2401.02954"
_SIZES = {"num_params": (6e7, 1e9), "data_seen": (2e9, 1e11)}
_FLOPS = {"train_flops": (1e17, 1e21)}

# Means of the authors' 1000 bootstrap fits; the rounded 1.79, -0.713, 0.307 give a 2 % lower rate at 7e9 parameters.
step_law_lr = register(
    _make_log_linear(
        "step_law_lr",
        "eta",
        {"num_params": "a", "data_seen": "b"},
        "k",
        "peak_lr",
        _STEP,
        {"k": 1.7973, "a": -0.7129, "b": 0.3075},
        _SIZES,
        {"num_params": "parameters without embeddings", "data_seen": "tokens"},
    )
)

step_law_batch = register(
    _make_log_linear(
        "step_law_batch",
        "B",
        {"data_seen": "b"},
        "k",
        "batch_tokens",
        _STEP,
        {"k": 0.58, "b": 0.571},
        {"data_seen": _SIZES["data_seen"]},
        {"data_seen": "tokens", "batch_tokens": "tokens"},
    )
)

deepseek_lr = register(
    _make_log_linear(
        "deepseek_lr",
        "eta",
        {"train_flops": "a"},
        "k",
        "peak_lr",
        _DEEPSEEK,
        {"k": 0.3118, "a": -0.1250},
        _FLOPS,
        {"train_flops": "FLOPs: non-embedding FLOPs per token times tokens"},
    )
)

deepseek_batch = register(
    _make_log_linear(
        "deepseek_batch",
        "B",
        {"train_flops": "a"},
        "k",
        "batch_tokens",
        _DEEPSEEK,
        {"k": 0.2920, "a": 0.3271},
        _FLOPS,
        {"train_flops": "FLOPs: non-embedding FLOPs per token times tokens", "batch_tokens": "tokens"},
    )
)


def predict_step_law(N: float, D: float) -> tuple[float, float]:
    """Returns Step Law's peak learning rate and batch in tokens for N parameters and D tokens.

    >>> eta, batch = predict_step_law(7e9, 1.4e12)
    >>> f"{eta:.2e} {batch:.2e}"
    '9.35e-04 5.00e+06'
    """
    at = {"num_params": [N], "data_seen": [D]}
    eta, batch = (law.predict(law.example, at)[0] for law in (step_law_lr, step_law_batch))
    return float(eta), float(batch)
