"""Cells as W&B runs, without W&B: what a run is called and holds, and that every row is sent once."""

import concurrent.futures
import math
import tempfile
import time

import pytest
from etils import epath

from scaling.specs.base import InputError
from scaling.store.store import Store
from scaling.tracking import CurveFile, wandb_runs
from scaling.tracking.wandb_runs import MARK, Mirror, MirroredRun, is_disabled, is_offline
from tests.told_runs import END, NUM_STEPS, estimators_of, networks_of, tell


@pytest.fixture(autouse=True)
def _no_account(monkeypatch):
    for name in ("WANDB_PROJECT", "WANDB_ENTITY", "WANDB_MODE", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)


class Run:
    """Stands for the client's run, which holds rows up to a step already."""

    def __init__(self, starting_step=0):
        self.starting_step, self.steps, self.axes, self.exit_code = starting_step, [], [], None
        self.config, self.summary, self.tags = Values(), Values(), ()

    def define_metric(self, name, **_):
        """Notes an axis."""
        self.axes.append(name)

    def log(self, values, step, commit):
        """Notes the step of a row."""
        assert commit
        self.steps.append(step)

    def finish(self, exit_code):
        """Notes how it ended."""
        self.exit_code = exit_code


class Values(dict):
    """A config or summary."""

    def update(self, values, allow_val_change=True):
        """Takes new values."""
        super().update(values)


def test_a_run_is_called_by_its_series_and_holds_its_cell(store):
    network, estimator = networks_of(store)[0], estimators_of(store)[0]
    found = Mirror(store).describe(network, facts=END)
    assert found.call == {
        "id": network,
        "name": "mlp N=3,000 m=50 seed=0",
        "job_type": "cell",
        "tags": ["mlp", "told"],
    }
    assert (found.config["study"], found.config["labels"], found.config["seed"]) == ("told", ["mlp"], 0)
    assert found.config["log10_train_flops"] == round(math.log10(END["train_flops"]), 1)
    assert (found.summary, found.checkpoints) == ({}, None)
    assert "log10_train_flops" not in Mirror(store).describe(estimator).config


def test_a_mark_changes_with_all_that_is_said_of_a_run(store):
    cell, mirror = networks_of(store)[0], Mirror(store)
    record = tell(CurveFile(store.cell_path), store, cell)
    marks = [
        mirror.describe(cell).mark,
        mirror.describe(cell, facts=END).mark,
        mirror.describe(cell, record).mark,
        mirror.describe(cell, record.model_copy(update={"status": "diverged"})).mark,
        mirror.describe(cell, record.model_copy(update={"wall_seconds": 9.0})).mark,  # in the summary alone
    ]
    assert len(set(marks)) == 5
    assert mirror.describe(cell, record).mark == marks[2]


def test_a_tag_is_no_longer_than_the_server_takes(store):
    mirror, cell = Mirror(store), networks_of(store)[0]
    mirror.labels[cell] = ["x" * 100, "mlp"]
    assert mirror.describe(cell).call["tags"] == ["mlp", "x" * 64, "told"]


def test_a_complete_run_is_summed_up_by_its_record_without_its_rows(store):
    cell = networks_of(store)[0]
    record = tell(CurveFile(store.cell_path), store, cell)
    found = Mirror(store).describe(cell, record)
    last = record.evaluations[-1]
    assert found.summary["loss"] == last.loss
    assert found.summary["train_flops"] == last.train_flops
    assert "evaluations" not in found.summary
    assert found.call["tags"][-1] == "ok"


@pytest.mark.parametrize("held", [0, 17, NUM_STEPS + 1])
def test_rows_that_the_run_has_are_not_sent_again(store, held):
    cell, mirror = networks_of(store)[0], Mirror(store)
    record = tell(CurveFile(store.cell_path), store, cell)
    run = Run(starting_step=held)
    open_run = MirroredRun(mirror.describe(cell, facts=END), run)
    open_run.send()
    open_run.send()
    done = mirror.describe(cell, record)
    open_run.finish(done)
    assert run.steps == list(range(max(held, 1), NUM_STEPS + 1))
    assert open_run.num_sent == len(run.steps)
    assert (run.exit_code, run.summary[MARK], run.tags) == (0, done.mark, done.call["tags"])


def test_a_run_without_a_record_counts_as_failed_and_has_no_mark(store):
    cell, mirror = networks_of(store)[0], Mirror(store)
    tell(CurveFile(store.cell_path), store, cell, stop=9)
    run = Run()
    MirroredRun(mirror.describe(cell), run).finish(mirror.describe(cell))
    assert run.steps == list(range(1, 9))  # of the last step, the evaluation may still come
    assert (run.exit_code, MARK in run.summary) == (1, False)


def test_the_environment_names_project_and_entity_unless_they_are_given(store, monkeypatch):
    assert (Mirror(store).project, Mirror(store).entity) == ("told", None)
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    monkeypatch.setenv("WANDB_ENTITY", "them")
    assert (Mirror(store).project, Mirror(store).entity) == ("theirs", "them")
    assert (Mirror(store, "mine", "me").project, Mirror(store, "mine", "me").entity) == ("mine", "me")


def test_a_folder_of_single_cells_is_a_study_by_its_own_name(tmp_path):
    mirror = Mirror(Store(epath.Path(tmp_path / "alone")))
    assert (mirror.study, mirror.project, mirror.labels) == ("alone", "alone", {})
    with pytest.raises(InputError, match=r"cell\.json is missing; cells are written there before they are trained"):
        mirror.read_cell("nobody")


def test_checkpoints_are_referred_to_where_there_are_any_and_they_are_kept(store):
    cell = networks_of(store)[0]
    folder = store.cell_path(cell) / "checkpoints"
    assert Mirror(store, with_checkpoints=True).checkpoints_of(cell) is None
    folder.mkdir(parents=True)
    assert Mirror(store, with_checkpoints=True).checkpoints_of(cell) == f"file://{folder}"
    assert Mirror(store).checkpoints_of(cell) is None


@pytest.mark.parametrize(
    ("mode", "offline", "disabled"), [("offline", 1, 0), ("dryrun", 1, 0), ("disabled", 0, 1), ("online", 0, 0)]
)
def test_a_mode_is_offline_disabled_or_neither(monkeypatch, mode, offline, disabled):
    monkeypatch.setenv("WANDB_MODE", mode)
    assert (is_offline(), is_disabled()) == (bool(offline), bool(disabled))


def test_runs_that_begin_in_several_threads_have_one_folder_for_their_files(tmp_path, monkeypatch):
    make, made = tempfile.TemporaryDirectory, []

    def make_slowly(**how):
        time.sleep(0.1)
        made.append(make(dir=tmp_path, **how))
        return made[-1]

    monkeypatch.setattr(tempfile, "TemporaryDirectory", make_slowly)
    wandb_runs._scratch.cache_clear()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(wandb_runs._folder, [Store(tmp_path / "store")] * 4))
    wandb_runs._scratch.cache_clear()
    assert folders == {folder.name for folder in made}
    assert len(folders) == 1
    made[0].cleanup()
