"""Plain stacks of convolutions, pools and dense layers of any width, after LeNet, AlexNet and VGG.

Every channel count of a published net scales with `width`, which is that of its last convolution. Dims in comments:
[H, W, C] of the published net.
"""

from itertools import compress, cycle, islice

from scaling.models.counting.sizing import find_shape
from scaling.models.families.convnet_presets import PRESETS as PRESETS
from scaling.models.families.parts import hidden_initializer, normalize, require_image
from scaling.models.layers.core import (
    Activation,
    Dense,
    Dropout,
    Flatten,
    GlobalPool,
    Layer,
    Repeat,
    Role,
    Sequential,
    sequential,
)
from scaling.models.layers.image import AdaptivePool, Affine, Conv, LocalResponseNorm, Padding, Pool, RadialReadout
from scaling.models.shape import Shape
from scaling.specs.base import InputError
from scaling.specs.models import ConvNetSpec
from scaling.specs.task import TaskShape, image_task

TASK = image_task(32, 10)

# The unit of width: channels of the last convolution; of LeNets, units of the last hidden layer. Being the largest, it
# gives the finest ladder of sizes.
PUBLISHED_WIDTHS = {
    "lenet1989": 30,
    "lenet5": 84,
    "lenet5_dense": 84,
    "alexnet": 256,
    "alexnet_torchvision": 256,
    "vgg": 512,
}

# Convolutions per stage of VGG-13, where the compound rule starts; the other nets are published without repeats.
VGG_DEPTH = 2

# Channels of the stages of VGG (Simonyan & Zisserman 2014, table 1).
VGG_CHANNELS = (64, 128, 256, 512, 512)

# Which of the six input maps each of the 16 maps of C3 sees (LeCun et al. 1998, table I).
C3_TABLE = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)

# Each map of H2 sees 8 of the 12 maps of H1. LeCun et al. 1989 keep the scheme to themselves; this one is even.
H2_TABLE = tuple(tuple(sorted((first + step) % 12 for step in range(8))) for first in range(12))

# Dense layers that dropout precedes, the head being number 2: after both hidden layers (Krizhevsky et al. 2012,
# section 4.2; Simonyan & Zisserman 2014, section 3.1), or before both (torchvision).
DROPOUT_PLACES = {"alexnet": (1, 2), "vgg": (1, 2), "alexnet_torchvision": (0, 1)}

# LeCun et al. 1998 put digits of 28 × 28 in the middle of 32 × 32: smaller images are padded by 2 on each side.
LENET5_SIDE = 32


def shape(spec: ConvNetSpec, task: TaskShape) -> Shape:
    """Returns the shape that a specification asks for; with `stages`, its depth is their rounded mean.

    Raises:
      InputError: the examples are no images or too small for this form, fields contradict each other, or the request is
        smaller than this family can be.
    """
    require_image(task, "convnet")
    if spec.stages is not None:
        if spec.form != "vgg":
            raise InputError(f"model.stages={spec.stages} is for model.form=vgg; leave it out for {spec.form}")
        if spec.aspect != "fixed_depth":
            raise InputError(f"model.stages={spec.stages} sets the depth; leave it out for model.aspect={spec.aspect}")
        spec = spec.model_copy(update={"depth": max(1, round(sum(spec.stages) / len(spec.stages)))})
    if spec.dense_width and spec.form not in DROPOUT_PLACES:
        raise InputError(
            f"model.dense_width={spec.dense_width} is for alexnet and vgg; model.form={spec.form} has its own hidden "
            "layer: choose 0"
        )
    published = PUBLISHED_WIDTHS[spec.form], VGG_DEPTH if spec.form == "vgg" else 1
    try:
        layers(Shape(spec, task, published[0], 1, layers)).output(task.dims)
    except InputError as error:
        raise InputError(f"model.form={spec.form}: {error}, or choose model.form=vgg") from None
    return find_shape(spec, task, layers, published=published)


def layers(shape: Shape) -> Layer:
    """Returns convolutions and pools, then [dense →] head."""
    match shape.spec.form:
        case "lenet1989":
            return _lenet1989(shape)
        case "lenet5" | "lenet5_dense":
            return _lenet5(shape)
        case "alexnet" | "alexnet_torchvision":
            return _with_classifier(shape, _alexnet_features(shape), largest_side=6)
        case _:
            return _with_classifier(shape, _vgg_features(shape), largest_side=7)


def scaled(shape: Shape, published: int) -> int:
    """Returns the channels of a shape where the published net has `published`; even where they are in two groups."""
    channels = published * shape.width / PUBLISHED_WIDTHS[shape.spec.form]
    return 2 * max(1, round(channels / 2)) if shape.spec.form == "alexnet" else max(1, round(channels))


def connect(
    table: tuple[tuple[int, ...], ...], num_listed: int, num_in: int, num_out: int
) -> tuple[tuple[int, ...], ...]:
    """Returns a published table of connections at other widths: the maps of each side repeat those of the table.

    Where there are fewer input maps than the table lists, each stands for several.

    >>> connect(((0,), (0, 1)), 2, 4, 3)
    ((0, 2), (0, 1, 2, 3), (0, 2))
    """
    # Output maps share the rows, so that the cost grows with the width and not with its square.
    maps = tuple(range(num_in))
    rows = []
    for row in table:
        seen = {listed % num_in for listed in row}
        rows.append(tuple(compress(maps, cycle([place in seen for place in range(num_listed)]))))
    return tuple(islice(cycle(rows), num_out))


# --- pieces ---------------------------------------------------------------------------------------------------------


def _convolve(
    shape: Shape,
    published: int,
    kernel: int,
    padding: Padding,
    stride: int = 1,
    groups: int = 1,
    role: Role = "hidden",
    connections: tuple[tuple[int, ...], ...] | None = None,
    has_bias_by_place: bool = False,
) -> Sequential:
    """Returns convolution → norm → activation."""
    spec = shape.spec
    return sequential(
        conv=Conv(
            scaled(shape, published),
            (kernel, kernel),
            stride,
            padding,
            groups,
            bias=not has_bias_by_place,
            role=role,
            init=hidden_initializer(spec),
            connections=connections,
        ),
        bias=Affine(by_place=True, group="conv") if has_bias_by_place else None,
        norm=normalize(spec.normalization),
        activation=Activation(spec.activation),
    )


def _classify(shape: Shape, published: tuple[int, ...]) -> Sequential:
    """Returns (Dense → activation) for each published hidden width, and the head."""
    spec, task = shape.spec, shape.task
    places = DROPOUT_PLACES[spec.form] if spec.dense_width else (len(published),)

    def drop(number: int) -> Layer | None:
        return Dropout(spec.dropout) if spec.dropout and number in places else None

    hidden = {
        f"dense_{number}": sequential(
            dropout=drop(number),
            dense=Dense(scaled(shape, width), init=hidden_initializer(spec)),
            activation=Activation(spec.activation),
        )
        for number, width in enumerate(published)
    }
    is_radial = spec.form == "lenet5"
    head = Dense(task.num_classes, role="output", group="head", term="logits")
    return sequential(
        **hidden,
        dropout=drop(len(published)),
        head=RadialReadout(task.num_classes) if is_radial else head,
    )


def _with_classifier(shape: Shape, features: Sequential, largest_side: int) -> Layer:
    """Returns features and dense layers on a grid of them, or on their mean where there are no hidden dense layers."""
    spec = shape.spec
    if not spec.dense_width:
        return sequential(features=features, pool=GlobalPool(), classifier=_classify(shape, ()))
    side = min(largest_side, *features.output(shape.task.dims)[:2])
    # The paper of 2012 has no such pool; at the published size it does nothing.
    grid = None if spec.form == "alexnet" else AdaptivePool(side)
    classifier = _classify(shape, (spec.dense_width, spec.dense_width))
    return sequential(features=features, pool=grid, flatten=Flatten(), classifier=classifier)


# --- the nets -------------------------------------------------------------------------------------------------------


def _lenet1989(shape: Shape) -> Layer:
    """Returns H1, H2, H3 and output of LeCun et al. 1989: kernels are shared by all places, biases are not."""
    first = _convolve(shape, 12, 5, padding=2, stride=2, role="input", has_bias_by_place=True)
    table = connect(H2_TABLE, 12, scaled(shape, 12), scaled(shape, 12))
    second = _convolve(shape, 12, 5, padding=2, stride=2, connections=table, has_bias_by_place=True)
    further = _convolve(shape, 12, 5, padding=2, has_bias_by_place=True)
    return sequential(
        h1=first,  # [8, 8, 12]
        h2=second,  # [4, 4, 12]
        further=Repeat("conv", further, shape.depth - 1),
        flatten=Flatten(),
        classifier=_classify(shape, (30,)),
    )


def _lenet5(shape: Shape) -> Layer:
    """Returns C1, S2, C3, S4, C5, F6 and output of LeCun et al. 1998, section II.B.

    Further convolutions follow C3, where there are still places to convolve over.
    """
    spec = shape.spec
    is_sparse = spec.form == "lenet5"
    table = connect(C3_TABLE, 6, scaled(shape, 6), scaled(shape, 16)) if is_sparse else None

    def subsample() -> Layer:
        if not is_sparse:
            return Pool("mean", 2, 2)
        return sequential(pool=Pool("sum", 2, 2), affine=Affine(group="conv"), activation=Activation(spec.activation))

    padding = 2 if min(shape.task.dims[:2]) < LENET5_SIDE else 0
    return sequential(
        c1=_convolve(shape, 6, 5, padding, role="input"),  # [28, 28, 6]
        s2=subsample(),  # [14, 14, 6]
        c3=_convolve(shape, 16, 5, "VALID", connections=table),  # [10, 10, 16]
        further=Repeat("conv", _convolve(shape, 16, 5, padding=2), shape.depth - 1),
        s4=subsample(),  # [5, 5, 16]
        c5=_convolve(shape, 120, 5, "VALID"),  # [1, 1, 120]
        flatten=Flatten(),
        classifier=_classify(shape, (84,)),
    )


def _alexnet_features(shape: Shape) -> Sequential:
    """Returns five convolutions with overlapping pools: of 2012 in two groups, or of torchvision."""
    is_original = shape.spec.form == "alexnet"
    channels = (96, 256, 384, 384, 256) if is_original else (64, 192, 384, 256, 256)
    groups = 2 if is_original else 1
    response = LocalResponseNorm() if is_original else None
    pool = Pool("max", 3, 2)
    return sequential(
        conv_1=_convolve(shape, channels[0], 11, 0 if is_original else 2, stride=4, role="input"),  # [55, 55, 96]
        response_1=response,
        pool_1=pool,  # [27, 27, 96]
        conv_2=_convolve(shape, channels[1], 5, 2, groups=groups),  # [27, 27, 256]
        response_2=response,
        pool_2=pool,  # [13, 13, 256]
        conv_3=_convolve(shape, channels[2], 3, 1),  # [13, 13, 384], the only one that sees both groups
        conv_4=_convolve(shape, channels[3], 3, 1, groups=groups),
        conv_5=_convolve(shape, channels[4], 3, 1, groups=groups),  # [13, 13, 256]
        further=Repeat("conv", _convolve(shape, channels[4], 3, 1, groups=groups), shape.depth - 1),
        pool_5=pool,  # [6, 6, 256]
    )


def _vgg_features(shape: Shape) -> Sequential:
    """Returns stages of 3×3 convolutions, each with a pool after it as long as two places a side are left."""
    side = min(shape.task.dims[:2])
    stages = {}
    for number, depth in enumerate(shape.spec.stages or (shape.depth,) * len(VGG_CHANNELS)):
        channels = VGG_CHANNELS[min(number, len(VGG_CHANNELS) - 1)]
        can_pool = side // 2 >= 2
        side = side // 2 if can_pool else side
        stages[f"stage_{number}"] = sequential(
            first=_convolve(shape, channels, 3, 1, role="hidden" if number else "input"),
            further=Repeat("conv", _convolve(shape, channels, 3, 1), depth - 1),
            pool=Pool("max", 2, 2) if can_pool else None,
        )
    return sequential(**stages)
