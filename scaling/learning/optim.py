"""Optimisers and learning-rate schedules; the peak learning rate and the weight decay stay outside, as array values."""

import inspect
import math
from typing import Any, assert_never

import jax
import jax.numpy as jnp
import optax

from scaling.models.network import PyTree
from scaling.specs.base import InputError
from scaling.specs.code import describe_signature, resolve_function
from scaling.specs.training import (
    AdamSpec,
    AdamWSpec,
    CodeOptimizerSpec,
    LionSpec,
    MuonSpec,
    OptimizerSpec,
    RMSPropSpec,
    SGDSpec,
)

DType = Any  # what JAX takes for one


def make_direction(
    spec: OptimizerSpec, roles: PyTree = None, eps_factor: float = 1.0, moments: str = "float32"
) -> optax.GradientTransformation:
    """Returns the transformation from gradients to the direction that one unit of learning rate subtracts.

    Args:
      spec: the update rule; its peak learning rate and weight decay are not used here.
      roles: a pytree like the parameters with the role of each array (`Role` of `layers`); Muon needs it.
      eps_factor: on `eps` of the rules that divide by a root mean square (Adam, RMSProp, Muon's Adam): such an eps is
        in the units of a gradient, which a parametrisation may change.
      moments: dtype in which running means are kept between steps; they are computed in float32.

    Raises:
      ValueError: Muon without roles.
    """
    rule = _make_rule(spec, roles, eps_factor)
    return rule if moments == "float32" else _kept_in(rule, jnp.dtype(moments))


def to_dtype(tree: PyTree, dtype: DType) -> PyTree:
    """Returns a tree whose numbers in floating point have a dtype; integers stay what they are."""
    return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


def _kept_in(rule: optax.GradientTransformation, dtype: DType) -> optax.GradientTransformation:
    """Returns a rule whose state in floating point is kept in another dtype between steps."""

    def update(gradients: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        direction, state = rule.update(gradients, to_dtype(state, jnp.float32), params)
        return direction, to_dtype(state, dtype)

    return optax.GradientTransformation(lambda params: to_dtype(rule.init(params), dtype), update)


def _make_rule(spec: OptimizerSpec, roles: PyTree, eps_factor: float) -> optax.GradientTransformation:
    match spec:
        case SGDSpec():
            return optax.trace(spec.momentum, spec.nesterov) if spec.momentum else optax.identity()
        case AdamSpec() | AdamWSpec():
            return optax.scale_by_adam(spec.b1, spec.b2, spec.eps * eps_factor)
        case RMSPropSpec():
            scaled = optax.scale_by_rms(spec.decay, spec.eps * eps_factor, eps_in_sqrt=False)
            return optax.chain(scaled, optax.trace(spec.momentum)) if spec.momentum else scaled
        case LionSpec():
            return optax.scale_by_lion(spec.b1, spec.b2)
        case MuonSpec():
            return _make_muon(spec, roles, eps_factor)
        case CodeOptimizerSpec():
            return make_own_rule(spec)
        case _:
            assert_never(spec)


def check_own_rule(spec: CodeOptimizerSpec) -> None:
    """Checks that a user's code is there and takes its settings, without a call, which might use devices.

    Raises:
      InputError: it is not, or does not.
    """
    make = resolve_function(spec.code)
    unit = {"learning_rate": 1.0} if "learning_rate" in describe_signature(make) else {}
    try:
        inspect.signature(make).bind(**{**unit, **spec.settings})
    except TypeError as error:
        raise InputError(
            f"training.optimizer.code={spec.code!r} cannot be called: {error}; mend training.optimizer.settings"
        ) from None
    except ValueError:  # it does not tell what it takes
        return


def make_own_rule(spec: CodeOptimizerSpec) -> optax.GradientTransformation:
    """Returns the transformation that a user's code makes, turned to what is subtracted.

    Raises:
      InputError: the code is not known, fails, makes something else, or makes updates that go uphill.
    """
    make = resolve_function(spec.code)
    unit = {"learning_rate": 1.0} if "learning_rate" in describe_signature(make) else {}
    try:
        rule = make(**{**unit, **spec.settings})
    except Exception as error:
        raise InputError(f"training.optimizer.code={spec.code!r} fails: {type(error).__name__}: {error}") from error
    if not isinstance(rule, optax.GradientTransformation):
        raise InputError(
            f"training.optimizer.code={spec.code!r} makes {type(rule).__name__}; return an optax transformation, such "
            "as optax.adam(1.0)"
        )
    _check_descent(rule, spec)
    return optax.chain(optax.with_extra_args_support(rule), optax.scale(-1.0))


def _check_descent(rule: optax.GradientTransformation, spec: CodeOptimizerSpec) -> None:
    """Checks on the smallest of problems that updates, which are added, go downhill."""
    with jax.ensure_compile_time_eval():  # also while a program is traced
        params = {"w": jnp.ones((2, 2))}
        try:
            updates, _ = rule.update(params, rule.init(params), params)
        except Exception:  # noqa: BLE001  (a rule for other arrays than these shows itself in training)
            return
        is_uphill = bool((updates["w"] * params["w"]).sum() > 0)
    if is_uphill:
        raise InputError(
            f"training.optimizer.code={spec.code!r}: its updates, which are added, go uphill; return an optimiser of "
            "learning rate 1, such as optax.adam(1.0), or chain optax.scale(-1.0) behind a scale_by_… rule"
        )


def _make_muon(spec: MuonSpec, roles: PyTree, eps_factor: float) -> optax.GradientTransformation:
    """Returns Muon for hidden matrices, and for all else plain Adam (optax's own `muon` has Nesterov's Adam there).

    An orthogonalised update is scaled by √max(1, fan_out / fan_in), which lets the same learning rate serve every width
    (the spectral condition, Yang et al. 2023; Jordan et al. 2024), as optax's `muon` does without `consistent_rms`.
    """
    if roles is None:
        raise ValueError("training.optimizer.kind=muon needs the role of every array; give make_direction its roles")

    def rules(params: PyTree) -> PyTree:
        return jax.tree.map(lambda p, role: "muon" if role == "hidden" and p.ndim > 1 else "adam", params, roles)

    def axes(matrices: PyTree) -> PyTree:
        return jax.tree.map(lambda matrix: _matrix_axes(matrix.ndim), matrices)

    def by_shape(updates: PyTree, params: PyTree) -> PyTree:
        return jax.tree.map(lambda u: math.sqrt(max(1.0, u.shape[-1] / _fan_in(u))) * u, updates)

    orthogonal = optax.contrib.scale_by_muon(
        ns_steps=spec.newton_schulz_steps, beta=spec.momentum, nesterov=spec.nesterov, weight_dimension_numbers=axes
    )
    muon = optax.chain(orthogonal, optax.stateless(by_shape))
    adam = optax.scale_by_adam(spec.b1, spec.b2, spec.eps * eps_factor)
    return optax.partition({"muon": muon, "adam": adam}, rules)


def _matrix_axes(rank: int) -> optax.contrib.MuonDimensionNumbers:
    """Returns which axes of a hidden array are a matrix's rows and columns.

    A kernel of a convolution, [H, W, C, D], is one matrix [H·W·C, D]. Stacked matrices, [E, D, F], stay E matrices.
    """
    rows = (0, 1, 2) if rank == 4 else (rank - 2,)
    return optax.contrib.MuonDimensionNumbers(reduction_axis=rows, output_axis=(rank - 1,))


def _fan_in(matrix: jax.Array) -> int:
    return math.prod(matrix.shape[axis] for axis in _matrix_axes(matrix.ndim).reduction_axis)


def apply_update(
    params: PyTree,
    direction: PyTree,
    lr: jax.Array,
    weight_decay: jax.Array,
    lr_factors: PyTree = None,
    decay_factors: PyTree = None,
) -> PyTree:
    """Returns params - lr · f · (direction + weight_decay · g · params), with f and g each array's own factors.

    Biases and gains (rank below 2) do not decay.

    Args:
      params: pytree of arrays.
      direction: pytree like it.
      lr: the learning rate of this step, scalar.
      weight_decay: scalar.
      lr_factors: pytree of floats like `params`, f; None for ones.
      decay_factors: the same, g.
    """
    ones = jax.tree.map(lambda _: 1.0, params)

    def update(p: jax.Array, d: jax.Array, f: float, g: float) -> jax.Array:
        return p - lr * f * (d + weight_decay * g * p) if p.ndim > 1 else p - lr * f * d

    return jax.tree.map(
        update,
        params,
        direction,
        ones if lr_factors is None else lr_factors,
        ones if decay_factors is None else decay_factors,
    )
