"""How blocks are run: equal ones compiled once and run in a loop, and computed again in the backward pass.

Either way a block becomes a pure function of its arrays, its input and its key, for that is what JAX transforms.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from scaling.models.kernels.products import PRODUCT
from scaling.models.layers import core as layers
from scaling.models.layers.core import Dims, Layer
from scaling.models.layers.sequence import LSTM, Embed
from scaling.models.modules.context import Context

# Products beside `dot_general` that are worth keeping; by name, for JAX exports not all of them.
KEPT_PRODUCTS = ("conv_general_dilated", "ragged_dot_general", "ragged_dot")


def _keeps_products(primitive: Any, *avals: Any, **params: Any) -> bool:
    """Returns whether an operation is a product with a matrix or kernel; attention's products are not."""
    keeps_matmuls: Any = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    is_named = primitive.name == "name" and params["name"] == PRODUCT
    return is_named or primitive.name in KEPT_PRODUCTS or bool(keeps_matmuls(primitive, *avals, **params))


POLICIES: dict[str, Callable[..., bool]] = {
    "dots": _keeps_products,
    "full": jax.checkpoint_policies.nothing_saveable,
}


def split_module(module: nnx.Module) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Returns a module's definition, its parameters and its other state, the last two as plain nested dicts."""
    parts: Any = nnx.split(module, nnx.Param, ...)
    graph, params, state = parts
    return graph, nnx.to_pure_dict(params), nnx.to_pure_dict(state)


def is_block(layer: Layer, dims: Dims) -> bool:
    """Returns whether a layer outside any repeated one is computed again as a whole in the backward pass.

    Residual layers, branches and recurrent layers are, and what stands around a single product: a convolution with its
    norm and activation. Embeddings, readouts and auxiliary classifiers never are.
    """
    if not isinstance(layer, layers.Residual | layers.Branches | layers.Sequential | LSTM):
        return False
    visits = list(layers.walk(layer, dims))
    if any(isinstance(visit.layer, Embed) for visit in visits):
        return False
    weights = [weight for visit in visits for weight in visit.layer.weights(visit.dims).values() if weight.is_matmul]
    if any(weight.role == "output" for weight in weights):
        return False
    return not isinstance(layer, layers.Sequential) or len(weights) == 1


def run_block(block: Any, x: Any, context: Context) -> Any:
    """Returns the output of a block, of which the backward pass keeps no more than `execution.remat` says."""
    if not context.computes_again:
        return block(x, context)
    graph, params, state = split_module(block)
    x, state, penalties, auxiliary = _pure(graph, context)(params, state, x, context.key)
    _write_state(block, state)
    context.penalties.extend(penalties)
    context.auxiliary.extend(auxiliary)
    return x


def scan_blocks(blocks: Sequence[Any], x: Any, context: Context, keys: Callable[[Any], jax.Array | None]) -> Any:
    """Returns the output of equal blocks, one after the other, as one loop whose body is compiled once.

    Their arrays are stacked here, and stay apart wherever they are stored.

    Args:
      blocks: modules of one layer.
      x: the input of the first.
      context: the context of the first; its path says from where on paths are alike.
      keys: number of a block, which may be traced → its key.
    """
    graph = split_module(blocks[0])[0]
    each = [split_module(block)[1:] for block in blocks]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)  # a leaf is [L, …]
    run = _pure(graph, context)

    def body(x: Any, block: Any) -> Any:
        (params, state), number = block
        x, *said = run(params, state, x, keys(number))
        return x, said

    x, said = lax.scan(body, x, (stacked, jnp.arange(len(blocks))))
    for number, block in enumerate(blocks):
        state, penalties, auxiliary = jax.tree.map(lambda leaf, number=number: leaf[number], said)
        _write_state(block, state)
        context.penalties.extend(penalties)
        context.auxiliary.extend(auxiliary)
    return x


def _pure(graph: Any, context: Context) -> Callable[..., Any]:
    """Returns (params, state, x, key) → (output, state, penalties, auxiliary logits) of a block, under its policy."""

    def run(params: Any, state: Any, x: Any, key: jax.Array | None) -> Any:
        block = nnx.merge(graph, nnx.State(params), nnx.State(state))
        inside = dataclasses.replace(context, key=key, penalties=[], auxiliary=[], in_block=True)
        y = block(x, inside)
        return y, split_module(block)[2], inside.penalties, inside.auxiliary

    if not context.computes_again:
        return run
    return jax.checkpoint(run, policy=POLICIES[context.execution.remat])


def _write_state(block: nnx.Module, state: dict[str, Any]) -> None:
    """Keeps new batch statistics."""
    if state:
        nnx.update(block, nnx.State(state))
