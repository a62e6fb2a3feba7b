"""Runs of a W&B project, through the client: full histories, from its Parquet exports where there are some."""

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.imports.fetching import Listed, RunError, SourceError
from launch.imports.histories import HistoryBuilder, encode
from launch.imports.raw import Origin, RawRun, make_run
from scaling.specs.base import InputError, Json, canonical_json, fingerprint_text

if TYPE_CHECKING:
    import pyarrow as pa

LIVE = ("running", "pending", "preempting")
PAGE_STEPS = 1000
RUNS_PER_PAGE = 50
# The client waits 2, 4, 8, … seconds between attempts, at most a minute, or as long as the server asks for.
MAX_WAIT_SECONDS = 60.0
# How long the first answer may take: a wrong address should show soon.
FIRST_CONTACT_SECONDS = 60.0
REFUSED = (401, 403)


class WandbProject:
    """A project on a W&B server.

    Args:
      address: `ENTITY/PROJECT`.
      only: a filter of W&B as JSON, for instance `{"state": "finished"}`; None for all runs.
      patience: seconds for which W&B may refuse, or be silent, before an import stops.

    Raises:
      InputError: the address or the filter cannot be read, or there is no account.
      SourceError: the server does not answer.
    """

    # Few, since W&B limits the rate of requests, and waiting for one of them should not stop the others.
    workers = 4

    def __init__(self, address: str, only: str | None, patience: float) -> None:
        entity, _, project = address.partition("/")
        if Path(address).exists() and any(Path(address).rglob("*.wandb")):
            raise InputError(f"wandb {address!r} is a folder; write scaling import wandb-offline {address}")
        if not entity or not project or "/" in project:
            raise InputError(f"wandb {address!r} is no project; write ENTITY/PROJECT, as in its web address")
        if not patience > 0:
            raise InputError(f"--patience {patience:g}: must be above 0 seconds")
        self._address, self._filter, self.patience = address, _read_filter(only), patience
        self._api = _sign_in(patience)
        only = canonical_json(self._filter) if self._filter else ""
        self.origin = Origin(kind="wandb", address=address, only=only, study=project)

    def list_runs(self) -> list[Listed]:
        """Returns all runs with their configuration and summary, in pages.

        Raises:
          InputError: there is no such project, or the filter is refused.
          SourceError: the server does not answer.
        """
        from wandb.errors import CommError
        from wandb.sdk.lib.service.service_connection import WandbApiFailedError

        try:
            runs = self._api.runs(self._address, filters=self._filter, per_page=RUNS_PER_PAGE, lazy=False)
            return [_list(run) for run in runs]
        except ValueError as error:
            if "project" not in str(error):
                raise
            raise InputError(
                f"wandb {self._address!r}: W&B has no such project, or this account may not see it; check the name"
            ) from None
        except (CommError, WandbApiFailedError) as error:
            if _status_of(error) in (400, 404, *REFUSED):
                raise InputError(
                    f"wandb {self._address!r}: {_first_line(error)}; check the name and --filter"
                ) from None
            raise SourceError(f"wandb {self._address}: {_first_line(error)}") from None

    def fetch(self, listed: Listed) -> "tuple[RawRun, pa.Table | None]":
        """Returns a run and its full history, which is not sampled.

        Raises:
          SourceError: the server stopped answering.
          RunError: the run is gone.
        """
        from wandb.errors import CommError
        from wandb.sdk.lib.service.service_connection import WandbApiFailedError

        run = listed.payload
        try:
            history = _read_history(run)
        except (CommError, WandbApiFailedError, OSError) as error:
            line = _first_line(error)
            if "no history found" in line or "no parquet history found" in line or _status_of(error) == 404:
                raise RunError(f"W&B does not have it any more ({line})") from None
            raise SourceError(f"wandb {self._address}: {line}") from None
        expected = _lines_of(run)
        notices = []
        if history.num_rows < expected:
            notices.append(f"W&B counts {expected} rows of history and gave {history.num_rows}")
        made = make_run(
            listed.id, listed.version, run.state, config=_public(run.config), summary=_public(run.summary_metrics),
            run=_facts(run), notices=tuple(notices),
        )  # fmt: skip
        return made, history if history.num_rows else None

    def close(self) -> None:
        """Ends the client's service process, and with it what it waits for."""
        import wandb

        wandb.teardown()


def _sign_in(patience: float) -> Any:
    """Returns the client's API object."""
    os.environ.setdefault("WANDB_SILENT", "true")  # its lines would mix with ours
    attempts = max(3, 5 + int((patience - 62) / MAX_WAIT_SECONDS))  # 62 = 2 + 4 + 8 + 16 + 32
    os.environ.setdefault("WANDB__GRAPHQL_RETRY_MAX", str(attempts))
    os.environ.setdefault("WANDB__FILE_TRANSFER_RETRY_MAX", str(attempts))
    try:
        import wandb
        from wandb.errors import AuthenticationError, UsageError
        from wandb.sdk.lib import wbauth
    except ImportError:
        raise InputError("wandb needs the package wandb, which is not installed; pip install wandb") from None

    settings = wandb.setup().settings
    host = settings.base_url
    try:
        if wbauth.authenticate_session(host=host, source="scaling import", prompt=False) is None:
            raise UsageError("no API key")
        wandb.Api(timeout=int(max(1, min(patience, FIRST_CONTACT_SECONDS))))  # asks the server who we are
        return wandb.Api(timeout=int(max(1, patience)))
    except UsageError:
        raise InputError(
            f"wandb: no API key for {host}; export WANDB_API_KEY=KEY, which {settings.app_url}/authorize shows"
        ) from None
    except AuthenticationError as error:
        cause = error.__cause__
        if cause is not None and _status_of(cause) not in REFUSED:
            raise SourceError(
                f"wandb: {host} does not answer ({_first_line(cause)}); try the same command later"
            ) from None
        raise InputError(f"wandb: {host} refuses the API key ({_first_line(error)}); set WANDB_API_KEY") from None


def _read_filter(text: str | None) -> Json:
    if not text:
        return {}
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f'--filter {text!r} is not JSON ({error.msg}); write it like {{"state": "finished"}}'
        ) from None
    if not isinstance(found, dict):
        raise InputError(f'--filter {text!r} must be a JSON object, like {{"state": "finished"}}')
    return found


def _list(run: Any) -> Listed:
    told = [encode(part) for part in (run.state, run.config, run.summary_metrics, _facts(run), _lines_of(run))]
    return Listed(run.id, fingerprint_text(canonical_json(told)), run.state in LIVE, run)


def _facts(run: Any) -> Json:
    names = ("group", "job_type", "sweep_name", "tags", "notes", "created_at", "heartbeat_at", "commit")
    facts = {"name": run.name, **{name: getattr(run, name, None) for name in names}}
    return {name: value for name, value in facts.items() if value not in (None, "", [])}


def _public(values: Any) -> Json:
    return {name: value for name, value in dict(values).items() if not name.startswith("_wandb")}


def _lines_of(run: Any) -> int:
    return int(getattr(run, "history_line_count", None) or 0)


def _read_history(run: Any) -> "pa.Table":
    """Returns all rows of a run: from the exported files where they are complete, else row by row."""
    from wandb.apis.public.runhistory import IncompleteRunHistoryError

    with tempfile.TemporaryDirectory(prefix="scaling-import-") as folder:
        try:
            result = run.download_history_exports(folder, require_complete_history=True)
        except IncompleteRunHistoryError:
            return _scan(run)
        if result.errors or not result.paths:
            return _scan(run)
        return read_exports(list(result.paths))


def _scan(run: Any) -> "pa.Table":
    """Returns the rows that the client pages through; it drops none, unlike its sampled histories."""
    builder = HistoryBuilder()
    last, lines = run.lastHistoryStep, max(_lines_of(run), 1)
    # A page covers a range of steps, and sparse histories would need many that are nearly empty.
    page = max(PAGE_STEPS, PAGE_STEPS * (last + 1) // lines)
    for row in run.scan_history(page_size=page, use_cache=False):
        builder.add(row)
    return _sort(builder.build())


def read_exports(paths: "list[Path]") -> "pa.Table":
    """Returns W&B's Parquet files of one run as one history in the order of its steps."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    tables = []
    for path in paths:
        # A file, not a path: a path would be looked at for partitions in its name.
        with path.open("rb") as file:
            table = pq.read_table(file)
        plain: Json = {}
        others = HistoryBuilder()
        rest = [name for name in table.column_names if not _is_number(table[name].type)]
        for name in table.column_names:
            if name not in rest and table[name].null_count < table.num_rows:
                plain[name] = pc.cast(table[name], pa.float64(), safe=False)
        if rest:
            for row in table.select(rest).to_pylist():
                others.add(row)
            built = others.build()
            plain.update({name: built[name] for name in built.column_names})
        tables.append(pa.table(plain))
    return _sort(_concatenate(tables))


def _sort(history: "pa.Table") -> "pa.Table":
    """Returns a history in the order of W&B's own steps; rows of one step stay in theirs."""
    if "_step" not in history.column_names:
        return history
    import pyarrow as pa
    import pyarrow.compute as pc

    places = pa.array(range(history.num_rows))
    ordered = pc.sort_indices(
        pa.table({"step": history["_step"], "place": places}), [("step", "ascending"), ("place", "ascending")]
    )
    return history.take(ordered)


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def _concatenate(tables: "list[pa.Table]") -> "pa.Table":
    """Returns tables below each other; a column that is text in one of them is text in all."""
    import pyarrow as pa

    texts = {name for table in tables for name in table.column_names if pa.types.is_string(table[name].type)}
    same = []
    for table in tables:
        columns = {name: table[name] for name in table.column_names}
        for name in texts & {name for name, column in columns.items() if not pa.types.is_string(column.type)}:
            values = [None if value is None else json.dumps(encode(value)) for value in table[name].to_pylist()]
            columns[name] = pa.array(values, type=pa.string())
        same.append(pa.table(columns))
    return pa.concat_tables(same, promote_options="default")


def _status_of(error: BaseException) -> int | None:
    """Returns the HTTP status of what the client raised, where it says one."""
    inner = getattr(error, "exc", None) or error
    response = getattr(inner, "response", None)
    return getattr(response, "http_status", None) or None


def _first_line(error: BaseException) -> str:
    if "did not respond in time" in str(error):  # the client blames its own helper process
        return "no answer in time"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (": ".join(lines[:2]) if lines else type(error).__name__)[:200]
