"""Parametrisations: equal at the base, and beyond it by the table's numbers."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.checks.coordinates import synthetic_examples
from scaling.learning.objectives import make_batch
from scaling.learning.step import Hyper, horizon_of, make_learner
from scaling.models.layers.core import Dense, Residual
from scaling.models.layers.sequence import Attention, Experts, SinusoidalPositions, TiedReadout
from scaling.models.network import abstract_variables, build
from scaling.models.parametrization import (
    depth_ratio,
    epsilon_factor,
    multipliers,
    parametrized_layers,
    update_trees,
)
from scaling.models.registry import make_shape
from scaling.models.shape import make_layers
from scaling.specs.base import InputError
from scaling.specs.models import LSTMSpec, MLPSpec, ResNetSpec, TransformerSpec, XceptionSpec
from scaling.specs.schedules import ConstantSchedule
from scaling.specs.task import TaskShape, image_task, token_task
from scaling.specs.training import AdamSpec, AdamWSpec, MuonSpec, SGDSpec, TrainingSpec, UpdateKind
from tests.scaling.models.networks import each_network, network

NUMBERS = TaskShape(num_features=16, vocab_size=None, num_classes=4)
TEXT = token_task(16, 8)
SCHEMES = ("standard", "mup", "completep")


def shape_of(spec, task=NUMBERS, **changes):
    return make_shape(type(spec).model_validate({**spec.model_dump(), **changes}), task)


def first_step(shape, optimizer):
    """Returns initial variables, logits, and the variables after one step."""
    training = TrainingSpec(optimizer=optimizer, schedule=ConstantSchedule(), batch_size=4, num_steps=1)
    learner = make_learner(shape, training)
    batch = make_batch(shape.task, *synthetic_examples(shape.task, 4), jax.random.key(0))
    rates = jnp.float32(0.01), jnp.float32(optimizer.weight_decay)
    hyper = Hyper(*rates, horizon_of(training.schedule, 1), jnp.uint32(0), jnp.uint32(0))

    def run():
        state = learner.init(jnp.uint32(0))
        outputs, _ = build(shape).apply(state.variables, batch.inputs, train=True, key=jax.random.key(0))
        return state.variables, outputs.logits, learner.step(state, hyper, batch)[0].variables

    return jax.jit(run)()


def parts_of(layer, dims):
    """Yields every layer inside one, with the dims that reach it."""
    for part in layer.parts(dims):
        yield part.layer, part.dims
        yield from parts_of(part.layer, part.dims)


def layers_of(shape, kind):
    return [layer for layer, _ in parts_of(parametrized_layers(shape), shape.task.dims) if isinstance(layer, kind)]


AT_BASE = {
    "mlp": (MLPSpec(width=16, depth=3, residual=True, normalization="layer"), NUMBERS),
    "decoder": (TransformerSpec(width=16, depth=3, positions="sinusoidal", tied=True), TEXT),
    "experts": (TransformerSpec(width=16, depth=3, num_experts=2, initializer="glorot"), TEXT),
    "resnet": (ResNetSpec(width=16, depth=3), image_task(8, 4)),
}


def at_base(name, scheme):
    spec, task = AT_BASE[name]
    return shape_of(spec, task, parametrization=scheme, base_width=spec.width, base_depth=spec.depth)


@pytest.mark.parametrize("scheme", SCHEMES[1:])
@pytest.mark.parametrize("name", AT_BASE)
def test_at_base_width_and_depth_all_describe_the_standard_network(name, scheme):
    standard, ours = at_base(name, "standard"), at_base(name, scheme)
    assert parametrized_layers(ours) == parametrized_layers(standard) == make_layers(standard)
    assert epsilon_factor(ours) == 1.0
    for kind in get_args(UpdateKind):
        assert update_trees(ours, kind) == update_trees(standard, kind)


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        pytest.param("mlp", SGDSpec(peak_lr=0.01), marks=pytest.mark.slow),
        ("mlp", AdamWSpec(peak_lr=0.01, weight_decay=0.1)),
        pytest.param("experts", AdamWSpec(peak_lr=0.01, weight_decay=0.1), marks=pytest.mark.slow),
    ],
    ids=["mlp-sgd", "mlp-adamw", "experts-adamw"],
)
def test_at_base_width_and_depth_values_outputs_and_first_update_are_bitwise_the_standard_ones(name, optimizer):
    standard, *others = (first_step(at_base(name, scheme), optimizer) for scheme in SCHEMES)
    for other in others:
        jax.tree.map(np.testing.assert_array_equal, other, standard)
    assert any((after != before).any() for before, after in zip(*map(jax.tree.leaves, standard[::2]), strict=True))


def test_readouts_alone_start_otherwise_than_standard_ones():
    wide = {"width": 64, "base_width": 16}
    for name in ("mlp", "experts"):
        spec, task = AT_BASE[name]
        ours, theirs = (
            jax.tree_util.tree_leaves_with_path(
                build(shape_of(spec, task, parametrization=scheme, initializer="auto", **wide)).init(jax.random.key(0))
            )
            for scheme in SCHEMES[:2]
        )
        differ = [jax.tree_util.keystr(path) for (path, a), (_, b) in zip(ours, theirs, strict=True) if (a != b).any()]
        assert all("head" in path or "readout" in path or "router" in path for path in differ)


def factors_of(scheme, role, update, **changes):
    given = {"m_in": 4.0, "m_out": 8.0, "m_depth": 3.0, "in_branch": False} | changes
    return multipliers(scheme, role, update, **given)


@pytest.mark.parametrize(
    ("role", "update", "changes", "lr"),
    [
        ("hidden", "sign", {}, 1 / 4),
        ("hidden", "gradient", {}, 2),
        ("hidden", "spectral", {}, 1),
        ("input", "sign", {"m_in": 1}, 1),
        ("input", "gradient", {"m_in": 1}, 8),
        ("input", "spectral", {"m_in": 1}, 1),
        ("vector", "sign", {"m_in": 1}, 1),
        ("vector", "gradient", {"m_in": 1}, 8),
        ("output", "sign", {"m_out": 1}, 1),
        ("output", "gradient", {"m_out": 1}, 4),
        ("output", "spectral", {"m_out": 1}, 1),
    ],
)
def test_the_learning_rates_of_mup(role, update, changes, lr):
    """Of Yang et al. 2022, table 8: the readout's is 1 where its forward factor is 1 / m_in."""
    assert factors_of("mup", role, update, **changes).lr == pytest.approx(lr)
    assert factors_of("standard", role, update, **changes) == (1, 1, 1, 1)


def test_completep_adds_to_mup_what_depth_asks_in_residual_branches():
    """Of Dey et al. 2025, table 1: at a = 1 Adam's learning rate stays, and plain gradient descent's grows by m_L."""
    for update, depth_factor in {"sign": 1, "spectral": 1, "gradient": 3}.items():
        outside, inside = (factors_of("completep", "hidden", update, in_branch=b).lr for b in (False, True))
        assert outside == factors_of("mup", "hidden", update).lr
        assert inside == pytest.approx(outside * depth_factor)


@pytest.mark.parametrize("kind", get_args(UpdateKind))
@pytest.mark.parametrize("scheme", SCHEMES)
def test_learning_rate_times_weight_decay_stays_for_matrices_and_vectors_have_none(scheme, kind):
    spec = TransformerSpec(width=64, depth=2, num_experts=2, parametrization=scheme, base_width=16, base_depth=1)
    trees = update_trees(make_shape(spec, TEXT), kind)

    def check(role, lr, decay):
        assert lr * decay == (0.0 if role == "vector" else pytest.approx(1.0))

    jax.tree.map(check, *trees)


def test_a_wide_network_has_the_tables_factors_in_its_places():
    spec = TransformerSpec(
        width=64, depth=4, head_size=32, num_experts=2, positions="sinusoidal", base_width=32, base_depth=2,
        parametrization="completep",
    )  # fmt: skip
    shape = make_shape(spec, TEXT)
    (readout,) = [layer for layer in layers_of(shape, Dense) if layer.term == "logits"]
    assert (readout.scale, readout.init.scale) == (0.5, pytest.approx(2**0.5))
    assert {layer.scale for layer in layers_of(shape, Residual)} == {0.5}
    assert {(e.router_scale, round(e.router_init.scale, 6)) for e in layers_of(shape, Experts)} == {(0.5, 1.414214)}
    assert [layer.scale for layer in layers_of(shape, SinusoidalPositions)] == [pytest.approx(2**-0.5)]
    assert {layer.scale for layer in layers_of(shape, Attention)} == {1.0}  # heads of one size, more of them
    assert epsilon_factor(shape) == 1 / 4
    tied = make_shape(spec.model_copy(update={"tied": True}), TEXT)
    assert [layer.scale for layer in layers_of(tied, TiedReadout)] == [0.5]


def test_attention_scores_fall_as_one_over_the_head_size():
    spec = TransformerSpec(width=64, depth=1, parametrization="mup", base_width=32)
    shape = make_shape(spec, TEXT)
    (attention,) = layers_of(shape, Attention)
    assert attention.head_size == 64
    assert attention.scale * attention.head_size**-0.5 == pytest.approx(16**0.5 / 64)  # heads of 16 at width 32


@pytest.mark.parametrize(
    ("spec", "task", "path", "lr"),
    [
        (TransformerSpec(width=64, depth=1), TEXT, "embedding", 4),
        (
            TransformerSpec(width=64, depth=1, positions="relative", form="encoder"),
            token_task(16, 8, "masked"),
            "_bias",
            4,
        ),
        (XceptionSpec(width=512, depth=1, base_width=128), image_task(32, 4), "depthwise", 4),
        (LSTMSpec(width=64, depth=1, embedding_width=8), TEXT, "embedding", 1),
        (LSTMSpec(width=64, depth=1, embedding_width=8), TEXT, "input/kernel", 4),
        (MLPSpec(width=64), NUMBERS, "head/bias", 1),
    ],
)
def test_plain_gradient_descent_counts_the_outputs_of_tables_heads_and_channels(spec, task, path, lr):
    """Gradients fall with the number of outputs, be they columns of a table, heads, or channels of their own."""
    base = spec.base_width if "base_width" in spec.model_fields_set else 16
    shape = shape_of(spec, task, parametrization="mup", base_width=base)
    found = jax.tree_util.tree_leaves_with_path(update_trees(shape, "gradient").lr)
    names = {"/".join(str(key.key) for key in where): factor for where, factor in found}
    chosen = {name: factor for name, factor in names.items() if path in name}
    assert chosen
    own = [f for n, f in chosen.items() if path != "_bias" or n.endswith(("content_bias", "position_bias"))]
    assert own == pytest.approx([lr] * len(own), rel=0.02)


def test_muon_leaves_its_own_matrices_one_rate_and_gives_the_rest_adams():
    spec = MLPSpec(width=64, depth=2, parametrization="mup", base_width=16)
    muon, adam = (update_trees(make_shape(spec, NUMBERS), kind).lr for kind in ("spectral", "sign"))
    assert muon["hidden"]["others"]["layer_0"]["dense"]["kernel"] == 1.0
    assert adam["hidden"]["others"]["layer_0"]["dense"]["kernel"] == 0.25
    for tree in (muon, adam):
        del tree["hidden"]["others"]["layer_0"]["dense"]["kernel"]
    assert muon == adam


def test_depth_is_counted_in_residual_layers():
    def ratio(spec, task=NUMBERS):
        return depth_ratio(make_shape(spec.model_copy(update={"parametrization": "completep"}), task))

    assert ratio(MLPSpec(width=8, depth=16, base_depth=4, residual=True)) == 15 / 3
    assert ratio(MLPSpec(width=8, depth=16, base_depth=4)) == 1.0  # no residual layers, nothing to scale
    assert ratio(TransformerSpec(width=16, depth=6, base_depth=2), TEXT) == 3.0
    assert ratio(ResNetSpec(width=16, stages=(3, 4, 5), base_depth=2), image_task(8, 4)) == 2.0
    with pytest.raises(InputError, match=r"model.base_depth=1: no residual layers"):
        ratio(MLPSpec(width=8, depth=2, base_depth=1, residual=True))


@pytest.mark.parametrize(
    "optimizer",
    [pytest.param(MuonSpec(peak_lr=0.01), marks=pytest.mark.slow), AdamSpec(peak_lr=0.01)],
    ids=lambda spec: spec.kind,
)
def test_the_first_update_of_a_wider_network_changes_hidden_outputs_as_much(optimizer):
    changes = []
    for width in (64, 256):
        shape = make_shape(MLPSpec(width=width, depth=2, parametrization="mup", base_width=64), NUMBERS)
        before, _, after = first_step(shape, optimizer)
        kernels = [v["params"]["hidden"]["others"]["layer_0"]["dense"]["kernel"] for v in (before, after)]
        changes.append(np.linalg.norm(np.subtract(*kernels), 2))  # the spectral norm, Yang, Simon & Bernstein 2023
    assert changes[1] == pytest.approx(changes[0], rel=0.25)


@each_network
def test_every_array_has_a_role_and_factors(name):
    shape = network(name)
    trees = update_trees(shape, "sign")
    structure = jax.tree.structure(abstract_variables(shape)["params"])
    assert all(jax.tree.structure(tree) == structure for tree in trees)
    assert {"input", "hidden", "output"} - set(jax.tree.leaves(trees.roles)) <= {"output"}
