"""`scaling run`: trains what is missing once, and leaves alone what it may not touch."""

import json
import os
import shutil

import pytest

from scaling.store.record import Record
from scaling.store.store import Store
from tests.launch.refusals import check_line


def test_a_study_runs_once_and_then_does_nothing(finished, scaling, study_file):
    before = {path: path.stat().st_mtime_ns for path in (scaling.folder / "store").rglob("record.json")}
    assert len(before) == 12
    again = scaling("run", study_file, "--store", "store")
    assert (again.returncode, again.stderr) == (0, "")
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_dry_run_writes_nothing(here, study_file):
    done = here("run", study_file, "--store", "store", "--dry-run")
    assert "would train 12 cells" in done.stdout
    assert not (here.folder / "store").exists()


def test_the_curve_file_holds_the_records_evaluations(finished):
    for name, record in finished.records().items():
        lines = (finished.cell_path(name) / "curve.jsonl").read_text().splitlines()
        found = [point for point in map(json.loads, lines) if "data_seen" in point]
        assert found == [json.loads(e.canonical_json()) for e in record.evaluations]


def test_another_studys_store_is_refused(finished, here, study_file):
    study_file.write_text(study_file.read_text().replace('name="toy"', 'name="other"'))
    check_line(here("run", study_file, "--store", "store"), 2, "belongs to study 'toy', not 'other'")
    check_line(here("run", "store/study.json", "--store", "store", "--set", "seed=9"), 2, "choose another --store")
    assert len(finished.records()) == 12


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root may write everywhere")
def test_a_read_only_store_is_one_line_and_stays_as_it_was(finished, scaling, study_file):
    def content():
        return {path: path.read_bytes() for path in (scaling.folder / "store").rglob("*.json*")}

    before = content()
    for path in ((scaling.folder / "store"), *(scaling.folder / "store").rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    if os.geteuid() == 0:  # even root must then ask for permission
        scaling.prefix = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", *scaling.prefix]
    check_line(scaling("run", study_file, "--store", "store", "--set", "num_seeds=3"), 2, "choose a")
    assert scaling("run", study_file, "--store", "store").returncode == 0  # nothing to do, nothing to write
    check_line(scaling("report", "store"), 2, "choose another file")
    assert content() == before


def test_cells_that_diverged_are_results_unless_all_have(finished, here, study_file):
    def diverge(paths):
        for path in paths:
            record = Record.model_validate_json(path.read_text())
            path.write_text(record.model_copy(update={"status": "diverged"}).canonical_json())

    paths = sorted((here.folder / "store").rglob("record.json"))
    diverge(paths[1:])
    some = here("run", study_file, "--store", "store")
    assert (some.returncode, some.stdout) == (0, "store: 12 of 12 cells complete, 11 of them diverged\n")
    diverge(paths)
    every = here("run", study_file, "--store", "store")
    assert (every.returncode, every.stdout) == (1, "store: 12 of 12 cells complete, 12 of them diverged\n")
    assert "every cell diverged, so that there is nothing to fit; lower the learning rate" in every.stderr


def test_a_cell_that_cannot_be_trained_fails_alone(scaling, here, study_file):
    # One example has one class only, which no linear model can fit; networks do not mind.
    words = ("--set", "data.size=1", "--workers", 1)
    done = scaling("run", study_file, "--store", "store", *words, "--spawn-workers")  # as with accelerators
    assert done.returncode == 1
    found = {one["label"]: one for one in here.json("status", "store")["series"]}
    assert (found["linear"]["failed"], found["mlp"]["done"]) == (2, 2)
    log = next(path for path in (scaling.folder / "store").rglob("attempts.jsonl") if "failed" in path.read_text())
    assert "Traceback" in log.read_text()
    assert "one class only" in log.read_text()
    assert "warning: data.size=1" in done.stderr and "one class only" in done.stderr  # told before
    rows = [row for row in Store.open(scaling.folder / "store").rows() if row["status"] == "failed"]
    assert len(rows) == 2


@pytest.mark.parametrize("words", [(), ("--dry-run",), ("--spawn-workers",)], ids=str)
def test_a_batch_that_cannot_be_divided_is_refused_before_a_store_is_made(here, study_file, words):
    message = "cannot be divided by data * fsdp = 3"
    check_line(here("run", study_file, "--store", "store", "--execution", "mesh.data=3", *words), 2, message)
    assert not (here.folder / "store").exists()
