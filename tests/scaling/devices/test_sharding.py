"""Claims of the mesh and the table of shardings: moments lie like parameters, nothing is left undivided silently."""

import itertools
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from scaling.devices.sharding import (
    AXES,
    TABLE,
    HostShare,
    abstract_mesh,
    abstract_params,
    batch_sharding,
    check_batch,
    check_heads,
    check_population,
    describe_sharding,
    divide,
    gather_params,
    host_share,
    make_mesh,
    param_shardings,
    placements,
    state_shardings,
)
from scaling.learning.optim import make_direction
from scaling.models.network import abstract_variables
from scaling.models.parametrization import update_trees
from scaling.models.registry import make_shape
from scaling.models.shape import Shape
from scaling.specs.base import InputError
from scaling.specs.execution import Execution, MeshSpec
from scaling.specs.models import LSTMSpec, MLPSpec, ResNetSpec, TransformerSpec, ViTSpec
from scaling.specs.task import image_task, token_task
from scaling.specs.training import AdamWSpec, LionSpec, MuonSpec, RMSPropSpec, SGDSpec

TOKENS = token_task(256, 16)
DECODER = make_shape(TransformerSpec(width=64, depth=2, head_size=16), TOKENS)
SHAPES = {
    "decoder": DECODER,
    "grouped": make_shape(
        TransformerSpec(width=64, depth=1, head_size=16, num_kv_heads=2, is_gated=True, tied=True), TOKENS
    ),
    "experts": make_shape(TransformerSpec(width=32, depth=1, num_experts=4, positions="learned"), TOKENS),
    "relative": make_shape(
        TransformerSpec(width=64, depth=1, form="encoder", positions="relative", num_segments=2),
        token_task(256, 16, "permuted"),
    ),
    "pair": make_shape(TransformerSpec(width=32, depth=1, form="encoder_decoder"), TOKENS),
    "lstm": make_shape(LSTMSpec(width=32), TOKENS),
    "resnet": make_shape(ResNetSpec(width=16), image_task(32, 10)),
    "vit": make_shape(ViTSpec(width=64, depth=1), image_task(32, 10)),
    "mlp": make_shape(MLPSpec(width=64, depth=3), image_task(8, 10)),
}
FOUR_BY_TWO = abstract_mesh(MeshSpec(fsdp=4, tensor=2))


def at(tree: Any, path: str) -> Any:
    for name in path.split("/"):
        tree = tree[name]
    return tree


@pytest.mark.parametrize("name", SHAPES)
def test_the_table_has_every_parameter_of_every_family_in_its_shape(name: str) -> None:
    assert jax.tree.map(lambda x: x.shape, abstract_params(SHAPES[name])) == jax.tree.map(
        lambda x: x.shape, abstract_variables(SHAPES[name])["params"]
    )


@pytest.mark.parametrize("name", SHAPES)
def test_every_matrix_is_divided_along_fsdp_unless_the_table_of_what_is_left_out_says_so(name: str) -> None:
    mesh = abstract_mesh(MeshSpec(fsdp=2))
    found = describe_sharding(mesh, SHAPES[name])
    matrices = sum(each.division != "vector" for each in placements(SHAPES[name]))
    divided = sum("fsdp" in tuple(each.fit(mesh)) for each in placements(SHAPES[name]))
    assert matrices - divided == len(found.left_out) <= 1
    assert found.divided > 10 * found.replicated


def param_specs(shape: Shape) -> dict[str, Any]:
    """The table's partition spec of each parameter, by its path."""
    return {"/".join(each.path): TABLE[each.division] for each in placements(shape)}


def test_first_matrices_are_divided_by_columns_and_second_ones_by_rows() -> None:
    specs, block = param_specs(DECODER), "blocks/block_1/attention/branch/main"
    assert specs[f"{block}/query/kernel"] == P("fsdp", "tensor")
    assert specs[f"{block}/out/kernel"] == P("tensor", "fsdp")
    assert specs["blocks/block_0/mlp/branch/main/up/kernel"] == P("fsdp", "tensor")
    assert specs["blocks/block_0/mlp/branch/main/down/kernel"] == P("tensor", "fsdp")
    assert specs["blocks/block_0/mlp/branch/main/up/bias"] == P()
    assert specs["embedding/tokens/embedding"] == P("tensor", "fsdp")
    assert specs["head/readout/kernel"] == P("fsdp", "tensor")
    experts, main = param_specs(SHAPES["experts"]), "blocks/block_0/mlp/branch/main"
    assert (experts[f"{main}/up"], experts[f"{main}/down"]) == (P(None, "fsdp", "tensor"), P(None, "tensor", "fsdp"))
    assert param_specs(SHAPES["resnet"])["stem/conv/conv/kernel"] == P(None, None, "fsdp", "tensor")


def test_a_head_is_never_cut() -> None:
    shape, mesh = SHAPES["grouped"], abstract_mesh(MeshSpec(tensor=4))
    main = at(param_shardings(mesh, shape), "blocks/block_0/attention/branch/main")
    assert main["query"]["kernel"].spec == P("fsdp", "tensor")
    assert main["key"]["kernel"].spec == P("fsdp", None)  # 2 heads of keys on 4 devices
    cut = at(param_shardings(abstract_mesh(MeshSpec(tensor=8)), shape), "blocks/block_0/attention/branch/main")
    assert cut["out"]["kernel"].spec == P(None, "fsdp")
    assert any("key/kernel [64, 32]: tensor=4 does not divide 2 heads" in line for line in describe(mesh, shape))


def describe(mesh: Any, shape: Any) -> tuple[str, ...]:
    return describe_sharding(mesh, shape).left_out


def test_what_does_not_divide_is_left_out_and_told() -> None:
    mesh = abstract_mesh(MeshSpec(fsdp=5))
    found = describe_sharding(mesh, DECODER)
    assert found.divided == 0
    assert "embedding/tokens/embedding [256, 64]: fsdp=5 does not divide dim 1" in found.left_out
    assert len(found.left_out) == 8  # equal blocks are told once


OPTIMIZERS = {
    "sgd": SGDSpec(peak_lr=0.1),
    "adamw": AdamWSpec(peak_lr=0.1),
    "rmsprop": RMSPropSpec(peak_lr=0.1, momentum=0.9),
    "lion": LionSpec(peak_lr=0.1),
    "muon": MuonSpec(peak_lr=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_moments_lie_like_their_parameters_whatever_they_are_wrapped_in(name: str) -> None:
    params = abstract_params(DECODER)
    rule = make_direction(OPTIMIZERS[name], update_trees(DECODER, OPTIMIZERS[name].update).roles)
    state = {"optimizer": jax.eval_shape(rule.init, params), "average": params, "step": jax.ShapeDtypeStruct((), int)}
    shardings = state_shardings(FOUR_BY_TWO, state, DECODER)
    table = {each.path: each.fit(FOUR_BY_TWO) for each in placements(DECODER)}
    matched = 0
    for path, sharding in jax.tree_util.tree_leaves_with_path(shardings):
        keys = [str(getattr(key, "key", "")) for key in path]
        own = [spec for name, spec in table.items() if keys[-len(name) :] == list(name)]
        assert sharding.spec == (own[0] if own else P())
        matched += bool(own)
    copies = {"adamw": 2, "rmsprop": 2}.get(name, 1)
    assert matched >= (1 + copies) * len(table)


def test_factored_moments_and_arrays_of_other_shapes_are_whole() -> None:
    params = abstract_params(DECODER)
    state = jax.eval_shape(optax.scale_by_factored_rms(min_dim_size_to_factor=16).init, params)
    found = state_shardings(FOUR_BY_TWO, state, DECODER)
    assert {sharding.spec for sharding in jax.tree.leaves((found.v_row, found.v_col))} == {P()}


def test_state_on_each_device_falls_by_the_size_of_the_mesh() -> None:
    state = jax.eval_shape(optax.adam(0.1).init, abstract_params(DECODER))
    whole = divide(state, state_shardings(abstract_mesh(MeshSpec(data=8)), state, DECODER))
    for mesh in (MeshSpec(fsdp=8), MeshSpec(fsdp=4, tensor=2), MeshSpec(fsdp=2, tensor=4)):
        found = divide(state, state_shardings(abstract_mesh(mesh), state, DECODER))
        assert found.bytes_per_device == (whole.bytes_per_device - 4 * found.replicated) / 8 + 4 * found.replicated
        assert found.replicated < 0.04 * found.divided


def test_members_of_a_population_are_divided_and_what_they_share_is_whole() -> None:
    params = abstract_params(DECODER)
    members = jax.tree.map(lambda x: jax.ShapeDtypeStruct((6, *x.shape), x.dtype), params)
    state = {"params": members, "losses": jax.ShapeDtypeStruct((6,), float), "step": jax.ShapeDtypeStruct((), int)}
    found = state_shardings(abstract_mesh(MeshSpec(population=3, fsdp=2)), state, DECODER, population=True)
    assert at(found, "params/head/readout/kernel").spec == P("population", "fsdp", "tensor")
    assert (found["losses"].spec, found["step"].spec) == (P("population"), P())
    with pytest.raises(InputError, match=r"execution\.population=6 cannot be divided by execution\.mesh\.population=4"):
        state_shardings(abstract_mesh(MeshSpec(population=4)), state, DECODER, population=True)


def test_a_mesh_takes_the_first_devices_and_says_when_there_are_too_few() -> None:
    mesh = make_mesh(MeshSpec(), jax.devices())
    assert (mesh.axis_names, mesh.size, set(mesh.axis_types)) == (AXES, 1, {jax.sharding.AxisType.Auto})
    with pytest.raises(InputError, match=r"data=3,fsdp=2,tensor=1 needs 6 devices, but there are 2 \(cpu\)"):
        make_mesh(MeshSpec(data=3, fsdp=2))


def test_a_batch_that_the_mesh_does_not_divide_is_refused_with_the_nearest_that_it_does() -> None:
    check_batch(96, MeshSpec(data=4, fsdp=2, tensor=5), micro_batches=3)
    with pytest.raises(InputError, match=r"training\.batch_size=100 cannot .* data \* fsdp = 8; choose 96 or 104"):
        check_batch(100, MeshSpec(data=4, fsdp=2))
    with pytest.raises(InputError, match=r"data \* fsdp \* micro_batches = 16; choose 16"):
        check_batch(8, MeshSpec(data=8), micro_batches=2)


def test_heads_that_the_tensor_axis_does_not_divide_are_refused() -> None:
    check_heads(DECODER, MeshSpec(tensor=4))
    check_heads(SHAPES["mlp"], MeshSpec(tensor=3))
    with pytest.raises(InputError, match=r"execution\.mesh\.tensor=3 does not divide the 4 heads .* one of 1, 2, 4"):
        check_heads(DECODER, MeshSpec(tensor=3))


def grid(data: int, fsdp: int, tensor: int, processes: Sequence[int]) -> Any:
    """Returns the sharding of a batch over devices that several processes have, in the order of the mesh."""
    share = 24 // (data * fsdp)
    rows = itertools.product(range(data * fsdp), range(tensor))
    indices = {
        Device(process): (slice(row * share, (row + 1) * share),)
        for process, (row, _) in zip(processes, rows, strict=True)
    }
    return SimpleNamespace(devices_indices_map=lambda shape: indices)


class Device:
    """A device of some process."""

    def __init__(self, process_index: int) -> None:
        self.process_index = process_index


def test_hosts_that_differ_along_tensor_alone_bring_the_same_rows() -> None:
    by_two = [host_share(grid(2, 2, 2, (0, 0, 1, 1, 2, 2, 3, 3)), 24, process) for process in range(4)]
    assert by_two == [HostShare(host, 4) for host in range(4)]
    one_each = [host_share(grid(2, 2, 2, range(8)), 24, process) for process in range(8)]
    assert one_each == [HostShare(host // 2, 4) for host in range(8)]
    assert [host_share(grid(1, 1, 4, (0, 0, 1, 1)), 24, process) for process in range(2)] == [HostShare(0, 1)] * 2
    assert host_share(batch_sharding(make_mesh(MeshSpec(data=2))), 24) == HostShare(0, 1)


def test_rows_that_are_not_one_equal_share_are_refused() -> None:
    with pytest.raises(InputError, match="process 0 need the rows 0 to 3, 4 to 7, 8 to 11, 12 to 15 of a batch of 24"):
        host_share(grid(6, 1, 1, (0, 0, 0, 0, 1, 1)), 24, 0)
    with pytest.raises(InputError, match="process 0 need the rows 0 to 5, 18 to 23 of a batch of 24"):
        host_share(grid(4, 1, 1, (0, 1, 1, 0)), 24, 0)


def test_gathered_parameters_are_whole_and_their_gradients_divided_and_both_are_right() -> None:
    mesh = make_mesh(MeshSpec(fsdp=2))
    shardings = param_shardings(mesh, DECODER)
    random = np.random.default_rng(0)
    params = jax.tree.map(lambda x: jnp.asarray(random.normal(size=x.shape)), abstract_params(DECODER))
    gather = gather_params(mesh, DECODER)

    def loss(params: Any) -> Any:
        whole = gather(params)
        return sum((x**3).sum() for x in jax.tree.leaves(whole)), whole

    (_, whole), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(jax.device_put(params, shardings))
    assert whole["head"]["readout"]["kernel"].sharding.is_fully_replicated
    assert gradients["head"]["readout"]["kernel"].sharding.is_equivalent_to(shardings["head"]["readout"]["kernel"], 2)
    for x, found, gradient in zip(*map(jax.tree.leaves, (params, whole, gradients)), strict=True):
        np.testing.assert_array_equal(found, x)
        np.testing.assert_allclose(gradient, 3 * x**2, rtol=1e-6)


def test_micro_batches_alone_are_named_and_members_are_divided() -> None:
    with pytest.raises(
        InputError, match=r"=9 cannot .* by micro_batches = 2; choose 8 or 10, or another execution\.mi"
    ):
        check_batch(9, MeshSpec(), micro_batches=2)
    check_population(Execution(population=4, mesh=MeshSpec(population=2)))
    with pytest.raises(InputError, match=r"execution\.population=1 cannot be divided by execution\.mesh\.population=2"):
        check_population(Execution(mesh=MeshSpec(population=2)))
