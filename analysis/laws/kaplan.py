"""Kaplan's laws without a floor: loss against model size, data, both, and steps; N leaves embeddings out."""

from __future__ import annotations

from analysis.laws.law import Law, register
from analysis.laws.maths import decay, grow

SOURCE = "Kaplan et al. 2020, arXiv 2001.08361"
SLOPE = (0.01, 1.0)  # published: 0.05 to 0.1, and 0.76 for steps

kaplan_n = register(
    Law(
        name="kaplan_n",
        formula="L = (N_c/N)^alpha_N = A N^-alpha_N",
        source=SOURCE,
        variables=("num_params",),
        linear=("A",),
        nonlinear={"alpha_N": SLOPE},
        terms=lambda N, alpha_N: (decay(N, alpha_N),),
        derived=lambda p: {"N_c": p["A"] ** (1 / p["alpha_N"])},
        units={"num_params": "parameters without embeddings", "loss": "nats"},
        example={"A": 8.8e13**0.076, "alpha_N": 0.076},
        design={"num_params": (1e6, 1e10)},
    )
)

kaplan_d = register(
    Law(
        name="kaplan_d",
        formula="L = (D_c/D)^alpha_D = B D^-alpha_D",
        source=SOURCE,
        variables=("data_unique",),
        linear=("B",),
        nonlinear={"alpha_D": SLOPE},
        terms=lambda D, alpha_D: (decay(D, alpha_D),),
        derived=lambda p: {"D_c": p["B"] ** (1 / p["alpha_D"])},
        units={"data_unique": "tokens", "loss": "nats"},
        example={"B": 5.4e13**0.095, "alpha_D": 0.095},
        design={"data_unique": (1e7, 1e11)},
    )
)

# The constants of the separate laws above: those of the paper's joint fit were not verified.
kaplan_nd = register(
    Law(
        name="kaplan_nd",
        formula="L = [(N_c/N)^(alpha_N/alpha_D) + D_c/D]^alpha_D = [A N^-(alpha_N/alpha_D) + D_c/D]^alpha_D",
        source=SOURCE,
        variables=("num_params", "data_unique"),
        linear=("A", "D_c"),
        nonlinear={"alpha_N": SLOPE, "alpha_D": SLOPE},
        terms=lambda N, D, alpha_N, alpha_D: (decay(N, alpha_N / alpha_D), 1 / D),
        link=lambda total, alpha_N, alpha_D: grow(total, alpha_D),
        unlink=lambda loss, alpha_N, alpha_D: grow(loss, 1 / alpha_D),
        derived=lambda p: {"N_c": p["A"] ** (p["alpha_D"] / p["alpha_N"])},
        units={"num_params": "parameters without embeddings", "data_unique": "tokens", "loss": "nats"},
        example={"A": 8.8e13 ** (0.076 / 0.095), "D_c": 5.4e13, "alpha_N": 0.076, "alpha_D": 0.095},
        design={"num_params": (1e6, 1e9), "data_unique": (2e7, 2e10)},
    )
)

kaplan_ns = register(
    Law(
        name="kaplan_ns",
        formula="L = (N_c/N)^alpha_N + (S_c/S)^alpha_S = A N^-alpha_N + B S^-alpha_S",
        source=SOURCE + "; S is their S_min, steps at a batch far above the critical one",
        variables=("num_params", "step"),
        linear=("A", "B"),
        nonlinear={"alpha_N": SLOPE, "alpha_S": (0.01, 2.0)},
        terms=lambda N, S, alpha_N, alpha_S: (decay(N, alpha_N), decay(S, alpha_S)),
        derived=lambda p: {"N_c": p["A"] ** (1 / p["alpha_N"]), "S_c": p["B"] ** (1 / p["alpha_S"])},
        units={"num_params": "parameters without embeddings", "step": "steps", "loss": "nats"},
        # plausible; the paper's S_c and alpha_S were not verified
        example={"A": 8.8e13**0.076, "B": 2e3**0.75, "alpha_N": 0.076, "alpha_S": 0.75},
        design={"num_params": (1e6, 1e9), "step": (1e3, 1e6)},
    )
)
