"""Networks as users write them: of NNX and of Linen, one of them the built-in MLP written anew."""

import jax
import jax.numpy as jnp
from flax import linen, nnx

from scaling.models.families.module import annotate
from scaling.models.layers.core import Initializer
from scaling.models.modules.core import rngs_at, sampler


class OwnMLP(nnx.Module):
    """The built-in MLP: the same layers, and with `as_built_in` the same initial values."""

    def __init__(self, width, task, depth, as_built_in, rngs):
        def linear(path, fan_in, fan_out, kind="he"):
            if not as_built_in:
                return nnx.Linear(fan_in, fan_out, rngs=rngs)
            own = rngs_at(rngs.params.key.get_value(), path)
            return nnx.Linear(fan_in, fan_out, kernel_init=sampler(Initializer(kind), fan_in, fan_out), rngs=own)

        self.first = linear("/hidden/first", task.num_features, width)
        others = [linear(f"/hidden/others/layer_{number}/dense", width, width) for number in range(depth - 1)]
        self.others = nnx.List(others)
        self.head = linear("/head", width, task.num_classes, "lecun")

    def __call__(self, x):
        x = nnx.relu(self.first(x.reshape(len(x), -1)))
        for layer in self.others:
            x = nnx.relu(layer(x))
        return self.head(x)


def own_mlp(width, task, *, rngs, depth=2, as_built_in=False):
    return OwnMLP(width, task, depth, as_built_in, rngs)


class GatedMLP(linen.Module):
    """A gated block between two dense layers, with dropout and batch statistics."""

    width: int
    num_classes: int

    @linen.compact
    def __call__(self, x, train):
        x = linen.Dense(self.width, name="inside")(x.reshape(len(x), -1))
        gate = linen.silu(linen.Dense(4 * self.width, use_bias=False, name="gate")(x))
        up = gate * linen.Dense(4 * self.width, use_bias=False, name="up")(x)
        x = x + linen.Dense(self.width, use_bias=False, name="down")(linen.Dropout(0.1)(up, deterministic=not train))
        x = linen.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(x)
        return linen.Dense(self.num_classes, name="outside")(x)


def gated_mlp(width, task):
    return GatedMLP(width, task.num_classes)


class StateSpace(nnx.Module):
    """A small state-space model of tokens: one recurrence by element, gated, with dropout."""

    def __init__(self, width, task, rngs):
        self.embed = nnx.Embed(task.vocab_size, width, rngs=rngs)
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.decay = nnx.Param(jnp.linspace(0.5, 3.0, width))
        self.mix = nnx.Linear(width, 2 * width, rngs=rngs)
        self.out = nnx.Linear(width, width, rngs=rngs)
        self.drop = nnx.Dropout(0.1, rngs=rngs)
        self.readout = nnx.Linear(width, task.num_classes, rngs=rngs)

    def __call__(self, tokens):
        x = self.embed(tokens)  # [B, T, D]
        values, gate = jnp.split(self.mix(self.norm(x)), 2, axis=-1)
        keep = nnx.sigmoid(self.decay[...])

        def step(state, value):
            state = keep[None] * state + (1 - keep[None]) * value
            return state, state

        _, states = jax.lax.scan(step, jnp.zeros_like(values[:, 0]), values.swapaxes(0, 1))
        x = x + self.drop(self.out(states.swapaxes(0, 1) * nnx.silu(gate)))
        return self.readout(x)  # [B, T, V]


def state_space(width, task, rngs):
    return StateSpace(width, task, rngs)


class Scanned(nnx.Module):
    """Matrices stacked in one array, which a loop goes through."""

    def __init__(self, width, task, depth, rngs):
        self.first = nnx.Linear(task.num_features, width, rngs=rngs)
        self.stack = nnx.Param(jax.random.normal(rngs.params(), (depth, width, width)) / width**0.5)
        self.head = nnx.Linear(width, task.num_classes, rngs=rngs)

    def __call__(self, x):
        x, _ = jax.lax.scan(lambda x, matrix: (jnp.tanh(x @ matrix), None), self.first(x), self.stack[...])
        return self.head(x)


def scanned(width, task, rngs, depth=3):
    return Scanned(width, task, depth, rngs)


@annotate(
    roles=lambda path, shape: "input" if path[0] == "first" and len(shape) == 2 else None,
    groups=lambda path, shape: "stem" if path[0] == "first" else None,
)
def said_mlp(width, task, *, rngs):
    return OwnMLP(width, task, 2, False, rngs)


def of_eights(width, task, *, rngs):
    if width % 8:
        raise ValueError(f"width={width} is no multiple of 8 heads")
    return OwnMLP(width, task, 2, False, rngs)


def coarse(width, task, *, rngs):
    return OwnMLP(64 * width, task, 2, False, rngs)


def broken(width, task):
    return undefined_name  # noqa: F821


def no_module(width, task):
    return lambda x: x


class WrongOutputs(nnx.Module):
    """Forgets the classes."""

    def __init__(self, width, task, rngs):
        self.first = nnx.Linear(task.num_features, width, rngs=rngs)

    def __call__(self, x):
        return self.first(x)


def wrong_outputs(width, task, rngs):
    return WrongOutputs(width, task, rngs)


class Uncounted(nnx.Module):
    """Has what no walk can count: a Fourier transform, or products in a loop of unknown length."""

    def __init__(self, width, task, way, rngs):
        self.first = nnx.Linear(task.num_features, width, rngs=rngs)
        self.head = nnx.Linear(width, task.num_classes, rngs=rngs)
        self.way = way

    def __call__(self, x):
        x = self.first(x)
        if self.way == "fft":
            x = jnp.fft.rfft(x, n=2 * x.shape[-1] - 2).real
        else:
            x = jax.lax.while_loop(lambda x: (x > 1.0).any(), lambda x: 0.5 * x @ jnp.eye(x.shape[-1]), x)
        return self.head(x)


def uncounted(width, task, rngs, way="fft"):
    return Uncounted(width, task, way, rngs)
