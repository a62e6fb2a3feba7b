"""What each array of a user's module is, guessed from which of its sides grow with the width."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax

from scaling.models.layers.core import Dims, Division, Role, Weight
from scaling.models.tracing.definition import Definition, define, example_inputs
from scaling.models.tracing.program import Path, Use, Work, paths_of, read_program
from scaling.specs.base import InputError
from scaling.specs.task import TaskShape

# Examples in the batch that is traced: one alone would let a module that forgets the batch pass.
TRACED_BATCH = 2


@dataclasses.dataclass(frozen=True)
class Traced:
    """A module of one width, looked at without making an array.

    Attributes:
      definition: its functions.
      task: what it must fit.
      shapes: of its arrays, by path.
    """

    definition: Definition
    task: TaskShape
    shapes: Mapping[Path, Dims]

    @property
    def num_params(self) -> int:
        """N, all trainable numbers."""
        return sum(map(math.prod, self.shapes.values()))

    @property
    def notes(self) -> tuple[str, ...]:
        """What its program does that is not counted."""
        return tuple(f"{name} ({count} times)" for name, count in sorted(self.program.notes.items()))

    @functools.cached_property
    def program(self) -> Work:
        """What one example costs, and how arrays are used; what does not depend on the batch is shared by two."""
        definition = self.definition
        variables = jax.eval_shape(definition.init, jax.random.key(0))

        def forward(params: Any, state: Any, inputs: Any) -> Any:
            key = jax.random.key(0)
            return definition.apply({"params": params, "state": state}, inputs, train=True, key=key)[0]

        inputs = example_inputs(self.task, TRACED_BATCH)
        found = read_program(forward, variables["params"], variables["state"], inputs)
        for counts in (found.forward, found.train):
            counts.update({path: flops / TRACED_BATCH for path, flops in counts.items()})
        return found


def trace(make: Callable[..., Any], width: int, task: TaskShape, settings: Mapping[str, Any]) -> Traced:
    """Returns what a user's function makes of a width.

    Raises:
      InputError: it makes no module, or one whose outputs do not fit the task; names what it gives and what it must.
    """
    definition = define(make, width, task, settings)
    variables = jax.eval_shape(definition.init, jax.random.key(0))
    inputs = example_inputs(task, TRACED_BATCH)

    def forward(variables: Any, inputs: Any) -> Any:
        return definition.apply(variables, inputs, train=True, key=jax.random.key(0))

    outputs, state = jax.eval_shape(forward, variables, inputs)
    _check_outputs(outputs, task)
    before: Any = jax.tree.structure(variables["state"])
    if jax.tree.structure(state) != before:
        raise InputError("its state has other arrays after a pass than before; keep what it remembers in one form")
    shapes = {path: tuple(leaf.shape) for path, leaf in paths_of(variables["params"])}
    if not shapes:
        raise InputError("it has no parameters (nnx.Param, or the collection `params`); there is nothing to train")
    return Traced(definition, task, shapes)


def _check_outputs(outputs: Any, task: TaskShape) -> None:
    each = (task.num_features, task.num_classes) if task.predicts_tokens else (task.num_classes,)
    expected = (TRACED_BATCH, *each)
    found = getattr(outputs, "shape", None)
    if found != expected:
        given = f"a {type(outputs).__name__}" if found is None else f"{list(found)}"
        words = "[B, T, V] logits of tokens" if task.predicts_tokens else "[B, K] logits or predicted numbers"
        raise InputError(
            f"it gives {given} for {TRACED_BATCH} examples of {list(task.dims)}; give {list(expected)}, {words}"
        )


def guess_weights(traced: Traced, twin: Traced | None) -> dict[Path, Weight]:
    """Returns each array with a guess of its role, group and division among devices.

    A matrix whose two sides grow with the width is `hidden`, one whose outputs alone do is `input`, and one whose
    inputs alone do is `output`; what is not multiplied with is a `vector`, and a table whose rows are looked up an
    `input`. A hidden matrix of more inputs than outputs is divided by rows, others by columns.

    Args:
      traced: the module.
      twin: the same of another width; None where there is none, and every matrix is then `hidden`.
    """
    program = traced.program
    twins = {} if twin is None else {_kind(path): use for path, use in twin.program.uses.items()}
    roles = {path: _role(path, program, twins) for path in traced.shapes}
    by_module: dict[Path, list[Path]] = {}
    for path in traced.shapes:
        by_module.setdefault(path[:-1], []).append(path)
    return {path: _weight(path, dims, roles, program, by_module[path[:-1]]) for path, dims in traced.shapes.items()}


def _kind(path: Path) -> Path:
    """Returns a path without numbers, so that blocks of networks of other depths have one."""
    return tuple(name for name in path if not name.isdigit())


def _role(path: Path, program: Work, twins: Mapping[Path, Use]) -> Role:
    if path in program.lookups:
        return "input"
    use = program.uses.get(path)
    if use is None:
        return "vector"
    twin = twins.get(_kind(path))
    if twin is None:
        return "hidden"
    match (use.fan_in != twin.fan_in, use.fan_out != twin.fan_out):
        case (True, False):
            return "output"
        case (False, True):
            return "input"
        case _:
            return "hidden"


def _weight(path: Path, dims: Dims, roles: Mapping[Path, Role], program: Work, beside: list[Path]) -> Weight:
    role, use = roles[path], program.uses.get(path)
    if path in program.lookups:
        division: Division = "embedding" if len(dims) == 2 else "vector"
        return Weight(dims, "embedding", role, 1, dims[-1], use is not None, division=division)
    near = [roles[other] for other in beside if other in program.uses]
    if use is not None:
        group = "head" if role == "output" else "conv" if use.is_kernel else "hidden"
        return Weight(dims, group, role, use.fan_in, use.fan_out, is_matmul=True, division=_division(dims, role, use))
    kernels = any(program.uses[other].is_kernel for other in beside if other in program.uses)
    alone = "norm" if path[:-1] else "vectors"  # of a module without matrices, or of the network's own
    group = alone if not near else "head" if "output" in near else "conv" if kernels else "hidden"
    return Weight(dims, group, role)


def _division(dims: Dims, role: Role, use: Use) -> Division:
    if use.is_kernel:
        return "conv" if len(dims) == 4 else "vector"
    if len(dims) != 2:
        return "vector"
    return "rows" if role == "hidden" and use.fan_in > use.fan_out else "columns"
