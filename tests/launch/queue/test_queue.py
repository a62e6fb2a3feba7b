"""Jobs: what shares a program, and who gets which cell next."""

import pytest

from launch.queue.queue import Job, Question, Queue
from scaling.specs.execution import Execution
from scaling.specs.models import RandomForestSpec
from scaling.specs.sharing import program_key
from tests.launch.queue.cells import MLP, changed, seeds


def test_cells_that_differ_in_values_share_a_program():
    changes = "seed=1 data.size=200 data.order=balanced training.num_steps=20 training.optimizer.peak_lr=0.1"
    for change in (*changes.split(), "training.optimizer.weight_decay=0.1"):
        assert program_key(changed(change)) == program_key(MLP)


def test_cells_that_differ_in_shapes_do_not():
    changes = "model.num_params=4000 data.evaluation_size=10 training.batch_size=8 model.activation=tanh"
    for change in (*changes.split(), "training.optimizer.b1=0.8", "training.schedule.kind=constant"):
        assert program_key(changed(change)) != program_key(MLP)


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


def test_a_short_program_is_left_to_the_worker_that_has_compiled_it():
    queue = Queue(seeds(MLP, 4), 2, Execution())
    first = queue.take(None)
    assert queue.take(None, joins=False) is None
    assert not queue.is_done()
    assert queue.take(first.program, joins=False).program == first.program  # its own worker goes on
    assert queue.take(None).program == first.program  # and others join after a while


def test_a_long_program_another_one_and_estimators_are_not():
    long = Queue(seeds(changed("training.num_steps=1000000"), 4), 2, Execution())
    two = Queue([*seeds(MLP, 2), *seeds(changed("model.num_params=5000"), 2)], 2, Execution())
    forest = MLP.model_copy(update={"model": RandomForestSpec(), "training": None})
    for queue in (long, two, Queue(seeds(forest, 4), 2)):
        assert queue.take(None, joins=False) is not None
        assert queue.take(None, joins=False) is not None


def test_a_queue_is_done_when_all_is_taken():
    queue = Queue(seeds(MLP, 2))
    assert not queue.is_done()
    jobs = drain(queue)
    assert queue.is_done()
    queue.give_back(jobs[0], jobs[0].cells)
    assert not queue.is_done()
