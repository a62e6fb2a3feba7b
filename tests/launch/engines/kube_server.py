"""A stand-in for a Kubernetes cluster with JobSet, on this machine: its API for the real client, and pods that run.

    with KubeServer(pods_run=True) as cluster:
        os.environ |= cluster.environment
        ...
        cluster.kill_pod(name)            # the JobSet starts all of its pods again

JobSets are checked as strictly as by a cluster with `--validate=strict`: a field that is unknown, or of another type,
is refused. With `pods_run` each pod is a local process with the container's command, and JobSets end, fail and restart
by their failure policies.
"""

import dataclasses
import http.server
import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import urllib.parse
from pathlib import Path
from typing import Any, Self
from unittest import mock

JOB_SETS = re.compile(r"/apis/jobset\.x-k8s\.io/v1alpha2/namespaces/([^/]+)/jobsets(?:/([^/]+))?")

TEXT, COUNT, FLAG = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
TEXTS = {"type": "object", "additionalProperties": TEXT}


def _object(required: str = "", **fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": required.split(), "additionalProperties": False}


def _list(items: Any, **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, **more}


# The fields that this project may use, with their types, bounds and names as in the definition of JobSet v1alpha2 (the
# project kubernetes-sigs/jobset, config/components/crd/bases) and of Job and Pod in Kubernetes 1.32.
_POD = _object(
    "containers",
    restartPolicy={"enum": ["Never", "OnFailure"]},
    terminationGracePeriodSeconds=COUNT,
    nodeSelector=TEXTS,
    serviceAccountName=TEXT,
    tolerations=_list(_object(key=TEXT, operator={"enum": ["Exists", "Equal"]}, value=TEXT, effect=TEXT)),
    containers=_list(
        _object(
            "name image",
            name=TEXT,
            image=TEXT,
            command=_list(TEXT),
            env=_list(
                _object(
                    "name", name=TEXT, value=TEXT,
                    valueFrom=_object(fieldRef=_object("fieldPath", fieldPath=TEXT, apiVersion=TEXT)),
                )
            ),
            envFrom=_list(_object(secretRef=_object("name", name=TEXT, optional=FLAG))),
            ports=_list(_object("containerPort", containerPort={"type": "integer", "minimum": 1, "maximum": 65535})),
            resources=_object(requests=TEXTS, limits=TEXTS),
        ),
        minItems=1,
    ),
)  # fmt: skip
_CODES = _list({"type": "integer", "minimum": 0, "maximum": 255}, maxItems=255, uniqueItems=True)
_JOB = _object(
    "template",
    parallelism=COUNT,
    completions=COUNT,
    completionMode={"enum": ["Indexed", "NonIndexed"]},
    backoffLimit=COUNT,
    activeDeadlineSeconds={"type": "integer", "minimum": 1},
    podFailurePolicy=_object(
        "rules",
        rules=_list(
            _object(
                "action",
                action={"enum": ["FailJob", "FailIndex", "Ignore", "Count"]},
                onExitCodes=_object(
                    "operator values", containerName=TEXT, operator={"enum": ["In", "NotIn"]}, values=_CODES
                ),
                onPodConditions=_list(_object("type status", type=TEXT, status=TEXT), maxItems=20),
            ),
            maxItems=20,
        ),
    ),
    template=_object(metadata=_object(labels=TEXTS, annotations=TEXTS), spec=_POD),
)
SCHEMA = _object(
    "apiVersion kind metadata spec",
    apiVersion={"const": "jobset.x-k8s.io/v1alpha2"},
    kind={"const": "JobSet"},
    metadata=_object(
        "name",
        name={"type": "string", "pattern": "^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$"},
        namespace=TEXT,
        labels={
            "type": "object",
            "additionalProperties": {"type": "string", "pattern": "^(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?$"},
        },
        annotations=TEXTS,
    ),
    spec=_object(
        "replicatedJobs",
        failurePolicy=_object(
            maxRestarts=COUNT,
            restartStrategy={"enum": ["Recreate", "BlockingRecreate"]},
            rules=_list(
                _object(
                    "action name",
                    name={"type": "string", "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"},
                    action={"enum": ["FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"]},
                    onJobFailureReasons=_list(
                        {
                            "enum": [
                                "BackoffLimitExceeded", "DeadlineExceeded", "FailedIndexes",
                                "MaxFailedIndexesExceeded", "PodFailurePolicy",
                            ]
                        }
                    ),
                    targetReplicatedJobs=_list(TEXT),
                )
            ),
        ),
        network=_object(enableDNSHostnames=FLAG, publishNotReadyAddresses=FLAG, subdomain=TEXT),
        suspend=FLAG,
        ttlSecondsAfterFinished={"type": "integer", "minimum": 0},
        replicatedJobs=_list(
            _object(
                "name template", name=TEXT, replicas=COUNT,
                template=_object(metadata=_object(labels=TEXTS, annotations=TEXTS), spec=_JOB),
            )
        ),
    ),
)  # fmt: skip


def find_faults(job_set: Any) -> list[str]:
    """Returns what a strict cluster would say against a JobSet."""
    import jsonschema

    checked = jsonschema.Draft202012Validator(SCHEMA)
    return [f"{error.json_path}: {error.message}" for error in checked.iter_errors(job_set)]


@dataclasses.dataclass
class _Running:
    """The pods of one try of a JobSet."""

    pods: list[subprocess.Popen[bytes]]
    out: Path


class KubeServer:
    """The API of one cluster, and its pods.

    Args:
      pods_run: whether JobSets get pods at once, which are local processes.
      environment_of_pods: over this process's.

    Attributes:
      job_sets: by name.
      requests: method, path and body of every call, in order.
    """

    def __init__(self, *, pods_run: bool = False, environment_of_pods: dict[str, str] | None = None) -> None:
        self.pods_run, self._environment_of_pods = pods_run, environment_of_pods or {}
        self.job_sets: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str, Any]] = []
        self.lock = threading.RLock()
        self._refusal: tuple[int, str, int] = (0, "", 0)
        self._running: dict[str, _Running] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="kube-server-")
        self._ended = threading.Event()
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self._threads = [
            threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True),
            threading.Thread(target=self._reconcile_on, daemon=True),
        ]
        path = Path(self._folder.name) / "kubeconfig"
        path.write_text(json.dumps(self._kubeconfig()))  # JSON is YAML
        self.environment = {"KUBECONFIG": str(path)}

    def __enter__(self) -> Self:
        self._mock = mock.patch.dict(os.environ, self.environment)
        self._mock.start()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._http.shutdown()
        self._http.server_close()
        for thread in self._threads:
            thread.join()
        for name in list(self._running):
            self._stop_pods(name)
        self._mock.stop()
        self._folder.cleanup()

    # --- what happens to JobSets ------------------------------------------------------------------------------------

    def refuse(self, status: int, message: str, times: int = 1_000_000) -> None:
        """Has so many calls refused."""
        self._refusal = (status, message, times)

    def set_status(self, name: str, **status: Any) -> None:
        """Sets what a JobSet's controller says of it."""
        with self.lock:
            self.job_sets[name]["status"] = status

    def kill_pod(self, name: str, index: int = 0) -> None:
        """Ends one of a JobSet's pods, as the loss of its machine does."""
        _kill(self._running[name].pods[index])

    def output(self, name: str) -> str:
        """Returns what a JobSet's pods have printed since the last restart."""
        return self._running[name].out.read_text() if name in self._running else ""

    def _kubeconfig(self) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self._http.server_address[1]}"
        return {
            "apiVersion": "v1", "kind": "Config", "current-context": "here", "users": [{"name": "me", "user": {}}],
            "clusters": [{"name": "here", "cluster": {"server": url}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        }  # fmt: skip

    # --- pods -------------------------------------------------------------------------------------------------------

    def _start_pods(self, name: str) -> None:
        pods = []
        restarts = self.job_sets[name]["status"].get("restarts", 0)
        out = Path(self._folder.name) / f"{name}-{restarts}"
        for one in self.job_sets[name]["spec"]["replicatedJobs"]:
            job = one["template"]["spec"]
            (container,) = job["template"]["spec"]["containers"]
            given = {each["name"]: each.get("value", f"{name}-slice-0-0") for each in container["env"]}
            for number in range(one["replicas"] * job["parallelism"]):
                index = {"JOB_COMPLETION_INDEX": str(number % job["parallelism"])}
                with out.open("ab") as file:
                    pod = subprocess.Popen(
                        container["command"], env=os.environ | given | index | self._environment_of_pods,
                        stdout=file, stderr=file, start_new_session=True,
                    )  # fmt: skip
                pods.append(pod)
        self._running[name] = _Running(pods, out)

    def _stop_pods(self, name: str) -> None:
        for pod in self._running.pop(name, _Running([], Path())).pods:
            _kill(pod)

    def _delete(self, name: str) -> None:
        """Tells a JobSet's pods to end, and forgets it when they have."""
        self.job_sets[name]["metadata"]["deletionTimestamp"] = "2025-01-01T00:00:00Z"
        if name not in self._running:
            del self.job_sets[name]
            return
        for pod in self._running[name].pods:
            if pod.poll() is None:
                pod.terminate()

    def _reconcile_on(self) -> None:
        while not self._ended.wait(0.05):
            with self.lock:
                for name in list(self._running):
                    self._reconcile(name)

    def _reconcile(self, name: str) -> None:
        """Does what the controllers of Job and JobSet do when pods end."""
        job_set, running = self.job_sets[name], self._running[name]
        status = job_set["status"]
        codes = [pod.poll() for pod in running.pods]
        if job_set["metadata"].get("deletionTimestamp"):
            if None not in codes:
                self._stop_pods(name)
                del self.job_sets[name]
            return
        bad = [code for code in codes if code]
        if not bad:
            if all(code == 0 for code in codes) and "conditions" not in status:
                status["conditions"] = [{"type": "Completed", "status": "True", "reason": "AllJobsCompleted"}]
            return
        if any(one["type"] in ("Completed", "Failed") for one in status.get("conditions", [])):
            return
        policy = job_set["spec"]["replicatedJobs"][0]["template"]["spec"]["podFailurePolicy"]
        seen = 128 - bad[0] if bad[0] < 0 else bad[0]
        reason = "BackoffLimitExceeded"
        for rule in policy["rules"]:
            codes_of = rule.get("onExitCodes")
            if codes_of and (seen in codes_of["values"]) == (codes_of["operator"] == "In"):
                reason = "PodFailurePolicy" if rule["action"] == "FailJob" else reason
                break
        failure = job_set["spec"]["failurePolicy"]
        action = next(
            (rule["action"] for rule in failure["rules"] if reason in rule["onJobFailureReasons"]), "RestartJobSet"
        )
        restarts = status.get("restarts", 0)
        self._stop_pods(name)
        if action == "FailJobSet" or restarts >= failure["maxRestarts"]:
            words = f"job {name}-slice-0 failed, status {seen}"
            kind = "FailJobSetFailurePolicyAction" if action == "FailJobSet" else "ReachedMaxRestarts"
            status["conditions"] = [{"type": "Failed", "status": "True", "reason": kind, "message": words}]
            return
        job_set["status"] = status | {"restarts": restarts + 1}
        self._start_pods(name)

    # --- calls ------------------------------------------------------------------------------------------------------

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        """Answers a call, unless it is to be refused."""
        with self.lock:
            self.requests.append((method, path, body))
            status, message, times = self._refusal
            if times > 0:
                self._refusal = (status, message, times - 1)
                return status, _refused(status, message)
            found = JOB_SETS.fullmatch(path)
            if found is None:
                return 404, _refused(404, "the server could not find the requested resource")
            if method == "POST":
                return self._create(body)
            if method == "DELETE":
                if found[2] not in self.job_sets:
                    return 404, _refused(404, f'jobsets.jobset.x-k8s.io "{found[2]}" not found')
                self._delete(found[2])
                return 200, {"kind": "Status", "status": "Success"}
            wanted = [pair.partition("=") for pair in query.get("labelSelector", "").split(",") if pair]
            items = [one for one in self.job_sets.values() if _has_labels(one, wanted)]
            return 200, {"kind": "JobSetList", "items": items, "metadata": {}}

    def _create(self, body: Any) -> tuple[int, Any]:
        if faults := find_faults(body):
            return 422, _refused(422, f"JobSet is invalid: {faults[0]}")
        name = body["metadata"]["name"]
        if name in self.job_sets:
            return 409, _refused(409, f'jobsets.jobset.x-k8s.io "{name}" already exists')
        self.job_sets[name] = {**body, "status": {}}
        if self.pods_run:
            jobs = [{"name": one["name"], "ready": one["replicas"]} for one in body["spec"]["replicatedJobs"]]
            self.job_sets[name]["status"] = {"replicatedJobsStatus": jobs}
            self._start_pods(name)
        return 201, self.job_sets[name]


def _has_labels(job_set: dict[str, Any], wanted: list[tuple[str, str, str]]) -> bool:
    labels = job_set["metadata"]["labels"]
    return all(key in labels and (not equals or labels[key] == value) for key, equals, value in wanted)


def _kill(pod: subprocess.Popen[bytes]) -> None:
    if pod.poll() is None:
        os.killpg(pod.pid, signal.SIGKILL)
        pod.wait()


def _refused(status: int, message: str) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": status}


def _handler(server: KubeServer) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Says nothing."""

        def _handle(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            url = urllib.parse.urlsplit(self.path)
            query = dict(urllib.parse.parse_qsl(url.query))
            status, answer = server.answer(self.command, url.path, query, json.loads(data) if data else None)
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_DELETE = _handle  # noqa: N815

    return Handler
