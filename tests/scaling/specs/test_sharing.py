"""Jobs from cells: who may be together, and what is never paid twice."""

import random

import pytest

from scaling.specs.base import override
from scaling.specs.cell import Cell
from scaling.specs.data import DataSpec, DigitsSource
from scaling.specs.models import MLPSpec, RandomForestSpec
from scaling.specs.schedules import WSDSchedule
from scaling.specs.sharing import bundle, gather_members, plant, program_key
from scaling.specs.training import AdamWSpec, TrainingSpec

COSINE = Cell(
    model=MLPSpec(num_params=3000),
    data=DataSpec(source=DigitsSource(), size=100),
    training=TrainingSpec(optimizer=AdamWSpec(peak_lr=1e-2), num_steps=40),
)
WSD = COSINE.model_copy(update={"training": COSINE.training.model_copy(update={"schedule": WSDSchedule()})})
FOREST = Cell(model=RandomForestSpec(), data=COSINE.data)


def changed(cell, *assignments):
    return override([cell], assignments)[0]


def seeds(cell, count):
    return [changed(cell, f"seed={seed}") for seed in range(count)]


def horizons(cell, *lengths):
    return [changed(cell, f"training.num_steps={length}") for length in lengths]


def sizes(jobs):
    return [len(gather_members(job)) for job in jobs]


def test_every_cell_is_in_one_job_and_every_job_can_be_planted():
    cells = [
        changed(cell, f"seed={seed}", f"training.optimizer.peak_lr={lr}")
        for base in (COSINE, WSD)
        for cell in horizons(base, 20, 40, 80)
        for seed in range(3)
        for lr in (0.1, 0.01)
    ]
    cells += [changed(COSINE, "training.num_evaluations=3"), changed(COSINE, "training.evaluate_every=7")]
    for population in (1, 2, 4, 100):
        jobs = bundle(cells, population)
        assert sorted(cell.fingerprint() for job in jobs for cell in job) == sorted(map(Cell.fingerprint, cells))
        assert max(sizes(jobs)) <= population
        for job in jobs:
            plant(job)
            assert len({program_key(cell) for cell in job}) == 1


def test_leaves_of_a_trunk_are_always_together():
    cells = [leaf for cell in seeds(WSD, 3) for leaf in horizons(cell, 20, 40, 80)]
    random.Random(0).shuffle(cells)
    for population in (1, 2, 3):
        for job in bundle(cells, population):
            assert len(job) == 3 * len(gather_members(job))
    assert sizes(bundle(cells, 2)) == [2, 1]


def test_trunks_with_other_leaves_left_are_in_other_jobs():
    one, other = (horizons(cell, 20, 40, 80) for cell in seeds(WSD, 2))
    assert sizes(bundle([*one, *other[1:]], 8)) == [1, 1]
    assert sizes(bundle([*one, *other], 8)) == [2]


def test_runs_whose_learning_rate_knows_their_length_are_together_only_if_equally_long():
    for schedule in ("cosine", "linear", "constant"):
        cell = changed(COSINE, f"training.schedule.kind={schedule}")
        assert sizes(bundle(horizons(cell, 20, 40), 8)) == [1, 1]
        assert sizes(bundle(seeds(cell, 2), 8)) == [2]


@pytest.mark.parametrize("change", ["training.num_evaluations=3", "training.evaluate_every=7", "model.num_params=4000"])
def test_members_have_the_same_program_and_points_of_evaluation(change):
    assert sizes(bundle([COSINE, changed(COSINE, change)], 8)) == [1, 1]


@pytest.mark.parametrize("change", ["data.size=200", "training.optimizer.peak_lr=0.1", "training.target_loss=0.5"])
def test_members_may_differ_in_values(change):
    assert sizes(bundle([COSINE, changed(COSINE, change)], 8)) == [2]


def test_estimators_are_alone():
    assert sizes(bundle(seeds(FOREST, 3), 8)) == [1, 1, 1]


def test_jobs_of_a_group_are_as_few_as_can_be_and_about_equal():
    assert sizes(bundle(seeds(COSINE, 9), 4)) == [3, 3, 3]
    assert sizes(bundle(seeds(COSINE, 10), 4)) == [4, 3, 3]


def test_members_fill_the_mesh_or_are_alone():
    assert sizes(bundle(seeds(COSINE, 9), 4, multiple=2)) == [4, 4, 1]
    assert sizes(bundle(seeds(COSINE, 3), 4, multiple=4)) == [1, 1, 1]


def test_equal_cells_make_equal_jobs():
    cells = [*seeds(WSD, 5), *seeds(COSINE, 5), FOREST]
    assert bundle(cells, 2) == bundle(list(cells), 2)
