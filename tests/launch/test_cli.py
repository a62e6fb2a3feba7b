"""The command line: what people type, what they get, and one line when it cannot be done."""

import json
import os
import shutil

import pytest

from scaling.specs.study import resolve_study
from scaling.store.store import Store

COMMANDS = {
    "plan",
    "run",
    "work",
    "cell",
    "status",
    "logs",
    "cancel",
    "import",
    "sync",
    "table",
    "fit",
    "predict",
    "optimum",
    "compare",
    "suggest",
    "report",
    "models",
}


@pytest.fixture
def finished(scaling, trained):
    """A complete store of the toy study that a test may spoil."""
    shutil.copytree(trained, scaling.folder / "store")
    return Store.open(scaling.folder / "store")


def test_help_lists_what_is_built_and_nothing_else(here):
    done = here("--help")
    listed = {line.split()[0] for line in done.stdout.splitlines() if line.startswith("    ") and line[4] != " "}
    assert (done.returncode, listed) == (0, COMMANDS)
    for command in COMMANDS:
        assert here(command, "--help").returncode == 0


def test_a_study_runs_once_and_then_does_nothing(finished, scaling, study_file):
    before = {path: path.stat().st_mtime_ns for path in (scaling.folder / "store").rglob("record.json")}
    assert len(before) == 12
    again = scaling("run", study_file, "--store", "store")
    assert (again.returncode, again.stderr) == (0, "")
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_status_counts_cells(finished, here):
    found = here.json("status", "store")
    assert [(one["label"], one["done"], one["left"]) for one in found["series"]] == [("linear", 6, 0), ("mlp", 6, 0)]
    assert not found["is_running"]
    assert "complete" in here("status", "store").stdout


def test_the_table_is_printed_and_written(finished, here):
    for name in ("table.csv", "table.parquet", "table.jsonl"):
        assert here("table", "store", "--to", name).returncode == 0
        assert (here.folder / name).stat().st_size > 1000
    printed = here("table", "store").stdout.splitlines()
    assert printed[0].startswith("study,cell,family,label,seed,step,is_final,status,trunk,num_params,params_")
    assert printed == (here.folder / "table.csv").read_text().splitlines()
    assert len(here.json("table", "store")) == len(printed) - 1


def test_plan_shows_counts_and_what_is_done(here, study_file):
    planned = here.json("plan", study_file, "--store", "store")["cells"]
    assert len(planned) == 12
    network = next(row for row in planned if row["label"] == "mlp")
    assert network["num_params"] == pytest.approx(3000, rel=0.03)
    assert network["data_seen"] == 1600
    assert network["train_flops"] > 1600 * 2 * network["num_params"]
    assert not any(row["done"] for row in planned)
    assert "12 cells, 0 done" in here("plan", study_file).stdout


def test_plan_and_record_agree(finished, here, study_file):
    planned = here.json("plan", study_file, "--store", "store")["cells"]
    assert all(row["done"] for row in planned)
    for row in planned:
        record = finished.read_record(row["cell"])
        assert (record.data_unique, record.evaluations[-1].data_seen) == (row["data_unique"], row["data_seen"])
        if 0 not in record.data.class_counts:  # a linear model has no row for a class that it has not seen
            assert record.num_params == row["num_params"]
        if row["train_flops"] is not None:  # scikit-learn's solvers tell their iterations afterwards
            assert record.evaluations[-1].train_flops == row["train_flops"]


def test_a_dry_run_writes_nothing(here, study_file):
    done = here("run", study_file, "--store", "store", "--dry-run")
    assert "would train 12 cells" in done.stdout
    assert not (here.folder / "store").exists()


def test_one_cell_trains_by_hand_with_jaxs_flags(scaling, study_file):
    cell = list(resolve_study(str(study_file)).cells.values())[-1]
    (scaling.folder / "cell.json").write_text(cell.canonical_json())
    done = scaling("cell", "cell.json", "--store", "alone", "--jax_debug_nans")
    assert (done.returncode, cell.fingerprint() in done.stdout) == (0, True), done.stderr
    record = Store(scaling.folder / "alone").read_record(cell.fingerprint())
    assert record.status == "ok"
    again = scaling("cell", "cell.json", "--store", "alone")
    assert "is complete" in again.stdout
    (scaling.folder / "cell.json").write_text(cell.canonical_json().replace('"size":200', '"size":5000'))
    failed = scaling("cell", "cell.json", "--store", "alone")
    assert failed.returncode == 1
    assert "data.size=5000 exceeds the 1397 training examples" in failed.stderr.splitlines()[-1]


def test_the_curve_file_holds_the_records_evaluations(finished):
    for name, record in finished.records().items():
        lines = (finished.cell_path(name) / "curve.jsonl").read_text().splitlines()
        found = [point for point in map(json.loads, lines) if "data_seen" in point]
        assert found == [json.loads(e.canonical_json()) for e in record.evaluations]


def check_line(done, status, message):
    assert done.returncode == status, done.stderr
    assert message in done.stderr
    lines = [line for line in done.stderr.splitlines() if "cells to train" not in line]
    assert len(lines) == 1, done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "nothing"], "study 'nothing' is unknown"),
        (["run", "none.py"], "'none.py' does not exist"),
        (["plan", "toy.py", "--set", "data.sise=3"], "there is no 'data.sise'; did you mean 'size'"),
        (["run", "toy.py", "--set", "data.size=5000"], "data.size=5000 exceeds the 1397 training examples of digits"),
        (["run", "toy.py", "--set", "data.size=9", "--set", "data.order=balanced"], "below the 10 classes of digits"),
        (
            ["run", "toy.py", "--set", "data.source.kind=idx", "--set", "data.source.folder=nowhere"],
            "data.source.folder='nowhere' does not exist",
        ),
        (["run", "toy.py", "--workers", "0"], "--workers 0: must be at least 1"),
        (["run", "toy.py", "--store", "/proc/store"], "cannot write '/proc/store/"),
        (["status", "nowhere"], "store 'nowhere' holds no study.json"),
        (["table", "nowhere"], "nowhere"),
        (["report", "nowhere"], "nowhere"),
        (["cell", "nowhere.json", "--store", "store"], "cannot be read"),
    ],
)
def test_a_wrong_call_is_one_line_and_status_2(here, study_file, words, message):
    check_line(here(*words), 2, message)
    assert not (here.folder / "store").exists()
    assert not (here.folder / "runs").exists()


def test_another_studys_store_is_refused(finished, here, study_file):
    study_file.write_text(study_file.read_text().replace('name="toy"', 'name="other"'))
    check_line(here("run", study_file, "--store", "store"), 2, "belongs to study 'toy', not 'other'")
    check_line(here("run", "store/study.json", "--store", "store", "--set", "seed=9"), 2, "choose another --store")
    assert len(finished.records()) == 12


def test_a_corrupt_record_is_one_line_and_status_1_everywhere(finished, here, study_file):
    path = next((here.folder / "store").rglob("record.json"))
    path.write_text('{"cell":')
    for words in (
        ["run", study_file, "--store", "store"],
        ["table", "store"],
        ["status", "store"],
        ["report", "store"],
    ):
        check_line(here(*words), 1, "delete that file to train the cell again")
    assert path.read_text() == '{"cell":'
    path.unlink()
    assert "would train 1 cells, 11 are complete" in here("run", study_file, "--store", "store", "--dry-run").stdout


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


def test_a_cell_that_cannot_be_trained_fails_alone(scaling, here, study_file):
    # One example has one class only, which no linear model can fit; networks do not mind.
    done = scaling("run", study_file, "--store", "store", "--set", "data.size=1")
    assert done.returncode == 1
    found = {one["label"]: one for one in here.json("status", "store")["series"]}
    assert (found["linear"]["failed"], found["mlp"]["done"]) == (2, 2)
    log = next(path for path in (scaling.folder / "store").rglob("attempts.jsonl") if "failed" in path.read_text())
    assert "Traceback" in log.read_text()
    assert "one class only" in log.read_text()
    rows = [row for row in Store.open(scaling.folder / "store").rows() if row["status"] == "failed"]
    assert len(rows) == 2
