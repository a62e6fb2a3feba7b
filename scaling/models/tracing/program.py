"""What a traced program multiplies: FLOPs by place, and which arrays it uses how.

A walk over the program that JAX traces: products of matrices and convolutions are counted, loops times their length,
and element-wise work is left out as everywhere. Every value is followed from the parameters, so that a product is known
by the array that it multiplies with, and what its backward pass must do is known exactly.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend import core

from scaling.specs.base import InputError

Path = tuple[str, ...]

# Of these nothing is known or counted; `notes` names them.
UNCOUNTED = (
    "cholesky", "custom_call", "eig", "eigh", "ffi_call", "fft", "geqrf", "householder_product", "lu", "pallas_call",
    "pure_callback", "qr", "schur", "svd", "triangular_solve", "tridiagonal_solve",
)  # fmt: skip
LOOKUPS = ("gather", "dynamic_slice")
# What a parameter may pass through and still be the matrix that is multiplied with.
VIEWS = (
    "abs", "add", "broadcast_in_dim", "clamp", "convert_element_type", "copy", "copy_p", "div", "exp", "expand_dims",
    "logistic", "max", "min", "mul", "neg", "optimization_barrier", "pad", "reshape", "rev", "round", "rsqrt",
    "select_n", "sharding_constraint", "sign", "slice", "softplus", "sqrt", "squeeze", "stop_gradient", "sub", "tanh",
    "transpose", "concatenate",
)  # fmt: skip


class Value(NamedTuple):
    """What is known of a value of the program.

    Attributes:
      source: the parameter that it is a view of, scaled or recast perhaps; None for anything else.
      from_params: whether it depends on parameters, so that a gradient must reach it.
      from_inputs: whether it depends on the examples.
    """

    source: Path | None = None
    from_params: bool = False
    from_inputs: bool = False


CONSTANT = Value()


@dataclasses.dataclass
class Use:
    """How a program multiplies with one parameter.

    Attributes:
      fan_in: inputs of one output.
      fan_out: outputs of one input.
      is_kernel: whether it is a convolution's.
    """

    fan_in: int
    fan_out: int
    is_kernel: bool


@dataclasses.dataclass
class Work:
    """What a traced program does, in FLOPs and with which arrays.

    Attributes:
      forward: FLOPs by the parameter that is multiplied with; None for products of activations, a multiply-add being 2.
      train: the same with the backward pass: a product of each size for every factor that a gradient must reach.
      uses: of parameters that are multiplied with.
      lookups: parameters whose rows are looked up.
      notes: what was met and not counted, with how often.
    """

    forward: dict[Path | None, float] = dataclasses.field(default_factory=dict)
    train: dict[Path | None, float] = dataclasses.field(default_factory=dict)
    uses: dict[Path, Use] = dataclasses.field(default_factory=dict)
    lookups: set[Path] = dataclasses.field(default_factory=set)
    notes: dict[str, int] = dataclasses.field(default_factory=dict)


def read_program(function: Callable[..., Any], params: Any, state: Any, inputs: Any) -> Work:
    """Returns what (params, state, inputs) → outputs does.

    Args:
      function: to be traced.
      params: nested dicts of arrays, or of their shapes.
      state: alike.
      inputs: an array or its shape.

    Raises:
      InputError: there is a loop whose length is not known before it runs, with products inside.
    """
    closed = jax.make_jaxpr(function)(params, state, inputs)
    values = [Value(path, from_params=True) for path, _ in paths_of(params)]
    values += [CONSTANT] * len(jax.tree.leaves(state)) + [Value(from_inputs=True)]
    walker = _Walker()
    walker.walk(closed.jaxpr, values, 1.0)
    return walker.program


def paths_of(tree: Any) -> list[tuple[Path, Any]]:
    """Returns the leaves of nested dicts with the names that lead to each, in JAX's order."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(tuple(str(key.key) for key in path), leaf) for path, leaf in leaves]


class _Walker:
    def __init__(self) -> None:
        self.program = Work()

    def walk(self, jaxpr: Any, arguments: Sequence[Value], times: float) -> list[Value]:
        """Returns what is known of a jaxpr's outputs, after counting what it does so many times."""
        known: dict[Any, Value] = dict(zip(jaxpr.invars, arguments, strict=True))

        def read(atom: Any) -> Value:
            return CONSTANT if isinstance(atom, core.Literal) else known.get(atom, CONSTANT)

        for equation in jaxpr.eqns:
            outputs = self._step(equation, [read(atom) for atom in equation.invars], times)
            known.update(zip(equation.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _step(self, equation: Any, values: list[Value], times: float) -> list[Value]:
        name = equation.primitive.name
        match name:
            case "dot_general" | "ragged_dot" | "ragged_dot_general" | "conv_general_dilated":
                self._multiply(equation, values, times)
            case "scan":
                return self._loop(equation, values, times)
            case "while":
                return self._while(equation, values, times)
            case "cond":
                return self._branch(equation.params, values, times)
        if name in UNCOUNTED:
            self.program.notes[name] = self.program.notes.get(name, 0) + 1
        elif (inner := inner_jaxpr(equation)) is not None:
            return self.walk(inner, values, times)
        if name in LOOKUPS and values[0].source is not None and any(value.from_inputs for value in values[1:]):
            self.program.lookups.add(values[0].source)
        return [_flow(name, equation, values)] * len(equation.outvars)

    def _multiply(self, equation: Any, values: list[Value], times: float) -> None:
        flops, fans = _count_product(equation)
        gradients = sum(value.from_params for value in values[:2])
        source = None
        for value, fan in zip(values[:2], fans, strict=True):
            if value.source is not None:
                source = value.source
                self.program.uses.setdefault(source, Use(*fan, equation.primitive.name == "conv_general_dilated"))
        for counts, share in ((self.program.forward, 1), (self.program.train, 1 + gradients)):
            counts[source] = counts.get(source, 0.0) + share * times * flops

    def _loop(self, equation: Any, values: list[Value], times: float) -> list[Value]:
        body = equation.params["jaxpr"].jaxpr
        # What has no axis of rounds is carried; JAX's own counts of these have other names in other versions.
        num_carried = sum(map(_is_same_rank, body.outvars, equation.outvars))
        num_whole = sum(map(_is_same_rank, body.invars, equation.invars))
        settled = self._settle(body, values, num_whole - num_carried, num_whole)
        return self.walk(body, settled, times * equation.params["length"])

    def _settle(self, body: Any, values: list[Value], start: int, end: int) -> list[Value]:
        """Returns a loop's arguments with what it carries as any of its rounds may have it."""
        settled, quiet = list(values), _Walker()
        for _ in range(2 * (end - start) + 1):
            outputs = quiet.walk(body, settled, 0.0)
            later = [_join(old, new) for old, new in zip(settled[start:end], outputs, strict=False)]
            if later == settled[start:end]:
                break
            settled[start:end] = later
        return settled

    def _while(self, equation: Any, values: list[Value], times: float) -> list[Value]:
        parameters, body = equation.params, equation.params["body_jaxpr"].jaxpr
        num_conditions, num_fixed = parameters["cond_nconsts"], parameters["body_nconsts"]
        own = values[num_conditions:]
        settled = self._settle(body, own, num_fixed, len(own))
        inside = _Walker()
        outputs = inside.walk(body, settled, times)
        if inside.program.forward:
            raise InputError(
                "it multiplies inside a loop whose length is not known before it runs, so that its FLOPs cannot be "
                "counted; write it with jax.lax.scan, or with fori_loop between fixed numbers"
            )
        return outputs

    def _branch(self, parameters: Any, values: list[Value], times: float) -> list[Value]:
        """Counts the most expensive of the branches."""
        walkers = []
        for branch in parameters["branches"]:
            walker = _Walker()
            outputs = walker.walk(branch.jaxpr, values[1:], times)
            walkers.append((sum(walker.program.train.values()), walker.program, outputs))
        _, most, _ = max(walkers, key=lambda each: each[0])
        for mine, its in ((self.program.forward, most.forward), (self.program.train, most.train)):
            for source, flops in its.items():
                mine[source] = mine.get(source, 0.0) + flops
        for _, program, _ in walkers:
            self.program.uses = {**program.uses, **self.program.uses}
            self.program.lookups |= program.lookups
            self.program.notes |= program.notes
        joined = [outputs for _, _, outputs in walkers]
        return [_join_all(each) for each in zip(*joined, strict=True)]


def _is_same_rank(inside: Any, outside: Any) -> bool:
    return len(inside.aval.shape) == len(outside.aval.shape)


def inner_jaxpr(equation: Any) -> Any:
    """Returns the program that an operation calls with its own arguments; None for one that calls none."""
    for field in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        inner = equation.params.get(field)
        if inner is not None:
            jaxpr = getattr(inner, "jaxpr", inner)
            if len(jaxpr.invars) == len(equation.invars):
                return jaxpr
    return None


def _flow(name: str, equation: Any, values: Sequence[Value]) -> Value:
    """Returns what is known of an operation's output."""
    from_params = any(value.from_params for value in values)
    from_inputs = any(value.from_inputs for value in values)
    if name == "stop_gradient":
        from_params = False
    source = None
    if not from_inputs and (name in VIEWS or name in LOOKUPS):
        sizes = [(math.prod(atom.aval.shape), place) for place, atom in enumerate(equation.invars)]
        # A scaled or normalised matrix is still that matrix: of several arrays the largest.
        with_source = [(size, -place) for size, place in sizes if values[place].source is not None]
        source = values[-max(with_source)[1]].source if with_source else None
    return Value(source, from_params, from_inputs)


def _join(one: Value, other: Value) -> Value:
    source = one.source if one.source == other.source else None
    return Value(source, one.from_params or other.from_params, one.from_inputs or other.from_inputs)


def _join_all(values: Sequence[Value]) -> Value:
    joined = values[0]
    for value in values[1:]:
        joined = _join(joined, value)
    return joined


def _count_product(equation: Any) -> tuple[float, tuple[tuple[int, int], tuple[int, int]]]:
    """Returns the FLOPs of a product, and of each factor, as a matrix, its fan-in and fan-out."""
    left, right = (tuple(atom.aval.shape) for atom in equation.invars[:2])
    size = math.prod(equation.outvars[0].aval.shape)
    if equation.primitive.name == "conv_general_dilated":
        numbers = equation.params["dimension_numbers"]
        outputs = right[numbers.rhs_spec[0]]
        fan_in = math.prod(right) // outputs
        stretch = math.prod(equation.params["lhs_dilation"])  # zeros between the inputs, which nobody multiplies
        return 2.0 * size * fan_in / stretch, ((1, 1), (fan_in, outputs))
    if equation.primitive.name in ("ragged_dot", "ragged_dot_general"):
        summed = left[-1]
        return 2.0 * size * summed, ((summed, left[0]), (summed, right[-1]))
    (left_summed, _), (left_batch, _) = equation.params["dimension_numbers"]
    summed = math.prod(left[dim] for dim in left_summed)
    batch = math.prod(left[dim] for dim in left_batch)
    free_left = math.prod(left) // max(1, summed * batch)
    free_right = math.prod(right) // max(1, summed * batch)
    return 2.0 * size * summed, ((summed, free_left), (summed, free_right))


# --- looking inside -------------------------------------------------------------------------------------------------


def tap_products(function: Callable[..., Any], params: Any, rest: Sequence[Any]) -> tuple[Any, dict[Path, jax.Array]]:
    """Returns (params, *rest) → outputs, and the output of the last product with each parameter on the way.

    Products inside loops are not looked into.
    """
    closed, shape = jax.make_jaxpr(function, return_shape=True)(params, *rest)
    values = [Value(path, from_params=True) for path, _ in paths_of(params)]
    values += [Value(from_inputs=True)] * (len(closed.jaxpr.invars) - len(values))
    found: dict[Path, jax.Array] = {}
    arrays = jax.tree.leaves((params, *rest))
    outputs, _ = _evaluate(closed.jaxpr, closed.consts, arrays, values, found)
    return jax.tree.unflatten(jax.tree.structure(shape), outputs), found


def _evaluate(
    jaxpr: Any, constants: Sequence[Any], arrays: Sequence[Any], values: Sequence[Value], found: dict[Path, jax.Array]
) -> tuple[list[Any], list[Value]]:
    known = dict(zip(jaxpr.invars, zip(arrays, values, strict=True), strict=True))
    known |= {var: (array, CONSTANT) for var, array in zip(jaxpr.constvars, constants, strict=True)}

    def read(atom: Any) -> tuple[Any, Value]:
        return (atom.val, CONSTANT) if isinstance(atom, core.Literal) else known[atom]

    for equation in jaxpr.eqns:
        pairs = [read(atom) for atom in equation.invars]
        inputs, facts = [array for array, _ in pairs], [value for _, value in pairs]
        name, closed = equation.primitive.name, _closed(equation)
        if closed is not None:
            outputs, after = _evaluate(closed.jaxpr, closed.consts, inputs, facts, found)
        else:
            bound = equation.primitive.bind(*inputs, **equation.primitive.get_bind_params(equation.params))
            outputs = list(bound) if equation.primitive.multiple_results else [bound]
            after = [_flow(name, equation, facts)] * len(outputs)
            if name in ("dot_general", "conv_general_dilated"):
                found |= {value.source: outputs[0] for value in facts[:2] if value.source is not None}
        known.update(zip(equation.outvars, zip(outputs, after, strict=True), strict=True))
    results = [read(atom) for atom in jaxpr.outvars]
    return [array for array, _ in results], [value for _, value in results]


def _closed(equation: Any) -> Any:
    """Returns the program of a call that may be written out in its place; None for loops and everything else."""
    if equation.primitive.name in ("scan", "while", "cond") or inner_jaxpr(equation) is None:
        return None
    for inner in equation.params.values():
        if isinstance(inner, core.ClosedJaxpr):
            return inner
        if isinstance(inner, core.Jaxpr):
            return core.ClosedJaxpr(inner, ())
    return None
