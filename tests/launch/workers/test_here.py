"""This machine's places for workers: as many as are asked for, each with the devices that a job takes."""

import pytest

from launch.options import Options
from launch.workers import slots
from launch.workers.here import find_slots
from scaling.specs.base import InputError
from scaling.specs.execution import Execution, MeshSpec

TWO_EACH = Execution(mesh=MeshSpec(data=2))


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A machine of eight cores and four GPUs."""
    gpus = slots.Machine(cores=tuple(range(8)), gpus=("0", "1", "2", "3"))
    monkeypatch.setattr(slots, "find_machine", lambda: gpus)


def shown(options: Options) -> list[str]:
    return [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in find_slots(options)]


def test_there_is_a_worker_for_every_device_or_for_as_many_as_a_job_takes():
    assert shown(Options()) == ["0", "1", "2", "3"]
    assert shown(Options(execution=TWO_EACH)) == ["0,1", "2,3"]
    assert shown(Options(workers=1)) == ["0,1,2,3"]


def test_more_workers_than_a_job_leaves_devices_for_are_refused():
    with pytest.raises(InputError, match="choose at most 2 workers"):
        find_slots(Options(workers=3, execution=TWO_EACH))
