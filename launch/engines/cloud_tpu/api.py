"""The Cloud TPU API through Google's client: few calls, tried again within bounds, and errors in one line."""

import concurrent.futures
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from launch.engines import EngineError
from launch.engines.tpu_slices import Slice
from scaling.specs.base import Json

TRIES = 5  # of a call that fails for a reason that may pass
FIRST_PAUSE_SECONDS = 1.0  # doubled each time
CALL_SECONDS = 30.0  # for one answer
OPERATION_SECONDS = 60.0  # for a request to be accepted; afterwards its state is looked at instead

INSTALL = "install it with: pip install 'scaling[cloud_tpu]'"

# What Google says of a project whose API is switched off, and of one that it does not know.
NOT_ENABLED = ("SERVICE_DISABLED", "has not been used in project", "is disabled")
NO_PROJECT = ("CONSUMER_INVALID", "USER_PROJECT_DENIED", "Project not found", "project not found", "Invalid resource")
LOST_CREDENTIALS = ("Reauthentication", "invalid_grant", "Getting metadata from plugin failed", "refresh")
PER_MINUTE = ("RATE_LIMIT_EXCEEDED", "per minute", "Quota exceeded for quota metric")

Answer = TypeVar("Answer")


class Api:
    """Queued resources of one zone.

    Args:
      project: the project of Google Cloud.
      zone: where the machines are; `-` lists those of all zones.
      endpoint: HOST:PORT of a stand-in, spoken to without TLS and credentials; empty for Google's.
      pause: waits; replaced in tests.

    Raises:
      EngineError: Google's client is not installed.
    """

    def __init__(
        self, project: str, zone: str, endpoint: str = "", pause: Callable[[float], None] = time.sleep
    ) -> None:
        try:
            from google.cloud import tpu_v2
        except ImportError as error:
            raise EngineError(f"engine cloud_tpu needs the package google-cloud-tpu ({error}); {INSTALL}") from None
        self.types: Any = tpu_v2
        self.project, self.zone = project, zone
        self.parent = f"projects/{project}/locations/{zone}"
        self._endpoint, self._pause = endpoint, pause
        self._client: Any = None

    def name(self, handle: str) -> str:
        """Returns the full name of a queued resource."""
        return f"{self.parent}/queuedResources/{handle}"

    def create(self, handle: str, resource: Any) -> None:
        """Asks for a queued resource; one of this name that is there already came from an earlier try.

        Raises:
          EngineError: it is refused, or nobody answers.
        """
        from google.api_core import exceptions

        try:
            operation = self._call(
                "create_queued_resource",
                request={"parent": self.parent, "queued_resource_id": handle, "queued_resource": resource},
            )
            operation.result(timeout=OPERATION_SECONDS)
        except exceptions.AlreadyExists:
            return
        except concurrent.futures.TimeoutError:  # whether it is accepted shows in its state
            return
        except exceptions.GoogleAPICallError as error:
            raise EngineError(self._explain(error)) from None

    def list(self) -> Json:
        """Returns all queued resources, whoever's, by the last part of their names.

        Raises:
          EngineError: they cannot be listed now.
        """
        pages = self._ask("list_queued_resources", lambda found: list(found.pages), request={"parent": self.parent})
        missing = sorted({place for page in pages for place in page.unreachable})
        if missing and self.zone != "-":
            raise EngineError(
                f"Cloud TPU cannot list the queued resources in {', '.join(missing)} now; try again later"
            )
        return {one.name.rpartition("/")[2]: one for page in pages for one in page.queued_resources}

    def node_began(self, names: Sequence[str]) -> float | None:
        """Returns when the first of some nodes was created, in seconds since 1970; None where none is there."""
        from google.api_core import exceptions

        began = []
        for name in names:
            try:
                node = self._call("get_node", request={"name": name})
            except exceptions.NotFound:
                continue
            except exceptions.GoogleAPICallError as error:
                raise EngineError(self._explain(error)) from None
            if node.create_time is not None:
                began.append(node.create_time.timestamp())
        return min(began, default=None)

    def delete(self, name: str) -> bool:
        """Lets go of a queued resource and its machines, by its full name; returns whether that is under way.

        False is said of one whose state forbids it now. One that is gone does not matter.

        Raises:
          EngineError: it is refused, or nobody answers.
        """
        from google.api_core import exceptions

        try:
            self._call("delete_queued_resource", request={"name": name, "force": True})
        except exceptions.NotFound:
            return True
        except (exceptions.FailedPrecondition, exceptions.Aborted, exceptions.Conflict):
            return False
        except exceptions.GoogleAPICallError as error:
            raise EngineError(self._explain(error)) from None
        return True

    def check_offer(self, wanted: Slice) -> None:
        """Checks that the zone has a kind of slice.

        Raises:
          EngineError: it has not; the line says which zones have.
        """
        pages = self._ask("list_accelerator_types", lambda found: list(found.pages), request={"parent": self.parent})
        offered = {one.type_ for page in pages for one in page.accelerator_types}
        prefix = wanted.generation.prefix
        kin = sorted((one for one in offered if one.startswith(prefix + "-")), key=lambda one: (len(one), one))
        if wanted.accelerator_type in offered or (kin and wanted.is_named_by_topology):
            return
        if kin:
            raise EngineError(f"zone {self.zone} has no {wanted.accelerator_type}; of its kind it has {', '.join(kin)}")
        zones = ", ".join(wanted.generation.zones)
        remedy = f"zones that had it in 2025: {zones}" if zones else "ask Google which zones have it"
        raise EngineError(f"zone {self.zone} has no {wanted.accelerator_type} for project {self.project}; {remedy}")

    # --- calls ------------------------------------------------------------------------------------------------------

    def _ask(self, method: str, read: Callable[[Any], Answer], **arguments: Any) -> Answer:
        """Returns what a function reads from an answer, with errors in one line."""
        from google.api_core import exceptions

        try:
            return self._call(method, read, **arguments)
        except exceptions.GoogleAPICallError as error:
            raise EngineError(self._explain(error)) from None

    def _call(self, method: str, read: Callable[[Any], Any] = lambda found: found, **arguments: Any) -> Any:
        """Returns an answer; tries again, later and later, where an error may pass.

        Raises:
          GoogleAPICallError: the API refuses.
          EngineError: there are no credentials, or nobody answers.
        """
        from google.api_core import exceptions
        from google.auth import exceptions as auth

        passing = (
            exceptions.ServiceUnavailable, exceptions.DeadlineExceeded, exceptions.InternalServerError,
            exceptions.TooManyRequests, exceptions.BadGateway,
        )  # fmt: skip
        for left in reversed(range(TRIES)):
            try:
                return read(getattr(self._connect(), method)(timeout=CALL_SECONDS, **arguments))
            except passing as error:
                if not left or not _may_pass(error):
                    raise
                self._pause(FIRST_PAUSE_SECONDS * 2 ** (TRIES - 1 - left))
            except auth.GoogleAuthError as error:
                raise EngineError(_no_credentials(str(error))) from None
        raise AssertionError("the last try returns or raises")

    def _connect(self) -> Any:
        if self._client is None:
            if self._endpoint:
                import grpc

                transport = self.types.services.tpu.transports.TpuGrpcTransport
                self._client = self.types.TpuClient(transport=transport(channel=grpc.insecure_channel(self._endpoint)))
            else:
                self._client = self.types.TpuClient()
        return self._client

    def _explain(self, error: Any) -> str:
        """Returns one line for an API's error: who refuses, why, and what to do."""
        from google.api_core import exceptions

        facts = " ".join(str(getattr(error, "reason", None) or "").split())
        said = " ".join(str(error.message).split())
        told = f"{facts} {said}"
        project = f"--project {self.project}"
        if isinstance(error, exceptions.Unauthenticated) or _has(said, LOST_CREDENTIALS):
            return _no_credentials(said)
        if _has(told, NOT_ENABLED):
            return (
                f"the Cloud TPU API is not enabled in project {self.project}; run: gcloud services enable "
                f"tpu.googleapis.com {project}"
            )
        if _has(told, NO_PROJECT):
            return f"project={self.project!r} is not known to Google ({said}); run: gcloud projects list"
        if isinstance(error, exceptions.PermissionDenied):
            return (
                f"Cloud TPU does not let you do this in project {self.project} ({said}); your account needs the role "
                "roles/tpu.admin there"
            )
        if isinstance(error, exceptions.TooManyRequests):
            return (
                f"the quota of project {self.project} in {self.zone} is used up ({said}); choose fewer chips, another "
                "zone, or ask for more at https://console.cloud.google.com/iam-admin/quotas"
            )
        if isinstance(error, exceptions.NotFound):
            return f"Cloud TPU finds no such thing in project {self.project}, zone {self.zone} ({said}); look at both"
        if isinstance(error, exceptions.InvalidArgument):
            return f"Cloud TPU does not take this request ({said}); look at accelerator, runtime and zone={self.zone!r}"
        if isinstance(error, exceptions.ServiceUnavailable | exceptions.DeadlineExceeded):
            return f"Cloud TPU does not answer ({said}); look at this machine's network, and try again"
        return f"Cloud TPU answers {type(error).__name__} ({said}); try again later"


def labels_of(resource: Any) -> Mapping[str, str]:
    """Returns the labels of a queued resource's nodes."""
    return next((dict(spec.node.labels) for spec in resource.tpu.node_spec), {})


def nodes_of(resource: Any) -> list[str]:
    """Returns the full names of a queued resource's nodes."""
    names = []
    for spec in resource.tpu.node_spec:
        count = spec.multislice_params.node_count
        prefix = spec.multislice_params.node_id_prefix or resource.name.rpartition("/")[2]
        ids = [f"{prefix}-{i}" for i in range(count)] if count else [spec.node_id]
        names += [f"{spec.parent}/nodes/{one}" for one in ids]
    return names


def _may_pass(error: Any) -> bool:
    """Returns whether an error is worth another try: quotas of machines do not come back within seconds."""
    from google.api_core import exceptions

    said = f"{getattr(error, 'reason', None) or ''} {error.message}"
    if _has(said, LOST_CREDENTIALS):
        return False
    return not isinstance(error, exceptions.TooManyRequests) or _has(said, PER_MINUTE)


def _has(text: str, words: Sequence[str]) -> bool:
    return any(word in text for word in words)


def _no_credentials(said: str) -> str:
    short = " ".join(said.split())[:200]
    return f"Google does not know who you are ({short}); run: gcloud auth application-default login"
