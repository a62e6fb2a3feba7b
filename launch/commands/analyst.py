"""The commands that read tables and fit them: `table`, `fit` and `predict`."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from etils import epath

from analysis.errors import AnalysisError
from launch.commands.tables import (
    add_source,
    clean,
    declared_study,
    print_warnings,
    read_numbers,
    read_source,
    show_interval,
)
from launch.text import print_json, render_table
from scaling.specs.base import InputError
from scaling.store.files import write_atomically

if TYPE_CHECKING:
    import pandas as pd

    from analysis.fitting.fit import Fit

DONE, WORK_FAILED = 0, 1
OBJECTIVES = ("huber", "lad", "asymmetric", "log_mse", "mse")
SCHEMES = ("auto", "seed", "wild", "residual", "pairs")


def table(options: argparse.Namespace) -> int:
    """Prints or writes the records of a store, or anybody's file, as one tidy table."""
    from analysis.tables.table import write_table

    frame = read_source(options)
    if options.to:
        write_table(frame, options.to)
        print(f"{len(frame)} rows, {len(frame.columns)} columns: {options.to}", file=sys.stderr)
    elif options.json:
        print_json(json.loads(frame.to_json(orient="records")))
    elif sys.stdout.isatty():
        filled = frame.dropna(axis="columns", how="all")
        print(filled.to_string(max_rows=40, max_cols=None, line_width=160, index=False))
    else:
        frame.to_csv(sys.stdout, index=False)
    return DONE


def fit(options: argparse.Namespace) -> int:
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
    if "objective" not in changes and "law" in changes and law.objective != "huber":
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
    return WORK_FAILED if any(one.status == "failed" for one in fits) else DONE


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
            found = fit_table(
                rows, law, target, objective=declared["objective"] if "objective" in changes else None,
                delta=declared["delta"], bootstrap=options.bootstrap, **extra,
            )  # fmt: skip
        except AnalysisError as error:
            if label is None:
                raise
            notices.append(f"{label} is not fitted: {error}")
        else:
            fits.append(found if label is None else found.model_copy(update={"label": str(label)}))
    if not fits:
        raise AnalysisError("; ".join(notices))
    return fits, notices


def predict(options: argparse.Namespace) -> int:
    """Prints what a saved fit says of sizes that were not run, with 95 % intervals."""
    import pandas as pd

    from analysis.fitting.fit import choose_fit, load_fits
    from analysis.fitting.notices import check_distance
    from analysis.uncertainty.predictions import predict_interval

    one = choose_fit(load_fits(options.fit), options.label)
    points: list[dict[str, float]] = []
    for text in options.at:
        at = read_numbers(text.split(","), "--at")
        missing = [name for name in one.columns if name not in at]
        unknown = [name for name in at if name not in one.columns]
        if missing or unknown:
            raise InputError(f"--at {text!r}: give exactly {', '.join(f'{name}=VALUE' for name in one.columns)}")
        points.append(at)
    frame = pd.DataFrame(points)
    found = predict_interval(one, {name: frame[name].to_numpy() for name in one.columns}, new_run=options.new_run)
    rows = [
        {**at, **{name: float(found[name].iloc[i]) for name in ("estimate", "low", "high")}}
        for i, at in enumerate(points)
    ]
    notices = check_distance(one.ranges, {name: frame[name].to_numpy() for name in one.columns})
    if options.json:
        warnings = [notice.model_dump() for notice in notices]
        print_json({"law": one.law, "target": one.target, "rows": clean(rows), "warnings": warnings})
    else:
        print(f"{one.target or 'y'}: {one.form.formula}; 95 % of {'new runs' if options.new_run else 'the curve'}\n")
        print(render_table(rows))
        print_warnings([*map(str, notices), *map(str, one.warnings)], [])
    return DONE


def _print_fits(fits: Sequence["Fit"]) -> None:
    first = fits[0]
    delta = f", delta {first.objective.delta:g}" if first.objective.name == "huber" else ""
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
    for one in fits:
        row: dict[str, Any] = {"label": one.label}
        for name, value in one.params.items():
            row[name], row[f"{name} 95 %"] = value, show_interval(*one.ci95.get(name, (None, None)))
        rows.append({**row, one.objective.name: one.objective.value, "n": one.n, "status": one.status})
    print(render_table(rows))
    for one in fits:
        out = ", ".join(f"{count} {reason}" for reason, count in one.left_out.items())
        if out:
            print(f"{one.label}: left out {out}", file=sys.stderr)


def add_commands(add: Callable[..., argparse.ArgumentParser], add_json: Callable[..., None]) -> None:
    """Adds these commands to the parser of `scaling`."""
    sub = add("table", table)
    add_source(sub)
    sub.add_argument("--to", metavar="FILE", help="write .csv, .parquet or .jsonl")
    add_json(sub)
    sub = add("fit", fit)
    add_source(sub, nargs="?")
    sub.add_argument(
        "--law", metavar="NAME", help="default what the study declares, else power_floor; `list` lists them"
    )
    sub.add_argument(
        "--target", metavar="COLUMN", help="what is fitted; default the study's metric, else the law's own"
    )
    sub.add_argument(
        "--variables", type=lambda text: tuple(text.split(",")), metavar="COLUMN,…",
        help="columns that the law is of, instead of its own",
    )  # fmt: skip
    sub.add_argument(
        "--by", metavar="COLUMN",
        help="one fit for each value; default label, or none (all rows together) for laws of num_params",
    )  # fmt: skip
    sub.add_argument("--objective", choices=OBJECTIVES, help="default what the study declares, else the law's own")
    sub.add_argument(
        "--delta", type=float, metavar="D", help="where Huber's quadratic ends, in log units; default 1e-3"
    )
    sub.add_argument("--hold", action="append", default=[], metavar="NAME=VALUE", help="fix a parameter")
    sub.add_argument("--weights", metavar="COLUMN", help="weights of rows; `noise` measures them from repeated seeds")
    sub.add_argument("--bootstrap", type=int, default=1000, metavar="R", help="resamples; default 1000, 0 for none")
    sub.add_argument("--scheme", choices=SCHEMES, default="auto", help="what is resampled")
    sub.add_argument(
        "--cluster", action="append", default=[], metavar="COLUMN",
        help="rows with equal values are not independent; default cell and trunk, where the table has them",
    )  # fmt: skip
    sub.add_argument("--interval", choices=("percentile", "bca"), default="percentile", help="how intervals are read")
    sub.add_argument("--to", metavar="FIT.json", help="save the fits, with their resamples")
    sub.add_argument("--figure", metavar="FILE", help="draw the fit as .svg, .pdf or .png")
    add_json(sub)
    sub = add("predict", predict)
    sub.add_argument("fit", metavar="FIT.json", help="what scaling fit --to has written")
    sub.add_argument("--at", action="append", required=True, metavar="NAME=VALUE,…", help="a size; repeatable")
    sub.add_argument("--label", help="which series, where the file holds several")
    sub.add_argument("--new-run", action="store_true", help="intervals for a new run instead of the curve")
    add_json(sub)
