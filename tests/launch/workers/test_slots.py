"""Slots: cores and devices are divided, nobody gets another's, and what cannot be divided is refused."""

import pytest

from launch.workers.slots import Machine, divide, find_machine
from scaling.specs.base import InputError

CORES = tuple(range(8))


def test_without_devices_there_is_one_worker_a_core():
    slots = divide(Machine(CORES), None)
    assert [slot.cores for slot in slots] == [{core} for core in CORES]
    assert all(slot.environment == {} for slot in slots)


def test_cores_are_divided_equally_and_in_turn_when_there_are_too_few():
    assert [slot.cores for slot in divide(Machine(CORES), 3)] == [{0, 1}, {2, 3}, {4, 5}]
    assert [slot.cores for slot in divide(Machine((0, 1)), 3)] == [{0}, {1}, {0}]


def test_every_worker_sees_its_own_gpu_alone():
    slots = divide(Machine(CORES, gpus=("2", "5", "GPU-abc")), None)
    assert [slot.environment for slot in slots] == [{"CUDA_VISIBLE_DEVICES": name} for name in ("2", "5", "GPU-abc")]
    assert [slot.cores for slot in slots] == [{0, 1}, {2, 3}, {4, 5}]


def test_a_job_of_several_gpus_gets_them_together():
    slots = divide(Machine(CORES, gpus=("0", "1", "2", "3")), None, devices_each=2)
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["0,1", "2,3"]
    with pytest.raises(InputError, match=r"--workers 4: each would have 1 of this machine's 4 devices, .* at most 2"):
        divide(Machine(CORES, gpus=("0", "1", "2", "3")), 4, devices_each=2)


def test_workers_that_share_a_gpu_share_its_memory():
    slots = divide(Machine(CORES, gpus=("0", "1")), 4)
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["0", "1", "0", "1"]
    assert {slot.environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] for slot in slots} == {"0.450"}


def test_tpu_chips_are_given_with_their_bounds():
    slots = divide(Machine(CORES, tpus=("0", "1", "2", "3")), 2)
    assert [slot.environment["TPU_VISIBLE_CHIPS"] for slot in slots] == ["0,1", "2,3"]
    assert {slot.environment["TPU_CHIPS_PER_PROCESS_BOUNDS"] for slot in slots} == {"1,2,1"}
    for workers, message in ((8, "one process"), (1, "5 chips cannot")):
        with pytest.raises(InputError, match=message):
            divide(Machine(CORES, tpus=tuple("01234")), workers)


def test_devices_are_found_where_drivers_show_them(tmp_path):
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / "proc/driver/nvidia/gpus" / name).mkdir(parents=True)
    assert find_machine({}, tmp_path).gpus == ("0", "1")
    assert find_machine({"CUDA_VISIBLE_DEVICES": "3"}, tmp_path).gpus == ("3",)
    assert find_machine({"CUDA_VISIBLE_DEVICES": "1,-1,2"}, tmp_path).gpus == ("1",)
    assert find_machine({"JAX_PLATFORMS": "cpu"}, tmp_path).accelerators == ()
    (tmp_path / "dev/vfio").mkdir(parents=True)
    for name in ("0", "1", "vfio"):
        (tmp_path / "dev/vfio" / name).touch()
    assert find_machine({"CUDA_VISIBLE_DEVICES": ""}, tmp_path).accelerators == ("0", "1")
