"""One training step compiled for a described topology, without the hardware."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from pydantic import TypeAdapter

from scaling.devices.ahead_of_time import abstract, compile_abstract, report
from scaling.devices.sharding import (
    batch_sharding,
    check_division,
    describe_sharding,
    make_mesh,
    replicated,
    state_shardings,
)
from scaling.devices.topology import Topology, run_described, topology_devices
from scaling.learning.objectives import make_batch
from scaling.learning.step import make_hyper, make_learner
from scaling.models.registry import make_shape
from scaling.specs.base import Json, parse
from scaling.specs.execution import Execution
from scaling.specs.models import ModelSpec, NetworkSpec
from scaling.specs.task import TaskShape
from scaling.specs.training import TrainingSpec
from scaling.training.memory import state_bytes


def compile_training(
    topology: Topology, model: NetworkSpec, task: TaskShape, training: TrainingSpec, execution: Execution
) -> Json:
    """Returns what the compiler says of one training step on a topology, with every array on its place of the mesh.

    As `ahead_of_time.report`, with `compiler` (`tpu`, or `cpu` for an estimate), `num_devices` of the mesh,
    `device_kind`, `device_bytes`, what one device may fill (None for CPUs), `state_bytes` on each device, `left_whole`,
    a line for each array that the mesh does not divide as its table says, and `fits`.

    Raises:
      InputError: the batch, the network or the mesh cannot be divided so, or the program does not fit.
    """
    payload = {
        "model": model.canonical_json(),
        "task": dataclasses.asdict(task),
        "training": training.canonical_json(),
        "execution": execution.canonical_json(),
    }
    found: Json = run_described(topology, _compile_training, payload)
    limit = topology.chip.device_bytes if topology.chip else None
    return found | {"device_bytes": limit, "fits": None if limit is None else found["memory"]["peak"] <= limit}


def _compile_training(topology: Topology, payload: Json) -> Json:
    training = parse(TrainingSpec, payload["training"], "training")
    execution = parse(Execution, payload["execution"], "execution")
    task = dict(payload["task"])
    if task["image_shape"] is not None:
        task["image_shape"] = tuple(task["image_shape"])
    model: Any = TypeAdapter(ModelSpec).validate_json(payload["model"])
    shape = make_shape(model, TaskShape(**task))
    check_division(shape, training.batch_size, execution)
    mesh = make_mesh(execution.mesh, topology_devices(topology))
    learner = make_learner(shape, training, execution, mesh)
    state = jax.eval_shape(learner.init, jax.ShapeDtypeStruct((), jnp.uint32))
    hyper = make_hyper(training, 0, 0)
    inputs, labels = _examples(shape.task, training.batch_size)
    batch = jax.eval_shape(lambda x, y: make_batch(shape.task, x, y, jax.random.key(0)), inputs, labels)
    places = state_shardings(mesh, state, shape)
    arguments = (
        abstract(state, places),
        abstract(hyper, jax.tree.map(lambda _: replicated(mesh), hyper)),
        abstract(batch, jax.tree.map(lambda _: batch_sharding(mesh), batch)),
    )
    compiled = compile_abstract(learner.step, arguments, out_shardings=(places, replicated(mesh)))
    return report(compiled) | {
        "compiler": topology.compiler,
        "num_devices": mesh.size,
        "device_kind": mesh.devices.flat[0].device_kind,
        "state_bytes": state_bytes(shape, training, execution)._asdict(),
        "left_whole": list(describe_sharding(mesh, shape).left_out),
    }


def _examples(task: TaskShape, batch_size: int) -> tuple[Any, Any]:
    """Returns the shapes of a batch's examples and labels, as the data brings them."""
    dtype = jnp.float32 if task.objective == "regress" else jnp.int32
    labels = jax.ShapeDtypeStruct((batch_size, *task.label_dims), dtype)
    if task.vocab_size is None:
        return jax.ShapeDtypeStruct((batch_size, task.num_features), jnp.float32), labels
    length = task.num_features + (task.objective == "next_token")
    return jax.ShapeDtypeStruct((batch_size, length), jnp.int32), labels
