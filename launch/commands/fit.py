"""`scaling fit`: a law fitted to a store or a table."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from etils import epath

from analysis.errors import AnalysisError
from launch.commands.arguments import add_fitting, add_json
from launch.commands.sources import add_source, declared_study, print_warnings, read_numbers, read_source
from launch.exits import DONE, WORK_FAILED
from launch.text import print_json, render_table
from scaling.specs.base import InputError
from scaling.specs.fits import OBJECTIVE
from scaling.store.files import write_atomically

if TYPE_CHECKING:
    import pandas as pd

    from analysis.fitting.fit import Fit
    from analysis.laws.law import Law


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    add_source(parser, nargs="?")
    parser.add_argument(
        "--variables", type=lambda text: tuple(text.split(",")), metavar="COLUMN,…",
        help="columns that the law is of, instead of its own",
    )  # fmt: skip
    add_fitting(parser)
    parser.add_argument(
        "--optima", metavar="COLUMN",
        help="of a sweep, for laws of best settings like step_law_lr: fit the settings where COLUMN (say loss) is best",
    )  # fmt: skip
    parser.add_argument(
        "--profile", action="append", default=[], metavar="COLUMN",
        help="with --optima: a setting swept beside it (say batch_size), of which each value counts with the best",
    )  # fmt: skip
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
    frame: pd.DataFrame = read_source(options)
    study = declared_study(options.source)
    changes = {
        name: getattr(options, name) for name in ("law", "objective", "delta") if getattr(options, name) is not None
    }
    law = get_law(changes.get("law", study["fit"]["law"]))
    if "objective" not in changes and "law" in changes and law.objective != OBJECTIVE:
        changes["objective"] = law.objective  # the law's own, where the user names the law and not the objective
    by = options.by or ("none" if "num_params" in (options.variables or law.variables) else "label")
    if options.profile and not options.optima:
        raise InputError("--profile is of sweeps; give --optima loss, or another column that was minimised, too")
    if options.optima:
        fits, notices, frame = _fit_optima(frame, law, by, changes, options)
    else:
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
    from analysis.laws.registry import get_law

    declared = {**study["fit"], **changes}
    extra: dict[str, Any] = {
        "variables": options.variables, "hold": read_numbers(options.hold, "--hold"), "weights": options.weights,
        "scheme": options.scheme,
        "clusters": options.cluster or None, "interval": options.interval,
    }  # fmt: skip
    plain = {name: value for name, value in extra.items() if value} == {"scheme": "auto", "interval": "percentile"}
    plain = plain and not get_law(law).of_best  # the study's metric is not what such a law is of
    if by == "label" and plain and options.target is None and options.bootstrap:
        # Series that share seeds are resampled together, so that their differences are paired.
        frame = frame if "label" in frame.columns else frame.assign(label="all")
        bootstrap, notices = fit_study(frame, study, options.bootstrap, **changes)
        if not bootstrap.fits:
            raise AnalysisError("; ".join(notices) + "; add points, keep more rows, or choose another law")
        return list(bootstrap.fits.values()), notices
    target = options.target or (study["metric"] if (options.source and "law" not in changes) else None)
    return _fit_groups(
        frame, by,
        lambda rows: fit_table(
            rows, law, target, objective=declared["objective"] if "objective" in changes else None,
            delta=declared["delta"], bootstrap=options.bootstrap, **extra,
        ),
    )  # fmt: skip


def _fit_optima(
    frame: "pd.DataFrame", law: "Law", by: str, changes: dict[str, Any], options: argparse.Namespace
) -> tuple[list["Fit"], list[str], "pd.DataFrame"]:
    """Returns fits to the best settings of sweeps, sentences about groups without one, and the table of optima."""
    import pandas as pd

    from analysis.decisions.settings import find_best_settings
    from analysis.tables.sweeps import name_points

    law = law.bind(options.variables) if options.variables else law
    if not (law.of_best or options.target):
        raise InputError(
            f"--optima {options.optima}: law {law.name} is not of a setting; choose one of best settings, like "
            "step_law_lr, or name the setting with --target"
        )
    setting, tables = options.target or law.target, []
    chosen = {name: changes[name] for name in ("objective", "delta") if name in changes}

    def fit_one(rows: "pd.DataFrame") -> "Fit":
        found = find_best_settings(
            rows, setting, by=name_points(rows, law.variables), target=options.optima,
            profile=options.profile, resamples=options.bootstrap,
        )  # fmt: skip
        tables.append(found.optima())
        return found.fit(
            law, hold=read_numbers(options.hold, "--hold"), weights=options.weights, bootstrap=options.bootstrap,
            scheme=options.scheme, clusters=options.cluster or None, interval=options.interval, **chosen,
        )  # fmt: skip

    fits, notices = _fit_groups(frame, by, fit_one)
    return fits, notices, pd.concat(tables, ignore_index=True)


def _fit_groups(
    frame: "pd.DataFrame", by: str, fit_one: Callable[["pd.DataFrame"], "Fit"]
) -> tuple[list["Fit"], list[str]]:
    """Returns a fit for each value of a column, or one of all rows, and a sentence for each that cannot be fitted."""
    if by != "none" and by not in frame.columns and by != "label":
        raise InputError(f"--by {by}: the table has no such column; it has {', '.join(map(str, frame.columns))}")
    groups: Iterable[tuple[Any, pd.DataFrame]] = [(None, frame)]
    if by in frame.columns:
        from analysis.tables.runs import fill_names

        groups = fill_names(frame, by).groupby(by, sort=False)
    fits, notices = [], []
    for label, rows in groups:
        try:
            fit = fit_one(rows)
        except AnalysisError as error:
            if label is None:
                raise
            notices.append(f"{label} is not fitted: {error}")
        else:
            fits.append(fit if label is None else fit.model_copy(update={"label": str(label)}))
    if not fits:
        raise AnalysisError("; ".join(notices))
    return fits, notices


def _describe_status(fit: "Fit") -> str:
    """Returns the status of a fit, with the codes of the warnings that make it weak."""
    codes = dict.fromkeys(warning.code for warning in fit.warnings if warning.is_weak)
    return f"{fit.status} ({', '.join(codes)})" if codes else fit.status


def _print_fits(fits: Sequence["Fit"]) -> None:
    from analysis.fit_table import format_estimate

    first = fits[0]
    delta = f", delta {first.objective.delta:g}" if first.objective.delta else ""
    print(f"{first.form.formula}   ({first.objective.name}{delta})\n")
    if len(fits) == 1 and first.label in (None, "all"):
        lines = []
        for name, value in {**first.params, **first.derived}.items():
            number, interval = format_estimate(value, *first.ci95.get(name, (None, None)))
            lines.append({"": name, "estimate": number, "95 %": interval})
        print(render_table(lines))
        if first.status != "ok":
            print(f"{_describe_status(first)}: read the warnings before these numbers are used")
        out = ", ".join(f"{count} {reason}" for reason, count in first.left_out.items())
        print(f"\n{first.objective.name} {first.objective.value:.9g} on {first.n} points; status {first.status}")
        print(f"left out: {out or 'nothing'}\nrows: {first.conventions['rows']}")
        print(f"95 % from: {first.conventions['uncertainty']}")
        return
    rows = []
    for fit in fits:
        row: dict[str, Any] = {"label": fit.label}
        for name, value in fit.params.items():
            row[name], row[f"{name} 95 %"] = format_estimate(value, *fit.ci95.get(name, (None, None)))
        rows.append({**row, fit.objective.name: fit.objective.value, "n": fit.n, "status": _describe_status(fit)})
    print(render_table(rows))
    for fit in fits:
        out = ", ".join(f"{count} {reason}" for reason, count in fit.left_out.items())
        if out:
            print(f"{fit.label}: left out {out}", file=sys.stderr)
