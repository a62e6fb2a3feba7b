"""`scaling fit`: a law fitted to a store or a table."""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, get_args

from etils import epath

from analysis.errors import AnalysisError
from launch.commands.arguments import add_json
from launch.commands.sources import add_source, declared_study, print_warnings, read_numbers, read_source, show_interval
from launch.exits import DONE, WORK_FAILED
from launch.text import count, print_json, render_table
from scaling.specs.base import InputError
from scaling.specs.fits import DELTA, LAW, OBJECTIVE, RESAMPLES, AnyScheme, IntervalKind, ObjectiveName
from scaling.store.files import write_atomically

if TYPE_CHECKING:
    import pandas as pd

    from analysis.fitting.fit import Fit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    add_source(parser, nargs="?")
    parser.add_argument("--law", metavar="NAME", help=f"default what the study declares, else {LAW}; `list` lists them")
    parser.add_argument(
        "--target", metavar="COLUMN", help="what is fitted; default the study's metric, else the law's own"
    )
    parser.add_argument(
        "--variables", type=lambda text: tuple(text.split(",")), metavar="COLUMN,…",
        help="columns that the law is of, instead of its own",
    )  # fmt: skip
    parser.add_argument(
        "--by", metavar="COLUMN",
        help="one fit for each value; default label, or none (all rows together) for laws of num_params",
    )  # fmt: skip
    parser.add_argument(
        "--objective", choices=get_args(ObjectiveName), help="default what the study declares, else the law's own"
    )
    parser.add_argument(
        "--delta", type=float, metavar="D", help=f"where Huber's quadratic ends, in log units; default {DELTA:g}"
    )
    parser.add_argument("--hold", action="append", default=[], metavar="NAME=VALUE", help="fix a parameter")
    parser.add_argument(
        "--weights", metavar="COLUMN", help="weights of rows; `noise` measures them from repeated seeds"
    )
    parser.add_argument(
        "--bootstrap", type=count, default=RESAMPLES, metavar="R", help=f"resamples; default {RESAMPLES}, 0 for none"
    )
    parser.add_argument("--scheme", choices=get_args(AnyScheme), default="auto", help="what is resampled")
    parser.add_argument(
        "--cluster", action="append", default=[], metavar="COLUMN",
        help="rows with equal values are not independent; default cell and trunk, where the table has them",
    )  # fmt: skip
    parser.add_argument(
        "--interval", choices=get_args(IntervalKind), default="percentile", help="how intervals are read"
    )
    parser.add_argument("--to", metavar="FIT.json", help="save the fits, with their resamples")
    parser.add_argument("--figure", metavar="FILE", help="draw the fit as .svg, .pdf or .png")
    add_json(parser)


def command(options: argparse.Namespace) -> int:
    """Fits a law to a store or table: each series by itself, or all rows together where N varies within them."""
    from analysis.fitting.fit import document_fits
    from analysis.laws.registry import LAWS, get_law

    if options.law == "list":
        rows = [{"law": law.name, "formula": law.formula, "columns": ", ".join(law.variables)} for law in LAWS.values()]
        print_json(rows) if options.json else print(render_table(rows))
        return DONE
    if options.source is None:
        raise InputError("fit needs a STORE or FILE; scaling fit --law list shows the laws")
    frame, study = read_source(options), declared_study(options.source)
    changes = {
        name: getattr(options, name) for name in ("law", "objective", "delta") if getattr(options, name) is not None
    }
    law = get_law(changes.get("law", study["fit"]["law"]))
    if "objective" not in changes and "law" in changes and law.objective != OBJECTIVE:
        changes["objective"] = law.objective  # the law's own, where the user names the law and not the objective
    by = options.by or ("none" if "num_params" in (options.variables or law.variables) else "label")
    fits, notices = _fit_rows(frame, study, law.name, by, changes, options)
    if options.to:
        document = document_fits(fits)
        saved = document["fits"][0] if len(fits) == 1 else document  # one fit is one document
        write_atomically(epath.Path(options.to), json.dumps(saved) + "\n")
    if options.figure:
        from analysis.figures.fits import plot_fit
        from analysis.figures.style import save_figure

        if len(fits) > 1:
            raise InputError(
                f"--figure shows one fit and there are {len(fits)}; choose a series with --keep label==NAME"
            )
        save_figure(plot_fit(fits[0], frame), options.figure)
    if options.json:
        print_json(document_fits(fits, with_draws=False))
    else:
        _print_fits(fits)
        print_warnings(notices, fits)
    return WORK_FAILED if any(fit.status == "failed" for fit in fits) else DONE


def _fit_rows(
    frame: "pd.DataFrame",
    study: dict[str, Any],
    law: str,
    by: str,
    changes: dict[str, Any],
    options: argparse.Namespace,
) -> tuple[list["Fit"], list[str]]:
    from analysis.fit_table import fit as fit_table
    from analysis.fit_table import fit_study

    declared = {**study["fit"], **changes}
    extra: dict[str, Any] = {
        "variables": options.variables, "hold": read_numbers(options.hold, "--hold"), "weights": options.weights,
        "scheme": options.scheme,
        "clusters": options.cluster or None, "interval": options.interval,
    }  # fmt: skip
    plain = {name: value for name, value in extra.items() if value} == {"scheme": "auto", "interval": "percentile"}
    if by == "label" and plain and options.target is None and options.bootstrap:
        # Series that share seeds are resampled together, so that their differences are paired.
        frame = frame if "label" in frame.columns else frame.assign(label="all")
        bootstrap, notices = fit_study(frame, study, options.bootstrap, **changes)
        if not bootstrap.fits:
            raise AnalysisError("; ".join(notices) + "; add points, keep more rows, or choose another law")
        return list(bootstrap.fits.values()), notices
    target = options.target or (study["metric"] if (options.source and "law" not in changes) else None)
    if by != "none" and by not in frame.columns and by != "label":
        raise InputError(f"--by {by}: the table has no such column; it has {', '.join(map(str, frame.columns))}")
    groups: Iterable[tuple[Any, pd.DataFrame]] = (
        frame.groupby(by, sort=False) if by in frame.columns else [(None, frame)]
    )
    fits, notices = [], []
    for label, rows in groups:
        try:
            fit = fit_table(
                rows, law, target, objective=declared["objective"] if "objective" in changes else None,
                delta=declared["delta"], bootstrap=options.bootstrap, **extra,
            )  # fmt: skip
        except AnalysisError as error:
            if label is None:
                raise
            notices.append(f"{label} is not fitted: {error}")
        else:
            fits.append(fit if label is None else fit.model_copy(update={"label": str(label)}))
    if not fits:
        raise AnalysisError("; ".join(notices))
    return fits, notices


def _print_fits(fits: Sequence["Fit"]) -> None:
    first = fits[0]
    delta = f", delta {first.objective.delta:g}" if first.objective.delta else ""
    print(f"{first.form.formula}   ({first.objective.name}{delta})\n")
    if len(fits) == 1 and first.label in (None, "all"):
        rows = [
            {"": name, "estimate": value, "95 %": show_interval(*first.ci95.get(name, (None, None)))}
            for name, value in {**first.params, **first.derived}.items()
        ]
        print(render_table(rows))
        out = ", ".join(f"{count} {reason}" for reason, count in first.left_out.items())
        print(f"\n{first.objective.name} {first.objective.value:.9g} on {first.n} points; status {first.status}")
        print(f"left out: {out or 'nothing'}\nrows: {first.conventions['rows']}")
        print(f"95 % from: {first.conventions['uncertainty']}")
        return
    rows = []
    for fit in fits:
        row: dict[str, Any] = {"label": fit.label}
        for name, value in fit.params.items():
            row[name], row[f"{name} 95 %"] = value, show_interval(*fit.ci95.get(name, (None, None)))
        rows.append({**row, fit.objective.name: fit.objective.value, "n": fit.n, "status": fit.status})
    print(render_table(rows))
    for fit in fits:
        out = ", ".join(f"{count} {reason}" for reason, count in fit.left_out.items())
        if out:
            print(f"{fit.label}: left out {out}", file=sys.stderr)
