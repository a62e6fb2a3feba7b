"""Cells are looked at before they are trained, by this process or by another, with the same result."""

import pytest

from launch.workers import checker
from launch.workers.checker import check_cells, check_cells_by
from launch.workers.forks import ForkServer, can_fork
from scaling.specs import code
from scaling.specs.base import InputError, override
from scaling.specs.code import load_file
from scaling.specs.execution import Execution, MeshSpec
from scaling.specs.models import LinearSVMSpec
from tests.launch.workers.cells import cells, names


@pytest.fixture(scope="module")
def server():
    """A server for networks."""
    if not can_fork([]):
        pytest.skip("needs Linux")
    with ForkServer(cells(1)) as server:
        yield server


def refusal(check, *call) -> str:
    with pytest.raises(InputError) as caught:
        check(*call)
    return str(caught.value)


def test_good_cells_pass(server):
    check_cells(cells(3), "loss")
    check_cells_by(server, cells(3), "loss")


def test_both_refuse_the_first_bad_cell_in_the_same_words(server):
    found = override(cells(2), ["data.size=10000"])
    for bad, metric, words in (
        ([*cells(1), *found], "loss", "data.size=10000"),
        (cells(2), "perplexity", f"metric='perplexity' is no column of mlp on digits ({names(1)[0]})"),
    ):
        here = refusal(check_cells, bad, metric)
        assert here.startswith(words)
        assert refusal(check_cells_by, server, bad, metric) == here


def test_both_warn_of_every_seed_that_sees_one_class_and_that_an_estimator_will_fail(server):
    found = override(cells(30), ["data.size=2"])
    (here,) = check_cells(found, "loss")
    assert here.startswith("data.size=2: the first 2 examples of digits (data.order='independent', seed=")
    assert here.endswith("more cells alike)")
    assert check_cells_by(server, found, "loss") == [here]
    estimators = [cell.model_copy(update={"model": LinearSVMSpec(), "training": None}) for cell in found]
    (told,) = check_cells(estimators, "error")
    assert "hold one class only, which linear_svm cannot fit" in told and "that cell will fail" in told
    assert check_cells_by(server, estimators, "error") == [told]


def test_both_refuse_what_cannot_be_divided_and_the_fork_counts_devices(server):
    uneven, many = (Execution(mesh=MeshSpec(data=size)) for size in (3, 32))
    here = refusal(check_cells, cells(1), "loss", uneven)
    assert here.startswith("training.batch_size=32 cannot be divided by data * fsdp = 3; choose 30 or 33")
    assert refusal(check_cells_by, server, cells(1), "loss", uneven) == here
    check_cells(cells(1), "loss", many)
    assert "data=32,fsdp=1,tensor=1 needs 32 devices" in refusal(check_cells_by, server, cells(1), "loss", many)


def test_cells_that_differ_in_the_seed_alone_are_looked_at_once(monkeypatch):
    looked = []
    monkeypatch.setattr("scaling.training.plan.describe_cell", looked.append)
    check_cells([*cells(3), *override(cells(1), ["data.size=50"])], "loss")
    assert [(cell.seed, cell.data.size) for cell in looked] == [(0, 100), (0, 50)]


def test_what_another_process_cannot_say_is_raised_here(server, monkeypatch):
    monkeypatch.setattr(checker, "given_files", lambda: {"gone": "/does/not/exist.py"})  # fails there, and not here
    check_cells_by(server, cells(1), "loss")
    with pytest.raises(InputError):
        check_cells_by(server, override(cells(1), ["data.size=10000"]), "loss")


def test_users_files_are_known_there(server, tmp_path, monkeypatch):
    monkeypatch.setattr(code, "_files", {})
    path = tmp_path / "own_metric.py"
    path.write_text(
        "from scaling import Metric\n\n"
        "def one(outputs, targets):\n    return targets * 0.0 + 1.0\n\n"
        "unit = Metric('one', one)\n"
    )
    load_file(path)
    found = override(cells(1), ['data.metrics=["own_metric:unit"]'])
    check_cells_by(server, found, "one")
    here = refusal(check_cells, found, "two")
    assert "one" in here
    assert refusal(check_cells_by, server, found, "two") == here
