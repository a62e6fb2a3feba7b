"""Jobs: what shares a program, and who gets which cell next."""

import subprocess
from typing import get_args

import pytest

from launch.options import parse_execution
from launch.queue.begun import begun_jobs, note_begun
from launch.queue.estimates import divide_seconds, estimate_job, estimate_seconds
from launch.queue.queue import Job, Question, Queue
from scaling.specs.base import InputError, override
from scaling.specs.cell import Cell
from scaling.specs.data import DataSpec, DigitsSource
from scaling.specs.execution import Execution, MeshSpec
from scaling.specs.models import GradientBoostingSpec, MLPSpec, ModelSpec, NetworkSpec, RandomForestSpec
from scaling.specs.sharing import plant, program_key
from scaling.specs.training import AdamWSpec, TrainingSpec
from scaling.store.store import Store

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


def seeds(cell: Cell, count: int) -> list[Cell]:
    return [override([cell], [f"seed={seed}"])[0] for seed in range(count)]


def drain(queue: Queue, population: int = 1) -> list[Job]:
    """Returns all jobs in the order in which one worker gets them."""
    jobs, program = [], None
    while (found := queue.take(program)) is not None:
        program = found.program
        if isinstance(found, Question):
            queue.plan(program, Execution(population=population))
        else:
            jobs.append(found)
    return jobs


def test_a_worker_keeps_its_program_and_starts_with_the_longest_cell():
    large = [changed("model.num_params=100000", f"training.num_steps={steps}") for steps in (500, 1000)]
    assert [job.cells for job in drain(Queue([MLP, *large]))] == [(large[1],), (large[0],), (MLP,)]


def test_a_second_worker_takes_another_program_when_work_is_left_in_both():
    large = seeds(changed("model.num_params=20000"), 3)
    small = seeds(changed("model.num_params=15000"), 3)
    for given in (None, Execution()):
        queue = Queue([*large, *small], 2, given)
        assert len({queue.take(None).program for _ in range(2)}) == 2


def test_every_cell_is_handed_out_once():
    cells = [changed(f"seed={seed}", f"model.num_params={n}") for seed in range(5) for n in (3000, 5000)]
    cells.append(MLP.model_copy(update={"model": RandomForestSpec(), "training": None}))
    for population in (1, 2, 8):
        taken = [cell for job in drain(Queue(cells, 2), population) for cell in job.cells]
        assert sorted(cell.fingerprint() for cell in taken) == sorted(cell.fingerprint() for cell in cells)


def test_a_program_is_asked_for_once_and_others_wait_or_do_something_else():
    queue = Queue([*seeds(MLP, 4), *seeds(changed("model.num_params=5000"), 2)], 3)
    first, second = queue.take(None), queue.take(None)
    assert isinstance(first, Question) and isinstance(second, Question)
    assert first.program != second.program
    assert queue.take(None) is None
    assert queue.is_waiting()
    queue.plan(first.program, Execution())
    assert queue.take(None).program == first.program
    queue.plan(second.program, Execution())
    assert not queue.is_waiting()


def test_nobody_asks_about_estimators_or_when_the_execution_is_given():
    forest = MLP.model_copy(update={"model": RandomForestSpec(), "training": None})
    assert isinstance(Queue([forest]).take(None), Job)
    given = Execution(population=2, remat="full")
    job = Queue(seeds(MLP, 2), execution=given).take(None)
    assert (job.execution, len(job.cells)) == (given, 2)


@pytest.mark.parametrize(
    ("members", "workers", "widths"), [(8, 1, [8]), (8, 2, [4, 4]), (20, 2, [5] * 4), (3, 4, [1] * 3)]
)
def test_no_worker_gets_so_many_members_that_another_has_none(members, workers, widths):
    jobs = drain(Queue(seeds(MLP, members), workers), population=8)
    assert sorted(len(job.cells) for job in jobs) == sorted(widths)


def test_a_population_is_wide_where_other_programs_keep_the_other_workers_busy():
    queue = Queue([*seeds(MLP, 4), *seeds(changed("model.num_params=100000"), 4)], 2)
    _, question = queue.take(None), queue.take(None)
    assert (question.cell.model, question.num_members) == (MLP.model, 4)
    queue.plan(question.program, Execution(population=8))
    assert len(queue.take(question.program).cells) == 4


def test_what_is_given_back_is_handed_out_member_by_member():
    queue = Queue(seeds(MLP, 4), execution=Execution(population=4))
    job = queue.take(None)
    queue.give_back(job, job.cells[1:])
    assert [len(found.cells) for found in drain(queue)] == [1, 1, 1]


def test_the_trunk_is_paid_by_the_first_leaf():
    leaves = [changed("training.schedule.kind=wsd", f"training.num_steps={steps}") for steps in (1000, 2000)]
    found = divide_seconds(leaves)
    alone = [estimate_seconds(leaf) for leaf in leaves]
    assert found[leaves[0].fingerprint()] == alone[0]
    assert found[leaves[1].fingerprint()] == pytest.approx(alone[1] * 1200 / 2000)  # the first decays from step 800
    assert estimate_job(leaves) == pytest.approx(alone[0] + 0.6 * alone[1])


# --- going on -------------------------------------------------------------------------------------------------------


def begin(store: Store, cells: list[Cell], execution: Execution) -> dict[str, Cell]:
    """Leaves a store as a job that was stopped leaves it; returns the cells by fingerprint."""
    for cell in cells:
        store.write_cell(cell.canonical_json())
    note_begun(store.cell_path(plant(cells).leader) / "checkpoints", cells, execution)
    return {cell.fingerprint(): cell for cell in cells}


def test_a_job_with_checkpoints_is_formed_again_and_handed_out_first(tmp_path):
    store, cells, execution = Store(tmp_path), seeds(MLP, 3), Execution(population=3)
    missing = begin(store, cells, execution)
    begun = begun_jobs(missing, store)
    assert begun == [(tuple(cells), execution)]
    longer = changed("training.num_steps=9000")
    assert Queue([longer], begun=begun).take(None).cells == tuple(cells)


def test_a_job_is_not_formed_again_when_a_member_is_complete(tmp_path):
    store, cells = Store(tmp_path), seeds(MLP, 3)
    missing = begin(store, cells, Execution(population=3))
    del missing[cells[1].fingerprint()]
    assert begun_jobs(missing, store) == []


def test_a_tree_is_formed_again_without_the_leaves_that_are_complete(tmp_path):
    leaves = [changed("training.schedule.kind=wsd", f"training.num_steps={steps}") for steps in (20, 40)]
    missing = begin(store := Store(tmp_path), leaves, Execution())
    del missing[leaves[0].fingerprint()]
    assert begun_jobs(missing, store) == [((leaves[1],), Execution())]


def test_a_torn_note_of_a_job_is_passed_over(tmp_path):
    missing = begin(store := Store(tmp_path), [MLP], Execution())
    (tmp_path / "cells" / MLP.fingerprint() / "checkpoints" / "job.json").write_text('{"cells": [')
    assert begun_jobs(missing, store) == []


# --- what a user asks for -------------------------------------------------------------------------------------------


def test_an_execution_is_read_from_paths_or_json():
    assert parse_execution([]) is None
    assert parse_execution(["population=8", "mesh.data=2"]) == Execution(population=8, mesh=MeshSpec(data=2))
    assert parse_execution(['{"loop": "step"}', "remat=full"]) == Execution(loop="step", remat="full")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("populaton=8", "--execution populaton=8: there is no 'populaton'; did you mean 'population'"),
        ("population=0", "population=0: Input should be greater than 0"),
        ("loop=fast", "loop="),
        ("population", "--execution 'population' has no value"),
        ('{"lop": "step"}', "did you mean 'loop'"),
    ],
)
def test_a_wrong_execution_is_refused_in_one_line(given, message):
    with pytest.raises(InputError) as error:
        parse_execution([given])
    assert message in str(error.value)
    assert "--set" not in str(error.value)


# --- estimates ------------------------------------------------------------------------------------------------------


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
    code = "import sys, launch.queue.queue; print('jax' in sys.modules)"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_estimates_grow_with_size_and_data():
    assert estimate_seconds(changed("model.num_params=1000000")) > 10 * estimate_seconds(MLP)
    forest = MLP.model_copy(update={"model": RandomForestSpec(), "training": None})
    assert estimate_seconds(override([forest], ["data.size=1000"])[0]) > estimate_seconds(forest)
