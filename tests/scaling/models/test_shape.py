"""Shapes: equal ones are one network, and what they are called does not spell out a function."""

from scaling.models.layers.core import Dense
from scaling.models.registry import make_shape
from scaling.models.shape import Shape, make_layers
from scaling.specs.models import MLPSpec
from scaling.specs.task import TaskShape

TASK = TaskShape(5, None, 3)


def test_equal_shapes_are_built_once():
    first, second = (make_shape(MLPSpec(width=7), TASK) for _ in range(2))
    assert first == second
    assert make_layers(first) is make_layers(second)


def test_a_family_is_asked_for_its_layers_before_any_parametrisation():
    shape = Shape(None, TASK, 11, 2, lambda shape: Dense(shape.width, role="hidden"))
    assert make_layers(shape) == Dense(11)


def test_a_shape_is_shown_by_its_size_and_not_by_its_function():
    shown = repr(make_shape(MLPSpec(width=7), TASK))
    assert "width=7" in shown
    assert "function" not in shown
