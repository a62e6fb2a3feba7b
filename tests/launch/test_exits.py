"""Exit statuses stand in one place: who cannot import it, or hands statuses to another program, has the same ones."""

import subprocess

from launch import exits
from launch.engines.cloud_tpu import host
from launch.engines.gke.engine import RESTARTED
from launch.engines.slurm import Settings, Slurm
from launch.running import make_order


def test_a_startup_script_that_stands_alone_has_the_same_statuses():
    assert host.ENDINGS == exits.OF_AGENTS
    for name in ("DONE", "WORK_FAILED", "WRONG_CALL", "PREEMPTED"):
        assert getattr(host, name) == getattr(exits, name), name


def test_a_process_that_leaves_waits_for_its_threads_and_does_what_is_registered_for_its_end(python):
    script = (
        "import atexit, threading, time\nfrom launch.exits import leave\n"
        "class Slow:\n    def __del__(self): print('torn down')\n"
        "kept = Slow()\n"
        "atexit.register(lambda: print('registered'))\n"
        "threading.Thread(target=lambda: (time.sleep(0.3), print('thread'))).start()\n"
        "leave(7)\n"
    )
    done = subprocess.run([python, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "thread\nregistered\n", "")


def test_slurm_requeues_an_agent_that_has_saved(bare_store):
    script = Slurm(Settings(), bare_store).describe(make_order(bare_store, "x", []), 1)
    (line,) = (line for line in script.splitlines() if "scontrol requeue" in line)
    assert line.startswith(f'[ "$again $status" = "1 {exits.PREEMPTED}" ]')


def test_gke_starts_again_who_has_saved_and_no_other_end_of_an_agent():
    assert [status for status in exits.OF_AGENTS if status in RESTARTED] == [exits.PREEMPTED]
    assert exits.WRONG_CALL not in RESTARTED
