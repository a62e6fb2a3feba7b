"""What families and published networks look like at a size: shape, parameters by group, FLOPs by term."""

import dataclasses
import typing
from collections.abc import Sequence
from typing import Any

from scaling.models.counting.flops import Convention, count_flops
from scaling.models.counting.params import count_active, count_by_convention, count_params
from scaling.models.families import module
from scaling.models.families.classical import OUR_ESTIMATORS
from scaling.models.families.classical import count_params as count_classical_params
from scaling.models.families.learners import learner_of
from scaling.models.registry import FAMILIES, all_presets, find_preset, make_shape
from scaling.models.shape import Shape
from scaling.specs.base import InputError, Json, Spec, override, suggest
from scaling.specs.models import AnyNetworkSpec, ModelSpec, ModuleSpec, NetworkSpec
from scaling.specs.task import TaskShape, image_task, settle_task


class Description(Spec):
    """A network to describe: all that `--set` may change.

    Attributes:
      model: what the network is, as in a cell.
      task: what it must fit.
      flops: what the FLOP count includes.
    """

    model: ModelSpec
    task: TaskShape
    flops: Convention = Convention()


def describe_preset(name: str, assignments: Sequence[str]) -> Json:
    """Returns a published network as one JSON-like document.

    Raises:
      InputError: there is none of that name, or an assignment does not fit it.
    """
    preset = find_preset(name)
    return _describe(
        name, *_assigned(Description(model=typing.cast("Any", preset.spec), task=preset.task), assignments)
    )


def describe_family(kind: str, num_params: int | None, assignments: Sequence[str]) -> Json:
    """Returns a family's network of a size as one JSON-like document.

    Args:
      kind: the family.
      num_params: N asked for; None where an assignment sets `model.width`.
      assignments: `PATH=VALUE` on `model`, `task` and `flops`.

    Raises:
      InputError: the family is unknown or cannot have that size.
    """
    classes = {str(cls.model_fields["kind"].default): cls for cls in (*_network_classes(), *OUR_ESTIMATORS)}
    if ":" in kind:
        return _describe_code(kind, num_params, assignments)
    if kind not in classes:
        raise InputError(f"--family {kind}: there is no such family; {suggest(kind, classes)}")
    if kind not in FAMILIES:
        if num_params is not None:
            raise InputError(f"--params: {kind} has the size that its data gives it; leave --params out")
        task = image_task(28, 10, 1)
        if not learner_of(classes[kind]()).classifies:
            task = dataclasses.replace(task, num_classes=1, objective="regress")
        return _describe_classical(*_assigned(Description(model=classes[kind](), task=task), assignments))
    unsized = num_params is None
    if unsized and not any(assignment.startswith("model.width=") for assignment in assignments):
        raise InputError(f"--params is missing: give {kind} a size, for example --params 10M, or --set model.width=64")
    description = Description(model=classes[kind](num_params=num_params or 1), task=FAMILIES[kind].TASK)
    return _describe(None, *_assigned(description, [*assignments, *(["model.num_params=null"] if unsized else [])]))


def _describe_code(code: str, num_params: int | None, assignments: Sequence[str]) -> Json:
    """Returns the network that a user's code makes of a size, with what each of its arrays is taken for."""
    unsized = num_params is None
    if unsized and not any(assignment.startswith("model.width=") for assignment in assignments):
        raise InputError(f"--params is missing: give {code} a size, for example --params 10k, or --set model.width=64")
    spec = ModuleSpec(code=code, num_params=num_params or 1)
    sized = ["model.num_params=null"] if unsized else []
    changed, task, convention = _assigned(Description(model=spec, task=module.TASK), [*assignments, *sized])
    arrays = [each._asdict() for each in module.list_arrays(make_shape(changed, task))]
    notes = {"not_counted": module.list_uncounted(make_shape(changed, task))}
    return _describe(None, changed, task, convention) | {"arrays": arrays} | notes


def _network_classes() -> tuple[Any, ...]:
    return tuple(cls for cls in typing.get_args(AnyNetworkSpec) if cls is not ModuleSpec)


def _assigned(description: Description, assignments: Sequence[str]) -> tuple[Any, TaskShape, Convention]:
    changed = override([description], assignments)[0]
    return changed.model, settle_task(changed.task), changed.flops


def _describe(preset: str | None, spec: NetworkSpec, task: TaskShape, convention: Convention) -> Json:
    shape = make_shape(spec, task)
    groups = count_params(shape)
    flops = count_flops(shape, convention)
    counts = {name: count_by_convention(shape, name) for name in ("total", "non_embedding", "matmul")}
    return {
        "family": shape.spec.kind,
        "preset": preset,
        "task": dataclasses.asdict(task),
        "shape": _describe_shape(shape),
        "num_params": {"total": sum(groups.values()), **groups},
        "num_params_by_convention": {**counts, "active": count_active(shape)},
        "request": None
        if spec.num_params is None
        else {
            "num_params": spec.num_params,
            "convention": spec.convention,
            "miss": counts[spec.convention] / spec.num_params - 1.0,
        },
        "flops": {
            "forward": sum(flops.forward.values()),
            "train": sum(flops.train.values()),
            "terms": flops.forward,
            "train_terms": flops.train,
            "hardware": flops.hardware,
            "six_n": flops.six_n,
            "unit": flops.unit,
            "convention": dataclasses.asdict(convention),
        },
    }


def _describe_shape(shape: Shape) -> Json:
    """Returns width, depth, what the family derives from them, and the switches."""
    family = FAMILIES.get(shape.spec.kind, module)
    details: Json = family.details(shape) if hasattr(family, "details") else {}
    hidden = {"kind", "num_params", "width", "depth", "convention", *details}
    switches = {name: value for name, value in shape.spec.model_dump(mode="json").items() if name not in hidden}
    return {"width": shape.width, "depth": shape.depth, **details, **switches}


def _describe_classical(spec: Any, task: TaskShape, convention: Convention) -> Json:
    groups = count_classical_params(spec, task)
    return {
        "family": spec.kind,
        "preset": None,
        "task": dataclasses.asdict(task),
        "shape": spec.model_dump(mode="json", exclude={"kind"}),
        "num_params": {"total": sum(groups.values()), **groups} if groups else None,
        "request": None,
        "flops": None,
    }


def list_networks(kind: str | None = None) -> list[Json]:
    """Returns a row for each published network, of one family or of all; for `classical`, scikit-learn's families."""
    if kind == "classical":
        kinds = (str(cls.model_fields["kind"].default) for cls in OUR_ESTIMATORS)
        found = (describe_family(kind, None, []) for kind in kinds)
        return [
            {"family": row["family"], "parameters": row["num_params"] and row["num_params"]["total"]} for row in found
        ]
    rows = []
    for name, preset in all_presets().items():
        family = str(type(preset.spec).model_fields["kind"].default)
        if kind in (None, family):
            shape = make_shape(*preset)
            flops = count_flops(shape)
            row = {"preset": name, "family": family, "parameters": sum(count_params(shape).values())}
            rows.append(row | {"forward FLOPs": sum(flops.forward.values()), "unit": flops.unit})
    return rows
