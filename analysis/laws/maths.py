"""Functions for formulas that run in NumPy, where fits happen, and in JAX, for those who want a law's derivatives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

AnyArray = Any  # of NumPy, of JAX or of another library, or a number


def namespace(x: AnyArray) -> AnyArray:
    """Returns the array library of x: `numpy`, or `jax.numpy` for its arrays and tracers."""
    return x.__array_namespace__() if hasattr(x, "__array_namespace__") else np


def exp(x: AnyArray) -> AnyArray:
    """Returns e^x."""
    return namespace(x).exp(x)


def log(x: AnyArray) -> AnyArray:
    """Returns the natural logarithm of x."""
    return namespace(x).log(x)


def decay(x: AnyArray, exponent: AnyArray) -> AnyArray:
    """Returns x^-exponent, by the exponential, which differentiates and vectorises better than a power.

    >>> float(decay(4.0, 0.5))
    0.5
    """
    return exp(-exponent * log(x))


def softplus(x: AnyArray) -> AnyArray:
    """Returns log(1 + e^x) without overflow.

    >>> [round(float(softplus(x)), 6) for x in (-800.0, 0.0, 800.0)]
    [0.0, 0.693147, 800.0]
    """
    return namespace(x).logaddexp(x, 0.0)


def sigmoid(x: AnyArray) -> AnyArray:
    """Returns 1 / (1 + e^-x) without overflow."""
    return exp(-softplus(-x))


def minimum(x: AnyArray, y: AnyArray) -> AnyArray:
    """Returns the smaller of x and y, element by element."""
    return namespace(x if hasattr(x, "__array_namespace__") else y).minimum(x, y)


def maximum(x: AnyArray, y: AnyArray) -> AnyArray:
    """Returns the larger of x and y, element by element."""
    return namespace(x if hasattr(x, "__array_namespace__") else y).maximum(x, y)


def expm1(x: AnyArray) -> AnyArray:
    """Returns e^x - 1, exact near 0."""
    return namespace(x).expm1(x)


def log10(x: AnyArray) -> AnyArray:
    """Returns the decimal logarithm of x."""
    return namespace(x).log10(x)


def grow(x: AnyArray, exponent: AnyArray) -> AnyArray:
    """Returns x^exponent for positive x, by the exponential.

    >>> float(grow(4.0, 0.5))
    2.0
    """
    return exp(exponent * log(x))


def split_budget(params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the exponents of N* ~ C^a and D* ~ C^b and the factor G, from alpha, beta, A and B (Hoffmann et al.)."""
    A, B, alpha, beta = (params[name] for name in ("A", "B", "alpha", "beta"))
    total = alpha + beta
    return {"a": beta / total, "b": alpha / total, "G": (alpha * A / (beta * B)) ** (1 / total)}
