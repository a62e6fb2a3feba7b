"""The families by name: from a specification to its shape; and published networks."""

import functools
from types import ModuleType

from scaling.models.families import convnet, inception, lstm, mlp, resnet, transformer, vit, xception
from scaling.models.shape import Preset, Shape
from scaling.specs.base import InputError, suggest
from scaling.specs.models import ModuleSpec, NetworkSpec
from scaling.specs.task import TaskShape

# Families trained by gradient descent: a module each, with TASK, PRESETS, `shape` and `layers`, and no JAX in it.
# Networks of the users' own have none of their names: `module` has their shapes.
# Families with a solver of their own live in `classical`. To add one: its specification joins `ModelSpec`, its module
# joins here.
FAMILIES: dict[str, ModuleType] = {
    "mlp": mlp,
    "convnet": convnet,
    "resnet": resnet,
    "inception": inception,
    "xception": xception,
    "lstm": lstm,
    "transformer": transformer,
    "vit": vit,
}


def make_shape(spec: NetworkSpec, task: TaskShape) -> Shape:
    """Returns the shape of a specification on a task.

    Raises:
      InputError: the family cannot fit this task, or has no shape of that size.
    """
    if isinstance(spec, ModuleSpec):
        from scaling.models.families import module  # which reads networks of Flax, of NNX and of Linen

        return module.shape(spec, task)
    return FAMILIES[spec.kind].shape(spec, task)  # type: ignore[attr-defined]


def find_preset(name: str) -> Preset:
    """Returns a published network by name.

    Raises:
      InputError: there is none of that name.
    """
    presets = all_presets()
    if name not in presets:
        raise InputError(f"--preset {name}: there is no such network; {suggest(name, presets)}")
    return presets[name]


@functools.cache
def all_presets() -> dict[str, Preset]:
    """Returns all published networks by name."""
    return {name: preset for family in FAMILIES.values() for name, preset in family.PRESETS.items()}
