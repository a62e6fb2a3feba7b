"""What families and published networks look like at a size: shape, parameters by group, FLOPs by term."""

import dataclasses
import re
import typing
from collections.abc import Sequence
from typing import Any

from launch.text import render_table
from scaling.models.counting.flops import Convention, count_flops
from scaling.models.counting.params import count_active, count_by_convention, count_params
from scaling.models.families.classical import REGRESSES_ONLY
from scaling.models.families.classical import count_params as count_classical_params
from scaling.models.registry import FAMILIES, all_presets, find_preset, make_shape
from scaling.models.shape import Shape
from scaling.specs.base import InputError, Spec, override, suggest
from scaling.specs.models import ModelSpec, NetworkSpec
from scaling.specs.task import TaskShape, image_task, settle_task

SUFFIXES = {"": 1, "k": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


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


def parse_count(text: str) -> int:
    """Returns a number of parameters.

    Raises:
      InputError: the text is no positive count.

    >>> parse_count("10M"), parse_count("1.5B"), parse_count("2e6"), parse_count("12345")
    (10000000, 1500000000, 2000000, 12345)
    """
    match = re.fullmatch(r"([0-9.]+(?:[eE][0-9]+)?)([kKMBT]?)", text.replace(",", "").replace("_", ""))
    try:
        count = round(float(match[1]) * SUFFIXES[match[2].replace("K", "k")]) if match else 0
    except ValueError:
        count = 0
    if count < 1:
        raise InputError(f"--params {text}: is no count; write 10M, 1.5B, 300k or a whole number")
    return count


def describe_preset(name: str, assignments: Sequence[str]) -> dict[str, Any]:
    """Returns a published network as one JSON-like document.

    Raises:
      InputError: there is none of that name, or an assignment does not fit it.
    """
    preset = find_preset(name)
    return _describe(
        name, *_assigned(Description(model=typing.cast("Any", preset.spec), task=preset.task), assignments)
    )


def describe_family(kind: str, num_params: int | None, assignments: Sequence[str]) -> dict[str, Any]:
    """Returns a family's network of a size as one JSON-like document.

    Args:
      kind: the family.
      num_params: N asked for; None where an assignment sets `model.width`.
      assignments: `PATH=VALUE` on `model`, `task` and `flops`.

    Raises:
      InputError: the family is unknown or cannot have that size.
    """
    classes = {str(cls.model_fields["kind"].default): cls for cls in _spec_classes()}
    if kind not in classes:
        raise InputError(f"--family {kind}: there is no such family; {suggest(kind, classes)}")
    if kind not in FAMILIES:
        if num_params is not None:
            raise InputError(f"--params: {kind} has the size that its data gives it; leave --params out")
        task = image_task(28, 10, 1)
        if classes[kind] in REGRESSES_ONLY:
            task = dataclasses.replace(task, num_classes=1, objective="regress")
        return _describe_classical(*_assigned(Description(model=classes[kind](), task=task), assignments))
    unsized = num_params is None
    if unsized and not any(assignment.startswith("model.width=") for assignment in assignments):
        raise InputError(f"--params is missing: give {kind} a size, for example --params 10M, or --set model.width=64")
    description = Description(model=classes[kind](num_params=num_params or 1), task=FAMILIES[kind].TASK)
    return _describe(None, *_assigned(description, [*assignments, *(["model.num_params=null"] if unsized else [])]))


def _spec_classes() -> tuple[Any, ...]:
    return typing.get_args(typing.get_args(ModelSpec)[0])


def _assigned(description: Description, assignments: Sequence[str]) -> tuple[Any, TaskShape, Convention]:
    changed = override([description], assignments)[0]
    return changed.model, settle_task(changed.task), changed.flops


def _describe(preset: str | None, spec: NetworkSpec, task: TaskShape, convention: Convention) -> dict[str, Any]:
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


def _describe_shape(shape: Shape) -> dict[str, Any]:
    """Returns width, depth, what the family derives from them, and the switches."""
    family = FAMILIES[shape.spec.kind]
    details: dict[str, Any] = family.details(shape) if hasattr(family, "details") else {}
    hidden = {"kind", "num_params", "width", "depth", "convention", *details}
    switches = {name: value for name, value in shape.spec.model_dump(mode="json").items() if name not in hidden}
    return {"width": shape.width, "depth": shape.depth, **details, **switches}


def _describe_classical(spec: Any, task: TaskShape, convention: Convention) -> dict[str, Any]:
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


def list_networks(kind: str | None = None) -> list[dict[str, Any]]:
    """Returns a row for each published network, of one family or of all; for `classical`, scikit-learn's families."""
    if kind == "classical":
        kinds = (str(cls.model_fields["kind"].default) for cls in _spec_classes())
        found = (describe_family(kind, None, []) for kind in kinds if kind not in FAMILIES)
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


def render_description(found: dict[str, Any]) -> str:
    """Returns a description as text for a terminal."""
    name = f"{found['preset']} ({found['family']})" if found["preset"] else found["family"]
    if found["num_params"] is None:
        return f"{name}: its size follows from the data that it is fitted to; the record of a cell holds it"
    counts, request, flops = found["num_params"], found["request"], found["flops"]
    lines = [f"{name}: {counts['total']:,} parameters"]
    if request is not None:
        miss = request["miss"]
        side = "exactly as" if miss == 0 else f"{abs(miss):.2%} {'above' if miss > 0 else 'below'} the"
        lines.append(f"{side} {request['num_params']:,} asked for, counted as {request['convention']}")
    lines += ["", _render_fields(found["shape"]), "", _render_fields(found["task"]), ""]
    groups = {group: count for group, count in counts.items() if group != "total"}
    shares = [
        {"group": group, "parameters": f"{count:,}", "share": f"{count / counts['total']:.1%}"}
        for group, count in groups.items()
    ]
    lines.append(render_table(shares))
    if flops is None:
        return "\n".join(lines)
    others = {key: count for key, count in found["num_params_by_convention"].items() if key != "total"}
    lines.append("\n" + " · ".join(f"{key} {count:,}" for key, count in others.items()))
    terms = [
        {"term": term, "forward": forward, "train": flops["train_terms"][term]}
        for term, forward in flops["terms"].items()
    ]
    total = {"term": "total", "forward": flops["forward"], "train": flops["train"]}
    lines.append(f"\nFLOPs {flops['unit']}\n" + render_table([*terms, total]))
    extra = f" · with recomputation {flops['hardware']:.4g}" if flops["convention"]["remat"] else ""
    lines.append(f"\n6N = {flops['six_n']:.4g}, {flops['six_n'] / flops['train']:.3f} of the training FLOPs{extra}")
    lines.append("counted: " + ", ".join(f"{key} {value}" for key, value in flops["convention"].items()))
    return "\n".join(lines)


def _render_fields(fields: dict[str, Any]) -> str:
    """Returns fields on one line, without those that are off."""
    return " · ".join(f"{name} {value}" for name, value in fields.items() if value not in (None, "", 0, False, "none"))
