"""Claims about `scaling sync`: W&B gets what it lacks of a store, and nothing twice."""

import argparse
import importlib.util
import json
import os
import subprocess
import sys

import pytest

from launch.commands.sync import add_arguments, command
from scaling.specs.base import InputError, canonical_json
from scaling.store.curves import read_curve
from scaling.tracking import CurveFile
from scaling.tracking.rows import make_rows
from tests.places import ROOT
from tests.told_runs import complete, estimators_of, make_store, make_study, networks_of, tell
from tests.wandb_server import WandbServer, no_server

pytestmark = pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="needs wandb")
# In a process of its own, as W&B's client keeps its account and server for as long as a process lives.
COMMAND = """
import sys
from launch.commands.sync import command
from tests.launch.commands.test_sync import parse
options = parse(sys.argv[1:])
sys.exit(command(options))
"""


def parse(words):
    """Returns the options of `scaling sync`."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args([*words])


@pytest.fixture
def store(tmp_path):
    """A store with two networks and an estimator that are complete, and nothing else."""
    made = make_store(tmp_path / "store", make_study(1, (50, 100)))
    complete(made, *networks_of(made), estimators_of(made)[0])
    return made


@pytest.fixture
def server():
    """A server."""
    with WandbServer() as running:
        yield running
        assert not running.failed


def call(server, tmp_path, *words, **environment):
    """Returns how `scaling sync` of the store ended."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    clean |= {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT), **(server.environment if server else {}), **environment}
    command = [sys.executable, "-c", COMMAND, str(tmp_path / "store"), *words]
    return subprocess.run(command, env=clean, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=120)


def sync(server, tmp_path, *words) -> dict:
    """Returns the document that `scaling sync` prints."""
    done = call(server, tmp_path, "--json", "--no-report", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def assert_exact(server, store, cell):
    """Checks that a run has every row of the ledger, in order, and that none was sent twice."""
    run, is_over = server.run(cell), store.is_complete(cell)
    spec = json.loads((store.cell_path(cell) / "cell.json").read_text())
    places = [row.place for row in make_rows(spec, read_curve(store.cell_path(cell)), is_over=is_over)]
    assert [row["_step"] for row in run.rows] == [row["_step"] for row in run.sent] == places


def test_a_second_call_sends_nothing(server, store, tmp_path):
    cells = [*networks_of(store), estimators_of(store)[0]]
    dry = sync(server, tmp_path, "--dry-run")
    assert (sorted(dry["created"]), server.runs) == (sorted(cells), {})
    assert sorted(sync(server, tmp_path)["created"]) == sorted(cells)
    for cell in cells:
        assert_exact(server, store, cell)
        assert (server.run(cell).state, server.run(cell).summary["status"]) == ("finished", "ok")
    before = len(server.requests)
    again = call(server, tmp_path, "--no-report")
    assert again.stdout == "told: 0 runs created, 0 updated, 3 unchanged; report left out\n"
    assert not [line for line in server.requests[before:] if "Upsert" in line or "POST" in line or "PUT" in line]


def test_what_was_lost_is_added_and_what_goes_on_is_caught_up_with(server, store, tmp_path):
    first, second = networks_of(store)
    (store.cell_path(second) / "record.json").unlink()
    tell(CurveFile(store.cell_path), store, second, stop=17)  # goes on
    sync(server, tmp_path)
    assert_exact(server, store, second)
    assert server.run(second).rows[-1]["_step"] == 16  # the last may still be evaluated

    run = server.run(first)
    for place in range(30, 40):  # what a killed client had not sent
        del run.lines["wandb-history.jsonl"][place]
    del run.sent[30:]
    run.summary = dict(run.rows[-1])
    tell(CurveFile(store.cell_path), store, second, begin=10, stop=25)
    found = sync(server, tmp_path)
    assert (sorted(found["updated"]), found["created"], len(found["unchanged"])) == (sorted([first, second]), [], 1)
    assert server.run(second).rows[-1]["_step"] == 24
    assert (server.run(first).state, server.run(second).state) == ("finished", "failed")

    complete(store, second, estimators_of(store)[1])
    found = sync(server, tmp_path)
    assert (found["created"], found["updated"], found["lacking"]) == ([estimators_of(store)[1]], [second], [])
    for cell in (first, second, *estimators_of(store)):
        assert_exact(server, store, cell)


@pytest.mark.slow
def test_a_summary_that_is_not_of_this_record_is_replaced(server, store, tmp_path):
    cell = networks_of(store)[0]
    sync(server, tmp_path)
    server.run(cell).summary |= {"loss": 99.0, "ledger_sha256": "of something else"}
    assert sync(server, tmp_path)["updated"] == [cell]
    assert server.run(cell).summary["loss"] == store.read_record(cell).evaluations[-1].loss
    assert_exact(server, store, cell)


@pytest.mark.slow
def test_runs_that_somebody_sends_to_are_left_alone(server, store, tmp_path):
    cell = networks_of(store)[0]
    server.make_run(cell, "told", groupName="told")
    done = call(server, tmp_path, "--no-report")
    assert done.stdout == (
        "told: 2 runs created, 0 updated, 0 unchanged, 1 left alone while somebody sends to them; report left out\n"
    )
    assert server.run(cell).rows == []
    assert sync(server, tmp_path, "--live-seconds", "0")["updated"] == [cell]
    assert_exact(server, store, cell)


@pytest.mark.slow
def test_a_hole_that_w_and_b_does_not_let_be_filled_is_said(server, store, tmp_path):
    cell = networks_of(store)[0]
    sync(server, tmp_path)
    for place in range(30, 40):
        del server.run(cell).lines["wandb-history.jsonl"][place]  # but its summary says that it has them
    done = call(server, tmp_path, "--no-report")
    assert done.returncode == 1
    assert done.stderr.startswith(f"scaling: 1 runs lack something still ({cell}); call this again or, if that is of")


def test_kept_checkpoints_are_referred_to(server, store, tmp_path):
    cell, other = networks_of(store)
    (store.cell_path(cell) / "checkpoints" / "job").mkdir(parents=True)
    (store.cell_path(cell) / "checkpoints" / "job" / "arrays").write_text("…")
    sync(server, tmp_path, "--project", "mine", "--entity", "team")
    artifact = server.run(cell, "mine").artifacts[f"checkpoint-{cell}"]
    assert artifact.is_committed
    (reference,) = artifact.manifest["contents"].values()
    assert reference["ref"] == f"file://{store.cell_path(cell)}/checkpoints/job/arrays"
    assert server.run(cell, "mine").entity == "team"
    assert server.run(other, "mine").artifacts == {}
    assert sync(server, tmp_path, "--project", "mine", "--entity", "team")["unchanged"]


@pytest.mark.slow
def test_the_report_is_a_run_of_its_own(server, tmp_path):
    store = make_store(tmp_path / "store", make_study(2, (50, 100, 200, 400)))
    complete(store)
    assert "17 runs" not in call(server, tmp_path).stdout
    run = server.run("report-told")
    assert (run.fields["jobType"], run.fields["groupName"], run.state) == ("report", "told", "finished")
    (row,) = run.rows
    assert (row["report/fits"]["nrows"], row["report/order"]["nrows"]) == (2, 4)
    table = json.loads(run.files[row["report/fits"]["path"]])
    assert (table["columns"][0], [values[0] for values in table["data"]]) == ("label", ["mlp", "linear"])
    assert run.files[row["report/figure"]["path"]].startswith(b"\x89PNG")
    assert b"<html" in run.files[row["report/page"]["path"]]
    assert call(server, tmp_path).stdout == "told: 0 runs created, 0 updated, 16 unchanged; report unchanged\n"
    assert len(run.rows) == 1


@pytest.mark.slow
def test_without_a_server_one_line_says_so(store, tmp_path):
    with no_server() as url:
        done = call(None, tmp_path, WANDB_BASE_URL=url, WANDB_API_KEY="0" * 40, WANDB__GRAPHQL_RETRY_MAX="1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith(f"scaling: W&B at {url} does not take what it is sent (")


def test_offline_and_without_an_account_the_call_is_refused(store, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    options = parse([str(store.path)])
    with pytest.raises(InputError, match="WANDB_MODE=offline: sync talks to the server; unset it"):
        command(options)
    done = call(None, tmp_path)
    assert done.stderr.splitlines()[-1].endswith(
        "W&B has no account on this machine; set WANDB_API_KEY, or call `wandb login`"
    )


# --- the workspace --------------------------------------------------------------------------------------------------


def require_workspaces():
    if importlib.util.find_spec("wandb_workspaces") is None:
        pytest.skip("needs wandb-workspaces")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of pydantic, in the package
def test_the_workspace_has_the_studys_views(store):
    require_workspaces()
    from scaling.tracking.wandb_workspace import make_workspace

    spec = json.loads(make_workspace(store, "told", "me")._to_model().spec.model_dump_json(by_alias=True))
    sections = {one["name"]: one["panels"] for one in spec["section"]["panelBankConfig"]["sections"]}
    assert list(sections) == ["Loss against FLOPs", "IsoFLOP valleys", "Progress of the sweep", "Fits"]
    valley = sections["IsoFLOP valleys"][0]["config"]
    assert (valley["xAxis"], valley["yAxis"], valley["zAxis"]) == (
        "summary:num_params", "summary:loss", "config:log10_train_flops.value",
    )  # fmt: skip
    assert (valley["xAxisLogScale"], valley["yAxisLogScale"]) == (True, True)
    curve = sections["Loss against FLOPs"][0]["config"]
    assert (curve["xAxis"], curve["metrics"]) == ("train_flops", ["eval/loss"])
    assert "report/fits" in canonical_json(sections["Fits"])


@pytest.mark.slow
def test_a_workspace_is_saved_in_place_of_the_one_before(server, store, tmp_path):
    require_workspaces()
    first, second = (sync(server, tmp_path, "--workspace")["workspace"] for _ in range(2))
    assert first == second
    assert first.startswith(f"{server.url}/me/told?nw=")
    (view,) = server.views.values()
    assert (view["projectName"], view["displayName"]) == ("told", "told: scaling")
