"""Published convolutional nets: each is one point of the family of its form.

`width` is that of the last convolution, or of the last hidden layer of a LeNet.
"""

from scaling.models.shape import Preset
from scaling.specs.models import ConvNetSpec, Normalization
from scaling.specs.task import image_task

_DIGITS, _IMAGENET = image_task(32, 10, channels=1), image_task(224, 1000)
_VGG_STAGES = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2,) * 5, "vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}


def _vgg(stages: tuple[int, ...], normalization: Normalization) -> Preset:
    spec = ConvNetSpec(width=512, stages=stages, dense_width=4096, dropout=0.5, normalization=normalization)
    return Preset(spec, _IMAGENET)


PRESETS = {
    # LeCun et al. 1989: 9,760 parameters and 64,660 connections.
    "lenet_1989": Preset(
        ConvNetSpec(form="lenet1989", width=30, activation="scaled_tanh"), image_task(16, 10, channels=1)
    ),
    # LeCun et al. 1998, section II.B: 60,000 parameters.
    "lenet5": Preset(ConvNetSpec(form="lenet5", width=84, activation="scaled_tanh"), _DIGITS),
    "lenet5_dense": Preset(ConvNetSpec(form="lenet5_dense", width=84, activation="tanh"), _DIGITS),
    # Krizhevsky et al. 2012, whose images of 224 only fit its layers as 227.
    "alexnet": Preset(ConvNetSpec(form="alexnet", width=256, dense_width=4096, dropout=0.5), image_task(227, 1000)),
    # Krizhevsky 2014 ("One weird trick"), as torchvision has it.
    "alexnet_torchvision": Preset(
        ConvNetSpec(form="alexnet_torchvision", width=256, dense_width=4096, dropout=0.5), _IMAGENET
    ),
    # Simonyan & Zisserman 2014, configurations A, B, D and E; with batch normalisation as torchvision has them.
    **{name: _vgg(stages, "none") for name, stages in _VGG_STAGES.items()},
    **{f"{name}_bn": _vgg(stages, "batch") for name, stages in _VGG_STAGES.items()},
}
