"""What the stand-in for W&B keeps of runs and artifacts, and how it answers the client's GraphQL operations."""

import dataclasses
import datetime as dt
import json
import urllib.parse
from collections import Counter
from collections.abc import Callable
from typing import Any

HISTORY, EVENTS, SUMMARY, OUTPUT = "wandb-history.jsonl", "wandb-events.jsonl", "wandb-summary.json", "output.log"
ENTITY = "me"


@dataclasses.dataclass
class ServedRun:
    """A run as the server has it.

    Attributes:
      name: its id.
      lines: of each file of its stream, by place.
      sent: history rows in the order in which they came, with those that came again.
      state: as W&B shows it: `running` until the client says that the run is complete.
      heartbeat: when its stream last said something.
    """

    name: str
    project: str
    entity: str = ENTITY
    fields: dict[str, Any] = dataclasses.field(default_factory=dict)
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    summary: dict[str, Any] = dataclasses.field(default_factory=dict)
    lines: dict[str, dict[int, str]] = dataclasses.field(default_factory=dict)
    sent: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    files: dict[str, bytes] = dataclasses.field(default_factory=dict)
    artifacts: dict[str, "ServedArtifact"] = dataclasses.field(default_factory=dict)
    state: str = "running"
    exit_code: int | None = None
    upserts: int = 0
    created: str = ""
    heartbeat: str = ""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Its history, unsampled, in order."""
        lines = self.lines.get(HISTORY, {})
        return [json.loads(lines[place]) for place in sorted(lines)]

    @property
    def display_name(self) -> str:
        """What people read."""
        return self.fields.get("displayName") or self.name

    def set_config(self, values: dict[str, Any]) -> None:
        """Sets the config from plain values, as if a client had sent it."""
        self.config = {name: {"value": value} for name, value in values.items()}

    def plain_config(self) -> dict[str, Any]:
        """Returns the config without W&B's wrapping."""
        return {name: one["value"] for name, one in self.config.items() if name != "_wandb"}

    def add_rows(self, rows: list[dict[str, Any]]) -> None:
        """Appends rows to the history, as if a client had sent them; `_step` is set where it is missing."""
        lines = self.lines.setdefault(HISTORY, {})
        for row in rows:
            lines[len(lines)] = json.dumps({"_step": len(lines), **row})


@dataclasses.dataclass
class ServedArtifact:
    """An artifact that a run has logged.

    Attributes:
      fields: what it was created with.
      manifest: its files, and references to what lies elsewhere.
      is_committed: whether the client has said that everything is there.
    """

    name: str
    kind: str
    fields: dict[str, Any]
    manifest: dict[str, Any] = dataclasses.field(default_factory=dict)
    is_committed: bool = False


class Backend:
    """Runs, artifacts and uploads, and the answers that follow from them.

    Attributes:
      url: where uploads go; set by the server.
      runs: by (project, id).
      unknown: GraphQL operations that it has no answer for.
      views: saved workspaces, by name.
      uploads: the content of each uploaded file, by path.
    """

    url = ""

    def __init__(self) -> None:
        self.runs: dict[tuple[str, str], ServedRun] = {}
        self.unknown: Counter[str] = Counter()
        self.views: dict[str, dict[str, Any]] = {}
        self.uploads: dict[str, bytes] = {}
        self._artifacts: dict[str, ServedArtifact] = {}

    def run(self, name: str, project: str | None = None) -> ServedRun:
        """Returns a run by its id.

        Raises:
          KeyError: there is none, or there are several in several projects.
        """
        found = [run for run in self.runs.values() if run.name == name and project in (None, run.project)]
        if len(found) != 1:
            raise KeyError(f"{len(found)} runs {name!r} among {sorted(self.runs)}")
        return found[0]

    def make_run(self, name: str, project: str, **fields: Any) -> ServedRun:
        """Returns a new run, as if a client had made it; fields as of W&B's run: `displayName`, `groupName`, `tags`."""
        run = ServedRun(name, project, fields=dict(fields), created=_now(), heartbeat=_now())
        self.runs[project, name] = run
        return run

    # --- streams and uploads ----------------------------------------------------------------------------------------

    def take_stream(self, run: ServedRun, message: dict[str, Any]) -> None:
        """Takes a message of a run's file stream."""
        run.heartbeat = _now()
        for file, block in (message.get("files") or {}).items():
            lines = run.lines.setdefault(file, {})
            for place, line in enumerate(block["content"], block["offset"]):
                lines[place] = line
                if file == HISTORY:
                    run.sent.append(json.loads(line))
                elif file == SUMMARY:
                    run.summary = json.loads(line)
        if message.get("complete") is not None and message["complete"]:
            run.exit_code = message.get("exitcode", 0)
            run.state = "failed" if run.exit_code else "finished"

    def take_upload(self, name: str, body: bytes) -> None:
        """Takes a file: of a run, of an artifact, or an artifact's manifest."""
        self.uploads[name] = body
        kind, _, rest = name.partition("/")
        if kind == "manifest":
            self._artifacts[rest].manifest = json.loads(body)
        elif kind == "run":
            project, run, file = rest.split("/", 2)
            self.runs[project, run].files[file] = body

    # --- GraphQL ----------------------------------------------------------------------------------------------------

    def answer_operation(self, name: str, variables: dict[str, Any], query: str) -> dict[str, Any]:
        """Returns the `data` that answers an operation."""
        answers: dict[str, Callable[[dict[str, Any], str], dict[str, Any]]] = {
            "ServerFeaturesQuery": lambda variables, query: {"serverInfo": {"features": []}},
            "UpsertBucket": self._upsert_run,
            "RunResumeStatus": self._resume_status,
            "CreateRunFiles": self._create_run_files,
            "CreateArtifact": self._create_artifact,
            "CreateArtifactManifest": self._create_manifest,
            "UpdateArtifactManifest": self._update_manifest,
            "CreateArtifactFiles": self._create_artifact_files,
            "ArtifactType": lambda variables, query: {"project": None},
            "CommitArtifact": self._commit_artifact,
            "Runs": self._list_runs,
            "UpsertView2": self._upsert_view,
        }
        if name in answers:
            return answers[name](variables, query)
        if "allViews" in query:
            return self._find_view(variables)
        if "viewer" in query:
            return self._viewer()
        if "run(name:" in query or "parquetHistory" in query:
            return self._one_run(variables)
        self.unknown[name] += 1
        return {}

    def _viewer(self) -> dict[str, Any]:
        nothing: dict[str, Any] = {"edges": []}
        viewer = {"id": "u1", "entity": ENTITY, "username": ENTITY, "name": ENTITY, "email": None, "admin": False}
        viewer |= {"defaultEntity": {"id": "e1", "name": ENTITY}, "flags": "{}", "capabilities": []}
        return {"viewer": viewer | {"teams": nothing, "apiKeys": nothing}}

    def _project_of(self, variables: dict[str, Any]) -> str:
        return variables.get("project") or variables.get("projectName") or "uncategorized"

    def _upsert_run(self, variables: dict[str, Any], query: str) -> dict[str, Any]:
        project, name = self._project_of(variables), variables.get("name") or variables["id"].removeprefix("run-")
        is_new = (project, name) not in self.runs
        run = self.make_run(name, project) if is_new else self.runs[project, name]
        run.upserts += 1
        run.entity = variables.get("entity") or run.entity
        run.fields |= {key: value for key, value in variables.items() if value is not None}
        run.state, run.exit_code = "running", None
        if variables.get("config"):
            run.config = json.loads(variables["config"])
        if variables.get("summaryMetrics"):
            run.summary = json.loads(variables["summaryMetrics"])
        owner = {"id": "e1", "name": run.entity}
        bucket = {
            "id": f"run-{name}", "name": name, "displayName": run.display_name, "description": None, "sweepName": None,
            "config": json.dumps(run.config), "historyLineCount": len(run.lines.get(HISTORY, {})),
            "project": {"id": f"project-{project}", "name": project, "entity": owner},
        }  # fmt: skip
        return {"upsertBucket": {"bucket": bucket, "inserted": is_new}}

    def _resume_status(self, variables: dict[str, Any], query: str) -> dict[str, Any]:
        project = self._project_of(variables)
        run = self.runs.get((project, variables["name"]))
        bucket = None
        if run is not None:
            counts = {file: run.lines.get(file, {}) for file in (HISTORY, EVENTS, OUTPUT)}
            last = {file: [lines[max(lines)]] if lines else [] for file, lines in counts.items()}
            bucket = {
                "id": f"run-{run.name}", "name": run.name, "displayName": run.display_name, "notes": None,
                "summaryMetrics": json.dumps(run.summary), "config": json.dumps(run.config),
                "logLineCount": len(counts[OUTPUT]), "historyLineCount": len(counts[HISTORY]),
                "eventsLineCount": len(counts[EVENTS]), "historyTail": json.dumps(last[HISTORY]),
                "eventsTail": json.dumps(last[EVENTS]), "tags": run.fields.get("tags") or [],
                "wandbConfig": json.dumps({"t": 1}),
            }  # fmt: skip
        owner = {"id": "e1", "name": ENTITY}
        return {"model": {"id": f"project-{project}", "name": project, "entity": owner, "bucket": bucket}}

    def _create_run_files(self, variables: dict[str, Any], query: str) -> dict[str, Any]:
        project, run = self._project_of(variables), variables["run"]
        places = [(file, self._upload_url(f"run/{project}/{run}/{file}")) for file in variables["files"]]
        files = [{"name": file, "uploadUrl": url} for file, url in places]
        return {"createRunFiles": {"runID": f"run-{run}", "uploadHeaders": [], "files": files}}

    def _upload_url(self, name: str) -> str:
        return f"{self.url}/upload/{urllib.parse.quote(name)}"

    # --- artifacts --------------------------------------------------------------------------------------------------

    def _create_artifact(self, variables: dict[str, Any], query: str) -> dict[str, Any]:
        given = variables["input"]
        name = given["artifactCollectionName"]
        number = f"artifact-{len(self._artifacts)}"
        artifact = ServedArtifact(name, given["artifactTypeName"], given)
        self._artifacts[number] = artifact
        if given.get("runName"):
            self.runs[given["projectName"], given["runName"]].artifacts[name] = artifact
        latest = {"id": f"sequence-{name}", "latestArtifact": None}
        created = {"id": number, "state": "PENDING", "artifactSequence": latest, "versionIndex": None}
        return {"createArtifact": {"artifact": created}}

    def _create_manifest(self, variables: dict[str, Any], query: str) -> dict[str, Any]:
        number = variables["artifactID"]
        file = {"id": f"file-{number}", "uploadUrl": self._upload_url(f"manifest/{number}"), "uploadHeaders": []}
        manifest = {"id": f"manifest-{number}", "file": file}
        return {"createArtifactManifest": {"artifactManifest": manifest}}

    def _update_manifest(self, variables: dict[str, Any], query: str) -> dict[str, Any]:
        number = variables["artifactManifestID"].removeprefix("manifest-")
        answer = self._create_manifest({"artifactID": number}, query)
        return {"updateArtifactManifest": answer["createArtifactManifest"]}

    def _create_artifact_files(self, variables: dict[str, Any], query: str) -> dict[str, Any]:
        edges = []
        for file in variables["input"]["artifactFiles"]:
            place = f"artifact/{file['artifactID']}/{file['name']}"
            node = {"storagePath": place, "uploadUrl": self._upload_url(place), "uploadHeaders": []}
            edges.append({"node": node | {"uploadMultipartUrls": None, "artifact": {"id": file["artifactID"]}}})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _commit_artifact(self, variables: dict[str, Any], query: str) -> dict[str, Any]:
        artifact = self._artifacts[variables["artifactID"]]
        artifact.is_committed = True
        return {"commitArtifact": {"artifact": {"id": variables["artifactID"], "digest": artifact.fields["digest"]}}}

    # --- the public API ---------------------------------------------------------------------------------------------

    def _list_runs(self, variables: dict[str, Any], query: str) -> dict[str, Any]:
        project = self._project_of(variables)
        wanted = json.loads(variables.get("filters") or "{}")
        found = [run for run in self.runs.values() if run.project == project and _matches(run, wanted)]
        if not any(run.project == project for run in self.runs.values()):
            return {"project": None}
        start, size = int(variables.get("cursor") or 0), variables.get("perPage") or 50
        page = found[start : start + size]
        edges = [{"node": describe_run(run), "cursor": str(start + index + 1)} for index, run in enumerate(page)]
        more = {"endCursor": str(start + len(page)), "hasNextPage": start + len(page) < len(found)}
        listed = {"edges": edges, "pageInfo": more}
        answer = {"internalId": "1", "id": "1", "runCount": len(found), "readOnly": False, "runs": listed}
        return {"project": answer}

    def _one_run(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = variables.get("runName") or variables.get("run") or variables.get("name")
        run = self.runs.get((self._project_of(variables), str(name)))
        if run is None:
            return {"project": {"run": None}}
        rows = run.rows
        history = {"parquetUrls": [], "liveData": rows}
        low, high = variables.get("minStep") or 0, variables.get("maxStep") or len(rows) + 1
        page = [json.dumps(row) for row in rows if low <= row["_step"] < high]
        sampled = [rows]
        if "spec" in variables:
            spec = json.loads(variables["spec"])
            keys = spec.get("keys") or []
            having = [row for row in rows if all(key in row for key in keys)]
            # W&B draws at random; what matters is that it is not everything.
            sampled = [having[:: max(1, -(-len(having) // spec["samples"]))]]
        extra = {"parquetHistory": history, "history": page, "sampledHistory": sampled, "projectId": "1"}
        return {"project": {"internalId": "1", "run": describe_run(run) | extra}}

    def _upsert_view(self, variables: dict[str, Any], query: str) -> dict[str, Any]:
        name = variables["name"]
        view = {"id": f"view-{name}", "name": name}
        is_new = name not in self.views
        self.views[name] = variables
        return {"upsertView": {"view": view, "inserted": is_new}}

    def _find_view(self, variables: dict[str, Any]) -> dict[str, Any]:
        name, edges = variables["viewName"], []
        if name in self.views:
            view = self.views[name]
            edges.append({"node": {"id": f"view-{name}", "displayName": view["displayName"], "spec": view["spec"]}})
        return {"project": {"allViews": {"edges": edges}}}


def describe_run(run: ServedRun) -> dict[str, Any]:
    """Returns what W&B's public API says of a run."""
    keys = Counter(key for row in run.rows for key in row)
    last = max((row["_step"] for row in run.rows), default=-1)
    known = {key: {"typeCounts": [{"type": "number", "count": count}]} for key, count in keys.items()}
    return {
        "id": f"run-{run.name}", "projectId": "1", "name": run.name, "displayName": run.display_name,
        "tags": run.fields.get("tags") or [], "sweepName": None, "state": run.state, "config": json.dumps(run.config),
        "group": run.fields.get("groupName"), "jobType": run.fields.get("jobType"), "commit": None, "readOnly": False,
        "createdAt": run.created, "heartbeatAt": run.heartbeat, "description": None, "notes": run.fields.get("notes"),
        "systemMetrics": "{}", "summaryMetrics": json.dumps(run.summary), "user": {"name": ENTITY, "username": ENTITY},
        "historyLineCount": len(run.rows),
        "historyKeys": {"step": last + 1, "lastStep": last, "sets": [], "keys": known},
    }  # fmt: skip


def _matches(run: ServedRun, wanted: Any) -> bool:
    """Returns whether a run passes a filter in MongoDB's words, as far as equality, $in, $and and $or go."""
    facts = {"group": run.fields.get("groupName"), "jobType": run.fields.get("jobType"), "state": run.state}
    facts |= {"name": run.name, "display_name": run.display_name, "displayName": run.display_name}
    facts |= {f"config.{name}.value": value for name, value in run.plain_config().items()}
    for key, value in wanted.items():
        if key in ("$and", "$or"):
            if not (all if key == "$and" else any)(_matches(run, one) for one in value):
                return False
        elif key == "tags":
            if (value if isinstance(value, str) else None) not in (run.fields.get("tags") or []):
                return False
        elif isinstance(value, dict) and "$in" in value:
            if facts.get(key) not in value["$in"]:
                return False
        elif facts.get(key) != value:
            return False
    return True


def _now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
