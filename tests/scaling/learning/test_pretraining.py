"""Greedy layer-wise pre-training: it helps deep sigmoid networks, leaves the head alone, and its FLOPs count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.data.loading import load_source
from scaling.data.order.subsets import draw_subset
from scaling.data.source import task_shape
from scaling.learning.pretraining import count_pretraining_flops, pretrain_layers
from scaling.models.families.mlp import hidden_paths
from scaling.models.network import build
from scaling.models.registry import make_shape
from scaling.specs.base import InputError
from scaling.specs.cell import Cell
from scaling.specs.data import DataSpec, DigitsSource, StdlibSource
from scaling.specs.execution import DEFAULT
from scaling.specs.models import ConvNetSpec, MLPSpec
from scaling.specs.sharing import plant
from scaling.specs.task import TaskShape
from scaling.specs.training import LayerwiseSpec, SGDSpec, TrainingSpec
from scaling.training.plan import describe_cell
from scaling.training.population import make_hypers, place_members
from scaling.training.program import get_program
from scaling.training.runner import train_cell

SHAPE = make_shape(MLPSpec(width=24, depth=3, activation="sigmoid"), TaskShape(20, None, 4))


def batch_at(step):
    del step
    low_rank = jax.random.normal(jax.random.key(1), (64, 4)) @ jax.random.normal(jax.random.key(2), (4, 20))
    return low_rank / low_rank.std()


def get(params, path):
    for name in path:
        params = params[name]
    return params


def rebuilding_errors(params) -> list[float]:
    """Returns each layer's mean squared error in linear reconstruction of its inputs, over their variance."""
    x, errors = batch_at(0), []
    for path in hidden_paths(SHAPE):
        layer = get(params, path)
        hidden = jax.nn.sigmoid(x @ layer["kernel"] + layer["bias"][None])
        centred = x - x.mean(0, keepdims=True)
        rebuilt = hidden @ layer["kernel"].T
        rebuilt = rebuilt - rebuilt.mean(0, keepdims=True)
        errors.append(float(jnp.square(rebuilt - centred).mean() / jnp.square(centred).mean()))
        x = hidden
    return errors


def test_every_layer_learns_to_rebuild_its_input_and_the_head_stays():
    params = build(SHAPE).init(jax.random.key(0))["params"]
    spec = LayerwiseSpec(num_steps=400, peak_lr=0.05)
    learnt = jax.jit(lambda p: pretrain_layers(SHAPE, spec, p, batch_at, jax.random.key(3)))(params)
    for before, after in zip(rebuilding_errors(params), rebuilding_errors(learnt), strict=True):
        assert after < 0.6 * before
    np.testing.assert_array_equal(learnt["head"]["kernel"], params["head"]["kernel"])


def deep_cell(pretraining: LayerwiseSpec | None, **model) -> Cell:
    training = TrainingSpec(
        optimizer=SGDSpec(peak_lr=0.1), batch_size=32, num_steps=300, num_evaluations=1, pretraining=pretraining
    )
    spec = MLPSpec(width=64, depth=3, activation="sigmoid", initializer="uniform", **model)
    return Cell(model=spec, data=DataSpec(source=DigitsSource(), size=1000, evaluation_size=300), training=training)


def test_a_deep_sigmoid_network_learns_only_after_pretraining():
    without = train_cell(deep_cell(None)).evaluations[-1].metrics["error"]
    with_it = train_cell(deep_cell(LayerwiseSpec(num_steps=4000, peak_lr=0.05))).evaluations[-1].metrics["error"]
    assert without > 0.8  # the plateau of Glorot & Bengio 2010: guessing
    assert with_it < 0.4


def test_an_average_of_the_parameters_begins_after_it():
    training = TrainingSpec(
        optimizer=SGDSpec(peak_lr=0.1),
        batch_size=32,
        num_steps=1,
        ema_decay=0.9,
        pretraining=LayerwiseSpec(num_steps=3, peak_lr=0.1),
    )
    data = DataSpec(source=DigitsSource(), size=100, evaluation_size=300)
    cell = Cell(model=MLPSpec(width=8, depth=1), data=data, training=training)
    subset = draw_subset(data, load_source(data), 0)
    tree, shape = plant([cell]), make_shape(cell.model, task_shape(subset.source))
    placed, _ = place_members(tree, [subset], DEFAULT, 0)
    program = get_program(shape, training)
    (hyper,) = make_hypers(tree, program.layout)
    start = jax.device_get(program.init(hyper.seed))
    state = program.pretrain(program.init(hyper.seed), hyper, placed)
    path = hidden_paths(shape)[0]
    assert (get(state.variables["params"], path)["kernel"] != get(start.variables["params"], path)["kernel"]).any()
    jax.tree.map(np.testing.assert_array_equal, state.average, state.variables["params"])


def test_its_flops_are_counted_before_and_after():
    cell = deep_cell(LayerwiseSpec(num_steps=10, peak_lr=0.01))
    record = train_cell(cell)
    shape = make_shape(cell.model, TaskShape(64, None, 10, (8, 8, 1)))
    first, other = 64 * 64, 64 * 64
    by_layer = [2 * (5 * first), *(2 * (5 * other + first + lower * other) for lower in range(2))]
    assert record.flops["pretraining"] == 10 * 32 * sum(by_layer)
    assert count_pretraining_flops(shape, cell.training.pretraining, 32) == record.flops["pretraining"]
    assert sum(record.flops.values()) == pytest.approx(record.train_flops_spent)
    assert describe_cell(cell)["train_flops"] == pytest.approx(record.train_flops_spent)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": ConvNetSpec(width=16)}, "a convnet has no recipe"),
        ({"data": DataSpec(source=StdlibSource(num_windows=6000), size=100, evaluation_size=300)}, "are tokens"),
        ({"model": MLPSpec(width=8, depth=2, residual=True)}, "model.residual=True"),
    ],
)
def test_what_cannot_be_pretrained_is_refused(change, message):
    cell = deep_cell(LayerwiseSpec(num_steps=1, peak_lr=0.1)).model_copy(update=change)
    with pytest.raises(InputError, match=message):
        describe_cell(cell)
