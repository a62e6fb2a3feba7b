"""From loss to downstream error or accuracy, and the two steps N, D -> loss -> accuracy as one function."""

from __future__ import annotations

from analysis.laws.law import Law, Range, register
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
