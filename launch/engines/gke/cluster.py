"""JobSets of one namespace of a Kubernetes cluster, through its client, with bounded retries and errors in one line."""

import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from launch.engines import EngineError
from scaling.specs.base import Json

GROUP, VERSION, PLURAL = "jobset.x-k8s.io", "v1alpha2", "jobsets"

TRIES = 5  # of a call that fails for a reason that may pass
FIRST_PAUSE_SECONDS = 1.0  # doubled each time
CALL_SECONDS = 30.0

INSTALL = "install it with: pip install 'scaling[gke]'"


class Cluster:
    """What this project asks of a cluster.

    Args:
      namespace: the namespace of the JobSets.
      context: the context of the kubeconfig; empty for the current one.
      pause: waits; replaced in tests.

    Raises:
      EngineError: the client is not installed.
    """

    def __init__(self, namespace: str, context: str = "", pause: Callable[[float], None] = time.sleep) -> None:
        try:
            import kubernetes
        except ImportError as error:
            raise EngineError(f"engine gke needs the package kubernetes ({error}); {INSTALL}") from None
        self._kubernetes: Any = kubernetes
        self._namespace, self._context, self._pause = namespace, context, pause
        self._api: Any = None

    def create(self, job_set: Mapping[str, Any]) -> None:
        """Creates a JobSet; one of this name that is there already came from an earlier try."""
        self._call("create_namespaced_custom_object", ignored=409, body=job_set)

    def list(self, selector: str) -> dict[str, Json]:
        """Returns JobSets by name."""
        found = self._call("list_namespaced_custom_object", label_selector=selector)
        return {one["metadata"]["name"]: one for one in found["items"]}

    def delete(self, name: str) -> None:
        """Deletes a JobSet with its pods; one that is gone does not matter."""
        self._call("delete_namespaced_custom_object", ignored=404, name=name, propagation_policy="Foreground")

    def _call(self, method: str, ignored: int = 0, **arguments: Any) -> Any:
        import urllib3

        for left in reversed(range(TRIES)):
            try:
                call = getattr(self._connect(), method)
                place = {"group": GROUP, "version": VERSION, "namespace": self._namespace, "plural": PLURAL}
                return call(**place, _request_timeout=CALL_SECONDS, **arguments)
            except self._kubernetes.client.ApiException as error:
                if error.status == ignored:
                    return {}
                if not left or (error.status != 429 and error.status < 500):
                    raise EngineError(self._explain(error)) from None
            except urllib3.exceptions.HTTPError as error:
                if not left:
                    said = " ".join(str(error).split())[:200]
                    raise EngineError(f"the cluster does not answer ({said}); look at this machine's network") from None
            self._pause(FIRST_PAUSE_SECONDS * 2 ** (TRIES - 1 - left))
        raise AssertionError("the last try returns or raises")

    def _connect(self) -> Any:
        if self._api is None:
            config = self._kubernetes.config
            try:
                path = os.environ.get("KUBECONFIG", "~/.kube/config")  # the client looks at it when it is imported
                client = config.new_client_from_config(config_file=path, context=self._context or None)
            except (config.ConfigException, OSError) as error:
                said = " ".join(str(error).split())[:200]
                raise EngineError(
                    f"no cluster is configured here ({said}); run: gcloud container clusters get-credentials NAME "
                    "--location PLACE"
                ) from None
            client.configuration.retries = False  # they are counted here
            client.rest_client = self._kubernetes.client.rest.RESTClientObject(client.configuration)
            self._api = self._kubernetes.client.CustomObjectsApi(client)
        return self._api

    def _explain(self, error: Any) -> str:
        """Returns one line for a cluster's refusal: why, and what to do."""
        try:
            said = json.loads(error.body)["message"]
        except (TypeError, ValueError, KeyError):
            said = error.reason or error.status
        said = " ".join(str(said).split())[:400]
        if error.status == 401:
            return f"the cluster does not know who you are ({said}); run: gcloud auth login, and get-credentials again"
        if error.status == 403:
            return f"the cluster does not let you do this ({said}); ask for a role on {PLURAL}.{GROUP}"
        if error.status == 404:
            return (
                f"the cluster has no JobSets, or no namespace {self._namespace!r} ({said}); install JobSet "
                "(https://jobset.sigs.k8s.io/docs/installation), or give namespace=…"
            )
        if error.status in (400, 422):
            return f"the cluster does not take this JobSet ({said}); look at the settings, and at its JobSet's version"
        return f"the cluster answers {error.status} ({said}); try again later"
