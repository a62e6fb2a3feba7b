"""Pieces of several families: how matrices start, norms or none, and what examples must be."""

import pytest

from scaling.models.families.parts import hidden_initializer, normalize, require_image, require_tokens
from scaling.models.layers.core import Initializer, Norm
from scaling.specs.base import InputError
from scaling.specs.models import MLPSpec
from scaling.specs.task import TaskShape, image_task, token_task

NUMBERS = TaskShape(5, None, 3)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"activation": "relu"}, "he"),
        ({"activation": "gelu"}, "he"),
        ({"activation": "tanh"}, "lecun"),
        ({"activation": "relu", "initializer": "glorot"}, "glorot"),
        ({"activation": "tanh", "initializer": "he"}, "he"),
    ],
)
def test_rectifiers_start_as_he_says_unless_somebody_chooses(fields, kind):
    assert hidden_initializer(MLPSpec(width=4, **fields)) == Initializer(kind)


def test_a_norm_is_a_layer_or_none():
    assert normalize("none") is None
    assert normalize("rms", 1e-3) == Norm("rms", 1e-3)


def test_a_family_of_images_refuses_what_is_none():
    assert require_image(image_task(8, 10), "resnet") == (8, 8, 3)
    for task, what in ((token_task(9, 4), "tokens"), (NUMBERS, "numbers without places")):
        with pytest.raises(
            InputError, match=rf"model\.kind=resnet needs images, but these examples are {what}; choose"
        ):
            require_image(task, "resnet")


def test_a_family_of_tokens_refuses_numbers():
    assert require_tokens(token_task(9, 4), "lstm") == 9
    with pytest.raises(InputError, match=r"model\.kind=lstm needs tokens, but these examples are numbers; choose mlp"):
        require_tokens(NUMBERS, "lstm")
