"""A stand-in for Cloud TPU, on this machine: the API for Google's own client, and hosts that really run.

    with TpuServer() as server:
        engine = connect(Settings(project="p", zone="us-west4-a", endpoint=server.endpoint), store)
        (handle,) = engine.submit(order, 1)
        server.provision(handle)          # its hosts start their startup script, as local processes
        server.preempt(handle)            # they hear of it, are killed, and the request is suspended

Requests go through the states of the real API, by hand or, with `automatic`, as soon as they are made. Calls are
refused and delayed when the test says so. A host has a metadata server and a folder of its own; what it runs sees no
Google.
"""

import collections
import contextlib
import dataclasses
import datetime as dt
import http.server
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from concurrent import futures
from pathlib import Path
from typing import Any, Self

import grpc
from google.cloud import tpu_v2
from google.longrunning import operations_pb2
from google.protobuf import any_pb2, empty_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

State = tpu_v2.QueuedResourceState.State
ZONES = {
    "us-west4-a": ("v5litepod-1", "v5litepod-4", "v5litepod-8", "v5litepod-16"),
    "us-central2-b": ("v4-8", "v4-16", "v4-32"),
}


@dataclasses.dataclass
class Refusal:
    """What a call is answered with, for so many times.

    Attributes:
      code: of gRPC.
      message: for people.
      reason: for programs.
      times: that it is given.
    """

    code: grpc.StatusCode
    message: str
    reason: str = ""
    times: int = 1_000_000


class TpuServer:
    """The API of one project, and its machines.

    Args:
      automatic: whether requests get their machines at once.
      hosts_run: whether machines run what they are told to.
      environment: of what hosts run, over this process's.

    Attributes:
      requests: queued resources by the last part of their names.
      nodes: by full name.
      calls: method and request of every call, in order.
      refusals, delays: by method; seconds.
      created: how many requests were ever made.
    """

    def __init__(
        self, *, automatic: bool = False, hosts_run: bool = False, environment: dict[str, str] | None = None
    ) -> None:
        self.automatic, self.hosts_run, self.environment = automatic, hosts_run, environment or {}
        self.requests: dict[str, Any] = {}
        self.nodes: dict[str, Any] = {}
        self.hosts: dict[str, list[Host]] = collections.defaultdict(list)
        self.calls: list[tuple[str, Any]] = []
        self.refusals: dict[str, Refusal] = {}
        self.delays: dict[str, float] = {}
        self.created = 0
        self.grace_seconds = 30.0  # between the notice and the end of a preempted machine
        self.lock = threading.RLock()
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        self._server.add_generic_rpc_handlers((_Handler(self),))
        self._port = self._server.add_insecure_port("127.0.0.1:0")
        self._folder = Path(tempfile.mkdtemp(prefix="tpu-server-"))

    @property
    def endpoint(self) -> str:
        """Where the API is."""
        return f"127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        for handle in list(self.hosts):
            self._stop_hosts(handle)
        self._server.stop(0).wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    # --- what happens to requests -----------------------------------------------------------------------------------

    def state(self, handle: str) -> str:
        """Returns the state of a request; empty where there is none."""
        with self.lock:
            return self.requests[handle].state.state.name if handle in self.requests else ""

    def provision(self, handle: str) -> None:
        """Gives a request its machines, which start."""
        with self.lock:
            one = self.requests[handle]
            one.state = tpu_v2.QueuedResourceState(state=State.ACTIVE)
            for spec in one.tpu.node_spec:
                count = spec.multislice_params.node_count
                ids = [f"{handle}-{i}" for i in range(count)] if count else [spec.node_id]
                for number, node_id in enumerate(ids):
                    node = tpu_v2.Node(spec.node)
                    node.name, node.state = f"{spec.parent}/nodes/{node_id}", tpu_v2.Node.State.READY
                    node.create_time = dt.datetime.now(dt.UTC)
                    self.nodes[node.name] = node
                    if self.hosts_run:
                        hosts = _num_hosts(node.accelerator_type)
                        for worker in range(hosts):
                            folder = self._folder / f"{node_id}-w-{worker}"
                            self.hosts[handle].append(Host(self, handle, node, folder, worker, hosts, number, len(ids)))

    def notify(self, handle: str) -> None:
        """Tells a request's machines that they are about to be taken away."""
        for host in self.hosts[handle]:
            host.values["instance/preempted"] = "TRUE"

    def preempt(self, handle: str, *, notice: bool = True) -> None:
        """Takes a request's machines away: their notice, their end, and the request is suspended."""
        if notice:
            self._set(handle, State.SUSPENDING)
            self.notify(handle)
            self._wait_for_hosts(handle)
        self._stop_hosts(handle)
        self._set(handle, State.SUSPENDED)
        self.requests[handle].state.state_initiator = tpu_v2.QueuedResourceState.StateInitiator.SERVICE

    def kill(self, handle: str, worker: int = 0) -> None:
        """Ends one of a request's machines without a word; the API does not notice."""
        self.hosts[handle][worker].stop()

    def fail(self, handle: str, message: str) -> None:
        """Ends a waiting request."""
        error = status_pb2.Status(code=8, message=message)
        data = tpu_v2.QueuedResourceState.FailedData(error=error)
        self.requests[handle].state = tpu_v2.QueuedResourceState(state=State.FAILED, failed_data=data)

    def refuse(self, method: str, code: str, message: str = "no", reason: str = "", times: int = 1_000_000) -> None:
        """Has calls of a method refused, with one of gRPC's status codes."""
        self.refusals[method] = Refusal(grpc.StatusCode[code], message, reason, times)

    def forget(self, handle: str) -> None:
        """Deletes a request and its machines, which are shut down: what runs there hears of it."""
        for host in self.hosts[handle]:
            if host.is_running():
                host.process.terminate()
        self._wait_for_hosts(handle)
        self._stop_hosts(handle)
        with self.lock:
            one = self.requests.pop(handle, None)
            for name in [] if one is None else [name for name in self.nodes if handle in name]:
                del self.nodes[name]

    def _set(self, handle: str, state: Any) -> None:
        self.requests[handle].state.state = state

    def _wait_for_hosts(self, handle: str) -> None:
        deadline = time.monotonic() + self.grace_seconds
        while time.monotonic() < deadline and any(host.is_running() for host in self.hosts[handle]):
            time.sleep(0.05)

    def _stop_hosts(self, handle: str) -> None:
        for host in self.hosts[handle]:
            host.stop()

    # --- calls ------------------------------------------------------------------------------------------------------

    def create_queued_resource(self, request: Any, context: Any) -> Any:
        """Makes a request."""
        one, handle = request.queued_resource, request.queued_resource_id
        one.name = f"{request.parent}/queuedResources/{handle}"
        if handle in self.requests:
            context.abort(grpc.StatusCode.ALREADY_EXISTS, f"Resource '{one.name}' already exists")
        one.state = tpu_v2.QueuedResourceState(state=State.WAITING_FOR_RESOURCES)
        one.create_time = dt.datetime.now(dt.UTC)
        self.requests[handle] = one
        self.created += 1
        if self.automatic:
            self.provision(handle)
        return self._operation(one.name, tpu_v2.QueuedResource.pb(one))

    def list_queued_resources(self, request: Any, _: Any) -> Any:
        """Lists requests, of all zones where the zone is `-`."""
        prefix = request.parent.removesuffix("-")
        found = [one for one in self.requests.values() if one.name.startswith(prefix)]
        return tpu_v2.ListQueuedResourcesResponse(queued_resources=found)

    def delete_queued_resource(self, request: Any, context: Any) -> Any:
        """Deletes a request, and its machines where `force` is said."""
        handle = request.name.rpartition("/")[2]
        if handle not in self.requests:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Resource '{request.name}' was not found")
        state = self.state(handle)
        if state == "SUSPENDING" or (state == "ACTIVE" and not request.force):
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"{request.name} is {state}")
        threading.Thread(target=self.forget, args=(handle,)).start()
        self._set(handle, State.DELETING)
        return self._operation(request.name, empty_pb2.Empty())

    def get_node(self, request: Any, context: Any) -> Any:
        """Describes a machine."""
        if request.name not in self.nodes:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Resource '{request.name}' was not found")
        return self.nodes[request.name]

    def list_accelerator_types(self, request: Any, context: Any) -> Any:
        """Lists what a zone has."""
        zone = request.parent.rpartition("/")[2]
        if zone not in ZONES:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Location {zone} is not found")
        found = [tpu_v2.AcceleratorType(name=f"{request.parent}/acceleratorTypes/{t}", type_=t) for t in ZONES[zone]]
        return tpu_v2.ListAcceleratorTypesResponse(accelerator_types=found)

    def _operation(self, name: str, answer: Any) -> operations_pb2.Operation:
        packed = any_pb2.Any()
        packed.Pack(answer)
        return operations_pb2.Operation(name=f"{name}/operations/1", done=True, response=packed)

    def answer(self, method: str, request: Any, context: Any) -> Any:
        """Answers a call, unless it is to be refused."""
        time.sleep(self.delays.get(method, 0.0))
        with self.lock:
            self.calls.append((method, request))
            refusal = self.refusals.get(method)
            if refusal is not None and refusal.times > 0:
                refusal.times -= 1
                status = status_pb2.Status(code=refusal.code.value[0], message=refusal.message)
                if refusal.reason:
                    info = error_details_pb2.ErrorInfo(reason=refusal.reason, domain="googleapis.com")
                    status.details.add().Pack(info)
                context.abort_with_status(rpc_status.to_status(status))
            return getattr(self, method)(request, context)


class _Handler(grpc.GenericRpcHandler):
    """Finds the method of the server that answers a call."""

    def __init__(self, server: TpuServer) -> None:
        self._server = server

    def service(self, details: Any) -> Any:
        """Returns how a call is read, answered and written."""
        name = details.method.rpartition("/")[2]
        method = "".join("_" + letter.lower() if letter.isupper() else letter for letter in name).lstrip("_")
        if not hasattr(self._server, method):
            return None
        kind = getattr(tpu_v2, name + "Request")

        def write(message: Any) -> bytes:
            return (
                message.SerializeToString()
                if hasattr(message, "SerializeToString")
                else type(message).serialize(message)
            )

        def call(request: Any, context: Any) -> Any:
            return self._server.answer(method, request, context)

        return grpc.unary_unary_rpc_method_handler(call, kind.deserialize, write)


class Host:
    """A machine: a process that runs the startup script, and the metadata server that it asks.

    Attributes:
      values: of its metadata, by path.
    """

    def __init__(
        self, server: TpuServer, handle: str, node: Any, folder: Path, worker: int, hosts: int, number: int, slices: int
    ) -> None:
        folder.mkdir(parents=True)
        self.values = {
            "instance/preempted": "FALSE",
            "instance/maintenance-event": "NONE",
            "instance/service-accounts/default/token": json.dumps({"access_token": "of-" + handle}),
            "instance/attributes/agent-worker-number": str(worker),
            "instance/attributes/tpu-env": f"ACCELERATOR_TYPE: '{node.accelerator_type}'\n",
            **{f"instance/attributes/{name}": value for name, value in node.metadata.items()},
        }
        self._metadata = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _metadata_handler(self, server, handle))
        self._metadata.daemon_threads = True
        self._thread = threading.Thread(
            target=self._metadata.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self._thread.start()
        address = f"127.0.0.1:{self._metadata.server_address[1]}"
        self.folder = folder
        script = folder / "startup-script"
        script.write_text(node.metadata["startup-script"])
        script.chmod(0o755)
        programs = folder / "bin"  # in place of those that would end this machine
        programs.mkdir()
        (programs / "poweroff").write_text(f"#!/bin/sh\ntouch {folder / 'powered-off'}\n")
        (programs / "poweroff").chmod(0o755)
        gang = {
            "TPU_WORKER_HOSTNAMES": ",".join(["127.0.0.1"] * hosts), "TPU_WORKER_ID": str(worker),
            "JAX_FORCE_TPU_INIT": "1", "TPU_SKIP_MDS_QUERY": "1",
        }  # fmt: skip
        multislice = {
            "MEGASCALE_COORDINATOR_ADDRESS": "127.0.0.1", "MEGASCALE_NUM_SLICES": str(slices),
            "MEGASCALE_SLICE_ID": str(number),
        }  # fmt: skip
        environment = {
            **os.environ,
            **(gang if hosts * slices > 1 else {}),
            **(multislice if slices > 1 else {}),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "GCE_METADATA_HOST": address,
            "GCE_METADATA_IP": address,  # JAX's name for it
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_TPU": f"http://{address}/",
            "SCALING_HOST_ROOT": str(folder / "root"),
            "SCALING_HOST_NAME": folder.name,
            "SCALING_REPORT_SECONDS": "1",
            **server.environment,
        }
        self._out = (folder / "out").open("wb")
        self.process = subprocess.Popen(
            [str(script), "--here"], env=environment, stdout=self._out, stderr=self._out, start_new_session=True
        )

    def is_running(self) -> bool:
        """Returns whether the startup script has not ended."""
        return self.process.poll() is None

    @property
    def was_powered_off(self) -> bool:
        """Whether it has ended itself."""
        return (self.folder / "powered-off").exists()

    def output(self) -> str:
        """Returns what the startup script and the agent have printed."""
        log = self.folder / "root" / "agent.log"
        return (self.folder / "out").read_text() + (log.read_text() if log.exists() else "")

    def stop(self) -> None:
        """Cuts its power."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self._thread.is_alive():
            self._metadata.shutdown()
            self._metadata.server_close()
            self._thread.join()
            self._out.close()


def _metadata_handler(host: Host, server: TpuServer, handle: str) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Says nothing."""

        def _answer(self, status: int, text: str = "") -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def do_GET(self) -> None:
            """Answers what the machine asks of itself."""
            value = host.values.get(self.path.removeprefix("/computeMetadata/v1/"))
            self._answer(404 if value is None else 200, value or "")

        def do_DELETE(self) -> None:
            """Lets the machine delete its own request, as the API does for a service account that may."""
            refusal = server.refusals.get("delete_by_host")
            if refusal is not None or self.headers["Authorization"] != f"Bearer of-{handle}":
                self._answer(403, "no")
                return
            assert self.path.endswith(f"/queuedResources/{handle}?force=true")
            self._answer(200, "{}")
            server.calls.append(("delete_by_host", handle))
            threading.Thread(target=server.forget, args=(handle,)).start()

    return Handler


def _num_hosts(accelerator_type: str) -> int:
    prefix, _, number = accelerator_type.rpartition("-")
    chips = int(number) if prefix in ("v5litepod", "v6e") else int(number) // 2
    return 1 if chips <= (8 if prefix in ("v5litepod", "v6e") else 4) else chips // 4
