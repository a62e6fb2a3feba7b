"""`scaling report`: what a store or a table says, as text, and with figures as one HTML file."""

import argparse
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etils import epath

from analysis.errors import suggest_name
from launch.commands.arguments import add_fitting, add_json
from launch.commands.sources import (
    add_source,
    check_direction,
    clean,
    declared_study,
    known_metrics,
    read_numbers,
    read_source,
)
from launch.exits import DONE, WORK_FAILED
from launch.text import print_json, render_table
from scaling.specs.base import InputError, Json
from scaling.specs.fits import LAW, OBJECTIVE
from scaling.store.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from analysis.laws.law import Law
    from analysis.report.make import Report
    from analysis.report.subject import ReportOptions

FOLDED = ("cells", "provenance")  # tables that the page has, and a terminal does not
# What the law of a surface is of.
SIZE_AND_DATA = {"num_params", "data_seen"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    add_source(parser)
    add_fitting(
        parser,
        law=f"of one variable, for each line; or of num_params and data_seen, for surfaces; default what the study "
        f"declares, else {LAW} and chinchilla",
        by="whose values are the series; default label, or none for all rows together",
    )
    parser.add_argument("--baseline", metavar="LABEL", help="what other series are compared with; default the first")
    parser.add_argument(
        "--setting", action="append", default=[], metavar="COLUMN",
        help="a column of a file to find the best value of, beside peak_lr and batch_size; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--line", action="append", default=[], metavar="NAME=VALUE",
        help="performance to mark across the figure, of people (human=0.02) or of a published baseline; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--higher-is-better", action="store_true", help="of a target of which nothing is known; accuracy and r2 are"
    )
    parser.add_argument(
        "--out",
        metavar="FILE.html",
        help="default report.html in the store or import; of a file, NAME-report.html here",
    )
    parser.add_argument("--figure", metavar="FILE", help="write the first figure by itself too, as .svg, .pdf or .png")
    add_json(parser)


def command(options: argparse.Namespace) -> int:
    """Says what a store or a table says, and writes it with figures as one HTML file."""
    from analysis.report.make import make_report
    from analysis.report.page import write_page

    path = options.out or default_path(options.source)
    _check_files(path, options.figure)
    frame = read_source(options, is_said=True)
    report = make_report(options.source, frame, _read_options(options, frame))
    write_page(report, path)
    if options.figure:
        _save_figure(report, options.figure, path)
    for fault in report.faults:
        print(f"a section could not be made, by a fault of this program: {fault}", file=sys.stderr)
    if options.json:
        print_json(clean(describe_report(report, path)))
    else:
        _print_report(report)
        print(f"\nreport: {path}")
    return WORK_FAILED if report.faults else DONE


def describe_report(report: "Report", path: str) -> Json:
    """Returns a report as a document: the answer, and each section's tables, notices and reasons."""
    sections = {
        section.name: {
            "title": section.title,
            "tables": {table.name: list(table.rows) for table in section.tables()},
            "notices": list(section.notices),
            "missing": list(section.missing),
        }
        for section in report.sections
    }
    first: Any = sections["performance"]["tables"]
    short = {name: first.get(name, []) for name in ("fits", "crossings", "order")}
    return {
        "report": path, "says": list(report.answer), "rests_on": report.rests_on, "notices": report.notices, **short,
        "sections": sections, "card": report.card,
    }  # fmt: skip


def default_path(source: str) -> str:
    """Returns where the page of a store, an import or a file goes.

    >>> default_path("runs.v2.csv.gz"), default_path("curves/*.csv")
    ('runs.v2-report.html', 'table-report.html')
    """
    store = Store(source)
    if store.path.is_dir():
        return str(store.path / "report.html")
    name = store.path.name
    for packing in (".gz", ".bz2", ".xz", ".zst"):
        name = name.removesuffix(packing)
    # of a pattern, what it has beside its wildcards
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '', Path(name).stem).strip('._-') or 'table'}-report.html"


def _read_options(options: argparse.Namespace, frame: "pd.DataFrame") -> "ReportOptions":
    """Returns what a call asks, after checks of all that is known beforehand: minutes of fits come later."""
    from analysis.fitting.objective import make_objective
    from analysis.laws.registry import get_law
    from analysis.report.subject import ALL, ReportOptions

    study = declared_study(options.source)
    changes = {name: value for name in ("objective", "delta") if (value := getattr(options, name)) is not None}
    law = get_law(options.law or study["fit"]["law"])
    is_surface = len(law.variables) > 1
    if options.law:
        _check_law(law)
        if not is_surface:
            changes["law"] = law.name
        if "objective" not in changes and law.objective != OBJECTIVE:
            changes["objective"] = law.objective  # the law's own, as `scaling fit` has it
    declared = {**study["fit"], **changes}
    make_objective(declared["objective"], declared["delta"])
    if options.bootstrap == 1:
        raise InputError("--bootstrap 1 gives no interval; choose at least 2, 1000 is usual, or 0 for none")
    columns = set(map(str, frame.columns))
    if options.weights is not None and options.weights not in {*columns, "noise"}:
        raise suggest_name("--weights", options.weights, {*columns, "noise"})
    for name in options.cluster:
        if name not in columns:
            raise suggest_name("--cluster", name, columns)
    hold = read_numbers(options.hold, "--hold")
    for name in hold:
        known = {*(get_law(LAW) if is_surface else law).params, *(law if is_surface else get_law("chinchilla")).params}
        if name not in known:
            raise suggest_name("--hold", name, known)
    if options.higher_is_better:
        check_direction(options.target or study["metric"], known_metrics(options.source))
    extra = {
        "hold": hold, "weights": options.weights, "clusters": options.cluster,
        "scheme": None if options.scheme == "auto" else options.scheme,
        "interval": None if options.interval == "percentile" else options.interval,
    }  # fmt: skip
    return ReportOptions(
        target=options.target,
        by=ALL if options.by == "none" and "none" not in columns else options.by,
        baseline=options.baseline,
        settings=tuple(options.setting),
        lines=read_numbers(options.line, "--line"),
        higher_is_better=True if options.higher_is_better else None,
        fit=changes,
        surface=law.name if is_surface else None,
        resamples=options.bootstrap,
        command=shlex.join(["scaling", *sys.argv[1:]]),
        fit_options={name: value for name, value in extra.items() if value},
    )


def _check_law(law: "Law") -> None:
    """Checks that a report can be made with a law that was asked for."""
    if law.of_best:
        raise InputError(
            f"--law {law.name} is of the best settings, and a report's laws are of performance; leave it out (sweeps "
            f"have their best settings all the same), or use scaling fit with --optima"
        )
    if len(law.variables) > 1 and not set(law.variables) >= SIZE_AND_DATA:
        raise InputError(
            f"--law {law.name} is of {', '.join(law.variables)}, and a report's laws are of one variable, or of "
            "num_params and data_seen; choose another, or use scaling fit"
        )


def _check_files(page: str, figure: str | None) -> None:
    """Checks before the work that there is a folder for each file, and that the figure's is of a known format."""
    if figure:
        from matplotlib.backend_bases import FigureCanvasBase

        if Path(figure).suffix[1:].lower() not in FigureCanvasBase.filetypes:
            raise InputError(f"--figure {figure!r} is no figure file; end it in .svg, .pdf or .png")
    for flag, path in (("--out", page), ("--figure", figure)):
        folder = epath.Path(path).parent if path else None
        if folder is not None and "://" not in str(path) and not folder.is_dir():
            raise InputError(
                f"{flag} {path!r} cannot be written: there is no folder {str(folder)!r}; make it, or choose another"
            )


def _save_figure(report: "Report", figure: str, page: str) -> None:
    from analysis.figures.style import save_figure

    if report.figure is None:
        raise InputError(
            f"--figure {figure!r}: the report has no figure, and its sections say why ({page}); leave --figure out"
        )
    save_figure(report.figure, figure)


def _print_report(report: "Report") -> None:
    """Prints the answer, the tables and what is missing; every notice goes to standard error."""
    subject = report.subject
    print(f"{subject.name}{f': {subject.question}' if subject.question else ''}\n")
    print("\n".join(f"- {sentence}" for sentence in report.answer))
    print(f"\n{report.rests_on}")
    for section in report.sections:
        tables = [table for table in section.tables() if table.name not in FOLDED and table.rows]
        if not tables and not section.missing:
            continue
        print(f"\n{section.title.upper()}")
        for table in tables:
            print(f"\n{table.title}\n\n{render_table([clean(dict(row)) for row in table.rows])}")
        for reason in section.missing:
            print(f"\nnot here: {reason}")
    for notice in report.notices:
        print(notice, file=sys.stderr)
