"""`scaling sync`: W&B gets what it lacks of a store, and nothing twice."""

import argparse
import concurrent.futures
import dataclasses
import datetime as dt
import functools
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from analysis.errors import AnalysisError
from launch.commands.arguments import add_json
from launch.commands.sources import clean
from launch.coordination.presence import is_gone, read_beats
from launch.exits import DONE, WORK_FAILED
from launch.text import print_json
from scaling.specs.base import InputError, Json, canonical_json, fingerprint_text
from scaling.store.outline import cell_labels
from scaling.store.store import Store
from scaling.tracking.curve_file import FILE
from scaling.tracking.wandb_runs import MARK, Mirror, RunDescription, has_account, is_disabled, is_offline

if TYPE_CHECKING:
    from analysis.report.make import Report

# Runs that are sent at a time: each waits for the server a few times.
AT_A_TIME = 4
API_SECONDS = 30
# While nothing arrives: then the server is down, for which the client would wait for ever.
STALLED_SECONDS = 120.0
# W&B's client is heard from twice a minute while its run goes on.
LIVE_SECONDS = 120.0

Change = Literal["created", "updated", "unchanged", "live"]


@dataclasses.dataclass(frozen=True)
class There:
    """What W&B has of a run.

    Attributes:
      last_place: the place of its last row; -1 without rows.
      mark: the mark of its summary, which says what it is a summary of.
      is_live: somebody else sends to it.
    """

    last_place: int
    mark: str | None
    is_live: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument("store", metavar="STORE")
    parser.add_argument("--project", metavar="P", help="at W&B; default the study's name")
    parser.add_argument("--entity", metavar="E", help="a user or team; default the account's own")
    parser.add_argument("--no-report", action="store_true", help="leave out the report's tables, figure and page")
    parser.add_argument("--workspace", action="store_true", help="save a workspace with the study's views there, too")
    parser.add_argument(
        "--live-seconds", type=float, default=LIVE_SECONDS, metavar="S",
        help=f"leave runs alone that were heard from within this time; default {LIVE_SECONDS:g}",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="say what would be sent, and stop")
    add_json(parser)


def command(options: argparse.Namespace) -> int:
    """Mirrors a store to W&B: sends what is lacking there, and the report; a second call sends nothing."""
    store = Store.open(options.store)
    _check_account()
    # While cells are trained, checkpoints are there that will not be kept.
    is_at_rest = all(is_gone(beat.identity) for beat in read_beats(store))
    mirror = Mirror(store, options.project, options.entity, with_checkpoints=is_at_rest)
    import wandb

    try:
        return _sync(mirror, options)
    except wandb.Error as error:
        print(f"scaling: {_put_error(error)}", file=sys.stderr)
        return WORK_FAILED


def _sync(mirror: Mirror, options: argparse.Namespace) -> int:
    there = dict(list_runs(mirror, options.live_seconds))
    changes = {each.cell: (each, compare(each, there.get(each.cell))) for each in describe_cells(mirror)}
    to_send = [description for description, change in changes.values() if change in ("created", "updated")]
    status, report = ("left out", None) if options.no_report else _compare_report(mirror, there)
    if not options.dry_run:
        jobs: list[Callable[[], None]] = [functools.partial(_send_cell, mirror, description) for description in to_send]
        if report is not None:
            jobs.append(functools.partial(_send_report, mirror, report))
        _send_all(jobs)
    by_change: dict[Change, list[str]] = {change: [] for change in get_args(Change)}
    for cell, (_, change) in changes.items():
        by_change[change].append(cell)
    address = None
    if options.workspace and not options.dry_run:
        from scaling.tracking.wandb_workspace import save_workspace

        address = save_workspace(mirror.store, mirror.project, mirror.entity)
    lacking: list[str] = []
    if to_send and not options.dry_run:
        now = dict(list_runs(mirror, 0.0))
        lacking = [each.cell for each in to_send if compare(each, now.get(each.cell)) != "unchanged"]
    if options.json:
        extra = {"report": status, "lacking": lacking, "workspace": address, "dry_run": options.dry_run}
        print_json({"project": mirror.project, "entity": mirror.entity, **by_change, **extra})
    else:
        print(_put_into_words(mirror, by_change, status, options.dry_run))
        if address:
            print(f"workspace: {address}")
    if lacking:
        # W&B takes no row before one that it has counted, so a hole stays.
        words = f"{len(lacking)} runs lack something still ({', '.join(lacking[:3])}{', …' if lacking[3:] else ''})"
        print(f"scaling: {words}; call this again or, if that is of no use, with another --project", file=sys.stderr)
    return WORK_FAILED if lacking else DONE


def _put_into_words(mirror: Mirror, by_change: dict[Change, list[str]], report: str, is_dry: bool) -> str:
    counts = {change: len(cells) for change, cells in by_change.items()}
    live = f", {counts['live']} left alone while somebody sends to them" if counts["live"] else ""
    return (
        f"{mirror.project}: {'would be: ' if is_dry else ''}{counts['created']} runs created, {counts['updated']} "
        f"updated, {counts['unchanged']} unchanged{live}; report {report}"
    )


def list_runs(mirror: Mirror, live_seconds: float = LIVE_SECONDS) -> Iterator[tuple[str, There]]:
    """Yields the ids of the runs that W&B has of a study, and what it has of each.

    Args:
      mirror: the mirror of the study's store.
      live_seconds: a run that goes on and was heard from within this time is live.

    Raises:
      wandb.Error: the server does not answer, or refuses.
    """
    import wandb

    api = wandb.Api(timeout=API_SECONDS)
    path = f"{mirror.entity or api.default_entity}/{mirror.project}"
    runs = api.runs(path, filters={"group": mirror.study}, per_page=200, lazy=False)
    try:
        found = list(runs)
    except ValueError:  # there is no such project yet
        return
    for run in found:
        last_place = (run.historyKeys or {}).get("lastStep", -1)
        yield run.id, There(last_place, run.summary.get(MARK), _is_live(run, live_seconds))


def _is_live(run: Any, live_seconds: float) -> bool:
    if run.state != "running" or not run.heartbeatAt:
        return False
    heard = dt.datetime.fromisoformat(run.heartbeatAt).replace(tzinfo=dt.UTC)
    return (dt.datetime.now(dt.UTC) - heard).total_seconds() < live_seconds


def describe_cells(mirror: Mirror) -> Iterator[RunDescription]:
    """Yields what there is to say of each cell of the study that was begun."""
    for cell in cell_labels(mirror.store.study):
        record = mirror.store.read_record(cell)
        if record is not None or (mirror.store.cell_path(cell) / FILE).exists():
            yield mirror.describe(cell, record)


def compare(description: RunDescription, there: There | None) -> Change:
    """Returns what must happen to a cell's run."""
    if there is None:
        return "created"
    if there.is_live:
        return "live"
    rows = description.rows()
    lacks_rows = bool(rows) and rows[-1].place > there.last_place
    lacks_summary = description.record is not None and there.mark != description.mark
    return "updated" if lacks_rows or lacks_summary else "unchanged"


def _send_cell(mirror: Mirror, description: RunDescription) -> None:
    mirror.open(description).finish(description)


def _send_all(jobs: list[Callable[[], None]]) -> None:
    """Does jobs, several at a time; where one fails, or the server takes nothing for long, this process ends."""
    with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as pool:
        left = {pool.submit(job) for job in jobs}
        while left:
            done, left = concurrent.futures.wait(left, STALLED_SECONDS, concurrent.futures.FIRST_COMPLETED)
            errors = [error for future in done if (error := future.exception()) is not None]
            if errors or not done:
                reason = _put_error(errors[0]) if errors else f"W&B at {_address()} has taken nothing for a while"
                print(f"scaling: {reason}; call this again", file=sys.stderr, flush=True)
                os._exit(WORK_FAILED)  # runs are open, and their client would wait for the server for ever
            if sys.stderr.isatty():
                print(f"\r{len(jobs) - len(left)} of {len(jobs)} runs sent", end="", file=sys.stderr, flush=True)
    if jobs and sys.stderr.isatty():
        print(file=sys.stderr)


def _put_error(error: BaseException) -> str:
    words = " ".join(f"{type(error).__name__}: {error}".split())
    return f"W&B at {_address()} does not take what it is sent ({words[:300]})"


# --- the report -----------------------------------------------------------------------------------------------------


def _report_id(mirror: Mirror) -> str:
    return f"report-{mirror.study}"


def _report_mark(mirror: Mirror) -> str:
    """Returns the hash of all that the report is made from."""
    records = {name: record.fingerprint() for name, record in mirror.store.records().items()}
    return fingerprint_text(canonical_json([mirror.store.study, records]))


def _compare_report(mirror: Mirror, there: dict[str, There]) -> "tuple[str, Report | None]":
    """Returns what must happen to the report's run, and what it is to say."""
    from analysis.report.make import make_report

    run = there.get(_report_id(mirror))
    if run is not None and run.mark == _report_mark(mirror):
        return "unchanged", None
    try:
        report = make_report(str(mirror.store.path))
    except AnalysisError as error:
        return f"not made ({error})", None
    return "created" if run is None else "updated", report


def _send_report(mirror: Mirror, report: "Report") -> None:
    """Logs the tables, the figure and the page of a report."""
    import wandb

    from analysis.figures.style import save_figure
    from analysis.report.page import write_page

    tables = {
        f"report/{table.name}": clean(list(table.rows))
        for section in report.sections
        for table in section.tables()
        if table.rows and not table.is_folded
    }
    with tempfile.TemporaryDirectory() as folder:
        figure, page = str(Path(folder) / "figure.png"), str(Path(folder) / "report.html")
        if report.figure is not None:
            save_figure(report.figure, figure)
        write_page(report, page)
        run = mirror.start_run(id=_report_id(mirror), name="report", job_type="report", tags=["report", mirror.study])
        run.log(
            {
                **{name: _make_table(rows) for name, rows in tables.items()},
                **({"report/figure": wandb.Image(figure)} if report.figure is not None else {}),
                "report/page": wandb.Html(page, inject=False),
            }
        )
        run.summary.update({"says": list(report.answer), MARK: _report_mark(mirror)})
        run.finish()


def _make_table(rows: list[Json]) -> Any:
    import wandb

    columns: list[str | int] = list(dict.fromkeys(name for row in rows for name in row))
    return wandb.Table(columns=columns, data=[[row.get(str(name)) for name in columns] for row in rows])


# --- the account ----------------------------------------------------------------------------------------------------


def _address() -> str:
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")


def _check_account() -> None:
    if importlib.util.find_spec("wandb") is None:
        raise InputError("sync needs wandb, which is not installed; pip install 'scaling[wandb]'")
    if is_offline() or is_disabled():
        raise InputError(f"WANDB_MODE={os.environ['WANDB_MODE']}: sync talks to the server; unset it, or set it online")
    if not has_account():
        raise InputError("W&B has no account on this machine; set WANDB_API_KEY, or call `wandb login`")
