"""Users' networks, optimisers, schedules and estimators, trained as everything else is."""

import pytest
from etils import epath

from scaling.models.families.module import from_module
from scaling.specs.base import InputError
from scaling.specs.cell import Cell
from scaling.specs.data import DataSpec, DigitsSource, MarkovSource
from scaling.specs.execution import Execution, MeshSpec
from scaling.specs.models import EstimatorSpec, MLPSpec
from scaling.specs.schedules import CodeSchedule, WSDSchedule
from scaling.specs.study import at_horizons
from scaling.specs.training import AdamSpec, AdamWSpec, CodeOptimizerSpec, SGDSpec, TrainingSpec
from scaling.training.checkpoints.keeper import Keeping
from scaling.training.runner import train_cell, train_cells
from tests.scaling.models import own_modules

DIGITS = DataSpec(source=DigitsSource(), size=300, evaluation_size=200)
STEPS = TrainingSpec(optimizer=AdamSpec(peak_lr=3e-3), num_steps=30, batch_size=32, num_evaluations=2)


def cell(make=own_modules.gated_mlp, seed=0, training=STEPS, **size):
    return Cell(model=from_module(make, **(size or {"num_params": 20_000})), data=DIGITS, training=training, seed=seed)


def losses(record):
    return [evaluation.loss for evaluation in record.evaluations]


def test_a_users_network_is_trained_in_a_population_as_alone_with_state_and_dropout():
    cells = [cell(seed=seed) for seed in (0, 1)]
    together = train_cells(cells, execution=Execution(population=2))
    for own, record in zip(cells, together, strict=True):
        alone = train_cell(own)
        assert losses(record) == pytest.approx(losses(alone), rel=1e-4)
        assert (record.family, record.params) == ("module", alone.params)
        assert abs(record.num_params / 20_000 - 1) < 0.03
        assert sum(record.flops.values()) == pytest.approx(record.evaluations[-1].train_flops)
    assert losses(together[0]) != losses(together[1])


@pytest.mark.parametrize("axis", ["fsdp", *(pytest.param(one, marks=pytest.mark.slow) for one in ("tensor", "data"))])
def test_a_mesh_divides_a_users_network(axis):
    own, on_mesh = cell(own_modules.own_mlp, width=32), Execution(mesh=MeshSpec(**{axis: 2}))
    assert losses(train_cell(own, execution=on_mesh)) == pytest.approx(losses(train_cell(own)), rel=1e-4)


def test_branches_of_a_trunk_and_a_stop_with_checkpoints_change_nothing(tmp_path):
    training = STEPS.model_copy(update={"schedule": WSDSchedule(), "num_evaluations": 1})
    cells = at_horizons(cell(training=training, width=24), (16, 30))
    branched = train_cells(cells)
    kept = train_cells(cells, checkpoints=epath.Path(tmp_path), keeping=Keeping(None, 5))
    for own, record, again in zip(cells, branched, kept, strict=True):
        assert record.trunk is not None
        assert losses(record) == losses(again)
        assert losses(record) == pytest.approx(losses(train_cell(own)), rel=1e-4)


def test_tokens_are_predicted_by_a_users_network_in_bfloat16_too():
    data = DataSpec(source=MarkovSource(vocab_size=16, sequence_length=16), size=500, evaluation_size=100)
    training = STEPS.model_copy(update={"precision": "bfloat16", "num_steps": 60})
    record = train_cell(Cell(model=from_module(own_modules.state_space, width=32), data=data, training=training))
    assert record.data_unit == "tokens"
    assert record.evaluations[-1].loss < record.evaluations[0].loss


def test_an_optax_optimiser_by_name_is_the_one_that_is_built_in():
    def trained(optimizer):
        training = STEPS.model_copy(update={"optimizer": optimizer})
        return losses(train_cell(Cell(model=MLPSpec(width=16), data=DIGITS, training=training)))

    by_name = CodeOptimizerSpec(code="optax:adam", peak_lr=3e-3, settings={"b2": 0.99}, weight_decay=0.1)
    assert trained(by_name) == pytest.approx(trained(AdamWSpec(peak_lr=3e-3, b2=0.99, weight_decay=0.1)), rel=1e-5)
    plain = CodeOptimizerSpec(code="optax:sgd", peak_lr=0.1, update="gradient")
    assert trained(plain) == pytest.approx(trained(SGDSpec(peak_lr=0.1, momentum=0.0)), rel=1e-5)


@pytest.mark.parametrize(
    ("code", "settings", "message"),
    [
        ("optax:scale_by_adam", {}, "go uphill; return an optimiser of learning rate 1"),
        ("optax:adam", {"beta": 0.9}, "optax:adam' fails: TypeError: .*beta"),
        ("optax:l2_loss", {"predictions": 1.0}, "return an optax transformation"),
    ],
)
def test_an_optimiser_that_is_none_is_refused(code, settings, message):
    optimizer = CodeOptimizerSpec(code=code, peak_lr=0.1, settings=settings)
    training = STEPS.model_copy(update={"optimizer": optimizer})
    with pytest.raises(InputError, match=message):
        train_cell(Cell(model=MLPSpec(width=16), data=DIGITS, training=training))


def half_then(time, num_steps, rest=0.5):
    xp = time.__array_namespace__()
    return xp.where(time < num_steps / 2, 1.0, rest)


def test_a_schedule_of_code_is_read_at_every_step():
    def trained(rest):
        schedule = CodeSchedule(code=f"{__name__}:half_then", settings={"rest": rest})
        training = STEPS.model_copy(update={"schedule": schedule})
        return train_cell(Cell(model=MLPSpec(width=16), data=DIGITS, training=training))

    from scaling.specs import code

    code.name_code(half_then)
    frozen, constant = trained(0.0), trained(1.0)
    assert losses(frozen) != losses(constant)
    steps = {evaluation.step: evaluation.loss for evaluation in frozen.evaluations}
    assert min(steps) <= 15
    longer = STEPS.model_copy(
        update={"num_steps": 15, "schedule": CodeSchedule(code=f"{__name__}:half_then", settings={"rest": 1.0})}
    )
    stopped = train_cell(Cell(model=MLPSpec(width=16), data=DIGITS, training=longer))
    assert losses(frozen)[-1] == pytest.approx(losses(stopped)[-1], rel=1e-5)


def test_any_class_of_scikit_learn_is_an_estimator():
    def trained(code, **settings):
        return train_cell(Cell(model=EstimatorSpec(code=code, settings=settings), data=DIGITS))

    neighbours = trained("sklearn.neighbors:KNeighborsClassifier", n_neighbors=3)
    assert neighbours.evaluations[-1].metrics["error"] < 0.1
    assert neighbours.num_params is None
    linear = trained("sklearn.linear_model:SGDClassifier")
    assert linear.params == {"head": 650}
    with pytest.raises(InputError, match="does not predict classes"):
        trained("sklearn.linear_model:Lasso")
    with pytest.raises(InputError, match="unexpected keyword argument 'neighbors'"):
        trained("sklearn.neighbors:KNeighborsClassifier", neighbors=3)
    with pytest.raises(InputError, match=r"has no fit and predict"):
        trained("sklearn.utils:Bunch")
