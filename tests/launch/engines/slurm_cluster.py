"""A private Slurm of two nodes on this machine, without systemd, for as long as a test needs it."""

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

NODES = ("n0", "n1")
DAEMONS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scancel", "scontrol", "sinfo", "srun")

CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.sock
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
MpiDefault=none
SwitchType=switch/none
SlurmdTimeout=10
KillWait=20
MinJobAge=3600
NodeName=n0 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=4000 State=UNKNOWN
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=n0,n1 Default=YES MaxTime=60 State=UP PriorityTier=1 PreemptMode=REQUEUE
PartitionName=high Nodes=n0,n1 MaxTime=60 State=UP PriorityTier=10 PreemptMode=OFF
"""


def is_installed() -> bool:
    """Returns whether Slurm and munge are on this machine."""
    return all(shutil.which(name) for name in DAEMONS)


class SlurmCluster:
    """A running cluster.

    Args:
      folder: for its configuration, state and logs; a short path, since sockets are in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"SLURM_CONF": str(folder / "etc" / "slurm.conf")}

    def start(self) -> None:
        """Starts all daemons, and returns when both nodes are idle."""
        for name in ("etc", "state", "spool.n0", "spool.n1", "log", "run"):
            (self.folder / name).mkdir(parents=True)
        ports = _free_ports(3)
        host = socket.gethostname().partition(".")[0]
        config = CONFIG.format(host=host, user=getpass.getuser(), folder=self.folder, ports=ports)
        (self.folder / "etc" / "slurm.conf").write_text(config)
        key = self.folder / "etc" / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        run = self.folder / "run"
        (self.folder / "etc").chmod(0o700)  # munged looks at it when it starts
        self._call(
            "munged", "--force", f"--key-file={key}", f"--socket={run}/munge.sock", f"--pid-file={run}/munged.pid",
            f"--log-file={self.folder}/log/munged.log", f"--seed-file={run}/munged.seed",
        )  # fmt: skip
        (self.folder / "etc").chmod(0o755)
        self._call("slurmctld")
        for node in NODES:
            self.start_node(node)
        deadline = time.monotonic() + 30
        while self.node_states() != {"n0": "idle", "n1": "idle"}:
            assert time.monotonic() < deadline, self.node_states()
            time.sleep(0.1)

    def start_node(self, node: str) -> None:
        """Starts a node's daemon; as root where nodes' names have addresses, which JAX asks for."""
        if os.geteuid() == 0 and shutil.which("unshare"):
            hosts = self.folder / "etc" / "hosts"
            hosts.write_text(Path("/etc/hosts").read_text() + f"127.0.0.1 {' '.join(NODES)}\n")
            script = 'mount --bind "$1" /etc/hosts && exec slurmd -N "$2"'
            self._call("unshare", "-m", "bash", "-c", script, "bash", str(hosts), node)
        else:
            self._call("slurmd", "-N", node)

    def kill_node(self, node: str) -> None:
        """Kills a node as a power cut does: its daemon, and all that runs under it."""
        daemon = int((self.folder / "run" / f"slurmd.{node}.pid").read_text())
        for pid in self._steps_of(node):
            _kill_tree(pid)
        os.kill(daemon, signal.SIGKILL)

    def node_states(self) -> dict[str, str]:
        """Returns what Slurm says of the nodes."""
        text = self._call("sinfo", "-h", "-N", "-p", "main", "-o", "%N %t")
        return dict(line.split() for line in text.splitlines())

    def run_urgent(self, seconds: int) -> str:
        """Submits a job that takes both nodes from others, and returns its number."""
        words = ("sbatch", "--parsable", "--partition=high", "--nodes=2", "--ntasks-per-node=2", "--output=/dev/null")
        return self._call(*words, f"--wrap=sleep {seconds}").strip()

    def release(self, job: str) -> None:
        """Lets a requeued job start without the two minutes that Slurm waits."""
        for line in self._call("squeue", "-h", "--array", "-j", job, "-t", "PENDING", "-o", "%i").split():
            with contextlib.suppress(AssertionError):  # it has started by itself
                self._call("scontrol", "update", f"JobId={line}", "StartTime=now")

    def stop(self) -> None:
        """Ends all jobs, daemons and what they have left."""
        with contextlib.suppress(AssertionError):
            self._call("scancel", "--user", getpass.getuser(), "--signal=KILL", "--full")
        for node in NODES:
            for pid in self._steps_of(node):
                _kill_tree(pid)
        for name in ("slurmd.n0", "slurmd.n1", "slurmctld", "munged"):
            with contextlib.suppress(OSError, ValueError):
                os.kill(int((self.folder / "run" / f"{name}.pid").read_text()), signal.SIGTERM)

    def _steps_of(self, node: str) -> list[int]:
        """Returns the processes that hold a node's job steps."""
        return [pid for pid, words in _processes() if words[:1] == ["slurmstepd:"] and self._is_ours(pid, node)]

    def _is_ours(self, pid: int, node: str) -> bool:
        with contextlib.suppress(OSError):
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            return f"SLURM_CONF={self.environment['SLURM_CONF']}".encode() in variables and any(
                Path(f"/proc/{child}/environ").read_bytes().split(b"\0").count(f"SLURMD_NODENAME={node}".encode())
                for child in _children(pid)
            )
        return False

    def _call(self, *words: str) -> str:
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, env={**os.environ, **self.environment}, timeout=60
        )
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        return done.stdout


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _processes() -> Iterator[tuple[int, list[str]]]:
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield int(folder.name), (folder / "cmdline").read_text().replace("\0", " ").split()


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _kill_tree(pid: int) -> None:
    children = _children(pid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    for child in children:
        _kill_tree(child)
