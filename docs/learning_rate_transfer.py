"""Draws docs/learning_rate_transfer.png: the best learning rate stays under μP and CompleteP, and moves under standard.

    python docs/learning_rate_transfer.py

Multilayer perceptrons learn what a random network says of random numbers, each example seen once, so that there is no
overfitting and the training loss is the loss. Expected: the best learning rate of the standard parametrisation halves
whenever the width doubles, and that of μP stays; over eight times the depth that of the standard one falls by an octave
or more while its networks learn less, and that of CompleteP stays. Three minutes on two cores.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from analysis.checks.transfer import find_optima, plot_transfer
from analysis.figures.style import save_figure
from launch.text import render_table
from scaling.checks.coordinates import Axis
from scaling.checks.transfer import sweep_learning_rates
from scaling.specs.models import MLPSpec
from scaling.specs.schedules import CosineSchedule
from scaling.specs.task import TaskShape
from scaling.specs.training import AdamSpec

NUM_FEATURES, NUM_CLASSES, TEACHER_WIDTH = 32, 10, 64
NUM_STEPS, BATCH_SIZE = 150, 64

TASK = TaskShape(num_features=NUM_FEATURES, vocab_size=None, num_classes=NUM_CLASSES)
LEARNING_RATES = [2.0 ** (power / 2) for power in range(-23, -8)]  # a step is √2
SWEEPS: dict[Axis, tuple[MLPSpec, tuple[int, ...], tuple[str, str]]] = {
    "width": (MLPSpec(width=64, depth=3, activation="tanh"), (64, 128, 256, 512), ("standard", "mup")),
    "depth": (
        MLPSpec(width=64, depth=2, activation="tanh", residual=True),
        (2, 4, 8, 16),
        ("standard", "completep"),
    ),
}


def teach(num_examples: int) -> tuple[jax.Array, jax.Array]:
    """Returns normal numbers [n, F] and the classes [n] that a random network of one hidden layer gives them."""
    keys = jax.random.split(jax.random.key(0), 3)
    numbers = jax.random.normal(keys[0], (num_examples, NUM_FEATURES))
    hidden = jnp.tanh(numbers @ jax.random.normal(keys[1], (NUM_FEATURES, TEACHER_WIDTH)) * NUM_FEATURES**-0.5)
    return numbers, (hidden @ jax.random.normal(keys[2], (TEACHER_WIDTH, NUM_CLASSES))).argmax(-1)


def sweep() -> list[dict[str, Any]]:
    """Returns the final losses of all sizes and learning rates, under all parametrisations."""
    inputs, labels = teach(NUM_STEPS * BATCH_SIZE)
    rows = []
    for axis, (spec, values, schemes) in SWEEPS.items():
        for scheme in schemes:
            rows += sweep_learning_rates(
                spec.model_copy(update={"parametrization": scheme}),
                TASK,
                axis,
                values,
                LEARNING_RATES,
                optimizer=AdamSpec(peak_lr=1.0),
                inputs=inputs,
                labels=labels,
                num_steps=NUM_STEPS,
                batch_size=BATCH_SIZE,
                schedule=CosineSchedule(),
            )
    return rows


def main() -> None:
    """Trains the sweeps, prints where the optima lie, and writes the figure."""
    rows = sweep()
    print(render_table(find_optima(rows)))
    title = "Best learning rate of each size (dots), beside the smallest's (dotted): perceptrons, random teacher"
    save_figure(plot_transfer(rows, title), str(Path(__file__).with_suffix(".png")))


if __name__ == "__main__":
    main()
