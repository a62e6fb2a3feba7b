"""From loss to downstream error or accuracy, and the two steps N, D -> loss -> accuracy as one function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from analysis.laws.law import Array, Law, Range, get_law, register
from analysis.laws.maths import exp, sigmoid

gadre_error = register(
    Law(
        name="gadre_error",
        formula="Err = eps - k e^(-gamma L)",
        source="Gadre et al. 2024, arXiv 2403.08540",
        variables=("loss",),
        linear=("eps", "k"),
        nonlinear={"gamma": Range(0.05, 10.0, log=True)},
        terms=lambda L, gamma: (1.0, -exp(-gamma * L)),
        signed=("k",),
        target="error",
        units={"loss": "nats", "error": "mean over tasks"},
        example={"eps": 0.8497, "k": 2.0789, "gamma": 0.7561},  # trained on C4, their 17 tasks
        design={"loss": (2.2, 5.0)},
    )
)

accuracy_sigmoid = register(
    Law(
        name="accuracy_sigmoid",
        formula="Acc = b - a / (1 + e^(-k (L - L0)))",
        source="Bhagia et al. 2024, arXiv 2412.04403",
        variables=("loss",),
        linear=("b", "a"),
        nonlinear={"k": Range(0.1, 50.0, log=True), "L0": Range(0.7, 1.3, log=True, of="loss")},
        terms=lambda L, k, L0: (1.0, -sigmoid(k * (L - L0))),
        signed=("a",),
        target="accuracy",
        objective="mse",
        derived=lambda p: {"chance": p["b"] - p["a"]},
        units={"loss": "nats of the task's right answers, or any loss", "chance": "accuracy at a high loss"},
        example={"b": 1.0, "a": 0.75, "k": 3.0, "L0": 1.0},  # plausible
        design={"loss": (0.3, 2.5)},
    )
)


def chain(
    loss_law: str | Law,
    loss_params: Mapping[str, float],
    accuracy_law: str | Law,
    accuracy_params: Mapping[str, float],
) -> Callable[[Mapping[str, Any]], Array]:
    """Returns a function from the loss law's columns `[n]` to accuracy `[n]`: the two-step protocol of Bhagia et al.

    Args:
      loss_law: A law, such as `chinchilla` fitted to a task's loss.
      loss_params: Its fitted parameters.
      accuracy_law: A law of one variable, the loss.
      accuracy_params: Its fitted parameters.

    >>> params = {"E": 0.5, "A": 100.0, "B": 100.0, "alpha": 0.3, "beta": 0.3}
    >>> predict = chain("chinchilla", params, "accuracy_sigmoid", accuracy_sigmoid.example)
    >>> predict({"num_params": [1e8, 1e10], "data_seen": [2e9, 2e11]}).round(3).tolist()
    [0.591, 0.81]
    """
    first, second = get_law(loss_law), get_law(accuracy_law)
    (name,) = second.variables
    return lambda columns: second.predict(accuracy_params, {name: first.predict(loss_params, columns)})
