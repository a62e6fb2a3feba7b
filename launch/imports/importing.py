"""What `scaling import` does: fetches runs, asks for a mapping where there is none, and writes the tidy table."""

import argparse
import json
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from launch.exits import DONE, WORK_FAILED, WRONG_CALL
from launch.imports import TABLES
from launch.imports.fetching import Fetched, Source, SourceError, choose_runs, fetch_runs
from launch.imports.mapping import MappingReport, TableMapping, build_table
from launch.imports.raw import MAPPING_FILE, PROPOSAL_FILE, REPORT_FILE, TABLE_FILE, RawFolder, RawRun
from launch.text import print_json, render_table
from scaling.specs.base import InputError, parse
from scaling.store.columns import IMPORTED

if TYPE_CHECKING:
    import pandas as pd

MAX_SHOWN = 20
SAID_SINGLY = 5  # what is said of more runs is said once


def bring_runs(options: argparse.Namespace) -> int:
    """Returns the exit status of a call: fetches, and maps or asks for a mapping.

    Raises:
      InputError: the call is wrong.
    """
    folder = RawFolder(options.store)
    mapping = _read_mapping(options, folder)
    fetched, still_there = None, set[str]()
    try:
        if options.no_fetch:
            folder.origin()
        else:
            source = open_source(options)
            listed = source.list_runs()
            if options.dry_run:
                return _print_plan(
                    options, folder, source, [run.id for run in choose_runs(folder, listed)], len(listed)
                )
            folder.claim(source.origin)
            fetched, still_there = fetch_runs(source, folder, listed), {run.id for run in listed}
    except SourceError as error:
        print(f"scaling: {error}", file=sys.stderr)
        return WORK_FAILED
    runs = list(folder.runs())
    if fetched is not None:
        _print_fetched(folder, fetched, sum(run.id not in still_there for run in runs))
    if not runs:
        print(f"scaling: {folder.path} holds no runs; nothing can be mapped", file=sys.stderr)
        return WORK_FAILED
    if mapping is None:
        return _ask_for_mapping(options, folder, runs)
    table, report = build_table(folder, mapping, runs)
    if report.rows:
        _write(folder, mapping.model_copy(update={"columns": report.columns}), table, report)
    _print_report(options, folder, mapping, fetched, report)
    return DONE if report.rows and not (fetched and fetched.failed) else WORK_FAILED


def open_source(options: argparse.Namespace) -> Source:
    """Returns the source that a call names.

    Raises:
      InputError: there is none, or an option does not go with it.
    """
    kind, address = options.kind, options.address
    for flag, value, kinds in (
        ("--filter", options.filter, ("wandb",)),
        ("--experiment", options.experiment, ("mlflow",)),
        ("--run-column", options.run_column, TABLES),
    ):
        if value and kind not in kinds:
            raise InputError(f"{flag} is for {', '.join(kinds)}, not for {kind}; leave it out")
    if kind == "wandb":
        from launch.imports.wandb_api import WandbProject

        return WandbProject(address, options.filter, options.patience)
    if kind == "wandb-offline":
        from launch.imports.wandb_files import WandbFiles

        return WandbFiles(address)
    if kind == "mlflow":
        from launch.imports.mlflow_runs import open_mlflow

        return open_mlflow(address, options.experiment)
    if kind == "tensorboard":
        from launch.imports.tensorboard import TensorBoardRuns

        return TensorBoardRuns(address)
    from launch.imports.tables import TableSource

    source = TableSource(kind, address, options.run_column)
    for sentence in source.said:
        print(sentence, file=sys.stderr)
    return source


def _read_mapping(options: argparse.Namespace, folder: RawFolder) -> TableMapping | None:
    path = Path(options.mapping) if options.mapping else folder.path / MAPPING_FILE
    found = None
    if path.exists():
        try:
            found = parse(TableMapping, path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"--mapping {str(path)!r} cannot be read ({error}); give a mapping.json") from None
    elif options.mapping:
        raise InputError(f"--mapping {options.mapping!r} does not exist; give a mapping.json")
    if options.column or (found and options.derive):
        found = (found or TableMapping(columns={})).change(options.column, options.derive)
    return found


def _print_plan(options: argparse.Namespace, folder: RawFolder, source: Source, to_fetch: list[str], total: int) -> int:
    where = f"{source.origin.kind} {source.origin.address}"
    if options.json:
        print_json({"source": where, "store": str(folder.path), "runs": total, "to_fetch": to_fetch})
        return DONE
    print(f"{where}: {total} runs, would fetch {len(to_fetch)} into {folder.path}")
    for name in to_fetch[:MAX_SHOWN]:
        print(f"  {name}")
    if len(to_fetch) > MAX_SHOWN:
        print(f"  and {len(to_fetch) - MAX_SHOWN} more; --json lists all")
    return DONE


def _print_fetched(folder: RawFolder, fetched: Fetched, gone: int) -> None:
    print(f"{fetched.fetched} runs fetched, {fetched.unchanged} unchanged: {folder.path}", file=sys.stderr)
    for name, reason in fetched.failed.items():
        print(f"not fetched: {name}: {reason}", file=sys.stderr)
    if gone:
        print(f"{gone} runs of the folder are no longer in the source; they stay in the table", file=sys.stderr)


def _ask_for_mapping(options: argparse.Namespace, folder: RawFolder, runs: list[RawRun]) -> int:
    from launch.imports.proposal import find_doubts, list_names, propose, show_examples

    names = list_names(folder, runs)
    proposed, others = propose(names)
    doubts = find_doubts(names, proposed.columns)
    if options.derive:
        proposed = proposed.change([], options.derive)
    path = folder.path / PROPOSAL_FILE
    folder.write(PROPOSAL_FILE, proposed.model_dump_json(indent=1) + "\n")
    if options.json:
        print_json({
            "store": str(folder.path), "runs": len(runs), "names": names, "proposal": str(path),
            "proposed": proposed.columns, "others": others, "doubts": doubts,
        })  # fmt: skip
    else:
        shown = [{**row, "examples": show_examples(row["examples"])} for row in names]
        print(render_table(shown))
        print(f"\nlikely for {len(runs)} runs, by their names and values:\n")
        rows = [
            {"column": ours, "proposed": text, "others": ", ".join(others.get(ours, [])) or None}
            for ours, text in proposed.columns.items()
        ]
        print(render_table(rows))
    for doubt in doubts:
        print(doubt, file=sys.stderr)
    print(
        f"scaling: no mapping yet; look at {path}, and accept it with --mapping {path}, or give --column NAME=THEIRS",
        file=sys.stderr,
    )
    return WRONG_CALL


def _write(folder: RawFolder, mapping: TableMapping, table: "pd.DataFrame", report: MappingReport) -> None:
    """Writes the mapping, the report and, last, the table; each appears whole."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    from analysis.tables.provenance import provenance_of

    folder.write(MAPPING_FILE, mapping.model_dump_json(indent=1) + "\n")
    folder.write(REPORT_FILE, report.model_dump_json(indent=1) + "\n")
    temporary = folder.path / f".{TABLE_FILE}.{uuid.uuid4().hex[:8]}.tmp"
    whole = pa.Table.from_pandas(pd.DataFrame(table), preserve_index=False)
    kept = {**whole.schema.metadata, IMPORTED: json.dumps(dict(provenance_of(table).conventions)).encode()}
    pq.write_table(whole.replace_schema_metadata(kept), temporary)
    temporary.replace(folder.path / TABLE_FILE)


def _print_report(
    options: argparse.Namespace,
    folder: RawFolder,
    mapping: TableMapping,
    fetched: Fetched | None,
    report: MappingReport,
) -> None:
    if options.json:
        print_json({
            "store": str(folder.path),
            "fetched": fetched.fetched if fetched else 0,
            "unchanged": fetched.unchanged if fetched else report.runs_found,
            "failed": fetched.failed if fetched else {},
            "mapping": json.loads(mapping.model_copy(update={"columns": report.columns}).model_dump_json()),
            "report": json.loads(report.model_dump_json()),
        })  # fmt: skip
        return
    print(render_table([{"column": ours, "theirs": text} for ours, text in report.columns.items()]))
    states = ", ".join(f"{count} {status}" for status, count in report.statuses.items())
    print(f"\n{report.rows} rows of {report.runs} of {report.runs_found} runs" + (f": {states}" if states else ""))
    for reason, (runs, rows) in report.reasons().items():
        print(f"dropped: {rows} rows of {runs} runs: {reason}", file=sys.stderr)
    notices = gather_notices(report.notices)
    for notice in notices[:MAX_SHOWN]:
        print(notice, file=sys.stderr)
    if len(notices) > MAX_SHOWN:
        print(f"and {len(notices) - MAX_SHOWN} notices more in {folder.path / REPORT_FILE}", file=sys.stderr)
    if not report.rows:
        print(f"scaling: no row has all columns; {folder.path} is left without a new table", file=sys.stderr)
        return
    print(f"table: {folder.path}, for scaling table, scaling fit, …")


def gather_notices(notices: Sequence[str]) -> list[str]:
    """Returns notices with those that say the same of many runs in one.

    >>> gather_notices([*(f"run{i}: was killed" for i in range(9)), "a: was rewound"])
    ['run0, run1, run2 and 6 more: was killed', 'a: was rewound']
    """
    runs: dict[str, list[str]] = {}
    for notice in notices:
        run, _, text = notice.partition(": ")
        runs.setdefault(text, []).append(run)
    gathered = []
    for notice in notices:
        _, _, text = notice.partition(": ")
        names = runs[text]
        if not text or len(names) <= SAID_SINGLY:
            gathered.append(notice)
        elif notice == f"{names[0]}: {text}":
            gathered.append(f"{', '.join(names[:3])} and {len(names) - 3} more: {text}")
    return gathered
