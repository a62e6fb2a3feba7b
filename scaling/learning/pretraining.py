"""Greedy layer-wise pre-training: each hidden layer of an MLP first learns to reconstruct what it sees, from below up.

The recipe for deep networks of sigmoids before rectifiers and better initial values (Bengio et al. 2006; with corrupted
inputs, Vincent et al. 2008). Dims: B batch, F inputs of a layer, D its width.
"""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from scaling.models.families.mlp import hidden_paths, widths
from scaling.models.modules.core import ACTIVATIONS
from scaling.models.shape import Shape
from scaling.specs.base import InputError
from scaling.specs.training import LayerwiseSpec, TrainingSpec


def check_pretraining(shape: Shape) -> None:
    """Checks that a network can be pre-trained layer by layer.

    Raises:
      InputError: it is no plain MLP on numbers.
    """
    spec = shape.spec
    if spec.kind != "mlp":
        raise InputError(
            f"training.pretraining is set, but a {spec.kind} has no recipe for it; leave it out, or use mlp"
        )
    if shape.task.vocab_size is not None:
        raise InputError("training.pretraining reconstructs numbers, but these examples are tokens; leave it out")
    if spec.residual or spec.normalization != "none":
        raise InputError(
            f"training.pretraining is for plain layers, but model.residual={spec.residual} and "
            f"model.normalization={spec.normalization!r}; switch these off, or leave it out"
        )


def pretrain_layers(
    shape: Shape,
    spec: LayerwiseSpec,
    params: dict[str, Any],
    batch_at: Callable[[jax.Array], jax.Array],
    key: jax.Array,
) -> dict[str, Any]:
    """Returns the parameters after every hidden layer has learnt to reconstruct its input; the head is as before.

    A layer h = f(x W + b) is trained with tied weights as x̂ = h Wᵀ + c on ½ ‖x̂ - x‖², summed over features and averaged
    over the batch, by plain gradient descent; then it stays, and the next one sees its outputs.

    Args:
      shape: a plain MLP on numbers.
      spec: steps of each layer, learning rate, corruption.
      params: the parameters of the network.
      batch_at: step → inputs, [B, F].
      key: draws the corruption.
    """
    activation = ACTIVATIONS[shape.spec.activation]
    paths = hidden_paths(shape)

    for number, path in enumerate(paths):
        below = [_at(params, lower) for lower in paths[:number]]

        def inputs_at(step: jax.Array, below: Any = below) -> jax.Array:
            x = batch_at(step)
            for layer in below:
                x = activation(x @ layer["kernel"] + layer["bias"][None])  # [B, D]
            return x

        def error(layer: dict[str, jax.Array], x: jax.Array, seen: jax.Array) -> jax.Array:
            hidden = activation(seen @ layer["kernel"] + layer["bias"][None])  # [B, D]
            rebuilt = hidden @ layer["kernel"].T + layer["visible_bias"][None]  # [B, F]
            return 0.5 * jnp.square(rebuilt - x).sum(axis=-1).mean()

        def step_layer(step: jax.Array, layer: Any, number: int = number, inputs_at: Any = inputs_at) -> Any:
            x = inputs_at(step)
            step_key = jax.random.fold_in(jax.random.fold_in(key, number), step)
            seen = x * jax.random.bernoulli(step_key, 1.0 - spec.corruption, x.shape) if spec.corruption else x
            gradients = jax.grad(error)(layer, x, seen)
            return jax.tree.map(lambda p, g: p - spec.peak_lr * g, layer, gradients)

        start = {**_at(params, path), "visible_bias": jnp.zeros(_at(params, path)["kernel"].shape[0])}
        learnt = lax.fori_loop(0, spec.num_steps, step_layer, start)
        params = _with(params, path, {name: learnt[name] for name in ("kernel", "bias")})
    return params


def count_pretraining_flops(shape: Shape, spec: LayerwiseSpec, batch_size: int) -> float:
    """Returns the FLOPs of the whole pre-training.

    A layer costs a step two products forward, its encoding and decoding, and three backward, since the encoder's input
    needs no gradient; the layers below cost one each: 2·(5·F·D + Σ F·D below) an example.
    """
    sizes = [shape.task.num_features, *widths(shape)]
    products = [fan_in * width for fan_in, width in itertools.pairwise(sizes)]
    per_example = sum(2.0 * (5 * own + sum(products[:number])) for number, own in enumerate(products))
    return per_example * spec.num_steps * batch_size


def _at(tree: dict[str, Any], path: tuple[str, ...]) -> Any:
    for name in path:
        tree = tree[name]
    return tree


def _with(tree: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    return {**tree, path[0]: _with(tree[path[0]], path[1:], value)} if path else value


def pretraining_flops(shape: Shape, training: TrainingSpec) -> float:
    """Returns the FLOPs of what comes before the first step of a training; 0 where nothing does."""
    spec = training.pretraining
    return 0.0 if spec is None else count_pretraining_flops(shape, spec, training.batch_size)
