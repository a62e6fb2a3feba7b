"""A run that is killed at any moment and started again is the run that was never killed, to the bit."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
from etils import epath

from scaling.devices.processes import Preempted
from scaling.specs.cell import Cell
from scaling.specs.data import DataSpec, DigitsSource, MarkovSource
from scaling.specs.execution import Execution
from scaling.specs.models import ConvNetSpec, MLPSpec, TransformerSpec
from scaling.specs.schedules import CosineSchedule, WSDSchedule
from scaling.specs.sharing import plant
from scaling.specs.training import AdamWSpec, SGDSpec, TrainingSpec
from scaling.store.record import Record
from scaling.training.checkpoints.keeper import Keeping
from scaling.training.networks import load_state
from scaling.training.runner import train_cells

WORKER = Path(__file__).with_name("resume_worker.py")
NUM_STEPS = 60


def cell_of(family: str) -> Cell:
    digits = DataSpec(source=DigitsSource(), size=200, evaluation_size=100)
    optimizer = AdamWSpec(peak_lr=1e-2, weight_decay=0.1)
    training = TrainingSpec(optimizer=optimizer, batch_size=16, num_steps=NUM_STEPS, ema_decay=0.9)
    match family:
        case "mlp":
            return Cell(model=MLPSpec(width=16, dropout=0.1), data=digits, training=training)
        case "convnet":
            model = ConvNetSpec(width=16, normalization="batch")
            sgd = training.model_copy(update={"optimizer": SGDSpec(peak_lr=0.05), "schedule": CosineSchedule()})
            return Cell(model=model, data=digits, training=sgd)
        case _:
            source = MarkovSource(vocab_size=16, sequence_length=32)
            data = DataSpec(source=source, size=64, evaluation_size=16)
            wsd = training.model_copy(update={"schedule": WSDSchedule(warmup_steps=5), "noise_scale_parts": 2})
            return Cell(model=TransformerSpec(width=16, depth=2), data=data, training=wsd)


def start(folder: Path, cell: Cell, num_devices: int) -> subprocess.Popen:
    folder.mkdir(exist_ok=True)
    (folder / "cell.json").write_text(cell.canonical_json())
    mesh = {} if num_devices == 1 else {"mesh": {"data": 2, "fsdp": num_devices // 2}}
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(num_devices), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(WORKER), str(folder), json.dumps({"chunk_steps": 2, **mesh})]
    with (folder / "stderr").open("w") as errors:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)


def finish(worker: subprocess.Popen, folder: Path) -> dict:
    worker.communicate()
    assert worker.returncode == 0, (folder / "stderr").read_text()[-3000:]
    return {**json.loads((folder / "state.json").read_text()), "losses": losses(folder)}


def losses(folder: Path) -> list:
    lines = map(json.loads, (folder / "curve.jsonl").read_text().splitlines())
    return [(line["step"], line["train_loss"]) for line in lines if "train_loss" in line]


def kill_somewhere(worker: subprocess.Popen, chance: random.Random, *, in_save: bool) -> bool:
    """Kills a worker after a random number of steps, or inside a save; returns whether it was still running."""
    wanted = "saving" if in_save else "step"
    left = chance.randrange(1, 8) if in_save else chance.randrange(4, 28)
    assert worker.stdout is not None
    for line in worker.stdout:
        left -= line.startswith(wanted)
        if left == 0:
            break
    time.sleep(chance.uniform(0.0, 0.05))
    was_running = worker.poll() is None
    worker.kill()
    worker.communicate()
    return was_running


def check_kills(tmp_path: Path, family: str, num_devices: int, num_kills: int) -> None:
    cell, chance = cell_of(family), random.Random(num_devices)
    whole = finish(start(tmp_path / "whole", cell, num_devices), tmp_path / "whole")
    assert [step for step, _ in whole["losses"]] == list(range(1, NUM_STEPS + 1))
    folder = tmp_path / "killed"
    kills = attempt = resumes = 0
    while kills < num_kills:
        attempt += 1
        if (folder / "state.json").exists():  # it came to its end: begin another
            ended = finish(start(folder, cell, num_devices), folder)
            assert_same(ended, whole)
            resumes += ended["num_resumes"]
            folder = tmp_path / f"killed-{attempt}"
        kills += kill_somewhere(start(folder, cell, num_devices), chance, in_save=attempt % 3 == 0)
    again = finish(start(folder, cell, num_devices), folder)
    assert_same(again, whole)
    assert resumes + again["num_resumes"] > 0  # the last one may have been killed before its first checkpoint


def assert_same(found: dict, whole: dict) -> None:
    assert found["losses"] == whole["losses"]
    assert found["arrays"] == whole["arrays"]
    assert found["evaluations"] == whole["evaluations"]


def train(cell: Cell, folder: Path, heard: Callable[[], bool] = lambda: False) -> Record:
    keeping = Keeping(every_seconds=None, every_steps=4, after_completion=True)
    (record,) = train_cells(
        [cell], execution=Execution(chunk_steps=2), checkpoints=epath.Path(folder), keeping=keeping, heard=heard
    )
    return record


def state_of(cell: Cell, folder: Path) -> dict[str, bytes]:
    leaves = jax.tree_util.tree_leaves_with_path(load_state([cell], epath.Path(folder)))
    return {jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in leaves}


def test_a_run_that_is_told_to_stop_goes_on_to_the_same_bits(tmp_path):
    cell, calls = cell_of("mlp"), iter([False] * 7 + [True])
    whole = train(cell, tmp_path / "whole")
    with pytest.raises(Preempted):
        train(cell, tmp_path / "stopped", lambda: next(calls))
    again = train(cell, tmp_path / "stopped")
    assert (whole.num_resumes, again.num_resumes) == (0, 1)
    assert again.evaluations == whole.evaluations
    assert state_of(cell, tmp_path / "stopped") == state_of(cell, tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("num_devices", [1, 8])
@pytest.mark.parametrize("family", ["mlp", "convnet", "transformer"])
def test_ten_kills_leave_no_trace(tmp_path, family, num_devices):
    check_kills(tmp_path, family, num_devices, 10)


def test_the_job_of_one_cell_is_named_by_the_cell_without_its_length():
    longer = cell_of("transformer").model_copy(
        update={"training": cell_of("transformer").training.model_copy(update={"num_steps": 90})}
    )
    assert plant([longer]).name == plant([cell_of("transformer")]).name
