"""The Slurm engine on a real cluster of two nodes that the test starts: the contract, and what Slurm does to jobs."""

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from launch.engines import LIVE, EngineError, connect
from launch.running import make_order
from scaling.specs.base import InputError
from scaling.specs.study import resolve_study
from scaling.store.store import Store
from tests.launch.engines.contract import SETTINGS, EngineContract, Sweep
from tests.launch.engines.slurm_cluster import SlurmCluster, is_installed
from tests.launch.waiting import wait_until

needs_slurm = pytest.mark.skipif(not is_installed(), reason="needs slurm-wlm, slurm-client and munge")


@pytest.fixture(scope="module")
def cluster():
    """A cluster for all tests of the module."""
    with tempfile.TemporaryDirectory(prefix="slurm", ignore_cleanup_errors=True) as folder:
        made = SlurmCluster(Path(folder) / "cluster")
        before = os.environ.copy()
        os.environ.update(made.environment)
        try:
            made.start()
            yield made
        finally:
            made.stop()
            os.environ.clear()
            os.environ.update(before)


class SlurmLab:
    """Slurm, and the two nodes under it."""

    name = "slurm"

    def __init__(self, cluster: SlurmCluster, store: Store, **settings) -> None:
        self.settings = settings
        self._cluster = cluster
        words = [f"{name}={value}" for name, value in settings.items()]
        self.engine, _ = connect("slurm", words, store)

    def lose(self, handle: str) -> None:
        """Cuts the power of the node that an allocation is on, and gives it back when Slurm has noticed."""
        node = self.engine.observe([handle])[handle].place
        self._cluster.kill_node(node)
        wait_until(lambda: self._cluster.node_states()[node].startswith("down"), 60)
        self._cluster.start_node(node)
        self._cluster.release(handle.partition("_")[0])


@pytest.fixture
def lab(cluster, tmp_path) -> SlurmLab:
    """The cluster as an engine."""
    return SlurmLab(cluster, Store(tmp_path / "store"))


@needs_slurm
@pytest.mark.slow
class TestSlurm(EngineContract):
    """The contract."""

    def test_preempted_work_is_requeued_by_slurm_and_goes_on(self, cluster, sweep, reference):
        (handle,) = sweep.submit(1)
        wait_until(sweep.is_saved)
        urgent = cluster.run_urgent(5)
        wait_until(lambda: sweep.states([handle]) == ["waiting"])
        subprocess.run(["scancel", urgent], check=True)
        wait_until(lambda: cluster.release(handle.partition("_")[0]) or sweep.states([handle]) == ["ended"])
        assert sweep.rows() == reference
        assert sorted(map(len, sweep.outcomes())) == [1, 2]
        assert max(record.num_resumes for record in sweep.store.records().values()) == 1

    def test_who_runs_out_of_time_saves_and_is_requeued(self, cluster, tmp_path, study_file):
        # Slurm counts limits in minutes, and gives notice a little early.
        lab = SlurmLab(cluster, Store(tmp_path / "store"), time_limit=1, warning_seconds=25)
        sweep = Sweep(lab, tmp_path, resolve_study(str(study_file), (*SETTINGS, "num_steps=150000")))
        (handle,) = sweep.submit(1)
        wait_until(lambda: ["interrupted"] in sweep.outcomes())
        wait_until(lambda: sweep.states([handle]) == ["waiting"])
        assert sweep.is_saved()
        lab.engine.cancel([handle])

    def test_an_element_that_somebody_cancels_is_not_requeued(self, sweep):
        handles = sweep.submit(2)
        wait_until(sweep.is_saved)
        subprocess.run(["scancel", handles[0]], check=True)
        wait_until(lambda: sweep.states(handles[:1]) == ["ended"])
        assert sweep.states(handles)[1] in ("running", "ended")


@needs_slurm
@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="nodes' names need addresses, which root can give them")
def test_several_nodes_train_every_cell_together(cluster, tmp_path, study_file):
    lab = SlurmLab(cluster, Store(tmp_path / "store"), nodes=2)
    study = resolve_study(str(study_file), ("data.size=100", "num_seeds=1", "num_steps=200"))
    sweep = Sweep(lab, tmp_path, study, [])
    (handle,) = sweep.submit(1)
    wait_until(lambda: sweep.states([handle])[0] not in LIVE)
    (network,) = [name for name, cell in study.cells.items() if cell.training is not None]
    record = sweep.store.read_record(network)
    logs = [path.read_text() for path in (tmp_path / "store" / "logs").glob("*")]
    assert record is not None, logs
    assert record.num_devices >= 2, logs


def test_a_script_has_what_was_asked_for_and_quotes_it(tmp_path, monkeypatch):
    fake = tmp_path / "bin" / "sbatch"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(fake.parent))
    store = Store(tmp_path / "a store; rm -rf")
    words = ["partition=gpu", "gpus_per_node=a100:4", "nodes=2", 'setup=["module load cuda"]', "time_limit=1-00:00:00"]
    engine, _ = connect("slurm", words, store)
    script = engine.describe(make_order(store, "x", ['--execution={"population": 2}']), 3)
    lines = script.splitlines()
    for line in (
        "#SBATCH --partition=gpu",
        "#SBATCH --gpus-per-node=a100:4",
        "#SBATCH --array=0-2%3",
        "module load cuda",
    ):
        assert line in lines
    assert f"'{tmp_path}/a store; rm -rf'" in script
    assert "'--execution={\"population\": 2}'" in script
    assert "--distributed" in script


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("partiton=gpu", "did you mean 'partition'?"),
        ("partition=a b", "a name without spaces"),
        ('sbatch=["exclusive"]', "is no option"),
        ('setup=["a\\nb"]', "must be one line"),
        ("nodes=0", "greater than 0"),
    ],
)
def test_a_wrong_setting_is_one_line(tmp_path, setting, message):
    with pytest.raises(InputError, match="--option") as caught:
        connect("slurm", [setting], Store(tmp_path))
    assert message in str(caught.value)


def test_no_slurm_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match="login node"):
        connect("slurm", [], Store(tmp_path))


@needs_slurm
def test_what_slurm_refuses_is_one_line(cluster, tmp_path):
    store = Store(tmp_path / "store")
    engine, _ = connect("slurm", ["partition=nowhere"], store)
    with pytest.raises(EngineError, match=r"sbatch refused: .*invalid partition"):
        engine.submit(make_order(store, "x", []), 1)
