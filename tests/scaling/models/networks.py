"""One network of every kind, small, and what tests compute of them."""

import jax
import jax.numpy as jnp
import pytest

from scaling.learning.objectives import make_batch, training_loss
from scaling.models.network import build
from scaling.models.registry import make_shape
from scaling.models.shape import Shape
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

IMAGES = image_task(32, 10)
NUMBERS = TaskShape(num_features=64, vocab_size=None, num_classes=10)
LABELLED = TaskShape(num_features=16, vocab_size=32, num_classes=3)
TEXT = token_task(32, 16)
MASKED = token_task(32, 16, "masked")
PERMUTED = token_task(32, 16, "permuted")

NETWORKS = {
    "mlp": (MLPSpec(width=64, depth=3), NUMBERS),
    "mlp on tokens": (MLPSpec(width=64, depth=2), LABELLED),
    "mlp residual": (MLPSpec(width=64, depth=3, residual=True, normalization="layer", dropout=0.1), NUMBERS),
    "convnet": (ConvNetSpec(width=64, depth=2), IMAGES),
    "convnet with batch norm": (ConvNetSpec(width=64, depth=1, normalization="batch"), IMAGES),
    "lenet5": (ConvNetSpec(form="lenet5", width=84), image_task(32, 10, channels=1)),
    "lenet5_dense": (ConvNetSpec(form="lenet5_dense", width=84), image_task(32, 10, channels=1)),
    "alexnet": (ConvNetSpec(form="alexnet", width=64, dense_width=256), image_task(99, 10)),
    "resnet": (ResNetSpec(width=32, depth=2), IMAGES),
    "resnet bottleneck": (
        ResNetSpec(form="imagenet", block="bottleneck", width=64, depth=1, shortcut="projection"),
        IMAGES,
    ),
    "resnet plain": (ResNetSpec(width=32, depth=2, residual=False), IMAGES),
    "inception": (InceptionSpec(width=128), IMAGES),
    "inception 2014": (
        InceptionSpec(form="googlenet", normalization="none", width=128, auxiliary=True),
        image_task(96, 10),
    ),
    "inception_v3": (InceptionSpec(form="inception_v3", width=256, auxiliary=True), image_task(107, 10)),
    "xception": (XceptionSpec(width=256, depth=2), IMAGES),
    "lstm": (LSTMSpec(width=32, depth=2), TEXT),
    "lstm classifier": (LSTMSpec(width=32, depth=2, residual=True, dropout=0.1), LABELLED),
    "decoder": (TransformerSpec(width=64, depth=2), TEXT),
    "decoder like llama": (
        TransformerSpec(
            width=64,
            depth=2,
            head_size=16,
            num_kv_heads=2,
            is_gated=True,
            activation="silu",
            normalization="rms",
            bias=False,
        ),
        TEXT,
    ),
    "decoder like gpt2": (TransformerSpec(width=64, depth=2, positions="learned", tied=True, dropout=0.1), TEXT),
    "decoder of experts": (TransformerSpec(width=32, depth=2, num_experts=4, top_k=2), TEXT),
    "encoder": (
        TransformerSpec(form="encoder", width=64, depth=2, positions="learned", norm_position="post", num_segments=2),
        MASKED,
    ),
    "encoder permuted": (
        TransformerSpec(form="encoder", width=64, depth=2, positions="relative", norm_position="post"),
        PERMUTED,
    ),
    "encoder classifier": (TransformerSpec(form="encoder", width=64, depth=2), LABELLED),
    "encoder and decoder": (
        TransformerSpec(form="encoder_decoder", width=64, depth=2, positions="sinusoidal", tied=True),
        TEXT,
    ),
    "vit": (ViTSpec(width=64, depth=2), IMAGES),
}

each_network = pytest.mark.parametrize("name", NETWORKS)


def network(name: str) -> Shape:
    return make_shape(*NETWORKS[name])


def examples(task: TaskShape, size: int = 4):
    key = jax.random.key(7)
    if task.vocab_size:
        length = task.num_features + (task.objective == "next_token")
        return jax.random.randint(key, (size, length), 0, task.vocab_size - 1)
    return jax.random.normal(key, (size, *task.dims))


def loss_of(shape: Shape, inputs, state):
    model, labels = build(shape), jnp.zeros(len(inputs), jnp.int32)
    batch = make_batch(shape.task, inputs, labels, jax.random.key(1))

    def loss(params):
        outputs, new_state = model.apply(
            {"params": params, "state": state}, batch.inputs, train=True, key=jax.random.key(2)
        )
        return training_loss(outputs, batch), new_state

    return loss
