"""Claims about W&B's offline runs: all that the real client wrote is read, and what is torn is passed over and said."""

import json
import os
import shutil
import subprocess
import textwrap

import pytest

from launch.imports.fetching import RunError
from launch.imports.raw import RawFolder
from launch.imports.wandb_files import BLOCK_BYTES, WandbFiles, read_log
from scaling.specs.base import InputError

pytest.importorskip("wandb")

SCRIPT = """
import wandb
settings = wandb.Settings(console="off", x_disable_stats=True, x_disable_meta=True)
for name, exit_code in (("good", 0), ("bad", 3)):
    config = {"model": {"n_params": 1000}, "lr": 1e-3, "sizes": [1, 2]}
    run = wandb.init(project="p", id=name, name="n " + name, group="g", tags=["t"], config=config, settings=settings)
    for step in range(600):
        row = {"train/loss": 3 - step / 1000, "deep": {"er": step}}
        if step % 100 == 0:
            row["eval/loss"] = float("nan") if step == 300 else 4 - step / 1000
        run.log(row)
    run.summary["best"] = 1.5
    run.config.update({"late": True})
    run.finish(exit_code=exit_code)
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory, python):
    """A `wandb` folder with two offline runs of the real client."""
    place = tmp_path_factory.mktemp("offline")
    environment = os.environ | {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}
    environment |= {"WANDB_DIR": str(place), "WANDB_CACHE_DIR": str(place), "WANDB_CONFIG_DIR": str(place)}
    subprocess.run([python, "-c", textwrap.dedent(SCRIPT)], env=environment, cwd=place, check=True, timeout=60)
    return place / "wandb"


@pytest.fixture
def wandb_folder(written, tmp_path):
    """A copy that a test may spoil."""
    shutil.copytree(written, tmp_path / "wandb", symlinks=True)
    return tmp_path / "wandb"


def read(path):
    source = WandbFiles(str(path))
    return {listed.id: source.fetch(listed) for listed in source.list_runs()}


def log_of(folder, name):
    return next(path for path in folder.glob(f"offline-run-*/run-{name}.wandb"))


def test_a_run_is_read_whole_with_config_summary_history_and_end(written):
    found = read(written)
    assert set(found) == {"good", "bad"}  # `latest-run` names one of them again
    run, history = found["good"]
    assert run.config == {"model.n_params": 1000, "lr": 1e-3, "sizes": [1, 2], "late": True}
    assert (run.summary["best"], run.summary["eval/loss"], run.summary["deep.er"]) == (1.5, 3.5, 599)
    assert (run.run["name"], run.run["group"], run.run["tags"], run.notices) == ("n good", "g", ["t"], ())
    assert history["_step"].to_pylist() == list(range(600))
    assert history["train/loss"].to_pylist() == [3 - step / 1000 for step in range(600)]
    assert history["deep.er"].to_pylist() == list(range(600))
    losses = [value for value in history["eval/loss"].to_pylist() if value is not None]
    assert [losses[0], losses[-1], losses[3] != losses[3]] == [4.0, 3.5, True]
    assert (run.state, found["bad"][0].state) == ("finished", "failed")
    assert log_of(written, "good").stat().st_size > 2 * BLOCK_BYTES  # so records that cross blocks were read


@pytest.mark.parametrize("keep", [0.999, 0.7, 0.3])
def test_a_killed_runs_torn_end_is_passed_over_and_said(wandb_folder, keep):
    path = log_of(wandb_folder, "good")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)] + b"x")  # torn, also if it was cut between two records
    run, history = read(path)["good"]
    steps = history["_step"].to_pylist()
    assert steps == list(range(len(steps)))
    assert abs(len(steps) / 600 - keep) < 0.1
    assert run.state == "crashed"
    assert any("was killed, or is still running" in notice for notice in run.notices)
    assert any("are torn and were passed over" in notice for notice in run.notices)


def test_damage_in_the_middle_ends_the_reading_there(wandb_folder):
    path = log_of(wandb_folder, "good")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    run, history = read(path)["good"]
    assert 200 < history.num_rows < 400
    assert any("are torn and were passed over" in notice for notice in run.notices)


@pytest.mark.parametrize("mode", ["offline-run", "run"])
def test_a_resumed_run_has_no_doubled_steps(wandb_folder, mode):
    first = log_of(wandb_folder, "good")
    if mode == "run":  # first online, then offline: the names' first letters do not tell the order
        first.parent.rename(wandb_folder / "run-20240101_000000-good")
        first = wandb_folder / "run-20240101_000000-good" / first.name
    later = wandb_folder / "offline-run-29991231_000000-good"
    later.mkdir()
    shutil.copy(first, later / first.name)
    first.write_bytes(first.read_bytes()[:40_000])
    run, history = read(wandb_folder)["good"]
    steps = history["_step"].to_pylist()
    assert steps == sorted(set(steps))
    assert (len(steps), run.state) == (600, "finished")
    passed = [notice for notice in run.notices if "rows at steps that it had passed are left out" in notice]
    assert 0 < int(passed[0].split()[0]) < 600


ATTEMPT = """
import wandb
settings = wandb.Settings(console="off", x_disable_stats=True, x_disable_meta=True)
with wandb.init(project="p", settings=settings, {how}) as run:
    for i, loss in enumerate({losses}):
        run.log({{"loss": loss}} | ({{"eval": loss}} if i >= 8 else {{}}))
"""


def test_a_rewound_run_ends_where_it_ended_and_a_fork_says_so(tmp_path, python):
    environment = os.environ | {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}
    environment |= {f"WANDB_{name}": str(tmp_path) for name in ("DIR", "CACHE_DIR", "CONFIG_DIR")}
    for how, losses in (
        ("id='a'", [3.0 - i / 10 for i in range(11)]),
        ("resume_from='a?_step=5'", [9.0, 8.0, 7.0]),
        ("id='fork', fork_from='a?_step=5'", [1.0]),
    ):
        script = ATTEMPT.format(how=how, losses=losses)
        subprocess.run([python, "-c", script], env=environment, cwd=tmp_path, check=True, timeout=60)
    found = read(tmp_path / "wandb")
    run, history = found["a"]
    assert history["_step"].to_pylist() == list(range(9))
    assert history["loss"].to_pylist() == [3.0, 2.9, 2.8, 2.7, 2.6, 2.5, 9.0, 8.0, 7.0]
    assert (run.summary["loss"], "eval" in run.summary, "eval" in history.column_names) == (7.0, False, False)
    assert run.notices == ("was rewound to step 5: 5 rows after it are superseded",)
    assert any("is a fork of a at step 5" in notice for notice in found["fork"][0].notices)


def test_what_is_no_log_is_one_line(tmp_path, wandb_folder):
    with pytest.raises(InputError, match="does not exist"):
        WandbFiles(str(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no run-ID\.wandb"):
        WandbFiles(str(tmp_path / "empty"))
    bad = tmp_path / "run-x.wandb"
    for content in (b"", b"not a log at all"):
        bad.write_bytes(content)
        with pytest.raises(RunError, match="is no W&B log"):
            list(read_log(bad, []))


def test_one_unreadable_run_does_not_stop_the_others_and_status_is_1(wandb_folder, import_runs, tmp_path):
    log_of(wandb_folder, "bad").write_bytes(b"")
    columns = ["--column", "loss=history.eval/loss", "--column", "num_params=config.model.n_params"]
    done = import_runs("wandb-offline", wandb_folder, "--store", tmp_path / "store", *columns)
    assert (done.status, "not fetched: bad: " in done.err) == (1, True)
    assert "6 rows of 1 of 1 runs: 1 ok" in done.out


def test_only_what_changed_is_read_again(wandb_folder, import_runs, tmp_path):
    def counts():
        column = ["--column", "loss=history.eval/loss"]
        found = import_runs("wandb-offline", wandb_folder, "--store", tmp_path / "store", "--json", *column).json
        return found["fetched"], found["unchanged"]

    assert counts() == (2, 0)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "store" / "runs").rglob("run.json")}
    assert counts() == (0, 2)
    os.utime(log_of(wandb_folder, "bad"))
    assert counts() == (1, 1)
    changed = {path.parent.name for path, time in kept.items() if path.stat().st_mtime_ns != time}
    assert changed == {"bad"}
    assert json.loads((tmp_path / "store" / "import.json").read_text())["kind"] == "wandb-offline"
    assert {run.id for run in RawFolder(tmp_path / "store").runs()} == {"good", "bad"}
