"""Jobs: what shares a program, and who gets which cell next."""

import subprocess
from typing import get_args

import pytest

from launch.jobs import Queue, estimate_seconds, program_key
from scaling.cell import AdamWSpec, Cell, TrainingSpec
from scaling.data.specs import DataSpec, DigitsSource
from scaling.models.specs import GradientBoostingSpec, MLPSpec, ModelSpec, NetworkSpec, RandomForestSpec
from scaling.spec import override

MLP = Cell(
    model=MLPSpec(num_params=3000),
    data=DataSpec(source=DigitsSource(), size=100),
    training=TrainingSpec(optimizer=AdamWSpec(peak_lr=1e-2), num_steps=10),
)


def changed(*assignments: str) -> Cell:
    return override([MLP], assignments)[0]


def test_cells_that_differ_in_values_share_a_program():
    changes = "seed=1 data.size=200 data.order=balanced training.num_steps=20 training.optimizer.peak_lr=0.1"
    for change in (*changes.split(), "training.optimizer.weight_decay=0.1"):
        assert program_key(changed(change)) == program_key(MLP)


def test_cells_that_differ_in_shapes_do_not():
    changes = "model.num_params=4000 data.evaluation_size=10 training.batch_size=8 model.activation=tanh"
    for change in (*changes.split(), "training.optimizer.b1=0.8", "training.schedule.kind=constant"):
        assert program_key(changed(change)) != program_key(MLP)


def test_a_worker_keeps_its_program_and_starts_with_the_longest_cell():
    large = [changed("model.num_params=100000", f"training.num_steps={steps}") for steps in (500, 1000)]
    queue = Queue([MLP, *large])
    program, first = queue.take(None)
    _, second = queue.take(program)
    assert [first, second] == large[::-1]
    _, third = queue.take(program)
    assert third == MLP
    assert queue.take(program) is None


def test_a_second_worker_takes_another_program_when_work_is_left_in_both():
    large = [changed("model.num_params=20000", f"seed={seed}") for seed in range(3)]
    small = [changed("model.num_params=15000", f"seed={seed}") for seed in range(3)]
    queue = Queue([*large, *small])
    programs = {queue.take(None)[0] for _ in range(2)}
    assert len(programs) == 2


def test_every_cell_is_handed_out_once():
    cells = [changed(f"seed={seed}", f"model.num_params={n}") for seed in range(5) for n in (3000, 5000)]
    queue, taken, program = Queue(cells), [], None
    while (found := queue.take(program)) is not None:
        program, cell = found
        taken.append(cell)
    assert sorted(cell.fingerprint() for cell in taken) == sorted(cell.fingerprint() for cell in cells)


@pytest.mark.parametrize("kind", get_args(get_args(ModelSpec)[0]), ids=lambda kind: kind.__name__)
def test_every_family_has_an_estimate_that_grows_with_its_size_and_its_work(kind):
    if issubclass(kind, NetworkSpec):
        models = [kind(depth=2, width=32), kind(depth=2, width=64), kind(depth=4, width=64)]
        models += [kind(depth=2, num_params=10**8), kind(depth=2, num_params=10**9)]
        grown = [MLP.model_copy(update={"model": model}) for model in models]
        grown.append(override([grown[-1]], ["training.num_steps=20"])[0])
    else:
        fitted = Cell(model=kind(), data=MLP.data)
        grown = override([fitted], ["data.size=200"]) + override([fitted], ["data.size=2000"])
    seconds = [estimate_seconds(cell) for cell in grown]
    assert seconds == sorted(set(seconds))
    assert seconds[0] > 0


@pytest.mark.parametrize(("kind", "part"), [(RandomForestSpec, "num_trees"), (GradientBoostingSpec, "num_iterations")])
def test_ensembles_take_longer_by_their_number_of_parts(kind, part):
    ten, hundred = (Cell(model=kind(**{part: count}), data=MLP.data) for count in (10, 100))
    assert estimate_seconds(hundred) == pytest.approx(10 * estimate_seconds(ten))


def test_flops_that_are_known_replace_the_guess():
    assert estimate_seconds(MLP, train_flops=5e12) == pytest.approx(100, rel=0.01)
    guess = 6 * 3000 * 10 * 128  # an MLP uses each parameter once
    assert estimate_seconds(MLP, train_flops=guess) == estimate_seconds(MLP)


def test_estimates_come_without_jax(python):
    code = "import sys, launch.jobs; print('jax' in sys.modules)"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_estimates_grow_with_size_and_data():
    assert estimate_seconds(changed("model.num_params=1000000")) > 10 * estimate_seconds(MLP)
    forest = MLP.model_copy(update={"model": RandomForestSpec(), "training": None})
    assert estimate_seconds(override([forest], ["data.size=1000"])[0]) > estimate_seconds(forest)
