"""What runs inside a Ray cluster: a keeper, which outlives the command that asked for machines, and a host on each.

Ray ends whatever belongs to a driver when the driver leaves. The keeper is a detached actor and belongs to nobody: it
reserves machines, starts the hosts, ends a gang that has lost one, and writes how each allocation ended into the
cluster's key-value table, where it is found when the keeper has gone too.
"""

import asyncio
import contextlib
import dataclasses
import fcntl
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from launch.engines import Order, Sighting
from launch.engines.ray import leash
from launch.engines.ray.connection import NAMESPACE, say_in_line
from launch.engines.ray.settings import Settings
from launch.exits import OF_AGENTS, PREEMPTED
from scaling.store.files import is_local

SLICE_SECONDS = 10.0  # between two looks whether a TPU slice is still wanted
LAST_WORDS = 2_000  # characters


def read_report(handle: str) -> Sighting | None:
    """Returns how an allocation ended, given its keeper and number, `KEEPER/0`; None if that is not written."""
    from ray.experimental.internal_kv import _internal_kv_get

    text = _internal_kv_get(handle, namespace=NAMESPACE)
    return Sighting(**json.loads(text)) if text else None


def _write_report(handle: str, sighting: Sighting) -> None:
    from ray.experimental.internal_kv import _internal_kv_put

    _internal_kv_put(handle, json.dumps(dataclasses.asdict(sighting)), namespace=NAMESPACE)


# --- the keeper -----------------------------------------------------------------------------------------------------


class _Cancelled(Exception):  # noqa: N818  (no error)
    """The allocation is not wanted any more."""


class _Allocation:
    """What a keeper knows of one allocation."""

    def __init__(self) -> None:
        self.sighting = Sighting("waiting")
        self.cancelled = asyncio.Event()
        self.hosts: list[Any] = []

    async def unless_cancelled(self, wanted: "Awaitable[Any]") -> Any:
        """Returns what is waited for, or raises `_Cancelled`."""
        waiting = [asyncio.ensure_future(wanted), asyncio.ensure_future(self.cancelled.wait())]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if self.cancelled.is_set():
            waiting[0].cancel()
            raise _Cancelled
        waiting[1].cancel()
        return waiting[0].result()


class Keeper:
    """A detached actor that keeps the allocations of one order, and ends with the last of them.

    Args:
      name: the name of this actor.
      settings: the settings of the engine.
      order: for every host.
    """

    def __init__(self, name: str, settings: Settings, order: Order) -> None:
        self._name, self._settings, self._order = name, settings, order
        self._allocations: list[_Allocation] = []

    async def begin(self, count: int) -> None:
        """Starts so many allocations, and returns before they have machines."""
        self._allocations = [_Allocation() for _ in range(count)]
        kept = [asyncio.create_task(self._keep(i, it)) for i, it in enumerate(self._allocations)]
        self._end = asyncio.create_task(_end_after(kept))  # a task that nothing refers to may be collected

    async def look(self) -> list[Sighting]:
        """Returns what has become of the allocations, in order."""
        return [allocation.sighting for allocation in self._allocations]

    async def cancel(self, numbers: Sequence[int]) -> None:
        """Gives up allocations that wait; tells others to stop, and lets go of them when they have, or late."""
        for number in numbers:
            self._allocations[number].cancelled.set()
            for host in self._allocations[number].hosts:
                host.stop.remote()

    async def _keep(self, number: int, allocation: _Allocation) -> None:
        from ray.exceptions import RayActorError

        release = contextlib.ExitStack()
        try:
            ended = await self._run(number, allocation, release)
        except _Cancelled:
            ended = Sighting("ended", why="cancelled")
        except RayActorError as error:
            ended = Sighting("preempted", allocation.sighting.place, say_in_line(error))
        except Exception as error:  # noqa: BLE001  (whatever it is, it is told)
            ended = Sighting("failed", allocation.sighting.place, say_in_line(error))
        allocation.hosts = []
        release.close()
        allocation.sighting = ended
        _write_report(f"{self._name}/{number}", ended)

    async def _run(self, number: int, allocation: _Allocation, release: contextlib.ExitStack) -> Sighting:
        group, needs = await self._reserve(allocation, release)
        hosts = [_start_host(group, needs, index, self._settings) for index in range(len(group.bundle_specs))]
        found = await allocation.unless_cancelled(asyncio.gather(*(host.find_place.remote() for host in hosts)))
        places, hosts = sort_hosts(found, hosts)
        where = " ".join(place.name for place in places)
        processes = [self._order.words] * len(hosts)
        if len(hosts) > 1:
            port = await hosts[0].find_port.remote()
            gang = ("--distributed", f"--coordinator={places[0].address}:{port}", f"--num-processes={len(hosts)}")
            processes = [(*self._order.words, *gang, f"--process-id={i}") for i in range(len(hosts))]
        if allocation.cancelled.is_set():
            raise _Cancelled
        allocation.hosts, allocation.sighting = hosts, Sighting("running", where)
        log = f"{self._order.store}/logs/{self._name}-ray-{number}"
        ends = [
            host.run.remote(words, f"{log}.{i}.log")
            for i, (host, words) in enumerate(zip(hosts, processes, strict=True))
        ]
        return _conclude(places, await self._await_gang(hosts, ends), where, allocation.cancelled.is_set())

    async def _reserve(self, allocation: _Allocation, release: contextlib.ExitStack) -> tuple[Any, dict[str, float]]:
        """Returns a placement group, which may have to wait for its machines, and what each of them gives."""
        from ray.util.placement_group import placement_group, remove_placement_group
        from ray.util.tpu import slice_placement_group

        settings, needs = self._settings, self._settings.needs()
        if settings.topology is None:
            group = placement_group([needs] * settings.hosts, strategy="STRICT_SPREAD")
            release.callback(remove_placement_group, group)
            return group, needs
        while not allocation.cancelled.is_set():
            with contextlib.suppress(TimeoutError):
                found = await asyncio.to_thread(
                    slice_placement_group, settings.topology, str(settings.accelerator), needs,
                    strategy="STRICT_SPREAD", head_reservation_timeout_s=SLICE_SECONDS,
                )  # fmt: skip
                release.callback(found.shutdown)
                return found.placement_group, found.bundle_resources
        raise _Cancelled

    async def _await_gang(self, hosts: Sequence[Any], ends: Sequence[Any]) -> "list[_End | BaseException]":
        """Returns how each host's process ended; those that go on alone after the first has ended are ended too."""
        tasks = [asyncio.ensure_future(_result(end)) for end in ends]
        done, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        is_lost = any(task.exception() is not None for task in done)
        if left and not is_lost:
            _, left = await asyncio.wait(left, timeout=self._settings.grace_seconds)
        if left:
            for host in hosts:
                host.stop.remote(is_urgent=is_lost)
        return await asyncio.gather(*tasks, return_exceptions=True)


async def _result(reference: Any) -> Any:
    return await reference


async def _end_after(kept: Sequence["asyncio.Task[None]"]) -> None:
    import ray

    await asyncio.gather(*kept, return_exceptions=True)
    ray.kill(ray.get_runtime_context().current_actor)


def _conclude(places: Sequence["Place"], ends: Sequence[Any], where: str, is_cancelled: bool) -> Sighting:
    """Returns what has become of an allocation whose processes have all ended."""
    from ray.exceptions import RayActorError

    if is_cancelled:
        return Sighting("ended", where, "cancelled")
    for place, end in zip(places, ends, strict=True):
        if isinstance(end, RayActorError):
            return Sighting("preempted", where, f"{place.name} was lost: {say_in_line(end)}")
        if isinstance(end, BaseException):
            return Sighting("failed", where, f"on {place.name}: {say_in_line(end)}")
    statuses = [end.status for end in ends]
    if PREEMPTED in statuses:
        return Sighting("preempted", where, "its agent was told to stop, and has saved")
    for place, end in zip(places, ends, strict=True):
        if end.status not in OF_AGENTS:
            return Sighting("failed", where, f"exit status {end.status} on {place.name}: {end.last_words}")
    return Sighting("ended", where)


# --- a host ---------------------------------------------------------------------------------------------------------


class Place(NamedTuple):
    """Where a host is.

    Attributes:
      rank: the rank of its process in a TPU slice; 0 elsewhere.
      address: that other hosts reach.
      name: address, and the beginning of Ray's name of the node.
    """

    rank: int
    address: str
    name: str


class _End(NamedTuple):
    status: int
    last_words: str


def sort_hosts(places: Sequence[Place], hosts: Sequence[Any]) -> tuple[list[Place], list[Any]]:
    """Returns hosts, and their places, in the order in which a TPU slice counts its own: JAX's processes must agree."""
    order = sorted(range(len(hosts)), key=lambda index: places[index].rank)
    return [places[index] for index in order], [hosts[index] for index in order]


class AgentActor:
    """An actor that runs the agent on a machine; the agent ends when the actor does.

    Args:
      settings: the settings of the engine.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._leash: Any = None
        self._locks: list[IO[str]] = []

    async def find_place(self) -> Place:
        """Returns where this is."""
        import ray

        context, address = ray.get_runtime_context(), ray.util.get_node_ip_address()
        labels: Any = context.get_node_labels() if self._settings.topology else {}
        return Place(int(labels.get("ray.io/tpu-worker-id", 0)), address, f"{address}/{context.get_node_id()[:8]}")

    async def find_port(self) -> int:
        """Returns a port that is free now."""
        with socket.socket() as found:
            found.bind(("", 0))
            port: int = found.getsockname()[1]
            return port

    async def run(self, words: Sequence[str], log: str) -> _End:
        """Runs the agent and returns how it ended; `log` is where what it says goes, besides Ray's own logs."""
        place = await self.find_place()
        environment = {**os.environ, "SCALING_PLACE": f"ray {place.name}", "PYTHONPATH": _python_path()}
        if not self._settings.has_accelerators:
            environment["JAX_PLATFORMS"] = "cpu"  # those that others have asked for are here perhaps, and seen
            self._keep_to_cores()
        command = [sys.executable, "-P", "-m", "launch.cli", *words]
        self._leash = subprocess.Popen(
            [sys.executable, "-P", leash.__file__, str(self._settings.grace_seconds), *command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
        )  # fmt: skip
        self._leash.wait()  # it has left the command to a grandchild at once
        heard = _Hearing(self._leash.stderr, log)
        status: bytes = await asyncio.to_thread(self._leash.stdout.read)
        return _End(int(status or b"-9"), await asyncio.to_thread(heard.last_words))

    async def stop(self, *, is_urgent: bool = False) -> None:
        """Tells the agent to save and to end, or, where that is urgent, just ends it."""
        if self._leash is not None:
            with contextlib.suppress(OSError, ValueError):  # it has ended by itself
                if is_urgent:
                    self._leash.stdin.write(leash.KILL)
                self._leash.stdin.close()

    def _keep_to_cores(self) -> None:
        """Chooses cores that no other host on this machine has chosen: Ray counts cores, and names none.

        Where it counts more than there are, they are shared.
        """
        if not hasattr(os, "sched_setaffinity"):
            return
        wanted, cores = max(int(self._settings.num_cpus), 1), sorted(os.sched_getaffinity(0))
        mine: list[int] = []
        for core in cores:
            if len(mine) == wanted:
                break
            with contextlib.suppress(OSError):
                self._locks.append(_lock(core))
                mine.append(core)
        os.sched_setaffinity(0, mine if len(mine) == wanted else cores[-wanted:])


class _Hearing:
    """Passes on what a process says, to Ray's logs and to the store's if that is a folder, and remembers its end."""

    def __init__(self, said: IO[bytes], log: str) -> None:
        self._said, self._last = said, b""
        self._log: IO[bytes] | None = None
        if is_local(log):
            with contextlib.suppress(OSError):  # the agent will say so
                Path(log).parent.mkdir(exist_ok=True)
                self._log = Path(log).open("ab", buffering=0)  # noqa: SIM115  (closed when nothing more is said)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while some := os.read(self._said.fileno(), 65536):
            sys.stderr.write(some.decode(errors="replace"))
            self._last = (self._last + some)[-LAST_WORDS:]
            if self._log is not None:
                with contextlib.suppress(OSError):  # full, perhaps; the agent must not wait for somebody to listen
                    self._log.write(some)
        if self._log is not None:
            self._log.close()

    def last_words(self) -> str:
        """Returns the last line that says something."""
        self._thread.join(2.0)  # a forgotten child may keep the pipe open
        lines = [line.strip() for line in self._last.decode(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else "without a word"


def _start_host(group: Any, needs: Mapping[str, float], index: int, settings: Settings) -> Any:
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    others = {name: amount for name, amount in needs.items() if name not in ("CPU", "GPU", "memory")}
    options = {
        "num_cpus": needs.get("CPU", 0),
        "num_gpus": needs.get("GPU", 0),
        "resources": others,
        "scheduling_strategy": PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index),
    }
    if "memory" in needs:
        options["memory"] = needs["memory"]
    return ray.remote(AgentActor).options(**options).remote(settings)


def _lock(core: int) -> IO[str]:
    """Returns a file that only this process has while it lives.

    Raises:
      OSError: another has it.
    """
    folder = Path(tempfile.gettempdir()) / f"scaling-cores-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    file = (folder / str(core)).open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    return file


def _python_path() -> str:
    """Returns where a child finds this package, wherever Ray has put it."""
    here = str(Path(__file__).parents[3])
    return os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
