"""Claims of ahead-of-time compilation: what it reports is what theory says, and divided steps learn as whole ones do.

Run as a program, this file compiles and runs training steps on eight virtual devices and prints what it found.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from scaling.devices.ahead_of_time import Collective, abstract, compile_abstract, count_collectives, report
from scaling.devices.sharding import (
    batch_sharding,
    divide,
    gather_params,
    make_mesh,
    state_shardings,
)
from scaling.learning.objectives import make_batch, training_loss
from scaling.models.network import build
from scaling.models.registry import make_shape
from scaling.models.shape import Shape
from scaling.specs.execution import MeshSpec
from scaling.specs.models import TransformerSpec
from scaling.specs.task import token_task

BATCH, MEMBERS = 16, 2
MESHES = {
    "one": MeshSpec(),
    "data": MeshSpec(data=8),
    "fsdp": MeshSpec(fsdp=8),
    "tensor": MeshSpec(fsdp=4, tensor=2),
    "population": MeshSpec(population=2, fsdp=4),
}

# --- the program on eight devices -----------------------------------------------------------------------------------


def make_step(shape: Shape, mesh: Any) -> tuple[Any, Any]:
    """Returns (seed → state) and (state, tokens → state, loss) of plain Adam."""
    model, rule, gather = build(shape), optax.adam(0.01, eps=1e-3), gather_params(mesh, shape)

    def init(seed: Any) -> Any:
        params = model.init(jax.random.key(seed))["params"]
        return {"params": params, "moments": rule.init(params)}

    def step(state: Any, tokens: Any) -> Any:
        batch = make_batch(shape.task, tokens, jnp.zeros(BATCH, jnp.int32), jax.random.key(0))

        def batch_loss(params: Any) -> Any:
            variables = {"params": gather(params), "state": {}}
            return training_loss(model.apply(variables, batch.inputs, train=True, key=None)[0], batch)

        loss, gradients = jax.value_and_grad(batch_loss)(state["params"])
        updates, moments = rule.update(gradients, state["moments"])
        return {"params": optax.apply_updates(state["params"], updates), "moments": moments}, loss

    return init, step


def try_mesh(name: str) -> dict[str, Any]:
    """Returns what compiling and running one step on a mesh shows."""
    shape = make_shape(TransformerSpec(width=64, depth=1, head_size=16), token_task(128, 16))
    mesh, has_members = make_mesh(MESHES[name]), name == "population"
    init, step = make_step(shape, mesh)
    seeds, before = jnp.uint32(3), ()
    if has_members:
        init, step = jax.vmap(init), jax.vmap(step, spmd_axis_name="population")
        seeds, before = jnp.full(MEMBERS, 3, jnp.uint32), ("population",)
    tokens = jax.random.randint(jax.random.key(1), (BATCH, 17), 0, 128)
    tokens = jnp.stack([tokens] * MEMBERS) if has_members else tokens
    state = jax.jit(init)(seeds)
    shardings = state_shardings(mesh, state, shape, population=has_members)
    places = (shardings, batch_sharding(mesh, before))
    losses = jax.NamedSharding(mesh, P(*before))
    compiled = compile_abstract(
        step, (abstract(state, places[0]), abstract(tokens, places[1])), out_shardings=(shardings, losses)
    )
    division, params = divide(state, shardings), divide(state["params"], shardings["params"])
    after, loss = compiled(*jax.device_put((state, tokens), places))
    return report(compiled) | {
        "state_bytes": division.bytes_per_device,
        "divided": params.divided,
        "num_params": params.divided + params.replicated,
        "loss": np.asarray(loss).ravel().tolist(),
        "params": [np.asarray(leaf).ravel()[::50].tolist() for leaf in jax.tree.leaves(after["params"])],
        "is_kept": jax.tree.all(jax.tree.map(lambda x, s: x.sharding.is_equivalent_to(s, x.ndim), after, shardings)),
    }


# --- its claims -----------------------------------------------------------------------------------------------------


def run_program(python: str, *names: str) -> dict[str, Any]:
    # Optimising less changes nothing here but the time.
    flags = " ".join(os.environ.get(name, "") for name in ("XLA_FLAGS", "QUICK_XLA_FLAGS")).strip()
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "8", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "XLA_FLAGS": flags}
    done = subprocess.run(
        [python, Path(__file__), *names], env=environment, capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


@pytest.fixture(scope="module")
def found(python: str) -> dict[str, Any]:
    return run_program(python, "one", "data", "fsdp")


@pytest.fixture(scope="module")
def more(python: str, found: dict[str, Any]) -> dict[str, Any]:
    return found | run_program(python, "tensor", "population")


def moved(answer: dict[str, Any]) -> dict[str, int]:
    return {each["kind"]: each["bytes"] for each in answer["collectives"]}


def test_one_device_communicates_nothing(found: dict[str, Any]) -> None:
    assert found["one"]["collectives"] == []


def test_data_parallel_devices_add_up_gradients_and_nothing_else(found: dict[str, Any]) -> None:
    gradients = 4 * found["data"]["num_params"]
    assert set(moved(found["data"])) == {"all-reduce"}
    assert gradients < moved(found["data"])["all-reduce"] < gradients + 64  # and the loss


def test_fsdp_gathers_the_divided_parameters_once_and_adds_up_gradients(found: dict[str, Any]) -> None:
    answer = found["fsdp"]
    divided, whole = 4 * answer["divided"], 4 * answer["num_params"]
    assert moved(answer)["all-gather"] == divided
    added = sum(size for kind, size in moved(answer).items() if kind != "all-gather")
    assert whole < added < whole + 64


@pytest.mark.slow
def test_tensor_parallel_devices_gather_their_part_and_add_up_activations(more: dict[str, Any]) -> None:
    answer = more["tensor"]
    activations = 4 * (BATCH // 4) * 16 * 64  # [B, T, D] of one device
    # Forward and backward, of attention and of the feed-forward network: four sums of activations at least.
    assert moved(answer)["all-gather"] <= 1.1 * 4 * answer["divided"] / 2
    assert moved(answer)["all-reduce"] > 4 * activations + 4 * answer["divided"] / 2


def check_same_step(one: dict[str, Any], answer: dict[str, Any]) -> None:
    assert answer["loss"] == pytest.approx(one["loss"], rel=1e-6)
    for expected, leaf in zip(one["params"], answer["params"], strict=True):
        np.testing.assert_allclose(leaf, expected, atol=2e-6)
    assert answer["is_kept"]


@pytest.mark.parametrize("name", ["data", "fsdp"])
def test_a_divided_step_has_the_loss_and_the_parameters_of_the_whole_one(found: dict[str, Any], name: str) -> None:
    check_same_step(found["one"], found[name])


@pytest.mark.slow
def test_a_step_divided_along_tensor_has_them_too(more: dict[str, Any]) -> None:
    check_same_step(more["one"], more["tensor"])


def check_memory_falls(whole: dict[str, Any], answer: dict[str, Any], spec: MeshSpec) -> None:
    share = spec.fsdp * spec.tensor
    replicated = 12 * (answer["num_params"] - answer["divided"])  # a parameter and its two moments
    assert answer["state_bytes"] == pytest.approx((whole["state_bytes"] - replicated) / share + replicated, abs=8)
    tokens = 4 * 17 * BATCH // spec.batch_shards
    assert answer["memory"]["argument"] == pytest.approx(answer["state_bytes"] + tokens, abs=64)
    assert answer["memory"]["alias"] == pytest.approx(answer["state_bytes"], abs=64)  # donated


@pytest.mark.parametrize("name", ["one", "data", "fsdp"])
def test_memory_of_the_state_falls_by_the_devices_that_share_it(found: dict[str, Any], name: str) -> None:
    check_memory_falls(found["one"], found[name], MESHES[name])


@pytest.mark.slow
def test_memory_of_the_state_falls_along_tensor_too(more: dict[str, Any]) -> None:
    check_memory_falls(more["one"], more["tensor"], MESHES["tensor"])


@pytest.mark.slow
def test_members_of_a_population_learn_alone_and_do_not_speak_to_each_other(more: dict[str, Any]) -> None:
    answer, alone = more["population"], more["fsdp"]
    assert answer["loss"] == pytest.approx(alone["loss"] * MEMBERS, rel=1e-6)
    assert moved(answer) == moved(alone)  # four devices a member, which is as much for each
    assert answer["state_bytes"] == pytest.approx(2 * alone["state_bytes"], rel=0.1)
    assert answer["is_kept"]


def test_the_rounds_of_a_loop_multiply_what_it_communicates() -> None:
    mesh = make_mesh(MeshSpec(data=2))
    x = jax.ShapeDtypeStruct((2, 8), jnp.float32, sharding=batch_sharding(mesh))

    def rounds(x: Any) -> Any:
        total = jax.shard_map(lambda x: jax.lax.psum(x, "data"), mesh=mesh, in_specs=P("data"), out_specs=P())
        return jax.lax.fori_loop(0, 5, lambda _, y: y + total(y)[:1], x)

    (collective,) = report(compile_abstract(rounds, (x,)))["collectives"]
    assert collective == {"kind": "all-reduce", "runs": 5, "bytes": 5 * 4 * 8}


def test_asynchronous_collectives_are_counted_once_and_scattered_ones_whole() -> None:
    text = """HloModule step

%wrapped (p: f32[8]) -> f32[64] {
  %p = f32[8]{0} parameter(0)
  ROOT %g = f32[64]{0} all-gather(%p), dimensions={0}
}

ENTRY %main (a: f32[8], b: bf16[64]) -> f32[64] {
  %a = f32[8]{0:T(128)} parameter(0)
  %b = bf16[64]{0} parameter(1)
  %s = ((f32[8]{0}), f32[64]{0}) async-start(%a), calls=%wrapped
  %d = f32[64]{0} async-done(%s), calls=%wrapped
  %t = (f32[8]{0}, f32[64]{0}) all-gather-start(%a), dimensions={0}
  %u = f32[64]{0} all-gather-done(%t)
  %r = bf16[8]{0} reduce-scatter(%b), dimensions={0}, to_apply=%wrapped
  %c = (f32[8]{0}, f32[8]{0}, u32[], u32[]) collective-permute-start(%a), source_target_pairs={{0,1}}
  %w = (s32[], f32[8]{0}) while(%s), condition=%none, body=%wrapped
  ROOT %e = f32[64]{0} collective-permute-done(%c)
}
"""
    found, unknown_loops = count_collectives(text)
    assert found == [
        Collective("all-gather", 3, 3 * 64 * 4),  # the loop's rounds are not known: one
        Collective("reduce-scatter", 1, 64 * 2),
        Collective("collective-permute", 1, 8 * 4 + 8),
    ]
    assert unknown_loops == 1


def test_nothing_is_made_to_compile() -> None:
    mesh = make_mesh(MeshSpec(fsdp=2))
    huge = jax.ShapeDtypeStruct((2**20, 2**20), jnp.float32, sharding=batch_sharding(mesh))  # 4 TiB
    memory = report(compile_abstract(lambda x: x + 1.0, (huge,)))["memory"]
    assert (memory["argument"], memory["alias"], memory["peak"]) == (2**41, 2**41, 2**41)


if __name__ == "__main__":
    json.dump({name: try_mesh(name) for name in sys.argv[1:]}, sys.stdout)
