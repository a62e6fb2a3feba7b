"""Claims about MLflow: its folder, its database and its server give the same runs, read without spoiling them."""

import http.server
import json
import math
import sqlite3
import threading
import urllib.parse

import pytest

from launch.imports.fetching import RunError
from launch.imports.mlflow_runs import open_mlflow
from scaling.specs.base import InputError

STATES = {"RUNNING": 1, "FINISHED": 3, "FAILED": 4}
# (id, state, params, points of metrics: name, step, milliseconds, value)
RUNS = [
    ("a1", "FINISHED", {"model/n_params": "1000", "lr": "0.001"},
     [("eval/loss", step, 1000 + step, 3 - step / 10) for step in range(5)]
     + [("tokens", step, 1000 + step, 100.0 * step) for step in range(5)]),
    ("b2", "FAILED", {"model/n_params": "2000"}, [("eval/loss", 3, 2000, math.nan), ("eval/loss", 4, 2001, math.inf)]),
    ("c3", "RUNNING", {}, []),
    # resumed from step 1: steps 1 and 2 were logged again
    ("d4", "FINISHED", {}, [("eval/loss", step, 100 * attempt + step, float(attempt))
                            for attempt, steps in ((1, (0, 1, 2)), (2, (1, 2, 3))) for step in steps]),
    # resumed from step 50, and ended at 80; epochs beside steps
    ("e5", "FINISHED", {}, [("eval/loss", step, 1000 * attempt + step, float(attempt))
                            for attempt, steps in ((1, range(0, 101, 10)), (2, range(50, 81, 10))) for step in steps]
     + [("epoch/loss", epoch, 1000 + 25 * epoch, float(epoch)) for epoch in range(5)]),
]  # fmt: skip


def write_files(root):
    experiment = root / "mlruns" / "17"
    experiment.mkdir(parents=True)
    (experiment / "meta.yaml").write_text("experiment_id: '17'\nname: my ladder\nlifecycle_stage: active\n")
    (root / "mlruns" / ".trash").mkdir()
    for name, state, params, points in RUNS:
        run = experiment / name
        meta = {"run_id": name, "run_name": f"n {name}", "status": STATES[state], "lifecycle_stage": "active"}
        write(run / "meta.yaml", json.dumps(meta | {"start_time": 1000, "end_time": 3000}))  # JSON is YAML
        for key, value in params.items():
            write(run / "params" / key, value)
        write(run / "tags" / "mlflow.user", "me")
        for key in dict.fromkeys(point[0] for point in points):
            lines = [f"{time} {value} {step}" for other, step, time, value in points if other == key]
            write(run / "metrics" / key, "\n".join(lines) + "\n")
    write(experiment / "gone" / "meta.yaml", json.dumps({"run_id": "gone", "status": 3, "lifecycle_stage": "deleted"}))
    write(experiment / "models" / "m-1" / "meta.yaml", "model_id: m-1\n")
    return str(root / "mlruns")


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_database(root):
    path = root / "mlflow.db"
    database = sqlite3.connect(path)
    database.executescript("""
        CREATE TABLE experiments (experiment_id INTEGER, name TEXT, lifecycle_stage TEXT);
        CREATE TABLE runs (run_uuid TEXT, name TEXT, status TEXT, start_time INTEGER, end_time INTEGER,
                           lifecycle_stage TEXT, experiment_id INTEGER);
        CREATE TABLE params (key TEXT, value TEXT, run_uuid TEXT);
        CREATE TABLE tags (key TEXT, value TEXT, run_uuid TEXT);
        CREATE TABLE metrics (key TEXT, value FLOAT, timestamp INTEGER, run_uuid TEXT, step INTEGER, is_nan BOOLEAN);
        CREATE TABLE latest_metrics (key TEXT, value FLOAT, timestamp INTEGER, step INTEGER, run_uuid TEXT);
        INSERT INTO experiments VALUES (17, 'my ladder', 'active'), (18, 'old', 'deleted');
        INSERT INTO runs VALUES ('gone', 'gone', 'FINISHED', 1, 2, 'deleted', 17);
    """)
    for name, state, params, points in RUNS:
        database.execute("INSERT INTO runs VALUES (?, ?, ?, 1000, 3000, 'active', 17)", (name, f"n {name}", state))
        database.executemany(
            "INSERT INTO params VALUES (?, ?, ?)", [(key, value, name) for key, value in params.items()]
        )
        database.execute("INSERT INTO tags VALUES ('mlflow.user', 'me', ?)", (name,))
        for key, step, time, value in points:
            # as MLflow keeps them: NaN as a mark beside 0, infinity as the largest double
            held = 0.0 if math.isnan(value) else min(value, 1.7976931348623157e308)
            row = (key, held, time, name, step, math.isnan(value))
            database.execute("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?)", row)
            database.execute("DELETE FROM latest_metrics WHERE key = ? AND run_uuid = ?", (key, name))
            database.execute("INSERT INTO latest_metrics VALUES (?, ?, ?, ?, ?)", (key, held, time, step, name))
    database.commit()
    database.close()
    return f"sqlite:///{path}"


def read(address, *experiments):
    source = open_mlflow(address, experiments)
    return {listed.id: source.fetch(listed) for listed in source.list_runs()}


@pytest.mark.parametrize("written", [write_files, write_database])
def test_a_folder_and_a_database_give_the_same_runs(written, tmp_path):
    check_runs(read(written(tmp_path)))


def check_runs(found):
    assert set(found) == {"a1", "b2", "c3", "d4", "e5"}
    run, history = found["a1"]
    assert (run.config, run.state) == ({"model/n_params": "1000", "lr": "0.001"}, "FINISHED")
    assert (run.run["name"], run.run["experiment"], run.run["runtime"]) == ("n a1", "my ladder", 2.0)
    assert run.tags == {"mlflow.user": "me"}
    assert history["_step"].to_pylist() == [0, 1, 2, 3, 4]
    assert history["eval/loss"].to_pylist() == [3.0, 2.9, 2.8, 2.7, 2.6]
    assert history["tokens"].to_pylist() == [0, 100, 200, 300, 400]
    failed, losses = found["b2"]
    assert (failed.state, failed.summary) == ("FAILED", {"eval/loss": "Infinity"})
    nan, infinite = losses["eval/loss"].to_pylist()
    assert (math.isnan(nan), infinite) == (True, math.inf)
    assert found["c3"][1] is None
    resumed, losses = found["e5"]
    assert resumed.summary == {"eval/loss": 2.0, "epoch/loss": 4.0}
    steps = [
        step for step, loss in zip(losses["_step"].to_pylist(), losses["eval/loss"].to_pylist(), strict=True) if loss
    ]
    assert steps == list(range(0, 81, 10))
    assert [notice.partition(" values")[0] for notice in resumed.notices] == ["4", "2"]


@pytest.mark.parametrize("written", [write_files, write_database])
def test_a_resumed_run_has_no_doubled_steps_and_the_later_values(written, tmp_path):
    run, history = read(written(tmp_path))["d4"]
    assert history["_step"].to_pylist() == [0, 1, 2, 3]
    assert history["eval/loss"].to_pylist() == [1.0, 2.0, 2.0, 2.0]
    assert run.notices == ("2 values were logged again at the same step; the later ones are kept",)


@pytest.mark.parametrize("written", [write_files, write_database])
def test_experiments_are_chosen_by_name(written, tmp_path):
    address = written(tmp_path)
    assert len(read(address, "my ladder")) == 5
    with pytest.raises(InputError, match="has no such experiment; did you mean 'my ladder'"):
        open_mlflow(address, ["my lader"])


def test_numbers_that_mlflow_keeps_as_text_are_numbers_in_the_table(tmp_path, import_runs):
    columns = ["--column", "loss=history.eval/loss", "--column", "num_params?=config.model/n_params", "--column",
               "data_seen?=last(history.tokens)"]  # fmt: skip
    done = import_runs("mlflow", write_files(tmp_path), "--store", tmp_path / "store", *columns, "--json")
    assert done.status == 0, done.err
    report = done.json["report"]
    assert report["statuses"] == {"ok": 3, "failed": 1}
    assert [(one["run"], one["reason"]) for one in report["dropped"]] == [("c3", "history.eval/loss has no values")]


def test_a_run_that_goes_on_is_read_again_when_it_moved(tmp_path, import_runs):
    address = write_files(tmp_path)
    words = ["mlflow", address, "--store", tmp_path / "store", "--column", "loss=history.eval/loss"]
    assert "5 runs fetched, 0 unchanged" in import_runs(*words).err
    assert "0 runs fetched, 5 unchanged" in import_runs(*words).err
    write(tmp_path / "mlruns" / "17" / "c3" / "metrics" / "eval" / "loss", "5 1.5 1\n")
    assert "1 runs fetched, 4 unchanged" in import_runs(*words).err


def test_what_is_not_mlflows_is_one_line(tmp_path):
    with pytest.raises(InputError, match="is neither a folder nor a SQLite file"):
        open_mlflow(str(tmp_path / "none"), [])
    with pytest.raises(InputError, match="holds no experiments"):
        open_mlflow(str(tmp_path), [])
    (tmp_path / "x.db").write_text("no database at all, but long enough to be looked at")
    with pytest.raises(InputError, match="cannot be read"):
        open_mlflow(str(tmp_path / "x.db"), [])
    address = write_files(tmp_path)
    (tmp_path / "mlruns" / "17" / "a1" / "metrics" / "tokens").write_text("1 2 3\n1 tw")
    source = open_mlflow(address, [])
    with pytest.raises(RunError, match="line 2 is no metric: '1 tw'"):
        source.fetch(next(listed for listed in source.list_runs() if listed.id == "a1"))


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers as much of MLflow's REST interface as reading needs."""

    def do_GET(self):
        path, _, query = self.path.partition("?")
        asked = dict(urllib.parse.parse_qsl(query))
        if path.endswith("metrics/get-history"):
            _, _, _, points = next(run for run in RUNS if run[0] == asked["run_id"])
            metrics = [metric(*point) for point in points if point[0] == asked["metric_key"]]
            self.reply({"metrics": metrics})
        else:
            self.reply({})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path.endswith("experiments/search"):
            self.reply({"experiments": [{"experiment_id": "17", "name": "my ladder", "lifecycle_stage": "active"}]})
            return
        start = int(asked.get("page_token") or 0)
        page = {"runs": [describe(*run) for run in RUNS[start : start + 3]]}
        self.reply(page | ({"next_page_token": "3"} if start == 0 else {}))

    def reply(self, document):
        content = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_request(self, *_):
        """Says nothing."""


def metric(key, step, time, value):
    told = "NaN" if math.isnan(value) else ("Infinity" if math.isinf(value) else value)
    return {"key": key, "step": step, "timestamp": time, "value": told}


def describe(name, state, params, points):
    info = {"run_id": name, "run_uuid": name, "run_name": f"n {name}", "experiment_id": "17", "status": state,
            "start_time": 1000, "end_time": 3000, "lifecycle_stage": "active"}  # fmt: skip
    latest = {point[0]: metric(*point) for point in points}
    data = {
        "metrics": list(latest.values()),
        "params": [{"key": key, "value": value} for key, value in params.items()],
        "tags": [{"key": "mlflow.user", "value": "me"}],
    }
    return {"info": info, "data": data}


@pytest.mark.filterwarnings("ignore")  # of other packages that the client imports
def test_a_server_gives_the_same_runs_through_mlflows_client(monkeypatch):
    pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        check_runs(read(f"http://127.0.0.1:{server.server_port}"))
        server.shutdown()


def test_a_server_without_the_client_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    with pytest.raises(InputError, match="needs the package mlflow-skinny"):
        open_mlflow("http://127.0.0.1:1", [])
