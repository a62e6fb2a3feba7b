"""The GKE engine: each allocation is a JobSet of TPU slices, queued by Kueue where that is asked for."""

import dataclasses
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from launch.coordination.provenance import user_name
from launch.engines import Order, Sighting, ask_for
from launch.engines.gke.cluster import GROUP, VERSION, Cluster
from launch.engines.google import (
    LAUNCH,
    STORE,
    STUDY,
    USER,
    check_variables,
    label,
    make_labels,
    read_variables,
    store_label,
)
from launch.engines.tpu_slices import Slice, find_slice
from launch.exits import PREEMPTED
from scaling.specs.base import InputError, Json, Spec
from scaling.store.store import Store

# Statuses of an agent after which it is worth another start: told to stop after saving, and what a signal, a crash or a
# lost machine leaves; 42 is how other trainers ask for one. All others, cells that failed above all, would only be
# repeated.
RESTARTED = (42, PREEMPTED, *range(127, 256))

STOP_SECONDS = 60  # that agents have to save
KEPT_SECONDS = 7 * 24 * 3600  # that a JobSet can be looked at after its end


class Settings(Spec):
    """What is asked of a cluster.

    Attributes:
      image: of a container with this project installed.
      context: the context of the kubeconfig; empty for the current one.
      namespace: where JobSets are created.
      accelerator: type of a slice, as `v5litepod-16`; or a generation, with `topology`.
      topology: arrangement of a slice's chips, as `4x4`.
      slices: the slices of an allocation; they are joined by the data centre's network.
      spot: whether on machines that are cheaper, and taken away at any moment.
      reservation: name of one's own; empty for none.
      queue: the queue of Kueue, a LocalQueue; empty where there is no Kueue.
      priority: the priority of Kueue, a WorkloadPriorityClass.
      service_account: the service account of Kubernetes, which may read and write the store's bucket.
      python: the image's interpreter.
      env: names of variables that agents get from the environment of whoever submits.
      secrets: names of Kubernetes' Secrets, whose entries agents get as variables.
      max_restarts: the most restarts of an allocation whose machines are lost, before it is given up.
      max_hours: from one restart to the next.
    """

    image: str = ""
    context: str = ""
    namespace: str = "default"
    accelerator: str = "v5litepod-1"
    topology: str = ""
    slices: int = Field(1, ge=1)
    spot: bool = False
    reservation: str = ""
    queue: str = ""
    priority: str = ""
    service_account: str = ""
    python: str = "python3"
    env: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    max_restarts: int = Field(10, ge=0)
    max_hours: float = Field(24.0, gt=0)


@dataclasses.dataclass(frozen=True)
class CreatedJobSet:
    """A JobSet that some launch has created.

    Attributes:
      name: its own.
      state: as of an allocation.
      launch, study, user: who asked, and for what.
      created: when.
      why: the cause of the state.
    """

    name: str
    state: str
    launch: str
    study: str
    user: str
    created: str
    why: str


def connect(settings: Settings, store: Store) -> "Gke":
    """Returns the engine.

    Raises:
      InputError: a setting is missing or impossible; the store cannot be seen by a cluster.
      EngineError: the client is not installed.
    """
    if not settings.image:
        raise InputError("--option image=… is missing; give a container image with this project installed")
    if not str(store.path).startswith("gs://"):
        raise InputError(
            f"--store {str(store.path)!r}: a cluster cannot see it; give a folder of a bucket, as "
            "gs://my-bucket/my-study"
        )
    wanted = find_slice(settings.accelerator, settings.topology)
    if not wanted.generation.gke:
        raise InputError(f"accelerator={settings.accelerator!r}: GKE has no {wanted.chip.name}; use v4 or newer")
    if not wanted.topology:
        raise InputError(f"accelerator={settings.accelerator!r}: GKE asks for the topology too; give topology=…")
    if settings.slices > 1 and wanted.hosts == 1:
        raise InputError(
            f"slices={settings.slices}: GKE joins slices of several hosts only, and {wanted.accelerator_type} has one; "
            "choose larger slices, or more allocations"
        )
    if settings.priority and not settings.queue:
        raise InputError(f"priority={settings.priority!r} is Kueue's; give a queue=… too")
    check_variables(settings.env)
    return Gke(settings, wanted, store, Cluster(settings.namespace, settings.context))


def find(settings: Settings) -> list[CreatedJobSet]:
    """Returns the JobSets that one's own launches have created in a namespace, whatever store they work on, by name.

    Args:
      settings: with the context and the namespace.

    Raises:
      EngineError: the cluster cannot be asked now.
    """
    selector = f"{LAUNCH},{USER}={label(user_name())}"
    found = []
    for name, one in sorted(Cluster(settings.namespace, settings.context).list(selector).items()):
        labels, seen = one["metadata"]["labels"], _sight(one)
        who = (labels[LAUNCH], labels.get(STUDY, ""), labels.get(USER, ""))
        found.append(CreatedJobSet(name, seen.state, *who, one["metadata"].get("creationTimestamp", ""), seen.why))
    return found


class Gke:
    """JobSets as allocations.

    Args:
      settings: what is asked for.
      wanted: the slice that they mean.
      store: that agents work on.
      cluster: to ask.
    """

    outlives_command = True

    def __init__(self, settings: Settings, wanted: Slice, store: Store, cluster: Cluster) -> None:
        self._settings, self._wanted, self._store, self._cluster = settings, wanted, store, cluster

    def describe(self, order: Order, count: int) -> str:
        """Returns the JobSets that `submit` would create, as a list that `kubectl create -f -` takes."""
        hidden = dict.fromkeys(self._settings.env, "(hidden)")
        items = [self._job_set(order, self._new_name(order), hidden) for _ in range(count)]
        return json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=2)

    def submit(self, order: Order, count: int) -> list[str]:
        """Creates JobSets, and returns their names.

        Raises:
          InputError: a variable to be passed on is not set here.
          EngineError: the cluster refuses.
        """
        environment = read_variables(self._settings.env)

        def ask() -> str:
            name = self._new_name(order)
            self._cluster.create(self._job_set(order, name, environment))
            return name

        return ask_for(count, ask)

    def observe(self, handles: Sequence[str]) -> Mapping[str, Sighting]:
        """Returns what has become of JobSets; those that are gone have `ended`.

        Raises:
          EngineError: the cluster cannot be asked now.
        """
        found = self._cluster.list(f"{STORE}={store_label(self._store)}")
        gone = Sighting("ended", why="its JobSet is gone")
        return {name: _sight(found[name]) if name in found else gone for name in handles}

    def cancel(self, handles: Sequence[str]) -> None:
        """Deletes JobSets with their pods.

        Raises:
          EngineError: the cluster cannot be asked now.
        """
        for name in handles:
            self._cluster.delete(name)

    # --- what is created --------------------------------------------------------------------------------------------

    def _new_name(self, order: Order) -> str:
        # Pods are called NAME-slice-0-0-xxxxx, in 63 letters at most.
        return f"scaling-{label(order.launch)[:28].strip('-_.')}-{uuid.uuid4().hex[:6]}".replace("_", "-")

    def _job_set(self, order: Order, name: str, environment: Mapping[str, str]) -> Json:
        """Returns one allocation: indexed jobs, one a slice, that live and die together."""
        settings, wanted = self._settings, self._wanted
        labels = make_labels(order.launch, self._store)
        kueue = {"kueue.x-k8s.io/queue-name": settings.queue} if settings.queue else {}
        kueue |= {"kueue.x-k8s.io/priority-class": settings.priority} if settings.priority else {}
        several = {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}
        job = {
            "parallelism": wanted.hosts,
            "completions": wanted.hosts,
            "completionMode": "Indexed",
            "backoffLimit": 0,  # a slice without one of its hosts is none: the JobSet starts all of them again
            "activeDeadlineSeconds": int(settings.max_hours * 3600),
            "podFailurePolicy": {
                "rules": [
                    {"action": "Count", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                    {
                        "action": "FailJob",
                        "onExitCodes": {"containerName": "agent", "operator": "NotIn", "values": list(RESTARTED)},
                    },
                ]
            },
            "template": {"metadata": {"labels": labels}, "spec": self._pod(order, environment)},
        }
        stops = {
            "name": "notWorthARestart",
            "action": "FailJobSet",
            "onJobFailureReasons": ["PodFailurePolicy", "DeadlineExceeded"],
        }
        return {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "JobSet",
            "metadata": {
                "name": name,
                "namespace": settings.namespace,
                "labels": labels | kueue,
                **({"annotations": several} if wanted.hosts > 1 else {}),
            },
            "spec": {
                "failurePolicy": {"maxRestarts": settings.max_restarts, "rules": [stops]},
                "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
                "ttlSecondsAfterFinished": KEPT_SECONDS,
                "replicatedJobs": [{"name": "slice", "replicas": settings.slices, "template": {"spec": job}}],
            },
        }

    def _pod(self, order: Order, environment: Mapping[str, str]) -> Json:
        settings, wanted = self._settings, self._wanted
        is_gang = wanted.hosts * settings.slices > 1
        words = [*order.words, *(["--distributed"] if is_gang and "--distributed" not in order.words else [])]
        place = {"name": "SCALING_PLACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
        chips = {"google.com/tpu": str(wanted.chips_per_host)}
        container = {
            "name": "agent",
            "image": settings.image,
            "command": [settings.python, "-P", "-m", "launch.cli", *words],
            "env": [place, *({"name": name, "value": value} for name, value in environment.items())],
            "ports": [{"containerPort": 8471}, {"containerPort": 8080}],  # of libtpu, and between slices
            "resources": {"requests": chips, "limits": chips},
        }
        if settings.secrets:
            container["envFrom"] = [{"secretRef": {"name": name}} for name in settings.secrets]
        selector = {
            "cloud.google.com/gke-tpu-accelerator": wanted.generation.gke,
            "cloud.google.com/gke-tpu-topology": wanted.topology,
        }
        tolerations = [{"key": "google.com/tpu", "operator": "Exists", "effect": "NoSchedule"}]
        if settings.spot:
            selector["cloud.google.com/gke-spot"] = "true"
            spot = {"key": "cloud.google.com/gke-spot", "operator": "Equal", "value": "true", "effect": "NoSchedule"}
            tolerations.append(spot)
        if settings.reservation:
            selector["cloud.google.com/reservation-name"] = settings.reservation
        return {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": STOP_SECONDS,
            "nodeSelector": selector,
            "tolerations": tolerations,
            **({"serviceAccountName": settings.service_account} if settings.service_account else {}),
            "containers": [container],
        }


def _sight(job_set: Mapping[str, Any]) -> Sighting:
    """Returns what has become of a JobSet, from its status."""
    status = job_set.get("status", {})
    held = {one["type"]: one for one in status.get("conditions", []) if one.get("status") == "True"}
    restarts = status.get("restarts", 0)
    why = f"started again {restarts} times" if restarts else ""
    if job_set["metadata"].get("deletionTimestamp"):
        return Sighting("running", place=_name(job_set), why="is being deleted; its pods save first")
    if "Completed" in held:
        return Sighting("ended")
    if "Failed" in held:
        failed = held["Failed"]
        words = f"{failed.get('reason', '')}: {failed.get('message', '')}".strip(": ")
        return Sighting("failed", why=f"{words}; kubectl logs -l jobset.sigs.k8s.io/jobset-name={_name(job_set)}")
    if "Suspended" in held or job_set.get("spec", {}).get("suspend"):
        return Sighting("waiting", why="suspended; Kueue starts it when there is room")
    jobs = status.get("replicatedJobsStatus", [])
    started = sum(one.get("ready", 0) + one.get("succeeded", 0) for one in jobs)
    wanted = sum(one.get("replicas", 1) for one in job_set.get("spec", {}).get("replicatedJobs", []))
    if started < wanted or not jobs:
        pending = f"{started} of {wanted} slices have all their pods"
        return Sighting("waiting", why=f"{pending}; {why}" if why else pending)
    return Sighting("running", place=_name(job_set), why=why)


def _name(job_set: Mapping[str, Any]) -> str:
    return str(job_set["metadata"]["name"])
