"""Programs of networks under an execution, as the operations that XLA is given."""

import jax
import jax.numpy as jnp

from scaling.learning.objectives import make_batch, training_loss
from scaling.models.network import abstract_variables, build
from scaling.models.shape import Shape
from scaling.specs.execution import Execution
from scaling.specs.models import (
    ConvNetSpec,
    InceptionSpec,
    LSTMSpec,
    MLPSpec,
    ResNetSpec,
    TransformerSpec,
    ViTSpec,
    XceptionSpec,
)
from scaling.specs.task import TaskShape, image_task, token_task

IMAGES, SMALL_IMAGES = image_task(32, 10), image_task(8, 10)
NUMBERS = TaskShape(num_features=16, vocab_size=None, num_classes=10)
TEXT, MASKED = token_task(16, 8), token_task(16, 8, "masked")

EVERY_FAMILY = {
    "mlp": (MLPSpec(width=16, depth=1), NUMBERS),
    "mlp by proportions": (MLPSpec(width=16, proportions=(2, 1)), NUMBERS),
    "convnet": (ConvNetSpec(width=16, depth=1), IMAGES),
    "convnet with group norm": (ConvNetSpec(width=16, depth=1, normalization="group"), IMAGES),
    "lenet5": (ConvNetSpec(form="lenet5", width=84), image_task(32, 10, channels=1)),
    "resnet": (ResNetSpec(width=8, depth=1), IMAGES),
    "inception": (InceptionSpec(width=64), IMAGES),
    "xception": (XceptionSpec(width=64, depth=1), IMAGES),
    "lstm": (LSTMSpec(width=8, depth=1), TEXT),
    "decoder": (TransformerSpec(width=16, depth=1, tied=True, dropout=0.1), TEXT),
    "decoder under muP": (
        TransformerSpec(width=32, depth=1, positions="sinusoidal", parametrization="mup", base_width=16),
        TEXT,
    ),
    "decoder like llama": (TransformerSpec(width=16, depth=1, is_gated=True, normalization="rms", bias=False), TEXT),
    "decoder of experts": (TransformerSpec(width=16, depth=1, num_experts=4, top_k=2), TEXT),
    "encoder": (TransformerSpec(form="encoder", width=16, depth=1, norm_position="post", num_segments=2), MASKED),
    "encoder and decoder": (TransformerSpec(form="encoder_decoder", width=16, depth=1), TEXT),
    "vit": (ViTSpec(width=16, depth=1), IMAGES),
}


def inputs_of(task: TaskShape, dtype=jnp.float32):
    if task.vocab_size:
        length = task.num_features + (task.objective == "next_token")
        return jax.random.randint(jax.random.key(7), (4, length), 0, task.vocab_size - 1)
    return jax.random.normal(jax.random.key(7), (4, *task.dims), dtype)


def loss_under(shape: Shape, execution: Execution, *, dtype=jnp.float32, taps=None):
    """Returns (parameters, state) → (loss, (outputs, state))."""
    model = build(shape, execution)
    batch = make_batch(shape.task, inputs_of(shape.task, dtype), jnp.zeros(4, jnp.int32), jax.random.key(1))

    def loss(params, state):
        variables = {"params": params, "state": state}
        outputs, state = model.apply(variables, batch.inputs, train=True, key=jax.random.key(2), taps=taps)
        return training_loss(outputs, batch), (outputs, state)

    return loss


def gradient_program(shape: Shape, execution: Execution, dtype=jnp.float32):
    """Returns the operations of a gradient, before XLA sees them."""
    variables = abstract_variables(shape)
    params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), variables["params"])
    gradient = jax.grad(loss_under(shape, execution, dtype=dtype), has_aux=True)
    return jax.make_jaxpr(gradient)(params, variables["state"]).jaxpr


def operations(program):
    """Yields the operations of a program and of those inside it."""
    for operation in program.eqns:
        yield operation
        for value in operation.params.values():
            for held in value if isinstance(value, tuple | list) else [value]:
                inner = getattr(held, "jaxpr", held)
                if hasattr(inner, "eqns"):
                    yield from operations(inner)
