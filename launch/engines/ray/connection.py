"""This process's connection to a Ray cluster: Ray has one a process, and whoever asks for another closes it."""

import contextlib
import dataclasses
import logging
import os
import re
import signal
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from launch.engines import EngineError
from scaling.specs.base import InputError

NAMESPACE = "scaling"  # of actors' names, and of the key-value table
LOCAL = "local"  # Ray's word for a new cluster of this machine
KNOCK_SECONDS = 5.0
LONGEST = 1_000  # characters of what Ray says


@dataclasses.dataclass(frozen=True)
class Connection:
    """A connection to a cluster.

    Attributes:
      asked: the address that was asked for.
      address: HOST:PORT or `ray://HOST:PORT`, by which other processes find the same cluster.
      environment: what this process's actors run in, as Ray describes it.
    """

    asked: str
    address: str
    environment: Mapping[str, Any]

    @property
    def owns_cluster(self) -> bool:
        """Whether the cluster ends with this process."""
        return self.asked == LOCAL


_REMEDY = (
    "start one with `ray start --head`, or give --option address=…; one that asks for a token needs the same "
    "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN here, or ~/.ray/auth_token"
)

_connection: Connection | None = None


def current_connection() -> Connection | None:
    """Returns this process's connection."""
    return _connection


def connect_to(address: str, environment: Mapping[str, Any] | None = None) -> Connection:
    """Returns a connection to a cluster; the present one, where it is to this cluster and serves.

    Args:
      address: HOST:PORT, `ray://HOST:PORT`, `auto` or `local`.
      environment: that actors shall run in; None where none will be started.

    Raises:
      InputError: that is no address.
      EngineError: there is no cluster, or it cannot be used.
    """
    global _connection
    import ray

    here = _connection if ray.is_initialized() else None
    if here is not None and address in (here.asked, here.address) and environment in (None, here.environment):
        if here.owns_cluster or answers(here.address):
            return here
        disconnect()  # for a minute Ray would try again, and then end this process
        raise EngineError(f"the Ray cluster {here.address} does not answer any more; is its head node there?")
    disconnect()
    if address not in ("auto", LOCAL) and not answers(address):
        raise EngineError(f"no Ray cluster answers at {address}; {_REMEDY}")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray._private.worker._worker_logs_enabled = False  # what others' machines say would go to standard output
    with in_one_line(f"the Ray cluster {address} cannot be used"), _own_sigterm():
        try:
            ray.init(
                address=address,
                namespace=NAMESPACE,
                runtime_env=dict(environment) if environment else None,
                log_to_driver=False,
                **_keep_folder_here(address),
                logging_level=logging.ERROR,
                include_dashboard=False if address == LOCAL else None,
            )
        except ConnectionError as error:
            raise EngineError(f"no Ray cluster can be used at {address}: {say_in_line(error)}; {_REMEDY}") from error
    found = address if address.startswith("ray://") else ray.get_runtime_context().gcs_address
    _connection = Connection(address, found, environment or {})
    return _connection


def _keep_folder_here(address: str) -> dict[str, Any]:
    """Returns what keeps Ray from putting this process's working directory first on the path of the actors'."""
    if address.startswith("ray://"):
        return {}  # it does so for a driver alone
    from ray.job_config import JobConfig

    config = JobConfig()
    config._py_driver_sys_path = _Fixed()
    return {"job_config": config}


class _Fixed(list[str]):
    """A list that is not made longer."""

    def extend(self, _: Iterable[str], /) -> None:
        """Does nothing."""


def disconnect() -> None:
    """Closes this process's connection, and ends the cluster that it owns."""
    global _connection
    import ray

    _connection = None
    ray.shutdown()


def answers(address: str) -> bool:
    """Returns whether anybody listens at HOST:PORT or `ray://HOST:PORT`.

    Raises:
      InputError: that is no address.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not re.fullmatch(r"\d{1,5}", port):
        raise InputError(f"address={address!r}: must be HOST:PORT, ray://HOST:PORT or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), KNOCK_SECONDS).close()
    except (OSError, OverflowError):
        return False
    return True


@contextlib.contextmanager
def in_one_line(trouble: str) -> Iterator[None]:
    """Turns whatever Ray raises, in many lines, into an `EngineError` of one."""
    try:
        yield
    except (EngineError, InputError):
        raise
    except Exception as error:
        raise EngineError(f"{trouble}: {say_in_line(error)}") from error


def say_in_line(error: BaseException) -> str:
    """Returns what an error says as one line; of a traceback in it, what that ends with."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    begin = next((i for i, line in enumerate(lines) if "Traceback (most recent call last)" in line), len(lines))
    last = [line for line in lines[begin:] if re.match(r"[\w.]*(Error|ERROR|Exception)\b", line)][-1:]
    remedy = "; install this package on the cluster's machines, or give --option runtime_env=…"
    return (
        f"{' '.join(lines[:begin] + last)[:LONGEST]} ({type(error).__name__})"
        f"{remedy if 'No module named' in text else ''}"
    )


@contextlib.contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keeps this process's way to hear SIGTERM, which Ray replaces by its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
