"""Multilayer perceptrons of any size; token inputs are embedded and laid side by side (Bengio et al. 2003).

Dims: F features, T tokens, V vocabulary, E embedding width, D hidden width, L hidden layers, K classes.
"""

from scaling.models.counting.sizing import find_shape
from scaling.models.families.parts import hidden_initializer, normalize
from scaling.models.layers.core import (
    Activation,
    Dense,
    Dropout,
    Flatten,
    Initializer,
    Layer,
    Repeat,
    Residual,
    sequential,
)
from scaling.models.layers.sequence import Embed
from scaling.models.shape import Preset, Shape
from scaling.specs.base import InputError
from scaling.specs.models import MLPSpec
from scaling.specs.task import TaskShape, image_task

TASK = image_task(28, 10, channels=1)

PRESETS = {
    # LeCun et al. 1998, section III.C: 28 × 28 inputs, 300 and 100 hidden units.
    "lenet300_100": Preset(MLPSpec(width=300, proportions=(3, 1), activation="tanh"), TASK),
}


def shape(spec: MLPSpec, task: TaskShape) -> Shape:
    """Returns the shape that a specification asks for.

    Raises:
      InputError: tokens are to be predicted, the request is smaller than this family can be, or residual layers would
        change their width.
    """
    if task.predicts_tokens:
        raise InputError(
            f"model.kind=mlp cannot predict tokens, which data.source asks for (objective {task.objective}); choose "
            "lstm or transformer, or a source with labels"
        )
    if spec.proportions is not None:
        if spec.residual:
            raise InputError("model.residual=true needs hidden layers of one width; leave model.proportions out")
        spec = spec.model_copy(update={"depth": len(spec.proportions), "aspect": "fixed_depth"})
    return find_shape(spec, task, layers)


def widths(shape: Shape) -> list[int]:
    """Returns the hidden layers' widths."""
    proportions = shape.spec.proportions or (1,) * shape.depth
    return [max(1, round(shape.width * share / proportions[0])) for share in proportions]


def layers(shape: Shape) -> Layer:
    """Returns [embedding →] (Dense → norm → activation → dropout) × L → Dense.

    With `residual`, every hidden layer after the first adds W · activation(norm(x)) to its input x, which is the same
    network with shortcuts.
    """
    spec, task = shape.spec, shape.task
    init = hidden_initializer(spec)

    def activate() -> Layer:
        return sequential(
            norm=normalize(spec.normalization),
            activation=Activation(spec.activation),
            dropout=Dropout(spec.dropout) if spec.dropout else None,
        )

    first, *others = widths(shape)
    hidden: dict[str, Layer | None] = {"first": Dense(first, role="input", init=init)}
    if shape.spec.proportions is None:
        step: Layer = sequential(before=activate(), dense=Dense(first, init=init))
        hidden["others"] = Repeat("layer", Residual(step) if spec.residual else step, shape.depth - 1)
    else:
        for number, width in enumerate(others):
            hidden[f"layer_{number}"] = sequential(before=activate(), dense=Dense(width, init=init))
    return sequential(
        embedding=Embed(task.vocab_size, spec.embedding_width, Initializer("normal")) if task.vocab_size else None,
        flatten=Flatten(),
        hidden=sequential(**hidden),
        after=activate(),
        head=Dense(task.num_classes, role="output", group="head", term="logits"),
    )


def hidden_paths(shape: Shape) -> list[tuple[str, ...]]:
    """Returns where the parameters of each hidden layer are, from the first on."""
    paths: list[tuple[str, ...]] = [("hidden", "first")]
    for number in range(shape.depth - 1):
        if shape.spec.proportions is not None:
            paths.append(("hidden", f"layer_{number}", "dense"))
        else:
            branch = ("branch",) if shape.spec.residual else ()
            paths.append(("hidden", "others", f"layer_{number}", *branch, "dense"))
    return paths
