"""Parametrisations: how initial values, learning rates and forward scales follow width and depth, role by role.

One table, `multipliers`, holds them all. `parametrized_layers` writes its forward and initial factors into a network's
layers, `update_trees` its learning-rate and weight-decay factors into a tree like the parameters; the modules and the
optimiser only multiply. At base width and depth every factor is 1: all parametrisations are the standard one there.

Symbols: m_in, m_out, inputs of an output and outputs of an array over those of the same array at base width; m_L,
residual layers over those at base depth; a, the exponent of depth: 1 for CompleteP (Dey et al. 2025), absent in μP
(Yang et al. 2022) and standard.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, assert_never

from scaling.models.layers.core import Dense, Dims, Initializer, Layer, Residual, Visit, Weight, walk
from scaling.models.layers.image import Conv, RadialReadout
from scaling.models.layers.sequence import Attention, SinusoidalPositions, TiedReadout
from scaling.models.layers.traced import Scale, TracedModule
from scaling.models.shape import Shape, make_layers
from scaling.specs.base import InputError
from scaling.specs.training import UpdateKind


class Multipliers(NamedTuple):
    """Factors on what the standard parametrisation does with one array.

    Attributes:
      init: on the standard deviation of initial values.
      forward: on the output.
      lr: on the learning rate.
      weight_decay: on the weight decay; the product with `lr` is 1, so that shrinkage a step stays.
    """

    init: float = 1.0
    forward: float = 1.0
    lr: float = 1.0
    weight_decay: float = 1.0


def multipliers(
    scheme: str, role: str, update: UpdateKind, *, m_in: float, m_out: float, m_depth: float, in_branch: bool
) -> Multipliers:
    """Returns the factors of one array: the whole table.

    A change of the output by as much as the output itself, at every width, fixes the learning rate. A sign-like update
    of a matrix adds up coherently over its fan-in: 1 / m_in. Gradients of hidden values fall as 1 / m_out of the
    readout, so plain gradient descent needs m_out / m_in. The readout starts as at base width and is divided by m_in.
    In a residual branch, whose output is multiplied by m_L^-a, every block should change the sum by 1 / m_L: m_L^(a-1)
    for sign-like updates, and m_L^(2a-1) for gradient descent, whose gradients the branch multiplier shrinks too.

    Args:
      scheme: `standard`, `mup` or `completep`.
      role: the role of the array, see `layers.Weight`.
      update: how the optimiser's update answers the gradient.
      m_in: how many values enter each output of the array, over the same at base width.
      m_out: how many outputs the array has, over the same. An entry of a table or of a vector is an output of one
        input.
      m_depth: m_L.
      in_branch: whether the array lies in a residual branch.

    >>> multipliers("mup", "hidden", "sign", m_in=4, m_out=4, m_depth=1, in_branch=False)
    Multipliers(init=1.0, forward=1.0, lr=0.25, weight_decay=4.0)
    >>> multipliers("mup", "output", "sign", m_in=4, m_out=1, m_depth=1, in_branch=False)
    Multipliers(init=2.0, forward=0.25, lr=1.0, weight_decay=1.0)
    """
    if scheme == "standard":
        return Multipliers()
    is_output = role == "output"
    match update:
        case "gradient":
            lr = m_in if is_output else m_out / m_in
            depth = m_depth  # m_L^(2a-1) at a = 1
        case "sign":
            lr = 1.0 if is_output else 1.0 / m_in
            depth = 1.0  # m_L^(a-1) at a = 1
        case "spectral":  # Muon leaves all but hidden matrices to Adam
            lr = 1.0 if is_output or role == "hidden" else 1.0 / m_in
            depth = 1.0
        case _:
            assert_never(update)
    if scheme == "completep" and in_branch:
        lr *= depth
    return Multipliers(math.sqrt(m_in), 1.0 / m_in, lr, 1.0 / lr) if is_output else Multipliers(1.0, 1.0, lr, 1.0 / lr)


def branch_multiplier(shape: Shape) -> float:
    """Returns the factor on every residual branch: m_L^-1 under CompleteP, else 1."""
    return 1.0 / depth_ratio(shape)


def epsilon_factor(shape: Shape) -> float:
    """Returns the factor on Adam's epsilon, which must follow the gradients: m_d^-1, and m_L^-1 under CompleteP."""
    if shape.spec.parametrization == "standard":
        return 1.0
    return shape.spec.base_width / shape.width * branch_multiplier(shape)


def depth_ratio(shape: Shape) -> float:
    """Returns m_L under CompleteP; 1 under the others, and for a network without residual layers.

    Raises:
      InputError: the network has residual layers, but none at base depth.
    """
    spec = shape.spec
    if spec.parametrization != "completep":
        return 1.0
    without_stages = {"stages": None} if getattr(spec, "stages", None) else {}
    base = dataclasses.replace(shape, spec=spec.model_copy(update=without_stages), depth=spec.base_depth)
    count, base_count = (_count_residuals(make_layers(each), shape.task.dims) for each in (shape, base))
    if count and not base_count:
        raise InputError(f"model.base_depth={spec.base_depth}: no residual layers to compare with; choose a larger one")
    return count / base_count if count else 1.0


def _count_residuals(layer: Layer, dims: Dims) -> int:
    inside = sum(part.copies * _count_residuals(part.layer, part.dims) for part in layer.parts(dims))
    return isinstance(layer, Residual) + inside


def base_layers(shape: Shape) -> Layer:
    """Returns the same network at base width; the depth is its own, so that the two can be compared layer by layer.

    Raises:
      InputError: the family cannot have the base width with these switches.
    """
    if shape.spec.parametrization == "standard":
        return make_layers(shape)
    try:
        return make_layers(dataclasses.replace(shape, width=shape.spec.base_width))
    except InputError as error:
        raise InputError(f"model.base_width={shape.spec.base_width}: {error}") from None


@functools.lru_cache(maxsize=256)
def parametrized_layers(shape: Shape) -> Layer:
    """Returns a shape's layers with the forward and initial factors of its parametrisation."""
    layers = make_layers(shape)
    if shape.spec.parametrization == "standard":
        return layers
    branch = branch_multiplier(shape)
    dims = shape.task.dims

    def change(layer: Layer, dims: Dims, base: Layer, base_dims: Dims) -> Layer:
        m_in = dims[-1] / base_dims[-1]
        output = multipliers("mup", "output", "sign", m_in=m_in, m_out=1.0, m_depth=1.0, in_branch=False)
        match layer:
            case Dense(role="output"):
                init = dataclasses.replace(layer.init, scale=layer.init.scale * output.init)
                return dataclasses.replace(layer, scale=layer.scale * output.forward, init=init)
            case TiedReadout() | RadialReadout():
                return dataclasses.replace(layer, scale=layer.scale * output.forward)
            case Dense() | Conv():
                weight, base_weight = layer.weights(dims)["kernel"], base.weights(base_dims)["kernel"]
                return dataclasses.replace(layer, init=_by_fan_in(layer.init, weight, base_weight))
            case SinusoidalPositions():
                # The waves keep their size, so √D may not grow the embeddings beside them.
                return dataclasses.replace(layer, scale=layer.scale / math.sqrt(m_in))
            case Residual():
                return dataclasses.replace(layer, scale=layer.scale * branch)
            case TracedModule():
                return _scale_outputs(layer, base.weights(base_dims))
            case Attention():
                assert isinstance(base, Attention)  # noqa: S101  (the two trees have one form)
                # Scores fall as 1 / K, not 1 / √K: queries and keys become correlated in training.
                return dataclasses.replace(layer, scale=layer.scale * math.sqrt(base.head_size / layer.head_size))
            case _:
                return layer

    return _map_pair(layers, dims, base_layers(shape), dims, change)


def _scale_outputs(layer: TracedModule, base: dict[str, Weight]) -> TracedModule:
    """Returns a user's module whose readouts start as at base width, and are divided by their growth."""
    scales = []
    for name, weight in layer.arrays:
        if weight.role == "output":
            growth = weight.fan_in / base[name].fan_in
            found = multipliers("mup", "output", "sign", m_in=growth, m_out=1.0, m_depth=1.0, in_branch=False)
            scales.append((name, Scale(found.init, found.forward)))
    return dataclasses.replace(layer, scales=tuple(scales))


def _by_fan_in(init: Initializer, weight: Weight, base: Weight) -> Initializer:
    """Returns an initializer whose standard deviation follows 1 / √fan_in from its value at base width.

    Glorot's falls with the fan-out too, which would let what first layers say of fixed inputs fade with the width.
    """
    if init.kind != "glorot":
        return init
    sides = (weight.fan_in + weight.fan_out) / (base.fan_in + base.fan_out)
    return dataclasses.replace(init, scale=init.scale * math.sqrt(sides / (weight.fan_in / base.fan_in)))


def _map_pair(
    layer: Layer, dims: Dims, base: Layer, base_dims: Dims, change: Callable[[Layer, Dims, Layer, Dims], Layer]
) -> Layer:
    """Returns a tree with every layer changed, given the layer in the same place of another tree."""
    parts, base_parts = layer.parts(dims), base.parts(base_dims)
    mapped = [
        _map_pair(part.layer, part.dims, twin.layer, twin.dims, change)
        for part, twin in zip(parts, base_parts, strict=True)
    ]
    return change(layer.with_parts(mapped) if mapped else layer, dims, base, base_dims)


class UpdateTrees(NamedTuple):
    """Trees like a network's parameters.

    Attributes:
      roles: `input`, `hidden`, `output` or `vector`.
      lr, weight_decay: factors.
    """

    roles: dict[str, Any]
    lr: dict[str, Any]
    weight_decay: dict[str, Any]


def update_trees(shape: Shape, update: UpdateKind) -> UpdateTrees:
    """Returns each parameter's role and factors under a shape's parametrisation and an optimiser's kind of update."""
    trees = UpdateTrees({}, {}, {})
    dims = shape.task.dims
    pairs = zip(walk(make_layers(shape), dims, expand=True), walk(base_layers(shape), dims, expand=True), strict=True)
    for visit, base in pairs:
        base_weights = base.layer.weights(base.dims)
        for name, weight in visit.layer.weights(visit.dims).items():
            found = _multipliers_of(shape, update, visit, weight, base_weights[name])
            decay = 0.0 if weight.role == "vector" else found.weight_decay  # biases and gains do not decay
            for tree, value in zip(trees, (weight.role, found.lr, decay), strict=True):
                _put(tree, (*visit.path, name), value)
    return trees


def _multipliers_of(shape: Shape, update: UpdateKind, visit: Visit, weight: Weight, base: Weight) -> Multipliers:
    return multipliers(
        shape.spec.parametrization,
        weight.role,
        update,
        m_in=weight.fan_in / base.fan_in,
        # Not the fan-out, the outputs of one input, which is less where channels or heads have arrays of their own.
        m_out=(weight.size / weight.fan_in) / (base.size / base.fan_in),
        m_depth=depth_ratio(shape),
        in_branch=visit.in_branch,
    )


def _put(tree: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value
