"""What the checkpoint tests run in processes of their own: saves until it is killed, and one of several processes.

`endless FOLDER [PAUSE]` saves steps 1, 2, … until it is killed. `save` and `restore` FOLDER MESH [ADDRESS PROCESSES ID]
save steps 1 and 2 from, or restore them onto, a mesh like `2x2`.
"""

import os
import sys
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from scaling.training.checkpoints.checkpoint import Checkpoints

IDENTITY = {"job": "kill", "code": "1"}
ENDLESS_SHAPE = (64, 4096)
SPECS = {"rows": P("data"), "both": P("data", "model"), "columns": P(None, "model"), "key": P(), "whole": P()}


def endless_state(step):
    """Returns the arrays of a step; each value says which step it is of."""
    return {
        "weights": np.full(ENDLESS_SHAPE, step, np.float32),
        "small": [np.full(3, step + i, np.float32) for i in range(5)],
    }


def save_until_killed(folder, pause="0"):
    with Checkpoints(epath.Path(folder), identity=IDENTITY, keep=2) as checkpoints:
        restored = checkpoints.restore(endless_state(0))
        step = restored.step if restored is not None else 0
        print("ready", flush=True)
        while True:
            step += 1
            checkpoints.save(step, jax.tree.map(jnp.asarray, endless_state(step)), {"step": step})
            time.sleep(float(pause))


def mesh_values():
    """Returns the values that every mesh must hold, by name."""
    rows = np.arange(8 * 12, dtype=np.float32).reshape(8, 12)
    return {
        "rows": rows,
        "both": (rows - 7).astype(jnp.bfloat16),
        "columns": rows.astype(np.uint32) * 3,
        "key": jax.random.key(11),
        "whole": np.float32(0.1),
    }


def mesh_like(shape):
    """Returns the same as shapes on a mesh of all devices; `whole` is there as a NumPy array, too."""
    mesh = jax.make_mesh(shape, ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    like = {
        name: jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=NamedSharding(mesh, SPECS[name]))
        for name, value in mesh_values().items()
    }
    return {**like, "host": np.zeros(3)}


def place(value, like):
    if jax.dtypes.issubdtype(like.dtype, jax.dtypes.prng_key):
        words = np.asarray(jax.random.key_data(value))
        return jax.random.wrap_key_data(jax.make_array_from_callback(words.shape, like.sharding, lambda i: words[i]))
    return jax.make_array_from_callback(value.shape, like.sharding, lambda i: value[i])


def save_mesh(folder, shape):
    values, like = mesh_values(), mesh_like(shape)
    arrays = {name: place(values[name], like[name]) for name in values}
    with Checkpoints(epath.Path(folder), identity=IDENTITY) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, {**arrays, "host": np.arange(3.0)}, {"mesh": list(shape)})


def restore_mesh(folder, shape):
    like, values = mesh_like(shape), mesh_values()
    with Checkpoints(epath.Path(folder), identity=IDENTITY) as checkpoints:
        restored = checkpoints.restore(like)
        check_mesh(restored.arrays, like)
        checkpoints.save(3, {**restored.arrays, "host": np.arange(3.0)}, {"again": True})
        checkpoints.wait()
        again = checkpoints.restore(like)
        check_mesh(again.arrays, like)
    assert again.step == 3 and values.keys() < restored.arrays.keys()
    print("restored", restored.step, restored.facts, restored.passed_over, flush=True)


def check_mesh(arrays, like):
    """Compares every shard that this process holds."""
    values = mesh_values()
    assert np.array_equal(arrays["host"], np.arange(3.0))
    for name, value in values.items():
        array = arrays[name]
        assert array.dtype == like[name].dtype and array.sharding == like[name].sharding, name
        if name == "key":
            array, value = jax.random.key_data(array), np.asarray(jax.random.key_data(value))  # noqa: PLW2901
        for shard in array.addressable_shards:
            assert np.array_equal(np.asarray(shard.data), value[shard.index]), name


def main(action, folder, *rest):
    if action == "endless":
        save_until_killed(folder, *rest)
    mesh, *processes = rest
    if processes:
        address, count, this = processes
        jax.distributed.initialize(address, int(count), int(this), initialization_timeout=60)
    shape = tuple(int(size) for size in mesh.split("x"))
    {"save": save_mesh, "restore": restore_mesh}[action](folder, shape)
    if processes:
        jax.distributed.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
