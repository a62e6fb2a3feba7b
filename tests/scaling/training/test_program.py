"""Programs: what is shared by which cells, and that a population's compiled calls are its members' own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.data.feeding.placement import DeviceData, Standard
from scaling.devices.ahead_of_time import report
from scaling.learning.step import Hyper, horizon_of
from scaling.models.registry import make_shape
from scaling.specs.execution import Execution, MeshSpec
from scaling.specs.models import MLPSpec, TransformerSpec
from scaling.specs.task import TaskShape
from scaling.specs.training import AdamSpec, AdamWSpec, TrainingSpec
from scaling.training.program import MAX_CHUNK, Stacked, get_program, prepare_inputs, prepare_labels

SHAPE = make_shape(MLPSpec(num_params=200), TaskShape(num_features=5, vocab_size=None, num_classes=3))
SHARED = Stacked(inputs=False, labels=False)
OWN = Stacked(inputs=True, labels=True)
SEEDS, RATES, DECAYS, SIZES, LENGTHS = (0, 1, 1), (1e-2, 3e-3, 1e-2), (0.0, 0.0, 0.5), (40, 13, 64), (60, 60, 200)


def make_spec(**changes) -> TrainingSpec:
    return TrainingSpec(**{"optimizer": AdamWSpec(peak_lr=1e-2), "batch_size": 8, "num_steps": 60, **changes})


def make_data(seed: int) -> DeviceData:
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(64, 5)).astype(np.float32)
    labels = np.argmax(inputs @ generator.normal(size=(5, 3)), axis=1).astype(np.int32)
    order = generator.permutation(64).astype(np.int32)
    shift = generator.normal(size=5).astype(np.float32)
    standard = Standard(shift, np.full(5, 0.5, np.float32), np.float32(0.0), np.float32(1.0))
    return jax.tree.map(jnp.asarray, DeviceData(inputs, labels, order, standard))


def make_hyper(member: int) -> Hyper:
    training = make_spec()
    return Hyper(
        jnp.float32(RATES[member]),
        jnp.float32(DECAYS[member]),
        horizon_of(training.schedule, LENGTHS[member]),
        jnp.uint32(SIZES[member]),
        jnp.uint32(SEEDS[member]),
    )


def stack(trees):
    return jax.tree.map(lambda *each: jnp.stack(each), *trees)


def member_of(state, member: int):
    return jax.tree.map(lambda x: x[member], (state.variables, state.optimizer, state.diverged_at, state.monitor))


@pytest.mark.parametrize("stacked", [SHARED, OWN], ids=["one pool", "data of their own"])
def test_members_of_a_population_take_the_steps_that_they_would_take_alone(stacked):
    together, alone = get_program(SHAPE, make_spec(), stacked=stacked), get_program(SHAPE, make_spec())
    each = [make_data(member if stacked.inputs else 0) for member in range(3)]
    data = stack(each)
    if not stacked.inputs:
        data = data._replace(inputs=each[0].inputs, labels=each[0].labels)
    hypers = [make_hyper(member) for member in range(3)]
    start = together.init(jnp.asarray(SEEDS, jnp.uint32))
    assert start.step.shape == ()
    for member in range(3):
        jax.tree.map(
            np.testing.assert_array_equal,
            member_of(start, member),
            (alone.init(jnp.uint32(SEEDS[member])).variables, *member_of(start, member)[1:]),
        )
    state, losses = together.run(start, stack(hypers), data, np.int32(30))
    assert losses.shape == (MAX_CHUNK, 3)
    assert int(state.step) == 30
    for member in range(3):
        own, own_losses = alone.run(alone.init(hypers[member].seed), hypers[member], each[member], np.int32(30))
        np.testing.assert_allclose(losses[:30, member], own_losses[:30], rtol=1e-4)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
            member_of(state, member)[0],
            own.variables,
        )
        is_real = jnp.ones(64)
        sums, _ = together.evaluate(state.variables, data.standard, each[0].inputs, each[0].labels, is_real)
        own_sums, _ = alone.evaluate(own.variables, each[member].standard, each[0].inputs, each[0].labels, is_real)
        np.testing.assert_allclose([x[member] for x in sums], own_sums, rtol=1e-3)


def test_populations_that_differ_in_values_share_one_compilation():
    program = get_program(SHAPE, make_spec(), stacked=SHARED)
    one = make_data(0)
    data = stack([one] * 2)._replace(inputs=one.inputs, labels=one.labels)
    before = program.run._cache_size()
    for members in ((0, 1), (2, 0)):
        hyper = stack([make_hyper(member) for member in members])
        for num_steps in (3, 7):
            program.run(program.init(hyper.seed), hyper, data, np.int32(num_steps))
    assert program.run._cache_size() == before + 1


def test_one_program_serves_every_length_rate_and_number_of_evaluations():
    program = get_program(SHAPE, make_spec(), stacked=SHARED)
    changes = {"num_steps": 999, "num_evaluations": 2, "evaluate_every": 7, "target_loss": 0.5}
    other = make_spec(optimizer=AdamWSpec(peak_lr=1.0, weight_decay=3.0), **changes)
    assert get_program(SHAPE, other, stacked=SHARED) is program
    assert get_program(SHAPE, other, stacked=SHARED, execution=Execution(chunk_steps=9)) is program
    adam = make_spec(optimizer=AdamSpec(peak_lr=1.0))
    assert get_program(SHAPE, adam) is get_program(SHAPE, adam.model_copy(update={"num_steps": 7}))


@pytest.mark.parametrize("change", [{"batch_size": 4}, {"clip_norm": 1.0}, {"ema_decay": 0.9}, {"moments": "bfloat16"}])
def test_what_changes_the_compiled_code_is_another_program(change):
    assert get_program(SHAPE, make_spec(**change)) is not get_program(SHAPE, make_spec())


def test_a_program_can_be_a_key_on_a_mesh_too():
    program = get_program(SHAPE, make_spec(), execution=Execution(mesh=MeshSpec(data=2)))
    assert {program: 1}[get_program(SHAPE, make_spec(), execution=Execution(mesh=MeshSpec(data=2)))] == 1


def test_an_evaluation_moves_parameters_that_are_divided_and_no_activations():
    text = TaskShape(num_features=16, vocab_size=256, num_classes=256, objective="next_token")
    shape = make_shape(TransformerSpec(width=64, depth=1), text)
    program = get_program(shape, make_spec(), execution=Execution(mesh=MeshSpec(fsdp=2)))
    state, layout = program.init(jnp.uint32(0)), program.layout
    standard = Standard(*(layout.put(np.float32(x)) for x in ([], [], 0.0, 1.0)))
    batch = (np.zeros((8, 16), np.int32), np.zeros(8, np.int32), np.ones(8, bool))
    compiled = program.evaluate.lower(state.variables, standard, *map(layout.put, batch)).compile()
    moved = report(compiled)["collectives"]
    divided = sum(x.nbytes for x in jax.tree.leaves(state.variables) if not x.sharding.is_fully_replicated)
    assert sum(each["bytes"] for each in moved if each["kind"] == "all-gather") == divided
    assert [(each["kind"], each["bytes"]) for each in moved if each["kind"] != "all-gather"] == [("all-reduce", 12)]


def test_numbers_are_shifted_and_scaled_and_tokens_and_classes_are_not():
    standard = Standard(jnp.asarray([1.0, 2.0]), jnp.asarray([2.0, 10.0]), jnp.float32(5.0), jnp.float32(0.5))
    pixels = jnp.asarray([[3, 3]], jnp.uint8)
    assert prepare_inputs(pixels, standard).tolist() == [[4.0, 10.0]]
    tokens = standard._replace(shift=jnp.zeros(0), scale=jnp.zeros(0))
    assert prepare_inputs(pixels, tokens) is pixels
    assert prepare_labels(jnp.asarray([7.0]), standard).tolist() == [1.0]
    classes = jnp.asarray([7])
    assert prepare_labels(classes, standard) is classes
