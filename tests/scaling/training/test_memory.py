"""Claims of the memory plan: its bytes are those of real arrays, and what it says would fit does fit."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from scaling.devices.hardware import GIB
from scaling.devices.sharding import make_mesh, state_shardings
from scaling.learning.optim import make_direction
from scaling.models.network import build
from scaling.models.parametrization import update_trees
from scaling.models.registry import make_shape
from scaling.models.shape import Shape
from scaling.specs.base import InputError
from scaling.specs.execution import Execution, MeshSpec
from scaling.specs.models import TransformerSpec
from scaling.specs.task import token_task
from scaling.specs.training import AdamWSpec, MuonSpec, TrainingSpec
from scaling.training.memory import check_memory, state_bytes

TASK = token_task(256, 32)
DECODER = make_shape(TransformerSpec(width=64, depth=2, head_size=16), TASK)


def training(**fields: Any) -> TrainingSpec:
    return TrainingSpec(**({"optimizer": AdamWSpec(peak_lr=0.1), "num_steps": 1} | fields))


def count(shape: Shape) -> int:
    return state_bytes(shape, training()).params // 4


@pytest.mark.parametrize(
    ("optimizer", "moments"),
    [(AdamWSpec(peak_lr=0.1), "float32"), (MuonSpec(peak_lr=0.1), "bfloat16")],
    ids=["adamw", "muon in bfloat16"],
)
def test_bytes_are_those_of_the_real_arrays_on_one_device(optimizer: Any, moments: Any) -> None:
    spec = training(optimizer=optimizer, moments=moments)
    mesh = make_mesh(MeshSpec(fsdp=2))

    def init(seed: jax.Array) -> dict[str, Any]:
        params = build(DECODER).init(jax.random.key(seed))["params"]
        rule = make_direction(optimizer, update_trees(DECODER, optimizer.update).roles, moments=moments)
        return {"params": params, "moments": rule.init(params)}

    shardings = state_shardings(mesh, jax.eval_shape(init, jnp.uint32(0)), DECODER)
    real = jax.jit(init, out_shardings=shardings)(jnp.uint32(0))
    first = {
        name: sum(
            shard.data.nbytes
            for leaf in jax.tree.leaves(real[name])
            for shard in leaf.addressable_shards
            if shard.device == jax.devices()[0]
        )
        for name in real
    }
    found = state_bytes(DECODER, spec, Execution(mesh=MeshSpec(fsdp=2)))
    assert (found.params, found.moments) == (first["params"], first["moments"])


def test_switches_add_what_they_keep() -> None:
    plain = state_bytes(DECODER, training())
    full = state_bytes(DECODER, training(ema_decay=0.9, precision="bfloat16", moments="bfloat16"))
    assert (plain.average, plain.compute_copy) == (0, 0)
    assert (full.average, full.compute_copy) == (plain.params, plain.params // 2)
    assert abs(full.moments - plain.moments / 2) <= 4
    assert plain.gradients == plain.params
    assert plain.total == plain.params + plain.moments + plain.gradients


def test_each_device_holds_its_members_of_a_population() -> None:
    alone = state_bytes(DECODER, training()).total
    assert state_bytes(DECODER, training(), Execution(population=6)).total == 6 * alone
    on_mesh = Execution(population=6, mesh=MeshSpec(population=3))
    assert state_bytes(DECODER, training(), on_mesh).total == 2 * alone
    with pytest.raises(InputError, match=r"execution\.population=5 cannot be divided"):
        state_bytes(DECODER, training(), on_mesh.model_copy(update={"population": 5}))


def test_a_state_that_fits_or_a_device_that_nobody_knows_passes() -> None:
    need = state_bytes(DECODER, training()).total
    check_memory(DECODER, training(), Execution(), need)
    check_memory(DECODER, training(), Execution(), None)


def test_a_state_too_large_is_refused_by_how_much_and_both_remedies_fit() -> None:
    large = make_shape(TransformerSpec(num_params=100_000_000), TASK)
    need, limit = state_bytes(large, training()).total, GIB // 2
    with pytest.raises(InputError) as refused:
        check_memory(large, training(), Execution(), limit)
    said = str(refused.value)
    assert f"model.num_params={count(large)}" in said
    assert f"need {need / GIB:.2f} GiB on each device, {(need - limit) / GIB:.2f} GiB more than its 0.50 GiB" in said
    fits = re.search(r"at most about (\d+) parameters", said)
    fsdp = re.search(r"execution\.mesh\.fsdp=(\d+)", said)
    assert fits
    assert fsdp
    assert int(fits.group(1)) > 0.9 * limit / 16  # 16 bytes a parameter: itself, two moments, gradient
    check_memory(make_shape(TransformerSpec(num_params=int(fits.group(1))), TASK), training(), Execution(), limit)
    check_memory(large, training(), Execution(mesh=MeshSpec(fsdp=int(fsdp.group(1)))), limit)
    with pytest.raises(InputError):
        check_memory(large, training(), Execution(mesh=MeshSpec(fsdp=int(fsdp.group(1)) // 2)), limit)
