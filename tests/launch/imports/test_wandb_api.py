"""Claims about importing a W&B project with the real client: full histories, bad days survived, one-line errors."""

import json
import time

import pytest

from analysis.tables.table import read_table
from launch.imports import wandb_api
from launch.imports.raw import RawFolder
from tests.launch.imports.wandb_history_server import HistoryServer
from tests.wandb_server import no_server

wandb = pytest.importorskip("wandb")

COLUMNS = ["--column", "loss=history.eval/loss", "--column", "num_params=config.model.n_params"]
DATA = ["--column", "data_seen=history._step*config.batch_size*config.seq_len"]
NUM_STEPS = 2500  # more than a page of the client, and than its samples


@pytest.fixture
def server():
    with HistoryServer() as server:
        yield server


@pytest.fixture(autouse=True)
def account(monkeypatch, tmp_path, server):
    """An account at the stand-in, and a client that knows of no other server before and after."""
    wandb.teardown()
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_ENTITY", "WANDB__GRAPHQL_RETRY_MAX", "WANDB_SERVICE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WANDB__GRAPHQL_RETRY_MAX", "20")
    monkeypatch.setenv("WANDB__FILE_TRANSFER_RETRY_MAX", "2")
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "client"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    yield
    wandb.teardown()


@pytest.fixture
def ladder(server):
    """Four runs: two exported as Parquet, one whose rows are live, one that still goes on."""
    for i, name in enumerate(["exported", "again", "live", "running"]):
        run = server.make_run(name, "ladder", displayName=f"n {i}", groupName="g")
        run.set_config({"model": {"n_params": 1000 * (i + 1)}, "batch_size": 4, "seq_len": 8})
        run.add_rows([row_of(step) for step in range(NUM_STEPS)])
        run.summary = {"eval/loss": 2.0}
        run.state = "running" if name == "running" else "finished"
        if i < 2:
            server.export(run)
    return server


def row_of(step):
    row = {"train/loss": 4 - step / NUM_STEPS, "_timestamp": 100.5 + step, "note": "text" if step == 7 else None}
    if step % 100 == 99:
        row["eval/loss"] = 5 - step / NUM_STEPS
    return {name: value for name, value in row.items() if value is not None}


def do_import(import_runs, store, *words, project="me/ladder"):
    return import_runs("wandb", project, "--store", store, *words)


def test_whole_histories_come_unsampled_exported_or_live(ladder, import_runs, tmp_path):
    done = do_import(import_runs, tmp_path / "store", *COLUMNS, *DATA, "--json")
    assert done.status == 0, done.err
    runs = {run.id: run for run in RawFolder(tmp_path / "store").runs()}
    expected = {"_step": NUM_STEPS, "_timestamp": NUM_STEPS, "train/loss": NUM_STEPS, "eval/loss": 25, "note": 1}
    assert {name: run.history_columns for name, run in runs.items()} == dict.fromkeys(runs, expected)
    assert all(not run.notices for run in runs.values())
    table = read_table(str(tmp_path / "store"))
    assert len(table) == 4 * 25
    live, exported = (table[table["cell"] == name] for name in ("live", "exported"))
    assert live["loss"].tolist() == exported["loss"].tolist() == [5 - step / NUM_STEPS for step in range(99, 2500, 100)]
    assert live["data_seen"].tolist() == [step * 32 for step in range(99, NUM_STEPS, 100)]
    assert dict(zip(table["cell"], table["status"], strict=True))["running"] == "interrupted"
    assert done.json["report"]["statuses"] == {"ok": 3, "interrupted": 1}
    assert not ladder.unknown


def test_only_new_changed_and_running_runs_are_fetched_again(ladder, import_runs, tmp_path):
    do_import(import_runs, tmp_path / "store", *COLUMNS)
    assert ladder.asked.keys() == {"exported", "again", "live", "running"}
    ladder.asked.clear()
    assert do_import(import_runs, tmp_path / "store").status == 0
    assert ladder.asked.keys() == {"running"}
    ladder.asked.clear()
    ladder.run("again").add_rows([row_of(NUM_STEPS)])
    ladder.run("exported").summary["eval/loss"] = 1.0
    ladder.run("running").state = "finished"
    ladder.make_run("new", "ladder").set_config({"model": {"n_params": 7}})
    assert do_import(import_runs, tmp_path / "store").status == 0
    assert ladder.asked.keys() == {"again", "exported", "running", "new"}
    runs = {run.id: run for run in RawFolder(tmp_path / "store").runs()}
    assert (runs["again"].history_rows, runs["live"].history_rows) == (NUM_STEPS + 1, NUM_STEPS)
    assert (runs["new"].history_rows, runs["running"].state) == (None, "finished")


def test_a_mapping_changes_without_asking_anyone(ladder, import_runs, tmp_path):
    do_import(import_runs, tmp_path / "store", *COLUMNS)
    before = len(ladder.requests)
    done = do_import(import_runs, tmp_path / "store", "--no-fetch", "--column", "loss=history.train/loss")
    assert (done.status, len(ladder.requests)) == (0, before)
    assert f"{4 * NUM_STEPS} rows of 4 of 4 runs" in done.out


def test_rows_that_wandb_counts_and_does_not_give_are_said(ladder, import_runs, tmp_path):
    ladder.lost_rows = 40
    done = do_import(import_runs, tmp_path / "store", *COLUMNS)
    assert f"exported: W&B counts {NUM_STEPS + 40} rows of history and gave {NUM_STEPS}" in done.err


def test_rate_limits_are_waited_out(ladder, import_runs, tmp_path):
    for operation in ("Runs", "RunParquetHistory", "HistoryPage"):
        ladder.fail(f"^GraphQL {operation}$", 429, times=1, retry_after=1)
    began = time.monotonic()
    done = do_import(import_runs, tmp_path / "store", *COLUMNS)
    assert done.status == 0, done.err
    assert time.monotonic() - began >= 2  # the list, then a history: one second each
    assert len(list(RawFolder(tmp_path / "store").runs())) == 4


def test_an_import_that_was_broken_off_keeps_what_it_has_and_goes_on(ladder, import_runs, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB__GRAPHQL_RETRY_MAX", "0")
    monkeypatch.setattr("launch.imports.wandb_api.WandbProject.workers", 1)
    ladder.fail("^GraphQL HistoryPage$", 500, times=1000)
    done = do_import(import_runs, tmp_path / "store", *COLUMNS)
    assert done.status == 1
    assert "2 of 4 runs are kept, and the same command goes on" in done.err.splitlines()[-1]
    assert "HTTP 500" in done.err.splitlines()[-1]
    assert not (tmp_path / "store" / "table.parquet").exists()
    ladder._failures.clear()
    ladder.asked.clear()
    assert do_import(import_runs, tmp_path / "store", *COLUMNS).status == 0
    assert ladder.asked.keys() == {"live", "running"}


def test_a_server_that_says_nothing_is_given_up_after_the_patience(ladder, import_runs, tmp_path):
    ladder.fail("^GraphQL (HistoryPage|RunHistoryKeys|RunParquetHistory)$", 429, times=1000, retry_after=60)
    done = do_import(import_runs, tmp_path / "store", *COLUMNS, "--patience", 2)
    assert done.status == 1
    assert "no run came for 2 s; --patience SECONDS waits longer; 0 of 4 runs are kept" in done.err


def test_no_key_a_wrong_key_and_a_wrong_project_are_one_line_each(ladder, import_runs, tmp_path, monkeypatch):
    done = do_import(import_runs, tmp_path / "store", *COLUMNS, project="me/laddr")
    assert (done.status, "wandb 'me/laddr': W&B has no such project" in done.err) == (2, True)
    ladder.fail("Viewer", 401, times=10)
    done = do_import(import_runs, tmp_path / "store", *COLUMNS)
    assert (done.status, "refuses the API key" in done.err) == (2, True)
    wandb.teardown()
    monkeypatch.delenv("WANDB_API_KEY")
    done = do_import(import_runs, tmp_path / "store", *COLUMNS)
    assert (done.status, "no API key for http://127.0.0.1" in done.err) == (2, True)
    assert "export WANDB_API_KEY=" in done.err
    assert not (tmp_path / "store").exists()


def test_a_server_that_is_not_there_is_one_line_and_status_1(import_runs, tmp_path, monkeypatch):
    with no_server() as address:
        monkeypatch.setenv("WANDB_BASE_URL", address)
        done = do_import(import_runs, tmp_path / "store", *COLUMNS, "--patience", 2)
    assert (done.status, "does not answer" in done.err) == (1, True)
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["wandb", "project"], "is no project; write ENTITY/PROJECT"),
        (["wandb", "a/b/c"], "is no project; write ENTITY/PROJECT"),
        (["wandb", "me/ladder", "--filter", "{state}"], "is not JSON"),
        (["wandb", "me/ladder", "--filter", "[1]"], "must be a JSON object"),
        (["wandb", "me/ladder", "--patience", "0"], "must be above 0 seconds"),
        (["wandb", "me/ladder", "--experiment", "x"], "--experiment is for mlflow, not for wandb"),
        (["wandb", "me/ladder", "--store", "gs://bucket/x"], "are kept in a local folder"),
    ],
)
def test_a_wrong_call_is_one_line(import_runs, tmp_path, words, message):
    done = import_runs(*words[:2], "--store", tmp_path / "store", *words[2:])
    assert (done.status, message in done.err) == (2, True), done.err


def test_a_filter_chooses_runs_and_belongs_to_the_folder(ladder, import_runs, tmp_path):
    store = tmp_path / "store"
    only = ["--filter", '{"state": "finished"}']
    assert do_import(import_runs, store, *COLUMNS, *only).status == 0
    assert {run.id for run in RawFolder(store).runs()} == {"exported", "again", "live"}
    done = do_import(import_runs, store, *COLUMNS)
    assert (done.status, "holds runs of wandb me/ladder" in done.err) == (2, True)


def test_a_dry_run_lists_what_would_be_fetched_and_writes_nothing(ladder, import_runs, tmp_path):
    done = do_import(import_runs, tmp_path / "store", "--dry-run", "--json")
    assert sorted(done.json["to_fetch"]) == ["again", "exported", "live", "running"]
    assert not (tmp_path / "store").exists()
    assert not ladder.asked


def test_names_and_values_are_never_words_of_a_shell(server, import_runs, tmp_path):
    name = "$(touch hacked); `x` & 'y'"
    run = server.make_run("odd", "ladder", displayName=name)
    run.set_config({"a b;c": 3, "q": "$(touch hacked)"})
    run.summary = {"loss": 2.0}
    run.state = "finished"
    columns = ["--column", "loss=summary.loss", "--column", "label=run.name", "--column", "num_params=config.a b;c"]
    assert do_import(import_runs, tmp_path / "store", *columns).status == 0
    row = read_table(str(tmp_path / "store")).iloc[0]
    assert (row["label"], row["num_params"]) == (name, 3)
    assert json.loads((tmp_path / "store" / "mapping.json").read_text())["columns"]["num_params"] == "config.a b;c"


def test_rows_that_come_in_another_order_are_in_that_of_wandbs_steps():
    class Run:
        lastHistoryStep, history_line_count = 2, 4  # noqa: N815  as the client names it

        def scan_history(self, **_):
            return iter(
                [{"_step": 2, "x": 2.0}, {"_step": 0, "x": 0.0}, {"_step": 1, "x": 1.0}, {"_step": 1, "x": 1.5}]
            )

    assert wandb_api._scan(Run())["x"].to_pylist() == [0.0, 1.0, 1.5, 2.0]
