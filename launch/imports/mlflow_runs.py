"""Runs of MLflow: a folder of files or a SQLite file, read as they are, or a tracking server through its client."""

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.imports.fetching import Listed, LocalSource, RunError, SourceError
from launch.imports.histories import READING, Pivot
from launch.imports.raw import Origin, RawRun, make_run
from scaling.specs.base import InputError, Json, canonical_json, fingerprint_text, suggest

if TYPE_CHECKING:
    import pyarrow as pa

FILE_STATES = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
LIVE = ("RUNNING", "SCHEDULED")
# How MLflow's databases hold infinity: the largest double.
LARGEST = 1.7976931348623157e308


def open_mlflow(address: str, experiments: Sequence[str]) -> "FileRuns | DatabaseRuns | ServerRuns":
    """Returns the reader for an `mlruns` folder, a SQLite file (also `sqlite:///FILE`), or a server's address.

    Args:
      address: where the runs are.
      experiments: names of the experiments that are wanted; empty for all.

    Raises:
      InputError: there is nothing at the address, or no such experiment.
    """
    if address.startswith(("http://", "https://", "databricks")):
        return ServerRuns(address, experiments)
    path = Path(address.removeprefix("sqlite:///").removeprefix("file://"))
    if path.is_dir():
        return FileRuns(path, experiments)
    if path.is_file():
        return DatabaseRuns(path, experiments)
    raise InputError(
        f"mlflow {address!r} is neither a folder nor a SQLite file; give mlruns, mlflow.db or http://HOST:PORT"
    )


def _origin(address: str, experiments: Sequence[str], study: str) -> Origin:
    only = ", ".join(sorted(experiments))
    return Origin(kind="mlflow", address=address, only=only, study=only or study)


def _choose(known: Json, wanted: Sequence[str], address: str) -> list[Any]:
    """Returns the ids of the experiments that are wanted, all where none is named."""
    for name in wanted:
        if name not in known:
            raise InputError(f"--experiment {name!r}: {address} has no such experiment; {suggest(name, known)}")
    return [identity for name, identity in known.items() if not wanted or name in wanted]


def _value(value: float, is_nan: bool) -> float:
    if is_nan:
        return float("nan")
    return value if abs(value) < LARGEST else float("inf") * value


def _times(start: int | None, end: int | None) -> Json:
    """Returns a run's times in seconds, from MLflow's milliseconds."""
    seconds = (end - start) / 1000 if start and end else None
    return {"start_time": start / 1000 if start else None, "runtime": seconds}


class FileRuns(LocalSource):
    """An `mlruns` folder: `EXPERIMENT/RUN/{meta.yaml,params,metrics,tags}`."""

    def __init__(self, path: Path, experiments: Sequence[str]) -> None:
        known: dict[str, Path] = {}
        for meta in sorted(path.glob("*/meta.yaml")):
            facts = _read_yaml(meta)
            if "experiment_id" in facts and "name" in facts:
                known[str(facts["name"])] = meta.parent
        if not known:
            raise InputError(f"mlflow {str(path)!r} holds no experiments; give the folder mlruns")
        self._folders = _choose(known, experiments, str(path))
        self.origin = _origin(str(path.resolve()), experiments, path.resolve().name)
        self._names = {folder: name for name, folder in known.items()}

    def list_runs(self) -> list[Listed]:
        """Returns the runs that were not deleted."""
        listed = []
        for folder in self._folders:
            for meta in sorted(folder.glob("*/meta.yaml")):
                facts = _read_yaml(meta)
                if "run_id" not in facts or facts.get("lifecycle_stage") == "deleted":
                    continue
                files = sorted(
                    file for part in ("params", "metrics", "tags") for file in (meta.parent / part).rglob("*")
                )
                stats = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in (meta, *files)]
                version = fingerprint_text(canonical_json([READING, *stats]))
                listed.append(Listed(str(facts["run_id"]), version, payload=(meta.parent, facts)))
        return listed

    def fetch(self, listed: Listed) -> "tuple[RawRun, pa.Table | None]":
        """Returns a run and its metrics by step, each in the order of its timestamps.

        Raises:
          RunError: a file of metrics does not say what it should.
        """
        folder, facts = listed.payload
        pivot, points = Pivot(), []
        for file in _files(folder / "metrics"):
            name = file.relative_to(folder / "metrics").as_posix()
            for i, line in enumerate(file.read_text(encoding="utf-8").splitlines()):
                words = line.split(" ")
                try:  # old versions wrote no step, newer ones may name a data set after it
                    points.append((int(words[0]), int(words[2]) if len(words) > 2 else 0, name, i, float(words[1])))
                except (ValueError, IndexError):
                    raise RunError(f"{file} line {i + 1} is no metric: {line[:40]!r}; remove the line") from None
        for milliseconds, step, name, _, value in sorted(points):
            pivot.add(name, step, milliseconds / 1000, value)
        values = {
            part: {file.relative_to(folder / part).as_posix(): _read_text(file) for file in _files(folder / part)}
            for part in ("params", "tags")
        }
        run = make_run(
            listed.id, listed.version, FILE_STATES.get(facts.get("status", 0), str(facts.get("status"))),
            config=values["params"], summary=pivot.last(), tags=values["tags"], notices=pivot.notices(),
            run={"name": facts.get("run_name"), "experiment": self._names[folder.parent],
                 **_times(facts.get("start_time"), facts.get("end_time"))},
        )  # fmt: skip
        return run, pivot.build()


def _read_yaml(path: Path) -> Json:
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError, UnicodeDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.rglob("*")) if file.is_file())


def _read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8").removesuffix("\n")


class DatabaseRuns(LocalSource):
    """A SQLite file that MLflow keeps, opened for reading only."""

    def __init__(self, path: Path, experiments: Sequence[str]) -> None:
        self._path = path
        rows = self._ask("SELECT name, experiment_id FROM experiments WHERE lifecycle_stage = 'active'")
        self._names = {identity: name for name, identity in rows}
        self._experiments = _choose(dict(rows), experiments, str(path))
        self.origin = _origin(str(path.resolve()), experiments, path.name.partition(".")[0])

    def _ask(self, query: str, *values: Any) -> list[Any]:
        try:
            with contextlib.closing(sqlite3.connect(f"{self._path.resolve().as_uri()}?mode=ro", uri=True)) as database:
                return database.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise InputError(f"mlflow {str(self._path)!r} cannot be read ({error}); give MLflow's database") from None

    def list_runs(self) -> list[Listed]:
        """Returns the runs that were not deleted; those that go on are always fetched."""
        listed = []
        for experiment in self._experiments:
            rows = self._ask(
                "SELECT run_uuid, name, status, start_time, end_time FROM runs "
                "WHERE experiment_id = ? AND lifecycle_stage = 'active' ORDER BY start_time",
                experiment,
            )
            for name, title, state, start, end in rows:
                facts = {"name": title, "experiment": self._names[experiment], **_times(start, end)}
                params = dict(self._ask("SELECT key, value FROM params WHERE run_uuid = ?", name))
                tags = dict(self._ask("SELECT key, value FROM tags WHERE run_uuid = ?", name))
                latest = self._ask("SELECT key, step, timestamp FROM latest_metrics WHERE run_uuid = ?", name)
                version = fingerprint_text(canonical_json([READING, facts, state, params, tags, sorted(latest)]))
                listed.append(Listed(name, version, state in LIVE, (state, facts, params, tags)))
        return listed

    def fetch(self, listed: Listed) -> "tuple[RawRun, pa.Table | None]":
        """Returns a run and its metrics by step, each in the order of its timestamps."""
        state, facts, params, tags = listed.payload
        pivot = Pivot()
        points = self._ask(
            "SELECT key, step, timestamp, value, is_nan FROM metrics WHERE run_uuid = ? ORDER BY timestamp, step",
            listed.id,
        )
        for name, step, milliseconds, value, is_nan in points:
            pivot.add(name, step, milliseconds / 1000, _value(value, is_nan))
        run = make_run(
            listed.id, listed.version, state, config=params, summary=pivot.last(), run=facts, tags=tags,
            notices=pivot.notices(),
        )  # fmt: skip
        return run, pivot.build()


class ServerRuns(LocalSource):
    """A tracking server, through MLflow's own client, which knows how to sign in, when to wait and when to give up."""

    workers = 4

    def __init__(self, address: str, experiments: Sequence[str]) -> None:
        try:
            from mlflow import MlflowClient
        except ImportError:
            raise InputError(
                f"mlflow {address!r} is a server and needs the package mlflow-skinny, which is not installed; "
                "pip install scaling[mlflow]"
            ) from None
        self._client = MlflowClient(tracking_uri=address)
        with _one_line(address):
            known = {one.name: one.experiment_id for one in _pages(self._client.search_experiments)}
        self._address = address
        self._experiments = _choose(known, experiments, address)
        self._names = {identity: name for name, identity in known.items()}
        self.origin = _origin(address, experiments, "mlflow")

    def list_runs(self) -> list[Listed]:
        """Returns the runs that were not deleted; those that go on are always fetched.

        Raises:
          SourceError: the server does not answer.
        """
        listed = []
        with _one_line(self._address):
            for experiment in self._experiments:
                for run in _pages(self._client.search_runs, [experiment]):
                    told = json.dumps(run.to_dictionary(), default=str, sort_keys=True)
                    is_live = run.info.status in LIVE
                    listed.append(Listed(run.info.run_id, fingerprint_text(READING + told), is_live, run))
        return listed

    def fetch(self, listed: Listed) -> "tuple[RawRun, pa.Table | None]":
        """Returns a run and its metrics by step, each in the order of its timestamps.

        Raises:
          SourceError: the server does not answer.
        """
        run, pivot = listed.payload, Pivot()
        with _one_line(self._address):
            points = [
                (point.timestamp, point.step, name, point.value)
                for name in run.data.metrics
                for point in self._client.get_metric_history(listed.id, name)
            ]
        for milliseconds, step, name, value in sorted(points, key=lambda point: point[:3]):
            pivot.add(name, step, milliseconds / 1000, _value(value, value != value))
        info = run.info
        raw = make_run(
            listed.id, listed.version, info.status, config=dict(run.data.params), summary=pivot.last(),
            tags=dict(run.data.tags), notices=pivot.notices(),
            run={"name": info.run_name, "experiment": self._names[info.experiment_id],
                 **_times(info.start_time, info.end_time)},
        )  # fmt: skip
        return raw, pivot.build()


def _pages(search: Any, *words: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(*words, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


@contextlib.contextmanager
def _one_line(address: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError) as error:
        raise SourceError(f"mlflow {address}: {str(error).splitlines()[0][:200]}") from None
