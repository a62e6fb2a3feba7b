"""Draws docs/learning_rate_transfer.png: the best learning rate stays under μP and CompleteP, and moves under standard.

    python docs/learning_rate_transfer.py

Multilayer perceptrons learn what a random network says of random numbers, each example seen once, so that there is no
overfitting and the training loss is the loss. Expected: over eight times the width, the best learning rate of the
standard parametrisation falls by about three octaves, and that of μP stays; over eight times the depth likewise, with
CompleteP. A few minutes on two cores.
"""

from pathlib import Path

import jax
import jax.numpy as jnp

from analysis.plots import save_figure
from analysis.transfer import find_optima, plot_transfer
from launch.text import render_table
from scaling.cell import AdamSpec, CosineSchedule
from scaling.models import TaskShape
from scaling.models.specs import MLPSpec
from scaling.transfer import sweep_learning_rates

NUM_FEATURES, NUM_CLASSES, TEACHER_WIDTH = 32, 10, 64
NUM_STEPS, BATCH_SIZE = 150, 64

TASK = TaskShape(num_features=NUM_FEATURES, vocab_size=None, num_classes=NUM_CLASSES)
OVER_WIDTH = (MLPSpec(width=64, depth=3), (64, 128, 256, 512), ("standard", "mup"))
OVER_DEPTH = (
    MLPSpec(width=64, depth=2, residual=True, normalization="layer"),
    (2, 4, 8, 16),
    ("standard", "completep"),
)


def teach(num_examples: int) -> tuple[jax.Array, jax.Array]:
    """Returns normal numbers [n, F] and the classes [n] that a random network of one hidden layer gives them."""
    keys = jax.random.split(jax.random.key(0), 3)
    numbers = jax.random.normal(keys[0], (num_examples, NUM_FEATURES))
    hidden = jnp.tanh(numbers @ jax.random.normal(keys[1], (NUM_FEATURES, TEACHER_WIDTH)) * NUM_FEATURES**-0.5)
    return numbers, (hidden @ jax.random.normal(keys[2], (TEACHER_WIDTH, NUM_CLASSES))).argmax(-1)


def main() -> None:
    """Trains the sweeps, prints where the optima lie, and writes the figure."""
    inputs, labels = teach(NUM_STEPS * BATCH_SIZE)
    rows = []
    for axis, (spec, values, schemes) in {"width": OVER_WIDTH, "depth": OVER_DEPTH}.items():
        for scheme in schemes:
            rows += sweep_learning_rates(
                spec.model_copy(update={"parametrization": scheme}),
                TASK,
                axis,
                values,
                [2.0**power for power in range(-12, -2)],
                optimizer=AdamSpec(peak_lr=1.0),
                inputs=inputs,
                labels=labels,
                num_steps=NUM_STEPS,
                batch_size=BATCH_SIZE,
                schedule=CosineSchedule(),
            )
    print(render_table(find_optima(rows)))
    title = "Multilayer perceptrons on a random teacher: the best learning rate of each size (dots)"
    save_figure(plot_transfer(rows, title), str(Path(__file__).with_suffix(".png")))


if __name__ == "__main__":
    main()
