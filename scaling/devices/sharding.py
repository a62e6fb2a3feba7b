"""Mesh axes, and where every array of a training state lies on them: one table from divisions to partition specs.

Modules know nothing of this: shardings are given to `jax.jit` from outside, and XLA adds the communication.

Dims: P population, B batch, D features, F features of the other side, V vocabulary, E experts, H, W, C of a kernel.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from scaling.models.layers.core import Dims, Division, Weight, walk
from scaling.models.layers.sequence import Attention
from scaling.models.network import PyTree
from scaling.models.shape import Shape, make_layers
from scaling.specs.base import InputError
from scaling.specs.execution import Execution, MeshSpec

AXES = ("population", "data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")

AnyMesh = Mesh | AbstractMesh

# Division → axes of each dim, as layers say of their arrays. Along `tensor` a pair of matrices is divided as in
# Megatron (Shoeybi et al. 2019): columns of the first, rows of the second, so that only their sum is communicated.
# Along `fsdp` the other side is divided, and gathered where it is used (Rajbhandari et al. 2020). The gates of an LSTM
# lie in one matrix, which `tensor` would cut so that every time step communicates.
TABLE: dict[Division, PartitionSpec] = {
    "columns": PartitionSpec("fsdp", "tensor"),  # [D, F]: queries, keys, values, gate, up, readouts, other dense layers
    "rows": PartitionSpec("tensor", "fsdp"),  # [F, D]: attention's out, feed-forward's down
    "embedding": PartitionSpec("tensor", "fsdp"),  # [V, D]
    "positions": PartitionSpec(None, "fsdp"),  # [T, D], and the vectors of segments
    "conv": PartitionSpec(None, None, "fsdp", "tensor"),  # [H, W, C, F]
    "expert_columns": PartitionSpec(None, "fsdp", "tensor"),  # [E, D, F]
    "expert_rows": PartitionSpec(None, "tensor", "fsdp"),  # [E, F, D]
    "router": PartitionSpec("fsdp", None),  # [D, E]
    "gates": PartitionSpec("fsdp", None),  # [D, 4F]
    "vector": PartitionSpec(),
}


class Placement(NamedTuple):
    """Where the table puts one array, before a mesh is known.

    Attributes:
      path: names from the root to the array.
      dims: its shape.
      division: the key of `TABLE`.
      units: the parts of each dim that may not be cut: heads, else single entries.
    """

    path: tuple[str, ...]
    dims: Dims
    division: Division
    units: Dims

    def fit(self, mesh: AnyMesh) -> PartitionSpec:
        """Returns the table's spec without the axes that do not divide their dim."""
        return PartitionSpec(
            *(None if self.is_left_out(mesh, dim) else axis for dim, axis in enumerate(TABLE[self.division]))
        )

    def is_left_out(self, mesh: AnyMesh, dim: int) -> bool:
        """Returns whether the axis that the table gives a dim does not divide it."""
        axis = TABLE[self.division][dim]
        return axis is not None and self.units[dim] % mesh.shape[axis] != 0


class Divided(NamedTuple):
    """How a tree of arrays is divided.

    Attributes:
      divided, replicated: numbers in arrays that several devices share, and in those that are whole on each.
      bytes_per_device: the bytes per device of all arrays.
      left_out: what the table would divide and the mesh cannot, one line each; equal blocks are told once.
    """

    divided: int
    replicated: int
    bytes_per_device: int
    left_out: tuple[str, ...] = ()


def make_mesh(spec: MeshSpec, devices: Sequence[Any] | None = None) -> Mesh:
    """Returns the mesh of a specification over the first devices that it needs, in an order that their links favour.

    Args:
      spec: devices along each axis.
      devices: to choose from; None for all of this run's.

    Raises:
      InputError: there are too few.
    """
    available = list(jax.devices() if devices is None else devices)
    check_devices(spec, available)
    sizes, types = _sizes(spec), (AxisType.Auto,) * len(AXES)
    chosen = available[: spec.num_devices]
    try:
        return jax.make_mesh(sizes, AXES, types, devices=chosen)
    except (AssertionError, NotImplementedError, ValueError):
        # Links favour no order of these devices: part of a slice, or axes that cut a torus. Any order is right.
        return Mesh(np.array(chosen).reshape(sizes), AXES, axis_types=types)


def check_devices(spec: MeshSpec, available: Sequence[Any]) -> None:
    """Checks that there are as many devices as a mesh takes.

    Raises:
      InputError: there are too few.
    """
    if spec.num_devices > len(available):
        kinds = ", ".join(sorted({device.device_kind for device in available}))
        raise InputError(
            f"execution.mesh: {_describe(spec)} needs {spec.num_devices} devices, but there are {len(available)} "
            f"({kinds}); choose axes whose product is at most {len(available)}"
        )


def abstract_mesh(spec: MeshSpec) -> AbstractMesh:
    """Returns the mesh of a specification without devices, for arithmetic alone."""
    return AbstractMesh(_sizes(spec), AXES, (AxisType.Auto,) * len(AXES))


def _sizes(spec: MeshSpec) -> tuple[int, ...]:
    return tuple(getattr(spec, axis) for axis in AXES)


def _describe(spec: MeshSpec) -> str:
    return ",".join(f"{axis}={getattr(spec, axis)}" for axis in AXES)


def placements(shape: Shape) -> Iterator[Placement]:
    """Yields where the table puts each parameter of a shape."""
    visits = list(walk(make_layers(shape), shape.task.dims, expand=True))
    attention = {visit.path: visit.layer for visit in visits if isinstance(visit.layer, Attention)}
    for visit in visits:
        for name, weight in visit.layer.weights(visit.dims).items():
            units = _head_units(attention.get(visit.path[:-1]), visit.path[-1:], weight) or weight.shape
            yield Placement((*visit.path, name), weight.shape, weight.division, units)


def _head_units(layer: Attention | None, part: tuple[str, ...], weight: Weight) -> Dims | None:
    """Returns the units of one of attention's kernels, whose heads stay whole; None for other arrays."""
    if layer is None or len(weight.shape) != 2:
        return None
    if part == ("out",):
        return layer.num_heads, weight.shape[1]
    return weight.shape[0], layer.num_kv_heads if part in (("key",), ("value",)) else layer.num_heads


def param_shardings(mesh: AnyMesh, shape: Shape) -> dict[str, PyTree]:
    """Returns each parameter's sharding on a mesh, as a tree like the parameters."""
    return _as_tree((each.path, NamedSharding(mesh, each.fit(mesh))) for each in placements(shape))


def abstract_params(shape: Shape, dtype: Any = np.float32) -> dict[str, PyTree]:
    """Returns the parameters as shapes and dtypes, by arithmetic alone."""
    return _as_tree((each.path, jax.ShapeDtypeStruct(each.dims, dtype)) for each in placements(shape))


def _as_tree(values: Any) -> dict[str, PyTree]:
    root: dict[str, PyTree] = {}
    for path, value in values:
        node = root
        for name in path[:-1]:
            node = node.setdefault(name, {})
        node[path[-1]] = value
    return root


def gather_params(mesh: Mesh | None, shape: Shape) -> Callable[[PyTree], PyTree]:
    """Returns a function of parameters: the same, but whole along `fsdp`; their gradients are divided again.

    To be called on what the network is applied to, in a loss or an evaluation, after any cast. Without it XLA is free
    to gather the examples in place of the parameters, and does: the TPU's compiler then moved 16 times the bytes of a
    transformer of 34 M parameters on 8 chips, and took 10 times the temporary memory.
    """
    if mesh is None or mesh.shape["fsdp"] == 1:
        return lambda params: params
    own = param_shardings(mesh, shape)

    def gather(x: jax.Array, divided: NamedSharding) -> jax.Array:
        spec = PartitionSpec(*(None if axis == "fsdp" else axis for axis in divided.spec))
        whole = NamedSharding(mesh, spec)

        # Reversed as it is, the constraint would add whole gradients up on every device before they are divided.
        @jax.custom_vjp
        def constrain(x: jax.Array) -> jax.Array:
            return lax.with_sharding_constraint(x, whole)

        constrain.defvjp(
            lambda x: (constrain(x), None),
            lambda _, gradient: (lax.with_sharding_constraint(gradient, divided),),
        )
        return constrain(x)

    return lambda params: jax.tree.map(gather, params, own)


def state_shardings(mesh: AnyMesh, abstract_state: PyTree, shape: Shape, *, population: bool = False) -> PyTree:
    """Returns a sharding for each array of a state, as a tree like it.

    An array whose path ends like that of a parameter, and which has its shape, lies as the parameter does: moments,
    averages, gradients, whatever they are wrapped in. Everything else is whole on every device.

    Args:
      mesh: with the axes `AXES`; an abstract one will do.
      abstract_state: any pytree of arrays, or of their shapes.
      shape: the shape of the network whose parameters the state mirrors.
      population: whether arrays have a leading axis, P members; scalars are what the members share.

    Raises:
      InputError: the members cannot be divided evenly.
    """
    table = {each.path: (each.dims, each.fit(mesh)) for each in placements(shape)}

    def spec_of(names: tuple[str, ...], dims: Dims) -> PartitionSpec:
        for start in range(len(names)):
            known, spec = table.get(names[start:], (None, PartitionSpec()))
            if known == dims:
                return spec
        return PartitionSpec()

    def sharding_of(path: Any, leaf: Any) -> NamedSharding:
        names, dims = tuple(map(_name_of, path)), tuple(leaf.shape)
        if not population or not dims:
            return NamedSharding(mesh, spec_of(names, dims))
        if dims[0] % mesh.shape["population"]:
            raise InputError(
                f"execution.population={dims[0]} cannot be divided by execution.mesh.population="
                f"{mesh.shape['population']}; choose a multiple, or fewer devices along that axis"
            )
        return NamedSharding(mesh, PartitionSpec("population", *spec_of(names, dims[1:])))

    return jax.tree_util.tree_map_with_path(sharding_of, abstract_state)


def _name_of(key: Any) -> str:
    """Returns one step of a pytree's path as a name."""
    return str(next(getattr(key, field) for field in ("key", "name", "idx") if hasattr(key, field)))


def batch_sharding(mesh: AnyMesh, before: Sequence[str | None] = ()) -> NamedSharding:
    """Returns the sharding of arrays whose batch axis is divided along data and fsdp.

    `before` names the mesh axes of the axes that come before the batch: `("population",)` for [P, B, …], `(None,)` for
    the chunks [S, B, …] of a stream.
    """
    return NamedSharding(mesh, PartitionSpec(*before, BATCH_AXES))


def replicated(mesh: AnyMesh) -> NamedSharding:
    """Returns the sharding of arrays that are whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def check_batch(batch_size: int, spec: MeshSpec, micro_batches: int = 1) -> None:
    """Checks that every device gets an equal share of every part of a batch.

    Raises:
      InputError: it does not; names the nearest sizes that would.
    """
    parts = spec.batch_shards * micro_batches
    if batch_size % parts == 0:
        return
    factors = {"data * fsdp": spec.batch_shards, "micro_batches": micro_batches}
    product = " * ".join(name for name, factor in factors.items() if factor > 1)
    other = "execution.mesh" if spec.batch_shards > 1 else "execution.micro_batches"
    below, above = batch_size // parts * parts, -(-batch_size // parts) * parts
    nearest = f"{below} or {above}" if below else f"{above}"
    raise InputError(
        f"training.batch_size={batch_size} cannot be divided by {product} = {parts}; choose {nearest}, or another "
        f"{other}"
    )


def check_population(execution: Execution) -> None:
    """Checks that the members of a population can be divided along their axis of the mesh.

    Raises:
      InputError: they cannot.
    """
    members, shards = execution.population, execution.mesh.population
    if members % shards:
        raise InputError(
            f"execution.population={members} cannot be divided by execution.mesh.population={shards}; choose a "
            "multiple, or fewer devices along that axis"
        )


def check_division(shape: Shape, batch_size: int, execution: Execution) -> None:
    """Checks that batches and heads can be divided as an execution asks; those of evaluations are filled up.

    Raises:
      InputError: they cannot.
    """
    check_batch(batch_size, execution.mesh, execution.micro_batches)
    check_heads(shape, execution.mesh)


def check_heads(shape: Shape, spec: MeshSpec) -> None:
    """Checks that the heads of every attention can be divided along `tensor`.

    Fewer heads of keys and values are no error: each device then has them all.

    Raises:
      InputError: they cannot.
    """
    for visit in walk(make_layers(shape), shape.task.dims):
        if isinstance(visit.layer, Attention) and visit.layer.num_heads % spec.tensor:
            heads = visit.layer.num_heads
            fits = [size for size in range(1, heads + 1) if heads % size == 0]
            raise InputError(
                f"execution.mesh.tensor={spec.tensor} does not divide the {heads} heads of "
                f"{'/'.join(visit.path)}; choose one of {', '.join(map(str, fits))}"
            )


def divide(tree: PyTree, shardings: PyTree) -> Divided:
    """Returns how a tree of arrays, or of their shapes, is divided by shardings like it."""
    divided = whole = size = 0
    for leaf, sharding in zip(jax.tree.leaves(tree), jax.tree.leaves(shardings), strict=True):
        count, own = math.prod(leaf.shape), math.prod(sharding.shard_shape(tuple(leaf.shape)))
        divided, whole = (divided + count, whole) if own < count else (divided, whole + count)
        size += own * np.dtype(leaf.dtype).itemsize
    return Divided(divided, whole, size)


def describe_sharding(mesh: AnyMesh, shape: Shape) -> Divided:
    """Returns how the parameters of a shape are divided, and what the mesh cannot divide."""
    found = divide(abstract_params(shape), param_shardings(mesh, shape))
    lines: dict[tuple[Any, ...], str] = {}
    for each in placements(shape):
        for dim, axis in enumerate(TABLE[each.division]):
            if each.is_left_out(mesh, dim):
                kind = (each.division, each.path[-2:], each.dims, each.units, axis)
                lines.setdefault(kind, f"{_path(each)}: {axis}={mesh.shape[axis]} does not divide {_unit(each, dim)}")
    return found._replace(left_out=tuple(lines.values()))


def _path(each: Placement) -> str:
    return f"{'/'.join(each.path)} [{', '.join(map(str, each.dims))}]"


def _unit(each: Placement, dim: int) -> str:
    return f"{each.units[dim]} heads" if each.units[dim] != each.dims[dim] else f"dim {dim}"


class HostShare(NamedTuple):
    """The rows of a batch that one process brings.

    Attributes:
      host: which of the equal shares.
      num_hosts: how many there are; processes that differ along `tensor` alone bring the same one.
    """

    host: int
    num_hosts: int


def host_share(sharding: Any, batch_size: int, process: int | None = None) -> HostShare:
    """Returns which equal, contiguous share of the batch's rows a process's devices need.

    Args:
      sharding: the sharding of an array whose first axis is the batch.
      batch_size: B.
      process: None for this one.

    Raises:
      InputError: its devices need rows that are not one such share.
    """
    here = jax.process_index() if process is None else process
    rows = _rows_by_process(sharding.devices_indices_map((batch_size,)), batch_size)[here]
    start, stop = min(rows)[0], max(rows)[1]
    covered = sum(end - begin for begin, end in rows)
    share = stop - start
    if covered != share or batch_size % share or start % share:
        wanted = ", ".join(f"{begin} to {end - 1}" for begin, end in sorted(rows))
        raise InputError(
            f"execution.mesh: the devices of process {here} need the rows {wanted} of a batch of {batch_size}, which "
            "are not one equal share; choose data * fsdp so that it is a multiple of the processes, or divides them"
        )
    return HostShare(start // share, batch_size // share)


def _rows_by_process(indices: Mapping[Any, Any], batch_size: int) -> dict[int, set[tuple[int, int]]]:
    found: dict[int, set[tuple[int, int]]] = {}
    for device, (rows, *_) in indices.items():
        start, stop, _ = rows.indices(batch_size)
        found.setdefault(device.process_index, set()).add((start, stop))
    return found
