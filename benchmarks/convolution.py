"""Times convolutions inside a compiled loop, where training runs: XLA's own beside a sum of shifted matrix products.

    python benchmarks/convolution.py

Both run in one process, in turn, seven times; printed are the medians of CPU seconds a step (forward and backward) and
their ratio. It is what `scaling/models/image_modules.py` chooses by.
"""

import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from launch.text import render_table
from scaling.models.image_modules import convolve

STEPS, REPEATS = 5, 7
BATCH = 64
# (side, channels, kernel): a small VGG on 28 × 28 images, a CIFAR ResNet's stages, and LeNet's 5 × 5.
CASES = ((28, 16, 3), (32, 16, 3), (16, 32, 3), (8, 64, 3), (14, 16, 5))


def by_xla(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns XLA's convolution."""
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def by_products(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns what networks run on CPUs."""
    return convolve(x, kernel, 1, "SAME", 1)


def make_loop(convolution: Callable[[jax.Array, jax.Array], jax.Array]) -> Callable[..., jax.Array]:
    """Returns `STEPS` steps of gradient descent on two convolutions, as one compiled call."""

    def loss(kernels: jax.Array, x: jax.Array) -> jax.Array:
        hidden = jax.nn.relu(convolution(x, kernels[0]))
        return jnp.square(convolution(hidden, kernels[1])).mean()

    def loop(kernels: jax.Array, x: jax.Array) -> jax.Array:
        return lax.fori_loop(0, STEPS, lambda _, k: k - 1e-3 * jax.grad(loss)(k, x), kernels)

    return jax.jit(loop)


def main() -> None:
    """Prints one row a case."""
    rows = []
    for side, channels, kernel in CASES:
        x = jax.random.normal(jax.random.key(0), (BATCH, side, side, channels))
        kernels = 0.1 * jax.random.normal(jax.random.key(1), (2, kernel, kernel, channels, channels))
        loops = {"XLA": make_loop(by_xla), "products": make_loop(by_products)}
        seconds: dict[str, list[float]] = {name: [] for name in loops}
        for repeat in range(REPEATS + 1):
            for name, loop in loops.items():
                start = time.process_time()
                loop(kernels, x).block_until_ready()
                if repeat:  # the first compiles
                    seconds[name].append((time.process_time() - start) / STEPS)
        medians = {name: statistics.median(found) for name, found in seconds.items()}
        case = {"images": f"{side} x {side} x {channels}", "kernel": f"{kernel} x {kernel}"}
        rows.append(case | {f"{name} s/step": value for name, value in medians.items()})
        rows[-1]["XLA / products"] = medians["XLA"] / medians["products"]
    print(render_table(rows))


if __name__ == "__main__":
    main()
