"""Xception networks of any size: depthwise separable convolutions with residual connections (Chollet 2016).

Dims: H, W, C image height, width and channels; K classes. Channels are given as published and scale with `width`,
which is the last ones'.
"""

from scaling.models.counting.sizing import find_shape
from scaling.models.families.parts import hidden_initializer, normalize, require_image
from scaling.models.layers.core import (
    Activation,
    Dense,
    Dropout,
    GlobalPool,
    Initializer,
    Layer,
    Repeat,
    Residual,
    Role,
    Sequential,
    sequential,
)
from scaling.models.layers.image import Conv, Padding, Pool
from scaling.models.shape import Preset, Shape
from scaling.specs.base import InputError
from scaling.specs.models import XceptionSpec
from scaling.specs.task import TaskShape, image_task

TASK = image_task(32, 10)

PRESETS = {
    # Chollet 2016, figure 5, as in Keras; dropout before the readout is of section 4.4.
    "xception": Preset(XceptionSpec(width=2048, dropout=0.5), image_task(299, 1000)),
}

# Chollet 2016, figure 5: the two convolutions of the stem, both separable convolutions of each module of the entry
# flow, the three of each module of the middle flow, and the exit flow's module and last two separable convolutions.
STEM = (32, 64)
ENTRY = (128, 256, 728)
MIDDLE, MIDDLE_CONVS = 728, 3
EXIT_MODULE, LAST = (728, 1024), (1536, 2048)

EPSILON = 1e-3  # of batch norm, Keras's default
SMALLEST_SIDE = 7  # the stem's two 3×3 windows do not stick out


def shape(spec: XceptionSpec, task: TaskShape) -> Shape:
    """Returns the shape that a specification asks for.

    Raises:
      InputError: the examples are no images or are too small, or no network has about the size asked for.
    """
    side = min(require_image(task, "xception")[:2])
    if side < SMALLEST_SIDE:
        raise InputError(
            f"model.kind=xception needs images of side {SMALLEST_SIDE} or more, but these have {side}; "
            "choose mlp, or larger images"
        )
    return find_shape(spec, task, layers, published=(LAST[-1], 8))


def layers(shape: Shape) -> Layer:
    """Returns stem → entry flow → middle flow, `depth` modules → exit flow → mean over places → dropout → Dense.

    Without `residual` the modules are the same, less their shortcuts and the convolutions on these.
    """
    spec = shape.spec
    init = hidden_initializer(spec)
    # Nothing rectifies the input of a pointwise convolution, so `he` would double the variance at each.
    pointwise_init = Initializer("lecun") if spec.initializer == "auto" else init
    has_norm = spec.normalization != "none"

    def channels(published: int) -> int:
        return max(1, round(published * shape.width / LAST[-1]))

    def activate() -> Layer:
        return Activation(spec.activation)

    def conv(published: int, kernel: int, stride: int, padding: Padding, role: Role = "hidden") -> Sequential:
        layer = Conv(channels(published), (kernel, kernel), stride, padding, bias=not has_norm, role=role, init=init)
        return sequential(conv=layer, norm=normalize(spec.normalization, EPSILON))

    def separable(published: int) -> Sequential:
        # One norm and no activation between the two, which the paper found best (section 4.7).
        return sequential(
            depthwise=Conv(None, (3, 3), depthwise=True, bias=False, init=init),
            pointwise=Conv(channels(published), (1, 1), bias=not has_norm, init=pointwise_init),
            norm=normalize(spec.normalization, EPSILON),
        )

    def add(branch: Sequential, shortcut: Layer | None = None) -> Layer:
        return Residual(branch, shortcut) if spec.residual else branch

    def shrinking(first: int, second: int, activates_first: bool) -> Layer:
        branch = sequential(
            activation_1=activate() if activates_first else None,
            separable_1=separable(first),
            activation_2=activate(),
            separable_2=separable(second),
            pool=Pool("max", 3, 2, "SAME"),
        )
        return add(branch, conv(second, 1, 2, "SAME"))

    stem = sequential(
        conv_1=conv(STEM[0], 3, 2, "VALID", role="input"),
        activation_1=activate(),
        conv_2=conv(STEM[1], 3, 1, "VALID"),
        activation_2=activate(),
    )
    entry: dict[str, Layer | None] = {
        # The stem ends in an activation already.
        f"module_{number}": shrinking(width, width, activates_first=number > 0)
        for number, width in enumerate(ENTRY)
    }
    middle: dict[str, Layer | None] = {}
    for number in range(MIDDLE_CONVS):
        middle |= {f"activation_{number}": activate(), f"separable_{number}": separable(MIDDLE)}
    last: dict[str, Layer | None] = {}
    for number, width in enumerate(LAST):
        last |= {f"separable_{number}": separable(width), f"activation_{number}": activate()}
    return sequential(
        stem=stem,
        entry=sequential(**entry),
        middle=Repeat("module", add(sequential(**middle)), shape.depth),
        exit=sequential(module=shrinking(*EXIT_MODULE, activates_first=True), last=sequential(**last)),
        pool=GlobalPool(),
        dropout=Dropout(spec.dropout) if spec.dropout else None,
        head=Dense(shape.task.num_classes, role="output", group="head", term="logits"),
    )
