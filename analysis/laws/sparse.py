"""Loss of mixtures of experts: routed models against dense size and number of experts (Clark)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.laws.law import Law, Range, register
from analysis.laws.maths import decay, log10


def saturate_experts(E: Any, E_start: Any, E_max: Any) -> Any:
    """Returns the effective number of experts: E_start for one, and never more than E_max.

    1/E^ = 1/(E - 1 + (1/E_start - 1/E_max)^-1) + 1/E_max

    >>> [round(float(saturate_experts(E, 2.0, 300.0)), 3) for E in (1.0, 64.0, 1e9)]
    [2.0, 53.434, 300.0]
    """
    return 1 / (1 / (E - 1 + 1 / (1 / E_start - 1 / E_max)) + 1 / E_max)


def _moe_terms(N: Any, E: Any, E_start: Any, E_max: Any) -> tuple[Any, ...]:
    size, experts = log10(N), log10(saturate_experts(E, E_start, E_max))
    return size, experts, size * experts, 1.0


def count_dense_params(params: Mapping[str, Any], N: Any, E: Any) -> Any:
    """Returns the size of the dense model with the same loss, by parameters of law `moe`.

    N^(alpha(E^)/alpha(E_start)) (E^/E_start)^(b/alpha(E_start)) with alpha(E) = a + c log10 E.

    >>> routed = moe.predict(moe.example, {"num_params": [1e8], "num_experts": [64.0]})
    >>> dense = {"num_params": [float(count_dense_params(moe.example, 1e8, 64.0))], "num_experts": [1.0]}
    >>> bool(abs(moe.predict(moe.example, dense) / routed - 1)[0] < 1e-12)
    True
    """
    start = params["E_start"]
    effective = saturate_experts(E, start, params["E_max"])
    base, here = (params["a"] + params["c"] * log10(experts) for experts in (start, effective))
    return decay(N, -here / base) * decay(effective / start, -params["b"] / base)


# E_max is only weakly identified without many experts.
moe = register(
    Law(
        name="moe",
        formula="log10 L = a log10 N + b log10 E^ + c log10 N log10 E^ + d, "
        "1/E^ = 1/(E - 1 + (1/E_start - 1/E_max)^-1) + 1/E_max",
        source="Clark et al. 2022, arXiv 2202.01169",
        variables=("num_params", "num_experts"),
        linear=("a", "b", "c", "d"),
        nonlinear={"E_start": Range(1.0, 9.0, log=True), "E_max": Range(10.0, 1e5, log=True)},
        terms=_moe_terms,
        signed=("a", "b", "c", "d"),
        link=lambda total, E_start, E_max: 10.0**total,
        unlink=lambda loss, E_start, E_max: log10(loss),
        objective="log_mse",
        units={"num_params": "parameters of the dense base model", "num_experts": "experts of a routed layer"},
        # plausible; the published table was not verified
        example={"a": -0.08, "b": -0.1, "c": 0.009, "d": 1.1, "E_start": 1.8, "E_max": 300.0},
        design={"num_params": (1.5e7, 1.3e9), "num_experts": (1.0, 512.0)},
    )
)
