"""Inception networks of any size: modules of parallel convolutions, as GoogLeNet and as Inception-v3 have them.

Dims: H, W, C image height, width and channels; K classes. Channels are given as published and scale with `width`.
"""

import dataclasses
import functools
from typing import Literal

from scaling.models.counting.sizing import find_shape
from scaling.models.families.parts import hidden_initializer, normalize, require_image
from scaling.models.layers.core import (
    Activation,
    Auxiliary,
    Branches,
    Dense,
    Dropout,
    Flatten,
    GlobalPool,
    Initializer,
    Layer,
    Norm,
    Repeat,
    Role,
    Sequential,
    sequential,
)
from scaling.models.layers.image import AdaptivePool, Conv, LocalResponseNorm, Padding, Pool, windows
from scaling.models.shape import Preset, Shape
from scaling.specs.base import InputError
from scaling.specs.models import InceptionSpec
from scaling.specs.task import TaskShape, image_task

TASK = image_task(32, 10)

PRESETS = {
    # Szegedy et al. 2014, table 1, with the biases of its Caffe model and without the auxiliary classifiers.
    "googlenet": Preset(
        InceptionSpec(width=1024, form="googlenet", normalization="none", dropout=0.4), image_task(224, 1000)
    ),
    "googlenet_torchvision": Preset(InceptionSpec(width=1024, dropout=0.2), image_task(224, 1000)),
    # Szegedy et al. 2015, with torchvision's layers and its one auxiliary classifier.
    "inception_v3": Preset(
        InceptionSpec(width=2048, form="inception_v3", auxiliary=True, dropout=0.5), image_task(299, 1000)
    ),
}

# Channels that the last module ends in, as published: the unit of width.
UNITS = {"googlenet": 1024, "googlenet_torchvision": 1024, "inception_v3": 2048}

# Epsilon of batch norm in torchvision (and in Google's own code for Inception-v3); the 2014 net has no norm to follow.
EPSILONS = {"googlenet": 1e-5, "googlenet_torchvision": 1e-3, "inception_v3": 1e-3}

# Szegedy et al. 2014, table 1: 1×1; 3×3 after its reduction; 5×5 after its reduction; projection after the pool.
GOOGLENET_MODULES = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
POOL_BEFORE, AUXILIARY_AFTER = ("4a", "5a"), ("4a", "4d")

# Inception-v3 as torchvision has it: channels of the projection after the pool in the modules at 35 × 35, and of the
# 7×7 convolutions in those at 17 × 17; the two at 8 × 8 are alike.
V3_POOL_CHANNELS = {"5b": 32, "5c": 64, "5d": 64}
V3_SEVEN_CHANNELS = {"6b": 128, "6c": 160, "6d": 160, "6e": 192}
V3_LAST_MODULES = ("7b", "7c")

# Window and stride of what shrinks the image ahead of v3's auxiliary classifier; all else there keeps the side. One
# more 3 / 2 follows, and this image is the smallest that leaves it a window.
V3_SHRINKS = ((3, 2), (3, 1), (3, 2), (3, 1), (3, 2), (3, 2))
V3_SMALLEST_SIDE = 75


def shape(spec: InceptionSpec, task: TaskShape) -> Shape:
    """Returns the shape that a specification asks for.

    Raises:
      InputError: the examples are no images or are too small, or no network has about the size asked for.
    """
    side = min(require_image(task, "inception")[:2])
    if spec.form == "inception_v3" and side < V3_SMALLEST_SIDE:
        raise InputError(
            f"model.form=inception_v3 needs images of side {V3_SMALLEST_SIDE} or more, but these have {side}; "
            "choose googlenet_torchvision, or larger images"
        )
    return find_shape(spec, task, layers, published=(UNITS[spec.form], 1))


def layers(shape: Shape) -> Layer:
    """Returns stem → modules, with poolings or reductions between them → mean over places → dropout → Dense.

    Each module is followed by depth - 1 more of its own widths, which take its output as their input.
    """
    spec, task = shape.spec, shape.task
    kit = _Kit(spec, shape.width, shape.depth, task.num_classes, min(require_image(task, "inception")[:2]))
    return sequential(
        **(_inception_v3(kit) if spec.form == "inception_v3" else _googlenet(kit)),
        pool=GlobalPool(),
        dropout=Dropout(spec.dropout) if spec.dropout else None,
        head=Dense(task.num_classes, role="output", group="head", term="logits"),
    )


@dataclasses.dataclass(frozen=True)
class _Kit:
    """What all pieces of one network share; `side` is the image's."""

    spec: InceptionSpec
    width: int
    depth: int
    num_classes: int
    side: int

    @functools.cached_property
    def init(self) -> Initializer:
        return hidden_initializer(self.spec)

    @functools.cached_property
    def activation(self) -> Activation:
        return Activation(self.spec.activation)

    @functools.cached_property
    def norms(self) -> dict[str, Layer | None]:
        """The norm of a network's own convolutions, and that of its auxiliary classifiers."""
        norm = normalize(self.spec.normalization, EPSILONS[self.spec.form])
        counted_apart = dataclasses.replace(norm, group="auxiliary") if isinstance(norm, Norm) else None
        return {"conv": norm, "auxiliary": counted_apart}

    def channels(self, published: int) -> int:
        """Returns the channels that a published count comes to at this width."""
        return max(1, round(published * self.width / UNITS[self.spec.form]))

    def conv(
        self,
        published: int,
        rows: int = 1,
        columns: int = 1,
        stride: int = 1,
        padding: Padding = "SAME",
        role: Role = "hidden",
        group: Literal["conv", "auxiliary"] = "conv",
    ) -> Sequential:
        """Returns convolution → norm → activation; the convolution has biases only where there is no norm."""
        norm, size = self.norms[group], self.channels(published)
        bias = self.spec.normalization == "none"
        conv = Conv(size, (rows, columns), stride, padding, bias=bias, role=role, init=self.init, group=group)
        return sequential(conv=conv, norm=norm, activation=self.activation)

    def module(self, name: str, **branches: Layer) -> dict[str, Layer]:
        """Returns a module and the copies that follow it."""
        module = Branches(tuple(branches.items()))
        found: dict[str, Layer] = {f"module_{name}": module}
        if self.depth > 1:
            found[f"copies_{name}"] = Repeat("copy", module, self.depth - 1)
        return found


# --- GoogLeNet ------------------------------------------------------------------------------------------------------


def _googlenet(kit: _Kit) -> dict[str, Layer | None]:
    """Returns the layers up to the mean over places."""
    spec = kit.spec
    is_torchvision = spec.form == "googlenet_torchvision"
    # Response normalisation belongs to the net without norms; Caffe's k is 1, unlike AlexNet's 2.
    response_norm = LocalResponseNorm(k=1.0) if not is_torchvision and spec.normalization == "none" else None
    wide = 3 if is_torchvision else 5  # torchvision's "5×5" is 3×3, a slip of the code that its weights come from

    pools, sides = [], [windows(kit.side, 7, 2, 3)]
    for window in (3, 3, 3, 2 if is_torchvision else 3):
        # Small images run out of places before the last pool, where SAME is CEIL that keeps the last place.
        pools.append(Pool("max", window, 2, "CEIL" if sides[-1] >= window else "SAME"))
        sides.append(windows(sides[-1], window, 2, pools[-1].padding))

    found: dict[str, Layer | None] = {
        "conv_1": kit.conv(64, 7, 7, 2, 3, role="input"),
        "pool_1": pools[0],
        "response_norm_1": response_norm,
        "reduce_2": kit.conv(64),
        "conv_2": kit.conv(192, 3, 3),
        "response_norm_2": response_norm,
        "pool_2": pools[1],
    }
    for name, (one, reduce_three, three, reduce_five, five, project) in GOOGLENET_MODULES.items():
        if name in POOL_BEFORE:
            found[f"pool_{int(name[0]) - 1}"] = pools[int(name[0]) - 2]
        found |= kit.module(
            name,
            one=kit.conv(one),
            three=sequential(reduce=kit.conv(reduce_three), conv=kit.conv(three, 3, 3)),
            five=sequential(reduce=kit.conv(reduce_five), conv=kit.conv(five, wide, wide)),
            pool=sequential(pool=Pool("max", 3, 1, "SAME"), project=kit.conv(project)),
        )
        if spec.auxiliary and name in AUXILIARY_AFTER:
            found[f"auxiliary_{name}"] = Auxiliary(_googlenet_auxiliary(kit, grid=sides[3]), loss_weight=0.3)
    return found


def _googlenet_auxiliary(kit: _Kit, grid: int) -> Sequential:
    """Returns the auxiliary classifier of Szegedy et al. 2014, section 5; its pool never exceeds the grid of places."""
    adapts = kit.spec.form == "googlenet_torchvision"
    return sequential(
        pool=AdaptivePool(4) if adapts else Pool("mean", min(5, grid), 3),
        conv=kit.conv(128, group="auxiliary"),
        flatten=Flatten(),
        hidden=Dense(kit.channels(1024), init=kit.init, group="auxiliary"),
        activation=kit.activation,
        dropout=Dropout(0.7),
        head=Dense(kit.num_classes, role="output", group="auxiliary", term="logits"),
    )


# --- Inception-v3 ---------------------------------------------------------------------------------------------------


def _inception_v3(kit: _Kit) -> dict[str, Layer | None]:
    """Returns the layers up to the mean over places."""
    conv = kit.conv
    found: dict[str, Layer | None] = {
        "conv_1": conv(32, 3, 3, 2, "VALID", role="input"),
        "conv_2": conv(32, 3, 3, 1, "VALID"),
        "conv_3": conv(64, 3, 3),
        "pool_1": Pool("max", 3, 2),
        "conv_4": conv(80),
        "conv_5": conv(192, 3, 3, 1, "VALID"),
        "pool_2": Pool("max", 3, 2),
    }
    for name, project in V3_POOL_CHANNELS.items():  # 35 × 35
        found |= kit.module(
            name,
            one=conv(64),
            five=sequential(reduce=conv(48), conv=conv(64, 5, 5)),
            double=sequential(reduce=conv(64), conv_1=conv(96, 3, 3), conv_2=conv(96, 3, 3)),
            pool=sequential(pool=Pool("mean", 3, 1, "SAME"), project=conv(project)),
        )
    reduction_6a = {
        "three": conv(384, 3, 3, 2, "VALID"),
        "double": sequential(reduce=conv(64), conv_1=conv(96, 3, 3), conv_2=conv(96, 3, 3, 2, "VALID")),
        "pool": Pool("max", 3, 2),
    }
    found["reduction_6a"] = Branches(tuple(reduction_6a.items()))
    for name, seven in V3_SEVEN_CHANNELS.items():  # 17 × 17
        found |= kit.module(
            name,
            one=conv(192),
            seven=sequential(reduce=conv(seven), conv_1=conv(seven, 1, 7), conv_2=conv(192, 7, 1)),
            double=sequential(
                reduce=conv(seven),
                conv_1=conv(seven, 7, 1),
                conv_2=conv(seven, 1, 7),
                conv_3=conv(seven, 7, 1),
                conv_4=conv(192, 1, 7),
            ),
            pool=sequential(pool=Pool("mean", 3, 1, "SAME"), project=conv(192)),
        )
    if kit.spec.auxiliary:
        found["auxiliary_6e"] = Auxiliary(_v3_auxiliary(kit), loss_weight=0.4)
    reduction_7a = {
        "three": sequential(reduce=conv(192), conv=conv(320, 3, 3, 2, "VALID")),
        "seven": sequential(
            reduce=conv(192), conv_1=conv(192, 1, 7), conv_2=conv(192, 7, 1), conv_3=conv(192, 3, 3, 2, "VALID")
        ),
        "pool": Pool("max", 3, 2),
    }
    found["reduction_7a"] = Branches(tuple(reduction_7a.items()))
    split = Branches((("wide", conv(384, 1, 3)), ("high", conv(384, 3, 1))))
    for name in V3_LAST_MODULES:  # 8 × 8
        found |= kit.module(
            name,
            one=conv(320),
            three=sequential(reduce=conv(384), split=split),
            double=sequential(reduce=conv(448), conv=conv(384, 3, 3), split=split),
            pool=sequential(pool=Pool("mean", 3, 1, "SAME"), project=conv(192)),
        )
    return found


def _v3_auxiliary(kit: _Kit) -> Sequential:
    """Returns torchvision's auxiliary classifier; on small images its windows shrink to the grid, as in TF-Slim."""
    grid = kit.side
    for window, stride in V3_SHRINKS:
        grid = windows(grid, window, stride, "VALID")
    pool = Pool("mean", min(5, grid), 3)
    kernel = min(5, windows(grid, pool.window, 3, "VALID"))
    return sequential(
        pool=pool,
        reduce=kit.conv(128, group="auxiliary"),
        conv=kit.conv(768, kernel, kernel, 1, "VALID", group="auxiliary"),
        mean=GlobalPool(),
        head=Dense(kit.num_classes, role="output", group="auxiliary", term="logits"),
    )
