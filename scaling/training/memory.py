"""What a training state needs on each device, counted exactly before anything is made, and what would fit.

What the forward pass keeps for the backward pass is not counted here: `topology` asks the compiler.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scaling.devices.hardware import GIB
from scaling.devices.sharding import abstract_mesh, abstract_params, divide, state_shardings
from scaling.learning.optim import make_direction
from scaling.models.parametrization import update_trees
from scaling.models.shape import Shape
from scaling.specs.base import InputError
from scaling.specs.execution import DEFAULT, Execution, MeshSpec
from scaling.specs.training import TrainingSpec

# The most devices along `fsdp` that a remedy names.
MAX_FSDP = 2**16


class StateBytes(NamedTuple):
    """Bytes on each device.

    Attributes:
      params: kept in float32.
      moments: the moments of the optimiser.
      average: the average of the parameters, where one is kept.
      gradients: float32, divided as the parameters are.
      compute_copy: the parameters in the precision of the forward pass, where that is not float32; divided.
    """

    params: int
    moments: int
    average: int
    gradients: int
    compute_copy: int

    @property
    def total(self) -> int:
        """All together."""
        return sum(self)


def state_bytes(shape: Shape, training: TrainingSpec, execution: Execution = DEFAULT) -> StateBytes:
    """Returns what each device holds of a training state under an execution's mesh; batch statistics aside.

    With a population, a device holds its share of the members.

    Raises:
      InputError: the members cannot be divided evenly.
    """
    return _state_bytes(_abstract_state(shape, training), shape, execution.mesh, execution.population)


def check_memory(shape: Shape, training: TrainingSpec, execution: Execution, limit_bytes: int | None) -> None:
    """Checks that the training state of a job fits into a device's memory.

    Args:
      shape: the shape of the network.
      training: how it is trained.
      execution: how it is run.
      limit_bytes: the bytes of one device; None where it is not known, and then nothing is refused.

    Raises:
      InputError: it does not; says by how much, and which size or mesh would.
    """
    if limit_bytes is None:
        return
    state = _abstract_state(shape, training)
    need = _state_bytes(state, shape, execution.mesh, execution.population).total
    if need <= limit_bytes:
        return
    num_params = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state["params"]))
    remedies = [f"choose at most about {_round_down(num_params * limit_bytes / need)} parameters on this mesh"]
    fsdp = execution.mesh.fsdp * 2
    while fsdp <= MAX_FSDP:
        mesh = execution.mesh.model_copy(update={"fsdp": fsdp})
        if _state_bytes(state, shape, mesh, execution.population).total <= limit_bytes:
            remedies.append(f"execution.mesh.fsdp={fsdp} ({mesh.num_devices} devices in all)")
            break
        fsdp *= 2
    members = f" for {execution.population} members" if execution.population > 1 else ""
    raise InputError(
        f"model.num_params={num_params}: parameters, gradients and the optimiser's state{members} need "
        f"{need / GIB:.2f} GiB on each device, {(need - limit_bytes) / GIB:.2f} GiB more than its "
        f"{limit_bytes / GIB:.2f} GiB; {', or '.join(remedies)}"
    )


def _abstract_state(shape: Shape, training: TrainingSpec) -> dict[str, Any]:
    """Returns the parts of a training state as shapes and dtypes, without a population."""
    params = abstract_params(shape)
    roles = update_trees(shape, training.optimizer.update).roles
    rule = make_direction(training.optimizer, roles, moments=training.moments)
    is_cast = training.precision != "float32"
    return {
        "params": params,
        "moments": jax.eval_shape(rule.init, params),
        "average": params if training.ema_decay else {},
        "gradients": params,
        "compute_copy": abstract_params(shape, np.dtype(jnp.dtype(training.precision))) if is_cast else {},
    }


def _state_bytes(state: dict[str, Any], shape: Shape, spec: MeshSpec, population: int) -> StateBytes:
    if population % spec.population:
        raise InputError(
            f"execution.population={population} cannot be divided by execution.mesh.population={spec.population}; "
            "choose a multiple, or fewer devices along that axis"
        )
    members = population // spec.population
    shardings = state_shardings(abstract_mesh(spec), state, shape)
    return StateBytes(**{name: members * divide(state[name], shardings[name]).bytes_per_device for name in state})


def _round_down(count: float) -> int:
    """Returns two digits of a count.

    >>> _round_down(1_987_654.0)
    1900000
    """
    unit = 10 ** max(0, math.floor(math.log10(max(count, 1.0))) - 1)
    return int(count // unit * unit)
