"""Loss against the bits of weights, activations and key-value cache, in training and after it (Kumar)."""

from __future__ import annotations

from typing import Any

from analysis.laws.law import EXPONENT, Law, Range, register
from analysis.laws.maths import decay, exp, expm1

SOURCE = "Kumar et al. 2024, arXiv 2411.04330"
BITS = Range(0.1, 10.0, log=True)  # bits over which a format's loss falls by e; published: 1 to 3


def count_effective_params(N: Any, bits: tuple[Any, ...], scales: tuple[Any, ...]) -> Any:
    """Returns N times 1 - e^(-bits/scale) of each number format.

    >>> float(count_effective_params(1e9, (1e3,), (2.0,)))
    1000000000.0
    """
    for each, scale in zip(bits, scales, strict=True):
        N = N * -expm1(-each / scale)
    return N


def _precision_terms(
    N: Any, D: Any, weight: Any, activation: Any, cache: Any, alpha: Any, beta: Any, g_w: Any, g_a: Any, g_kv: Any
) -> tuple[Any, ...]:
    effective = count_effective_params(N, (weight, activation, cache), (g_w, g_a, g_kv))
    return 1.0, decay(effective, alpha), decay(D, beta)


# The three scales are told apart only by designs that change one kind of bits at a time.
precision = register(
    Law(
        name="precision",
        formula="L = E + A N_eff^-alpha + B D^-beta, N_eff = N (1-e^(-P_w/g_w)) (1-e^(-P_a/g_a)) (1-e^(-P_kv/g_kv))",
        source=SOURCE,
        variables=("num_params", "data_seen", "weight_bits", "activation_bits", "kv_bits"),
        linear=("E", "A", "B"),
        nonlinear={"alpha": EXPONENT, "beta": EXPONENT, "g_w": BITS, "g_a": BITS, "g_kv": BITS},
        terms=_precision_terms,
        units={"num_params": "parameters", "data_seen": "tokens", "g_w": "bits", "g_a": "bits", "g_kv": "bits"},
        # Chinchilla's refit, and bits as remembered (not verified)
        example={
            "E": 1.8172,
            "A": 477.83,
            "B": 2143.4,
            "alpha": 0.34731,
            "beta": 0.36717,
            "g_w": 2.67,
            "g_a": 2.21,
            "g_kv": 0.96,
        },
        design={
            "num_params": (3e7, 2e9),
            "data_seen": (1e9, 3e10),
            "weight_bits": (3.0, 16.0),
            "activation_bits": (3.0, 16.0),
            "kv_bits": (3.0, 16.0),
        },
    )
)


def _quantized_terms(
    N: Any, D: Any, bits: Any, alpha: Any, beta: Any, gamma_D: Any, gamma_N: Any, g_post: Any
) -> tuple[Any, ...]:
    return 1.0, decay(N, alpha), decay(D, beta), decay(D, -gamma_D) * decay(N, gamma_N) * exp(-bits / g_post)


precision_ptq = register(
    Law(
        name="precision_ptq",
        formula="L = E + A N^-alpha + B D^-beta + C_T D^gamma_D / N^gamma_N e^(-P_post/g_post)",
        source=SOURCE + "; trained in full precision, quantised to P_post bits afterwards",
        variables=("num_params", "data_seen", "post_bits"),
        linear=("E", "A", "B", "C_T"),
        nonlinear={
            "alpha": EXPONENT,
            "beta": EXPONENT,
            "gamma_D": (1e-2, 2.0),
            "gamma_N": (1e-2, 2.0),
            "g_post": BITS,
        },
        terms=_quantized_terms,
        units={"num_params": "parameters", "data_seen": "tokens", "post_bits": "bits", "g_post": "bits"},
        # Chinchilla's refit, and a plausible penalty (not published)
        example={
            "E": 1.8172,
            "A": 477.83,
            "B": 2143.4,
            "C_T": 0.05,
            "alpha": 0.34731,
            "beta": 0.36717,
            "gamma_D": 0.5,
            "gamma_N": 0.5,
            "g_post": 0.6,
        },
        design={"num_params": (3e7, 2e9), "data_seen": (1e9, 3e10), "post_bits": (2.0, 8.0)},
    )
)
