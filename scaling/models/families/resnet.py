"""Residual networks of any width and depth (He et al. 2015), and their plain twins without shortcuts.

`width` is the channels of the last stage, inside its bottlenecks if it has any; each earlier stage has half as many.
"""

from typing import Literal

from scaling.models.counting.sizing import find_shape
from scaling.models.families.parts import hidden_initializer, normalize, require_image
from scaling.models.layers.core import (
    Activation,
    Dense,
    Dropout,
    GlobalPool,
    Layer,
    Repeat,
    Residual,
    Role,
    Sequential,
    sequential,
)
from scaling.models.layers.image import Conv, Pool
from scaling.models.shape import Preset, Shape
from scaling.specs.base import InputError
from scaling.specs.models import ResNetSpec
from scaling.specs.task import TaskShape, image_task

TASK = image_task(32, 10)

# Stages of each form (He et al. 2015, table 1 and section 4.2).
NUM_STAGES = {"cifar": 3, "imagenet": 4}

# Width and blocks per stage where the compound rule starts: ResNet-20 of CIFAR-10, ResNet-18 of ImageNet.
PUBLISHED = {"cifar": (64, 3), "imagenet": (512, 2)}

# Channels after a bottleneck over those inside it (He et al. 2015, table 1).
EXPANSION = 4

_IMAGENET = image_task(224, 1000)

_STAGES: dict[int, tuple[Literal["basic", "bottleneck"], tuple[int, ...]]] = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}


def _imagenet(layers: int, stride_in: Literal["first", "middle"] = "middle", *, residual: bool = True) -> Preset:
    block, stages = _STAGES[layers]
    spec = ResNetSpec(
        form="imagenet",
        width=512,
        block=block,
        stages=stages,
        stride_in=stride_in,
        shortcut="projection",
        residual=residual,
    )
    return Preset(spec, _IMAGENET)


def _cifar(layers: int, *, residual: bool = True) -> Preset:
    """Returns the net of 6n + 2 layers (section 4.2)."""
    return Preset(ResNetSpec(width=64, depth=(layers - 2) // 6, residual=residual), TASK)


_CIFAR_LAYERS = (20, 32, 44, 56, 110, 1202)

PRESETS = {
    # As torchvision has them: a bottleneck subsamples in its 3×3 convolution (v1.5).
    **{f"resnet{layers}": _imagenet(layers) for layers in _STAGES},
    # As published: it subsamples in its first convolution.
    **{f"resnet{layers}_v1": _imagenet(layers, "first") for layers in (50, 101, 152)},
    **{f"plain{layers}": _imagenet(layers, residual=False) for layers in _STAGES},
    **{f"cifar_resnet{layers}": _cifar(layers) for layers in _CIFAR_LAYERS},
    **{f"cifar_plain{layers}": _cifar(layers, residual=False) for layers in _CIFAR_LAYERS},
}


def shape(spec: ResNetSpec, task: TaskShape) -> Shape:
    """Returns the shape that a specification asks for; with `stages`, its depth is their rounded mean.

    Raises:
      InputError: the examples are no images, fields contradict each other, or the request is smaller than this family
        can be.
    """
    require_image(task, "resnet")
    if spec.stages is not None:
        if spec.aspect != "fixed_depth":
            raise InputError(f"model.stages={spec.stages} sets the depth; leave it out for model.aspect={spec.aspect}")
        spec = spec.model_copy(update={"depth": max(1, round(sum(spec.stages) / len(spec.stages)))})
    return find_shape(spec, task, layers, published=PUBLISHED[spec.form])


def blocks_by_stage(shape: Shape) -> tuple[int, ...]:
    """Returns how many blocks each stage has."""
    return shape.spec.stages or (shape.depth,) * NUM_STAGES[shape.spec.form]


def layers(shape: Shape) -> Layer:
    """Returns stem → stages of blocks → global mean → head."""
    spec, task = shape.spec, shape.task
    channels = stem = _inner_channels(shape, 0)
    expansion = EXPANSION if spec.block == "bottleneck" else 1
    stages = {}
    for number, num_copies in enumerate(blocks_by_stage(shape)):
        inner = _inner_channels(shape, number)
        stages[f"stage_{number}"] = sequential(
            first=_block(spec, channels, inner, stride=2 if number else 1),
            further=Repeat("block", _block(spec, inner * expansion, inner, stride=1), num_copies - 1),
        )
        channels = inner * expansion
    return sequential(
        stem=_stem(spec, stem),
        **stages,
        pool=GlobalPool(),
        dropout=Dropout(spec.dropout) if spec.dropout else None,
        head=Dense(task.num_classes, role="output", group="head", term="logits"),
    )


def _inner_channels(shape: Shape, stage: int) -> int:
    """Returns the channels of a stage, inside its bottlenecks if it has any."""
    return max(1, round(shape.width / 2 ** (NUM_STAGES[shape.spec.form] - 1 - stage)))


def _convolve(spec: ResNetSpec, width: int, kernel: int, stride: int = 1, role: Role = "hidden") -> Sequential:
    """Returns convolution → norm, with zeros on all sides alike and a bias only where no norm follows."""
    has_bias = spec.normalization == "none"
    init = hidden_initializer(spec)
    return sequential(
        conv=Conv(width, (kernel, kernel), stride, kernel // 2, bias=has_bias, role=role, init=init),
        norm=normalize(spec.normalization),
    )


def _stem(spec: ResNetSpec, width: int) -> Sequential:
    is_large = spec.form == "imagenet"
    return sequential(
        conv=_convolve(spec, width, 7, 2, "input") if is_large else _convolve(spec, width, 3, 1, "input"),
        activation=Activation(spec.activation),
        pool=Pool("max", 3, 2, padding=1) if is_large else None,
    )


def _block(spec: ResNetSpec, channels: int, inner: int, stride: int) -> Sequential:
    """Returns activation(shortcut(x) + branch(x)) of x with `channels` (He et al. 2015, equations 1 and 2)."""
    outer = inner * (EXPANSION if spec.block == "bottleneck" else 1)
    if spec.block == "bottleneck":
        strides = (stride, 1) if spec.stride_in == "first" else (1, stride)
        branch = sequential(
            conv_1=_convolve(spec, inner, 1, strides[0]),
            activation_1=Activation(spec.activation),
            conv_2=_convolve(spec, inner, 3, strides[1]),
            activation_2=Activation(spec.activation),
            conv_3=_convolve(spec, outer, 1),
        )
    else:
        branch = sequential(
            conv_1=_convolve(spec, inner, 3, stride),
            activation_1=Activation(spec.activation),
            conv_2=_convolve(spec, inner, 3),
        )
    if not spec.residual:
        return sequential(branch=branch, activation=Activation(spec.activation))
    changes = stride != 1 or channels != outer
    is_projected = changes and spec.shortcut == "projection"
    residual = Residual(
        branch,
        shortcut=_convolve(spec, outer, 1, stride) if is_projected else None,
        pad_shortcut=changes and not is_projected,
    )
    return sequential(residual=residual, activation=Activation(spec.activation))
