"""Convolutional nets that tests look into."""

from scaling.models.counting.params import count_params
from scaling.models.families import convnet
from scaling.models.shape import Shape

# Trainable parameters and multiply-adds of one example, each recomputed from the papers' tables; the nets of
# torchvision agree with its own metadata.
PUBLISHED = {
    "lenet_1989": (9_760, 63_660),
    "lenet5": (60_000, 325_680),
    "lenet5_dense": (61_706, 416_520),
    "alexnet": (60_965_224, 724_406_816),
    "alexnet_torchvision": (61_100_840, 714_188_480),
    "vgg11": (132_863_336, None),
    "vgg13": (133_047_848, None),
    "vgg16": (138_357_544, 15_470_264_320),
    "vgg19": (143_667_240, 19_632_062_464),
    "vgg11_bn": (132_868_840, None),
    "vgg13_bn": (133_053_736, None),
    "vgg16_bn": (138_365_992, 15_470_264_320),
    "vgg19_bn": (143_678_248, 19_632_062_464),
}


def preset_shape(name: str) -> Shape:
    return convnet.shape(*convnet.PRESETS[name])


def total(shape: Shape) -> int:
    return sum(count_params(shape).values())
