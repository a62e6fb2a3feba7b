"""Vision transformers: an image as a row of patches (Dosovitskiy et al. 2020).

Dims (of one example): P patch side, T patches (and the class token), D width, H heads, K head size, F hidden width,
L blocks.
"""

from typing import Any

from scaling.models.counting.sizing import find_shape
from scaling.models.families.parts import require_image
from scaling.models.families.transformer import (
    Block,
    can_split,
    dropout,
    find_ff_width,
    initializer,
    settle_depth,
    split_heads,
)
from scaling.models.layers.core import Dense, GlobalPool, Initializer, Layer, sequential
from scaling.models.layers.image import Conv
from scaling.models.layers.sequence import ImageTokens, LearnedPositions, LearnedVector
from scaling.models.shape import Preset, Shape
from scaling.specs.base import InputError
from scaling.specs.models import ViTSpec
from scaling.specs.task import TaskShape, image_task

TASK = image_task(32, 10)

# Of the authors' code (google-research/vision_transformer) and of torchvision.
EPSILON = 1e-6


def _published(depth: int, width: int, patch_size: int = 16, head_size: int = 64) -> Preset:
    spec = ViTSpec(depth=depth, width=width, patch_size=patch_size, head_size=head_size)
    return Preset(spec, image_task(224, 1000))


PRESETS = {
    # Dosovitskiy et al. 2020, table 1; the two smaller ones from Touvron et al. 2020 (DeiT), table 1.
    "vit_ti16": _published(12, 192),
    "vit_s16": _published(12, 384),
    "vit_b16": _published(12, 768),
    "vit_l16": _published(24, 1024),
    "vit_h14": _published(32, 1280, patch_size=14, head_size=80),
}


def shape(spec: ViTSpec, task: TaskShape) -> Shape:
    """Returns the shape that a specification asks for.

    Raises:
      InputError: the examples are no images, the patches do not tile them, or no network is near the request.
    """
    height, width, _ = require_image(task, "vit")
    if height % spec.patch_size or width % spec.patch_size:
        fits = [size for size in range(1, spec.patch_size) if height % size == 0 and width % size == 0]
        raise InputError(
            f"model.patch_size={spec.patch_size} does not tile images of {height} by {width}; choose a divisor of both "
            f"sides, such as {fits[-1]}"
        )
    return find_shape(settle_depth(spec), task, layers, admits=lambda width: can_split(width, spec.head_size))


def layers(shape: Shape) -> Layer:
    """Returns patches → linear embedding [→ class token] → positions → blocks → norm → pool → classes."""
    spec, task, block = shape.spec, shape.task, _block_of(shape)
    has_class_token = spec.pooling == "class_token"
    patches = Conv(
        shape.width,
        (spec.patch_size, spec.patch_size),
        spec.patch_size,
        "VALID",
        role="input",
        init=Initializer("lecun"),
        group="embedding",
    )
    num_patches = ImageTokens().output(patches.output(task.dims))[0]
    head = Dense(task.num_classes, role="output", group="head", term="logits")
    return sequential(
        patches=patches,
        tokens=ImageTokens(),
        class_token=LearnedVector("class_token") if has_class_token else None,
        positions=LearnedPositions(num_patches + has_class_token),
        dropout=dropout(spec.dropout),
        blocks=block.stack("full", shape.depth),
        norm=block.final_norm(),
        pool=GlobalPool("first" if has_class_token else "mean"),
        head=None if task.objective == "none" else head,
    )


def details(shape: Shape) -> dict[str, Any]:
    """Returns the sizes inside the blocks, by name."""
    return _block_of(shape).sizes()


def _block_of(shape: Shape) -> Block:
    spec = shape.spec
    heads, head_size = split_heads(shape.width, spec.head_size)
    return Block(
        width=shape.width,
        num_heads=heads,
        head_size=head_size,
        num_kv_heads=heads,
        ff_width=find_ff_width(shape.width, spec.ff_ratio),
        activation=spec.activation,
        normalization=spec.normalization,
        residual=spec.residual,
        dropout=spec.dropout,
        init=initializer(spec),
        epsilon=EPSILON,
    )
