"""The Slurm engine: job arrays of agents through sbatch, squeue and scancel; nothing is asked of accounting."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveInt

from launch.engines import EngineError, Order, Sighting, State
from launch.exits import PREEMPTED
from scaling.specs.base import InputError, Spec
from scaling.store.files import is_local
from scaling.store.store import Store

# What squeue calls states (`man squeue`, JOB STATE CODES), as far as they are not simply running.
WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESIZING", "SUSPENDED")
LOST = ("PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "REVOKED")
FAILED = ("FAILED", "TIMEOUT", "DEADLINE", "OUT_OF_MEMORY")
RUNNING = ("RUNNING", "COMPLETING", "STAGE_OUT", "SIGNALING", "STOPPED")

# Commands of Slurm answer within seconds or not at all; its controller is restarted in about a minute.
ASK_SECONDS = 60.0


class Settings(Spec):
    """How jobs are submitted.

    Attributes:
      partition, account, qos, constraint, reservation: as sbatch takes them.
      nodes: the nodes of each allocation; several train every cell together.
      tasks_per_node: processes on each node that train together, one for each GPU where JAX shall have it so.
      cpus_per_task: None leaves it to the cluster.
      gpus_per_node: a number, or kind and number, such as `a100:4`.
      memory: the memory of each node, such as `64G`.
      time_limit: `D-HH:MM:SS`, `HH:MM:SS` or minutes; agents save and go back to the queue before it is over.
      warning_seconds: how long before the end of its time an agent is told to save.
      requeue: whether elements go back to the queue after preemption, loss of a node, and their time limit.
      sbatch: more options, such as `--exclusive`; each becomes a line of the script.
      setup: lines of bash that run on each node before the agent, such as `module load cuda/12`.
      container: words before the agent's command, such as `["apptainer", "exec", "--nv", "image.sif"]`.
      python: on the nodes; None for the one that submits.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    reservation: str | None = None
    nodes: PositiveInt = 1
    tasks_per_node: PositiveInt = 1
    cpus_per_task: PositiveInt | None = None
    gpus_per_node: int | str | None = None
    memory: str | None = None
    time_limit: int | str | None = None
    warning_seconds: Annotated[int, Field(ge=5)] = 120
    requeue: bool = True
    sbatch: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    container: tuple[str, ...] = ()
    python: str | None = None


def connect(settings: Settings, store: Store) -> "Slurm":
    """Returns the cluster whose commands are on the path.

    Raises:
      InputError: a setting would not be one line of the script, or nodes could not see the store.
      EngineError: there is no Slurm here.
    """
    for path, text in _texts(settings):
        if "\n" in text or (path in ("partition", "account", "qos") and not re.fullmatch(r"[\w.,+-]+", text)):
            raise InputError(f"--option {path}={text!r}: must be one line, and a name without spaces")
    for option in settings.sbatch:
        if not option.startswith("-"):
            raise InputError(f'--option sbatch: {option!r} is no option; write for example ["--exclusive"]')
    if not is_local(store.path) and not str(store.path).startswith("gs://"):
        raise InputError(f"store {str(store.path)!r}: nodes cannot see it; choose a folder that they share, or gs://")
    if shutil.which("sbatch") is None:
        raise EngineError("there is no sbatch on this machine's path; run this where jobs are submitted, a login node")
    return Slurm(settings, store)


class Slurm:
    """A cluster.

    A handle is `JOB_INDEX`, the element of an array that one allocation is.

    Args:
      settings: the settings of the jobs.
      store: whose `logs/` what they write goes to.
    """

    outlives_command = True

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings, self._store = settings, store

    def describe(self, order: Order, count: int) -> str:
        """Returns the script that sbatch is given."""
        return self._script(order, count)

    def submit(self, order: Order, count: int) -> list[str]:
        """Submits one array, of which at most `count` elements run at a time: all of them."""
        self._log_folder().mkdir(parents=True, exist_ok=True)
        job = _ask(["sbatch", "--parsable"], self._script(order, count)).strip().partition(";")[0]
        return [f"{job}_{index}" for index in range(count)]

    def observe(self, handles: Sequence[str]) -> Mapping[str, Sighting]:
        """Returns what squeue knows; elements that it has forgotten have ended, and the store says how."""
        seen: dict[str, Sighting] = {}
        jobs = sorted({handle.partition("_")[0] for handle in handles})
        for start in range(0, len(jobs), 200):  # command lines have an end
            seen |= self._observe(jobs[start : start + 200])
        return {handle: seen.get(handle, Sighting("ended")) for handle in handles}

    def _observe(self, jobs: Sequence[str]) -> dict[str, Sighting]:
        words = [
            "squeue",
            "--noheader",
            "--array",
            "--states=all",
            "--format=%F_%K|%T|%N|%r",
            f"--jobs={','.join(jobs)}",
        ]
        try:
            text = _ask(words)
        except EngineError as error:
            if "Invalid job id" in str(error):  # all of them are forgotten, where only one was asked for
                return {}
            raise
        found = {}
        for line in text.splitlines():
            handle, state, nodes, reason = line.split("|", 3)
            why = "" if reason in ("None", "") else reason
            if _state(state) == "failed":
                why = "; ".join(filter(None, (why, self._last_line(handle))))
            found[handle] = Sighting(_state(state), nodes, why)
        return found

    def _last_line(self, handle: str) -> str:
        """Returns the last thing that an element has written."""
        paths = sorted(self._log_folder().glob(f"*-slurm-{handle}.log"))
        lines = paths[-1].read_bytes()[-4000:].decode(errors="replace").strip().splitlines() if paths else []
        return lines[-1] if lines else ""

    def cancel(self, handles: Sequence[str]) -> None:
        """Ends elements: agents hear SIGTERM, and may save for as long as the cluster's KillWait."""
        for start in range(0, len(handles), 200):
            _ask(["scancel", "--quiet", *handles[start : start + 200]])

    # --- the script -------------------------------------------------------------------------------------------------

    def _log_folder(self) -> Path:
        return (
            Path(os.fspath(self._store.path)).resolve() / "logs"
            if is_local(self._store.path)
            else Path("logs").resolve()
        )

    def _script(self, order: Order, count: int) -> str:
        chosen = self._settings
        log = self._log_folder() / f"{order.launch}-slurm-%A_%a.log"
        is_gang = chosen.nodes * chosen.tasks_per_node > 1
        options = {
            "job-name": f"scaling-{order.launch}",
            "array": f"0-{count - 1}%{count}",
            "output": str(log),
            "open-mode": "append",
            "nodes": chosen.nodes,
            "ntasks-per-node": chosen.tasks_per_node,
            "partition": chosen.partition,
            "account": chosen.account,
            "qos": chosen.qos,
            "constraint": chosen.constraint,
            "reservation": chosen.reservation,
            "cpus-per-task": chosen.cpus_per_task,
            "gpus-per-node": chosen.gpus_per_node,
            "mem": chosen.memory,
            "time": chosen.time_limit,
            "signal": f"B:USR1@{chosen.warning_seconds}",
        }
        lines = [f"#SBATCH --{name}={value}" for name, value in options.items() if value is not None]
        lines += [f"#SBATCH --{'' if chosen.requeue else 'no-'}requeue", *(f"#SBATCH {word}" for word in chosen.sbatch)]
        agent = [*chosen.container, chosen.python or sys.executable, "-P", "-m", "launch.cli", *order.words]
        if is_gang:
            agent = ["srun", "--kill-on-bad-exit=1", *agent, "--distributed"]
        here = shlex.quote(str(Path(__file__).resolve().parents[2]))
        job = "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
        return "\n".join(
            [
                "#!/bin/bash",
                *lines,
                "set -u",
                f'export SCALING_PLACE="slurm {job}"',
                f"export PYTHONPATH={here}${{PYTHONPATH:+:$PYTHONPATH}}",
                *chosen.setup,
                f"{shlex.join(agent)} &",
                "agent=$! again=0",
                # USR1 says that the time is nearly over, TERM that the job was cancelled or preempted; the shell hands
                # either on and waits until the agent has saved. Slurm itself requeues what it preempts.
                "trap 'again=1; kill -TERM $agent 2>/dev/null' USR1",
                "trap 'kill -TERM $agent 2>/dev/null' TERM",
                "wait $agent; status=$?",
                "while kill -0 $agent 2>/dev/null; do wait $agent; status=$?; done",
                *([f'[ "$again $status" = "1 {PREEMPTED}" ] && scontrol requeue "{job}"'] if chosen.requeue else []),
                "exit $status",
                "",
            ]
        )


def _texts(settings: Settings) -> list[tuple[str, str]]:
    found = []
    for name, value in settings:
        values = value if isinstance(value, tuple) else (value,)
        found += [(name, one) for one in values if isinstance(one, str)]
    return found


def _state(name: str) -> State:
    """Returns the engine's state for one of Slurm's."""
    if name in WAITING:
        return "waiting"
    if name in RUNNING:
        return "running"
    if name in LOST:
        return "preempted"
    return "failed" if name in FAILED else "ended"


def _ask(words: Sequence[str], script: str | None = None) -> str:
    """Returns what a command of Slurm prints.

    Raises:
      EngineError: it fails, or does not answer.
    """
    try:
        done = subprocess.run(
            words, input=script, capture_output=True, text=True, check=False, timeout=ASK_SECONDS,
            stdin=None if script is not None else subprocess.DEVNULL,
        )  # fmt: skip
    except FileNotFoundError:
        raise EngineError(f"there is no {words[0]} on this machine's path; run this on a login node") from None
    except subprocess.TimeoutExpired:
        raise EngineError(f"{words[0]} did not answer within {ASK_SECONDS:.0f} s; is the controller up?") from None
    if done.returncode != 0:
        said = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise EngineError(f"{words[0]} refused: {said}")
    return done.stdout
